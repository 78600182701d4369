"""How many pairs and raters a competition needs: from a pilot's spreads to interval widths."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.special

from iqa_jax.competition.global_scores import global_scores
from iqa_jax.competition.ranking import OVER, weight_variance
from iqa_jax.competition.screening import pair_numbers
from iqa_jax.data import tables

SPREADS = ('noise_std', 'pair_std', 'rater_std')


def spreads(preferences: tables.Table) -> dict[str, float]:
    """Standard deviations of what makes answers differ, from a pilot, in points of 100.

    An answer is the mean of its contest (a defender, an attacker, all levels) + pair + rater +
    noise: `pair_std` between pairs, that between levels included, `rater_std` between raters within
    a contest, `noise_std` of a single answer beyond both. By the mean squared difference of two
    answers with the same pair, the same rater and neither; a negative variance becomes 0. Needs, in
    some contest, a pair with two raters and a rater with two pairs. Raises ValueError.
    """
    needed = ('rater_id', 'defender', 'attacker', 'preference')
    tables.require(preferences, needed, 'the preferences')
    rater, defender, attacker = (
        np.unique(preferences[name].astype(str), return_inverse=True)[1] for name in needed[:3]
    )
    pair, first = pair_numbers(preferences)
    size = len(rater) + 1
    contest = defender * size + attacker
    # A pair may serve two levels of a contest: still one answer of a rater.
    (contest, pair, rater), once = np.unique(
        np.stack([contest, pair, rater]), axis=1, return_index=True
    )
    value = np.asarray(preferences['preference'], np.float64)[once]
    whole, of_all = _squares(value, contest)
    same_pair, of_pair = _squares(value, contest * len(first) + pair)
    same_rater, of_rater = _squares(value, contest * size + rater)
    neither, of_neither = whole - same_pair - same_rater, of_all - of_pair - of_rater
    if not min(of_pair, of_rater, of_neither) > 0:
        raise ValueError(
            'Spreads need a contest in which two raters share a pair and a rater has two pairs; '
            'let more raters answer, or give noise_std, pair_std and rater_std.'
        )
    # Halves of the mean squared differences are sums of the variances that the two do not share.
    within_pair, within_rater = same_pair / of_pair / 2, same_rater / of_rater / 2
    all_three = neither / of_neither / 2
    variances = (
        within_pair + within_rater - all_three,
        all_three - within_pair,
        all_three - within_rater,
    )
    return {k: float(np.sqrt(max(v, 0.0))) for k, v in zip(SPREADS, variances, strict=True)}


def _squares(value: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """Sum of squared differences over ordered pairs of answers in one group, and their number."""
    _, group = np.unique(group, return_inverse=True)
    n = np.bincount(group)
    centred = value - (np.bincount(group, value) / n)[group]
    return float((2 * n * np.bincount(group, centred**2)).sum()), float((n * (n - 1)).sum())


def half_width(
    pairs: int,
    raters: int,
    found: Mapping[str, float],
    *,
    level_weights: np.ndarray | None = None,
    over: Sequence[str] = OVER,
) -> float:
    """Expected half width of the 95 % interval of A_ij by `ranking.bootstrap`, in points of 100.

    `pairs` per contest, spread evenly over its levels, and `raters` who all answer all of them;
    `found` as of `spreads`; `level_weights` [levels] or [models, levels] (None: equal), of which
    unequal ones cost pairs; `over` as of the bootstrap. Formula: the variance of a mean under the
    bootstrap's weights. From 6 equal pairs and 8 raters up, its intervals are up to a tenth
    narrower: their percentiles are not quite those of a normal distribution. Raises ValueError.
    """
    for name, count in (('pairs', pairs), ('raters', raters)):
        if count < (2 if name in over else 1):
            raise ValueError(f'A plan with {count} {name} has no interval; take at least 2.')
    if not over or not set(over) <= set(OVER):
        raise ValueError(f"over must be 'raters', 'pairs' or both, not {list(over)}.")
    if bad := [k for k in SPREADS if not (np.isfinite(found[k]) and found[k] >= 0)]:
        raise ValueError(f'{bad[0]} must be 0 or more and finite, not {found[bad[0]]}.')
    noise, pair, rater = (found[name] ** 2 for name in SPREADS)
    # Variance of a resampled mean of n, in units of that of one: 0 where n is not resampled.
    effective = pairs / _unequal(level_weights)
    by_pair, by_rater = (
        (n - 1) / n * weight_variance(n) / (n + weight_variance(n)) if name in over else 0.0
        for name, n in (('pairs', max(effective, 2.0)), ('raters', raters))
    )
    single = by_pair / raters + by_rater / effective + by_pair * by_rater
    variance = pair * by_pair + noise * single + rater * by_rater
    return float(scipy.special.ndtri(0.975) * np.sqrt(variance))


def _unequal(level_weights: np.ndarray | None) -> float:
    """By how much the weights of the levels raise the variance of their mean; 1 if all equal."""
    if level_weights is None:
        return 1.0
    weights = np.atleast_2d(np.asarray(level_weights, np.float64))
    total = weights.sum(1)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and (total > 0).any()):
        raise ValueError('level_weights must be finite, 0 or more and not all 0.')
    shares = weights[total > 0] / total[total > 0, None]
    return float((weights.shape[1] * (shares**2).sum(1)).mean())


def plan(
    aggressiveness: np.ndarray,
    found: Mapping[str, float],
    pairs: Sequence[int],
    raters: Sequence[int],
    *,
    level_weights: np.ndarray | None = None,
    over: Sequence[str] = OVER,
    method: str = 'bradley_terry',
    prior_std: float = 1.0,
    draws: int = 400,
    seed: int = 0,
) -> tables.Table:
    """Interval widths for every number of `pairs` per contest and of `raters`, by answers needed.

    `aggressiveness` [M, M] of a pilot, or as expected; its entries that are not nan are the
    contests to be held. Columns: pairs, raters, answers (int64; pairs * raters * contests, each
    pair shown once per contest), half_width (of A_ij, points, as `half_width`) and half_width_score
    (mean over models, units of the score): `draws` SIMULATED matrices with normal errors of that
    width, independent between contests, are scored by `method`. Raises ValueError.
    """
    matrix = np.asarray(aggressiveness, np.float64)
    contests = int(np.isfinite(matrix).sum())
    if not contests:
        raise ValueError('The aggressiveness matrix has no contest to plan for.')
    if not len(pairs) or not len(raters):
        raise ValueError('A plan needs at least one number of pairs and one of raters.')
    normal = np.random.default_rng(seed).standard_normal((draws, *matrix.shape))
    cells = sorted((n * r * contests, r, n) for n in pairs for r in raters)
    widths, score_widths = [], []
    for _, r, n in cells:
        width = half_width(n, r, found, level_weights=level_weights, over=over)
        errors = normal * width / scipy.special.ndtri(0.975)
        scores = global_scores((matrix + errors).clip(-100, 100), method, prior_std=prior_std)
        widths.append(width)
        score_widths.append(_mean_half_width(scores))
    answers, r, n = np.array(cells, np.int64).T
    columns = {'pairs': n, 'raters': r, 'answers': answers}
    return columns | {
        'half_width': np.array(widths),
        'half_width_score': np.array(score_widths),
    }


def _mean_half_width(scores: np.ndarray) -> float:
    """Of the 95 % intervals of the ranked models in [draws, M]; nan where nobody is ranked."""
    scores = scores[:, ~np.isnan(scores).all(0)]
    scores = scores[~np.isnan(scores).any(1)]  # a draw may be reducible
    if not scores.size:
        return float('nan')
    low, high = np.percentile(scores, [2.5, 97.5], axis=0)
    return float((high - low).mean() / 2)


def cheapest(planned: tables.Table, wanted: float, column: str = 'half_width') -> dict | None:
    """The row of a `plan` with the fewest answers whose `column` is at most `wanted`, or None.

    Of equally many answers the one with fewer raters.
    """
    tables.require(planned, ['answers', 'raters', column], 'the plan')
    fits = np.flatnonzero(planned[column] <= wanted)
    if not len(fits):
        return None
    row = min(fits.tolist(), key=lambda i: (planned['answers'][i], planned['raters'][i]))
    return {name: values[row].item() for name, values in planned.items()}
