"""Raters whose votes have nothing to do with what the others see: random, constant or reversed."""

from collections.abc import Mapping

import numpy as np

from iqa_jax.study import maximum_likelihood
from iqa_jax.study import votes as votes_table

FOLLOWS = 2.33  # standard errors above zero: 99 % of random raters stay below
BELOW_PANEL = 2.33  # standard deviations below the median rater: 1 % of honest raters
FEWEST = 8  # images shared with others; of fewer a correlation tells too little
_MAD = 1.4826  # of the median absolute deviation to the standard deviation of a normal


def find(votes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Raters of a votes table (rater_id, image_id, vote in 0..100), and who is a spammer.

    A rater's votes are correlated with the quality that the others' votes alone give by maximum
    likelihood, which hardly listens to other spammers. With z = artanh(r) and n shared images, a
    rater is a spammer if both hold:
      z < FOLLOWS / sqrt(n - 3): the votes do not follow the others' (random votes: z ~ N(0, that)),
      z < median - BELOW_PANEL * s: and the panel does much better; s is the larger of
        1 / sqrt(n - 3) and the spread of z over the better half of the panel (1.4826 times the
        median deviation from the panel's median).
    The first makes a noisy or biased rater who still sees what the others see safe, the second a
    panel whose images all look alike, where nobody can be told from a spammer.

    Columns: rater_id (sorted), correlation (nan where unknown), inconsistency, images (int32, those
    shared with others), spammer (bool), reason (a sentence, '' if none). Raises ValueError.
    """
    table, raters, _ = votes_table.matrix(votes)
    spammer, reasons, columns = judge(table)
    return {
        'rater_id': raters,
        **columns,
        'spammer': spammer,
        'reason': np.array(reasons, object),
    }


def judge(table: np.ndarray) -> tuple[np.ndarray, list[str], dict[str, np.ndarray]]:
    """`find` for a matrix [raters, images]: (spammer, reasons, the other columns)."""
    fitted = maximum_likelihood.fit(table)
    others = maximum_likelihood.others_quality(table, fitted)
    shared = ~np.isnan(table) & ~np.isnan(others)
    n = shared.sum(1)
    correlation, constant = _correlations(table, others, shared)
    with np.errstate(divide='ignore', invalid='ignore'):
        z = np.arctanh(correlation.clip(-0.999999, 0.999999))
        error = 1 / np.sqrt(n - 3.0)
    judged = np.isfinite(z) & (n >= FEWEST)
    spammer = np.zeros(len(table), bool)
    if judged.any():
        median = np.median(z[judged])
        # Of the better half alone: spammers would widen the spread and so hide themselves.
        above = z[judged & (z >= median)] - median
        spread = np.maximum(_MAD * np.median(above), error)
        low = (z < FOLLOWS * error) & (z < median - BELOW_PANEL * spread)
        spammer = judged & low
    reasons = [''] * len(table)
    for i in np.flatnonzero(spammer).tolist():
        typical = np.tanh(median)
        reasons[i] = (
            f'Spammer: gave the same vote to all of {n[i]} images.'
            if constant[i]
            else f'Spammer: the votes on {n[i]} images correlate by {correlation[i]:.2f} with the '
            f'other raters, whose median is {typical:.2f}.'
        )
    columns = {
        'correlation': correlation,
        'inconsistency': fitted['inconsistency'],
        'images': n.astype(np.int32),
    }
    return spammer, reasons, columns


def _correlations(
    table: np.ndarray, others: np.ndarray, shared: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pearson's r of each row over `shared`, and whose votes are all the same (r is 0 then)."""
    n = np.maximum(shared.sum(1, keepdims=True), 1)

    def centred(x):
        x = np.where(shared, x, 0)
        return np.where(shared, x - x.sum(1, keepdims=True) / n, 0)

    own, theirs = centred(table), centred(others)
    power, other_power = (own**2).sum(1), (theirs**2).sum(1)
    constant = power <= 1e-12 * n[:, 0]
    with np.errstate(divide='ignore', invalid='ignore'):
        r = (own * theirs).sum(1) / np.sqrt(power * other_power)
    r = np.where(constant, 0.0, r)
    return np.where(other_power > 1e-12 * n[:, 0], r, np.nan), constant
