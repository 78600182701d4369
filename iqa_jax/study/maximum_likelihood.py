"""Quality, bias and inconsistency by maximum likelihood, as ITU-T P.910 Annex E models votes."""

import numpy as np

from iqa_jax.study import votes as votes_table

NORMAL_REACH = 1.96  # standard errors on each side in a 95 % interval, as the recommendation rounds
_TOLERANCE = 1e-8  # of the scores, euclidean: the recommendation's stopping rule
_STEPS = 10_000
_MOST_CONSISTENT = 1 / 3  # of the median inconsistency: nobody weighs as if below
_NO_NOISE = 1e-4  # points of 100: below any scale's step


def fit(table: np.ndarray) -> dict[str, np.ndarray]:
    """Fits vote = quality + bias + inconsistency * N(0, 1) to float64 [raters, images], nan: none.

    The likelihood is maximised by alternating between inconsistency (the root mean square of a
    rater's residuals) and quality with bias (a weighted least squares, solved exactly, so missing
    votes need no other treatment), until the scores move by less than 1e-8 points together. Votes
    cannot tell a constant between quality and bias: the biases of raters linked by common images
    add up to zero. The likelihood is unbounded where the scores follow one rater's votes exactly,
    and in panels of few raters or votes alternation runs there; so no rater weighs more than one of
    a third of the median inconsistency, beyond the recommendation, which has no such limit. Images
    with one vote say nothing of a rater's inconsistency, which needs two shared images and is nan
    otherwise (such a rater's bias is 0, the weight that of the median).

    Returns `quality`, `quality_error` [images], `bias`, `bias_error`, `inconsistency`,
    `inconsistency_error` [raters] in points of 100, and `converged`. Errors are standard errors of
    the Fisher information, each parameter by itself: 1 / sqrt(sum of 1 / v^2), v / sqrt(n) and
    v / sqrt(2 n). Source: ITU-T P.910 Annex E, ITU-T P.913 12.6.
    """
    held = ~np.isnan(table)
    shared = held & (held.sum(0) >= 2)
    informative = votes_table.several_shared(table)
    weights, before = np.ones(len(table)), np.inf
    for _ in range(_STEPS):
        bias = votes_table.rater_bias(table, weights)
        unbiased = table - bias[:, None]
        total = np.where(held, weights[:, None], 0).sum(0)
        quality = np.nansum(weights[:, None] * unbiased, 0) / np.where(total > 0, total, np.nan)
        residual = np.where(shared, unbiased - quality, 0)
        inconsistency = np.full(len(table), np.nan)
        inconsistency[informative] = np.sqrt(
            (residual[informative] ** 2).sum(1) / shared[informative].sum(1)
        )
        if (moved := np.sqrt(np.nansum((quality - before) ** 2))) < _TOLERANCE:
            break
        weights, before = _weights(inconsistency), quality
    known = np.where(held, _weights(inconsistency)[:, None], 0).sum(0)
    # Without any shared image nothing is known of the noise.
    known = np.where(known > 0, known, np.nan) if informative.any() else np.full(len(known), np.nan)
    count = held.sum(1)
    with np.errstate(divide='ignore', invalid='ignore'):
        return {
            'quality': quality,
            'quality_error': 1 / np.sqrt(known),
            'bias': bias,
            'bias_error': inconsistency / np.sqrt(count),
            'inconsistency': inconsistency,
            'inconsistency_error': inconsistency / np.sqrt(2 * count),
            'converged': np.bool_(moved < _TOLERANCE),
        }


def others_quality(table: np.ndarray, fitted: dict[str, np.ndarray]) -> np.ndarray:
    """For each rater the quality [raters, images] by the other raters' votes alone; nan: none.

    The biases and weights are those of `fitted`, the result of `fit`.
    """
    held = ~np.isnan(table)
    weights = np.where(held, _weights(fitted['inconsistency'])[:, None], 0)
    pulls = weights * np.where(held, table - fitted['bias'][:, None], 0)
    others = held.sum(0) - held > 0
    rest = np.where(others, weights.sum(0) - weights, np.nan)
    return (pulls.sum(0) - pulls) / rest


def _weights(inconsistency: np.ndarray) -> np.ndarray:
    if np.isnan(inconsistency).all():
        return np.ones(len(inconsistency))
    median = np.nanmedian(inconsistency)
    spread = np.where(np.isnan(inconsistency), median, inconsistency)
    return np.maximum(np.maximum(spread, _MOST_CONSISTENT * median), _NO_NOISE) ** -2
