"""Losses by name: `apply(prediction, out, batch, options, own, state) -> (scalar, state)`.

Lower is better. `own` are the loss's trainable parameters, which the optimiser sees as `loss/...`,
`state` what it carries from step to step; both are {} for most. A loss may look at the whole global
batch through `parallel.gather`; the gradient mean over devices then equals the gradient on one
device with the same batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from iqa_jax.runtime import parallel
from iqa_jax.training import annotators

EPSILON = 1e-8  # keeps the slope of the square root finite at P g = 0


def mse(
    prediction: jax.Array, out: dict, batch: dict, options: dict, own: dict, state: Any
) -> tuple[jax.Array, Any]:
    """Squared error, mean over images and targets; prediction and target are [B, K]."""
    del out, options, own
    return jnp.mean(jnp.square(prediction - batch['target'])), state


def fidelity(
    prediction: jax.Array, out: dict, batch: dict, options: dict, own: dict, state: Any
) -> tuple[jax.Array, Any]:
    """Fidelity loss of Thurstone probabilities over the pairs of a batch (see `pairs`).

    P(x better) = Phi((f_x - f_y) / sqrt(s_x^2 + s_y^2)); the target g is Phi of the difference of
    opinions over their joint spread (`labels='soft'`, UNIQUE) or 1[mos_x > mos_y] (`'binary'`, the
    released OHEM code). L = 1 - sqrt(P g) - sqrt((1 - P)(1 - g)), mean over pairs. With an
    uncertainty head max(0, margin - sign(sd_x - sd_y) (s_x - s_y)) is added, the margin where the
    two sd are equal.

    Args:
      prediction: [B, 1], higher is better.
      out: the model's `out`; `std` [B] when the model has an uncertainty head, else s = 1.
      batch: target [B, 1], target_std [B], database [B].
      options: labels; hinge_weight and hinge_margin count with the uncertainty head only.
    """
    del own
    has_std = 'std' in out
    std = out['std'].reshape(-1) if has_std else jnp.ones_like(prediction[:, 0])
    x = {
        'score': prediction[:, 0],
        'std': std,
        'target': batch['target'][:, 0],
        'spread': batch['target_std'],
    }
    one, other, valid = pairs(x, batch)
    # The spread inside Phi carries no gradient: the hinge alone teaches it (UNIQUE).
    fixed = jax.lax.stop_gradient((one['std'], other['std']))
    z = (one['score'] - other['score']) / jnp.hypot(*fixed)
    p, not_p = norm.cdf(z), norm.cdf(-z)  # 1 - P would cancel in float32
    gap = one['target'] - other['target']
    if options['labels'] == 'binary':
        g = (gap > 0).astype(jnp.float32)
        not_g = 1 - g
        if 'pair' not in batch:  # a literal list keeps its ties, for which g is 0 in the OHEM code
            valid &= gap != 0
    else:
        joint = jnp.hypot(one['spread'], other['spread']) + EPSILON
        g, not_g = norm.cdf(gap / joint), norm.cdf(-gap / joint)
    loss = 1 - jnp.sqrt(p * g + EPSILON) - jnp.sqrt(not_p * not_g + EPSILON)
    if has_std and options['hinge_weight']:
        sign = jnp.sign(one['spread'] - other['spread'])
        hinge = jnp.maximum(0.0, options['hinge_margin'] - sign * (one['std'] - other['std']))
        loss = loss + options['hinge_weight'] * hinge
    weight = valid.astype(jnp.float32)
    return jnp.sum(loss * weight) / jnp.maximum(jnp.sum(weight), 1.0), state


def pairs(x: Any, batch: dict) -> tuple[Any, Any, jax.Array]:
    """The two sides of every pair of the global batch, and which pairs count.

    These are the pairs side by side where the batch has `pair` (a literal list), else all pairs of
    images, of which those within one database and component count.

    Args:
      x: tree of [B] arrays.
      batch: has `pair` or `database`.

    Returns:
      (tree of [P], tree of [P], bool [P]), for a literal list of this device's pairs.
    """
    if 'pair' in batch:
        one, other = (jax.tree.map(lambda a, k=k: a[k::2], x) for k in (0, 1))
        return one, other, jnp.ones(len(batch['pair']) // 2, bool)
    x, database = parallel.gather((x, batch['database']))
    first, second = jnp.triu_indices(len(database), k=1)
    one, other = (jax.tree.map(lambda a, k=k: a[k], x) for k in (first, second))
    return one, other, database[first] == database[second]


class Loss(NamedTuple):
    """A loss and what the trainer must know of it.

    Attributes:
      apply: see above.
      options: keys of `config.loss_options`.
      outputs: number of targets -> number of outputs of the model.
      parameters: (number of targets, options) -> first values of `own`.
      state: (number of targets, options) -> first `state`.
      pair_lists: whether it reads the literal pairs of a batch.
      check: (number of targets, options) -> None; a ValueError names what cannot work.
      readings: (own, state) -> {name: [targets]} worth logging.
    """

    apply: Callable
    options: frozenset[str] = frozenset()
    outputs: Callable[[int], int] = lambda targets: targets
    parameters: Callable[[int, dict], dict] = lambda targets, options: {}
    state: Callable[[int, dict], Any] = lambda targets, options: {}
    pair_lists: bool = False
    check: Callable[[int, dict], None] = lambda targets, options: None
    readings: Callable[[dict, Any], dict] = lambda own, state: {}


LOSSES = {
    'mse': Loss(mse),
    'fidelity': Loss(
        fidelity, frozenset({'labels', 'hinge_weight', 'hinge_margin'}), pair_lists=True
    ),
    'annotators': Loss(
        annotators.negative_log_likelihood,
        annotators.OPTIONS,
        outputs=lambda targets: 1,
        parameters=annotators.first_parameters,
        state=annotators.first_state,
        check=annotators.check,
        readings=annotators.rates,
    ),
}
LABELS = ('soft', 'binary')


def get(name: str) -> Loss:
    """The loss of that name; a ValueError lists the known ones."""
    if name not in LOSSES:
        raise ValueError(f'config.loss={name!r} is unknown; use one of {", ".join(LOSSES)}.')
    return LOSSES[name]
