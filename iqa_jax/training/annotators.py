"""Learning from several noisy annotators: pairs, votes, rates of hits and correct rejections.

Annotators are, for one, full-reference metrics. On a pair (x, y) the hidden truth r says whether x
is the better one, P(r = 1) = Phi((f_x - f_y) / sqrt(var_x + var_y + 1e-4)), and annotator j votes
r_j = 1 if it scores x higher. With the hit rate alpha_j = P(r_j = 1 | r = 1) and the correct-
rejection rate beta_j = P(r_j = 0 | r = 0) a pair's votes have the likelihood a P + b (1 - P), where
a = prod alpha^r_j (1 - alpha)^(1 - r_j) and b = prod beta^(1 - r_j) (1 - beta)^r_j. All of it is
computed as logarithms, and an annotator who abstains on a pair counts as the factor 1 in both.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from iqa_jax.runtime import parallel

OPTIONS = frozenset({'optimise', 'first_rate', 'abstain_below', 'em_memory'})
OPTIMISERS = ('gradient', 'em')
LEAST = 3  # two annotators and an unknown truth: the rates cannot be told from each other
FLOOR = 1e-4  # beside the variances, so that a std head at 0 divides by nothing worse
RATE_FLOOR = 1e-6  # EM's rates stay that far from 0 and 1, whose logarithm is not finite


def check(targets: int, options: dict) -> None:
    """Raises a ValueError that names the option, or the number of targets, that cannot work."""
    where = 'config.loss_options'
    if targets < LEAST:
        raise ValueError(
            f'config.loss=annotators tells rates from the truth with {LEAST} annotators or more, '
            f'not {targets}; lengthen config.targets.'
        )
    if options['optimise'] not in OPTIMISERS:
        raise ValueError(
            f'{where}.optimise={options["optimise"]!r}; use one of {", ".join(OPTIMISERS)}.'
        )
    if not 0.5 < options['first_rate'] < 1:
        # At .5 the truth and its opposite explain the votes equally well.
        raise ValueError(f'{where}.first_rate={options["first_rate"]}; use more than 0.5, below 1.')
    if not options['abstain_below'] >= 0:
        raise ValueError(f'{where}.abstain_below={options["abstain_below"]}; use 0 or more.')
    if not 0 < options['em_memory'] < 1:
        raise ValueError(f'{where}.em_memory={options["em_memory"]}; use a number in (0, 1).')


def log_preferences(
    score: jax.Array, variance: jax.Array, first: jax.Array, second: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(log P, log(1 - P)) [N] that image `first` is better than `second`, indices [N] into [B]."""
    spread = jnp.sqrt(variance[first] + variance[second] + FLOOR)
    z = (score[first] - score[second]) / spread
    return norm.logcdf(z), norm.logcdf(-z)  # log(1 - P) would cancel


def votes(first: jax.Array, second: jax.Array, abstain_below: float) -> tuple[jax.Array, jax.Array]:
    """Votes of annotators on pairs.

    Args:
      first, second: [N, J] scores of a pair's images by each annotator, higher is better; NaN where
        it has none.
      abstain_below: it abstains where its scores differ by less.

    Returns:
      (vote, cast): float32 [N, J] of 1 for the first image and 0 for the second, and of 1 where a
      vote is cast: both scores are there, differ, and not by less than the margin.
    """
    cast = (first != second) & ~jnp.isnan(first) & ~jnp.isnan(second)
    cast &= ~(jnp.abs(first - second) < abstain_below)  # inf - inf is NaN, but equal already
    return (first > second).astype(jnp.float32), cast.astype(jnp.float32)


def log_votes(
    vote: jax.Array, cast: jax.Array, hit: jax.Array, rejection: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(log a, log b) [N] of votes [N, J] under rates given as logits [J]."""

    def weigh(ones: jax.Array, zeros: jax.Array) -> jax.Array:
        # Sums of a few numbers that differ by orders: a GPU's reduced precision would show.
        return jnp.sum(cast * (vote * ones + (1 - vote) * zeros), axis=1)

    yes, no = jax.nn.log_sigmoid, lambda x: jax.nn.log_sigmoid(-x)
    return weigh(yes(hit), no(hit)), weigh(no(rejection), yes(rejection))


def first_parameters(targets: int, options: dict) -> dict:
    """Logits [J] of both rates, which the optimiser trains; {} where EM has closed forms."""
    if options['optimise'] == 'em':
        return {}
    logits = jnp.full(targets, _logit(jnp.float32(options['first_rate'])))
    return {'hit': logits, 'correct_rejection': jnp.copy(logits)}


def first_state(targets: int, options: dict) -> dict:
    """EM's sufficient statistics as if the first rates had been seen; {} without EM.

    All [J] and per vote cast: `truth` mean pi, `hit` mean pi r, `correct_rejection` mean
    (1 - pi)(1 - r).
    """
    if options['optimise'] == 'gradient':
        return {}
    half = jnp.full(targets, 0.5, jnp.float32)
    seen = half * options['first_rate']
    return {'truth': half, 'hit': seen, 'correct_rejection': jnp.copy(seen)}


def rates(own: dict, state: Any) -> dict[str, jax.Array]:
    """{'hit_rate', 'correct_rejection_rate'}, each [J] in (0, 1), from the loss's own or state."""
    if own:
        hit, rejection = jax.nn.sigmoid(own['hit']), jax.nn.sigmoid(own['correct_rejection'])
    else:
        hit = _share(state['hit'], state['truth'])
        rejection = _share(state['correct_rejection'], 1 - state['truth'])
    return {'hit_rate': hit, 'correct_rejection_rate': rejection}


def negative_log_likelihood(
    prediction: jax.Array, out: dict, batch: dict, options: dict, own: dict, state: Any
) -> tuple[jax.Array, Any]:
    """Minus the log-likelihood of all votes on pairs within a database, per vote cast.

    `optimise='gradient'` trains network and rates together. With `'em'` the loss is that of EM's
    network step, cross-entropy of P against the posterior pi of the truth, whose gradient in the
    network is the same; the rates follow from pi, with an exponential memory over the batches.

    Args:
      prediction: [B, 1], higher is better.
      out: the model's `out`; `std` [B] when the model has an uncertainty head, else variance 1.
      batch: target [B, J], a score by each annotator, higher is better, NaN for none; database [B].
      options: optimise, first_rate, abstain_below (in units of the scores), em_memory.
      own: of `first_parameters`.
      state: of `first_state`.
    """
    score, target, database = parallel.gather(
        (prediction[:, 0], batch['target'], batch['database'])
    )
    variance = jnp.ones_like(score)
    if 'std' in out:
        variance = jnp.square(parallel.gather(out['std'].reshape(-1)))
    first, second = jnp.triu_indices(score.shape[0], k=1)
    log_p, log_not_p = log_preferences(score, variance, first, second)
    vote, cast = votes(target[first], target[second], options['abstain_below'])
    cast = cast * (database[first] == database[second])[:, None]
    voted = jnp.any(cast > 0, axis=1)
    number = jnp.maximum(jnp.sum(cast), 1.0)
    if options['optimise'] == 'gradient':
        log_a, log_b = log_votes(vote, cast, own['hit'], own['correct_rejection'])
        likelihood = jnp.logaddexp(log_a + log_p, log_b + log_not_p)
        return -jnp.sum(jnp.where(voted, likelihood, 0.0)) / number, state
    known = rates({}, state)
    hit, rejection = _logit(known['hit_rate']), _logit(known['correct_rejection_rate'])
    log_a, log_b = log_votes(vote, cast, hit, rejection)
    pi = jax.lax.stop_gradient(jax.nn.sigmoid(log_a + log_p - log_b - log_not_p))
    expected = pi * log_p + (1 - pi) * log_not_p
    loss = -jnp.sum(jnp.where(voted, expected, 0.0)) / number
    return loss, _remember(state, pi[:, None], vote, cast, options['em_memory'])


def _remember(state: dict, pi: jax.Array, vote: jax.Array, cast: jax.Array, memory: float) -> dict:
    """The statistics with those of a batch mixed in; who abstains forgets nothing."""
    number = jnp.sum(cast, axis=0)
    kept = memory ** (number / jnp.maximum(jnp.sum(jnp.any(cast > 0, axis=1)), 1))
    seen = {'truth': pi, 'hit': pi * vote, 'correct_rejection': (1 - pi) * (1 - vote)}
    return {
        name: kept * state[name]
        + (1 - kept) * jnp.sum(cast * value, axis=0) / jnp.maximum(number, 1.0)
        for name, value in seen.items()
    }


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    share = part / jnp.maximum(whole, RATE_FLOOR)
    return jnp.clip(share, RATE_FLOOR, 1 - RATE_FLOOR)


def _logit(rate: jax.Array) -> jax.Array:
    return jnp.log(rate) - jnp.log1p(-rate)
