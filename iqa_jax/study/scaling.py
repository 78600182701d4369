"""From votes to mean opinion scores by any of the field's methods, in one form of table."""

from collections.abc import Mapping

import numpy as np
import scipy.special

from iqa_jax.study import maximum_likelihood, spammers
from iqa_jax.study import votes as votes_table

METHODS = ('mean', 'bias', 'bt500', 'bias_bt500', 'zscore', 'ml')
_OUTLIER_SHARE, _ONE_SIDED = 0.05, 0.3  # BT.500: excluded above the first and below the second
_NEAR_NORMAL = (2.0, 4.0)  # kurtosis for which two standard deviations mark an outlier
_ROUNDING = 1e-9  # points of 100
_CONFIDENCE = 0.95
_LEAST_FREEDOM = 0.499  # degrees of freedom without which a spread is a guess
_Z_LIMIT = 3.0  # z-scores in -3..3 become 0..100
_NORMAL = maximum_likelihood.NORMAL_REACH


def mos_from_votes(
    votes: Mapping[str, np.ndarray],
    *,
    method: str = 'bias_bt500',
    drop_spammers: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Mean opinion scores of a votes table (rater_id, image_id, vote in 0..100): (images, raters).

    `method`:
      'mean': plain means of the votes.
      'bias': each rater's bias is removed first (P.913). Spread and interval lose the degrees of
        freedom that the biases cost, see `votes.left_by_bias`.
      'bt500': raters are screened once by BT.500, means of the others' votes.
      'bias_bt500': bias is removed, raters are screened on what is left, then the bias of the
        others is estimated again.
      'zscore': z = (vote - the rater's mean) / the rater's standard deviation (n - 1) becomes
        100 (z + 3) / 6, as LIVE maps z-scores, then means. The scale is relative to the images of
        the study, and raters should have seen alike images. Who votes the same always is excluded.
      'ml': maximum likelihood of quality, bias and inconsistency (P.910 Annex E), see
        `maximum_likelihood.fit`.
    With `drop_spammers` the raters whom `spammers.find` names are excluded before. Repeated votes
    of a rater for an image count once, as their mean.

    `images`, one row per voted image, by id: image_id, mos (clipped to 0..100), mos_std (of single
    votes after the method's corrections), votes (int32), standard_error, low and high (95 %;
    Student's t, of 'ml' normal). An image with one vote, or less than half a degree of freedom, has
    no spread, nor, but for 'ml', standard error and interval (nan); one that only excluded raters
    saw has no mos either, and votes 0.
    `raters`: rater_id, bias and inconsistency (mean and standard deviation of vote - mos; for
    'zscore' P.913's bias and the spread of the mapped votes), votes (int32), excluded (bool),
    reason ('' if kept), and 95 % intervals bias_low, bias_high, inconsistency_low and
    inconsistency_high by the Fisher information of P.910 Annex E. Numbers are float64. Raises
    ValueError, also where no rater is left. Source: ITU-R BT.500-14, ITU-T P.913, ITU-T P.910.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {", ".join(METHODS)}, not {method!r}.')
    table, raters, images = votes_table.matrix(votes)
    used, excluded, reasons = _judged(table, method, drop_spammers)
    if method == 'ml':
        scores, bias, spread = _most_likely(table, excluded)
    else:
        kept = used[~excluded]
        scores = _unbiased_means(kept) if method in ('bias', 'bias_bt500') else _means(kept)
        bias, spread = _deviations(used, scores['mos'])
    if method == 'zscore':
        bias, _ = _deviations(table, _unbiased_means(table[~excluded])['mos'])
    clipped = {'mos': scores['mos'].clip(0, 100)}
    seen = (~np.isnan(table)).sum(1)
    about = {'bias': bias, 'inconsistency': spread, 'votes': seen.astype(np.int32)}
    about |= {'excluded': excluded, 'reason': np.array(reasons, object)}
    about |= _rater_intervals(bias, spread, seen)
    return {'image_id': images} | scores | clipped, {'rater_id': raters} | about


def _judged(
    table: np.ndarray, method: str, drop_spammers: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(votes, mapped for 'zscore', who is excluded, why); a ValueError if nobody is left."""
    excluded, reasons = np.zeros(len(table), bool), [''] * len(table)
    if drop_spammers:
        excluded, reasons, _ = spammers.judge(table)
    used = table
    if method == 'zscore':
        used, same = _mapped_z_scores(table)
        _exclude(excluded, reasons, same, ['z-score: all votes are the same'] * len(same))
    if method in ('bt500', 'bias_bt500'):
        _exclude(excluded, reasons, *_bt500(table, excluded, method == 'bias_bt500'))
    if excluded.all():
        raise ValueError(
            f'Of {len(table)} raters none is left to scale, the first by reason of '
            f"{reasons[0].rstrip('.')!r}; use method 'mean' and look at the votes."
        )
    return used, excluded, reasons


def _rater_intervals(bias: np.ndarray, spread: np.ndarray, n: np.ndarray) -> dict[str, np.ndarray]:
    reach = _NORMAL * spread / np.sqrt(n)
    return {
        'bias_low': bias - reach,
        'bias_high': bias + reach,
        'inconsistency_low': spread - reach / np.sqrt(2),
        'inconsistency_high': spread + reach / np.sqrt(2),
    }


def _exclude(
    excluded: np.ndarray, reasons: list[str], out: np.ndarray, sentences: list[str]
) -> None:
    """Adds `out` to `excluded`, in place, with the sentence of each; earlier reasons stay."""
    for i in np.flatnonzero(out & ~excluded).tolist():
        excluded[i], reasons[i] = True, sentences[i]


def _unbiased(table: np.ndarray) -> np.ndarray:
    return table - votes_table.rater_bias(table)[:, None]


def _unbiased_means(table: np.ndarray, bias: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """`_means` after each rater's `bias` [R], that of least squares if None."""
    bias = votes_table.rater_bias(table) if bias is None else bias
    return _means(table - bias[:, None], votes_table.left_by_bias(table))


def _means(
    kept: np.ndarray, left: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Means, spreads and intervals of the images from votes [raters, images], not clipped.

    `left` as of `votes.left_by_bias`; None where nothing was taken off the votes.
    """
    count = (~np.isnan(kept)).sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        freedom, variance = (count - 1, 1 / count) if left is None else left
        freedom = np.where(freedom > _LEAST_FREEDOM, freedom, np.nan)
        mos = np.nansum(kept, 0) / count
        std = np.sqrt(np.nansum((kept - mos) ** 2, 0) / freedom)
        error = std * np.sqrt(variance)
        reach = scipy.special.stdtrit(freedom, 0.5 + _CONFIDENCE / 2) * error
    return {
        'mos': mos,
        'mos_std': std,
        'votes': count.astype(np.int32),
        'standard_error': error,
        'low': mos - reach,
        'high': mos + reach,
    }


def _deviations(table: np.ndarray, mos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (n - 1) of vote - mos, [raters] each."""
    with np.errstate(invalid='ignore', divide='ignore'):
        difference = table - mos
        known = (~np.isnan(difference)).sum(1)
        bias = np.nansum(difference, 1) / known
        square = np.nansum((difference - bias[:, None]) ** 2, 1)
        spread = square / np.where(known > 1, known - 1, np.nan)
    return bias, np.sqrt(spread)


def _most_likely(
    table: np.ndarray, excluded: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(images as `_means`, bias, inconsistency) by maximum likelihood of the raters kept."""
    fitted = maximum_likelihood.fit(table[~excluded])
    if not fitted['converged']:
        raise ValueError("method 'ml' did not settle on these votes; use 'bias_bt500'.")
    scores = _unbiased_means(table[~excluded], fitted['bias'])
    reach = _NORMAL * fitted['quality_error']
    scores |= {'mos': fitted['quality'], 'standard_error': fitted['quality_error']}
    scores |= {'low': fitted['quality'] - reach, 'high': fitted['quality'] + reach}
    bias, spread = _deviations(table, fitted['quality'])
    bias[~excluded], spread[~excluded] = fitted['bias'], fitted['inconsistency']
    return scores, bias, spread


def _mapped_z_scores(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each rater's z-scores, -3..3 mapped to 0..100, and whose votes are all the same."""
    count = (~np.isnan(table)).sum(1, keepdims=True)
    centred = table - np.nansum(table, 1, keepdims=True) / count
    std = np.sqrt(np.nansum(centred**2, 1, keepdims=True) / np.maximum(count - 1, 1))
    same = std[:, 0] <= 1e-9
    z = np.divide(centred, std, out=np.full_like(table, np.nan), where=~same[:, None])
    return 100 * (z + _Z_LIMIT) / (2 * _Z_LIMIT), same


def _bt500(
    table: np.ndarray, excluded: np.ndarray, remove_bias: bool
) -> tuple[np.ndarray, list[str]]:
    """Whom of those not `excluded` BT.500 excludes, bool [R], and why ('' if kept)."""
    left = table[~excluded]
    above, below = np.zeros((2, len(table)), int)
    above[~excluded], below[~excluded] = _screened(_unbiased(left) if remove_bias else left)
    seen, outliers = (~np.isnan(table)).sum(1), above + below
    out = (outliers > _OUTLIER_SHARE * seen) & (np.abs(above - below) < _ONE_SIDED * outliers)
    return out, [
        f'BT.500: {n} of {total} votes are outliers, to both sides' if far else ''
        for far, n, total in zip(out, outliers, seen, strict=True)
    ]


def _screened(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes of each rater far above and far below the panel, int [R] each, as BT.500 counts them.

    Far means at least 2 standard deviations of the image's votes, or sqrt(20) where their kurtosis
    is not near normal.
    """
    votes = (~np.isnan(table)).sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        deviation = table - np.nansum(table, 0) / votes
        square, fourth = (np.nansum(deviation**power, 0) / votes for power in (2, 4))
        kurtosis = fourth / square**2
        std = np.sqrt(square * votes / (votes - 1))
    near_normal = (kurtosis >= _NEAR_NORMAL[0]) & (kurtosis <= _NEAR_NORMAL[1])
    limit = np.where(near_normal, 2.0, np.sqrt(20.0)) * std
    limit[~(std > 0)] = np.inf  # one vote, or all the same: nobody stands out
    # Equal counts as far; votes in categories are often equal, but for rounding.
    far = np.abs(deviation) >= limit - _ROUNDING
    return (far & (deviation > 0)).sum(1), (far & (deviation < 0)).sum(1)
