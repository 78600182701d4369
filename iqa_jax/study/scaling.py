"""From votes to mean opinion scores: rater bias, screening, intervals. The same for any votes."""

from collections.abc import Mapping

import numpy as np
import scipy.special

_OUTLIER_SHARE, _ONE_SIDED = 0.05, 0.3  # BT.500: excluded above the first and below the second
_NEAR_NORMAL = (2.0, 4.0)  # kurtosis for which two standard deviations mark an outlier
_CONFIDENCE = 0.95


def _table(votes: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes as float64 [raters, images], nan where there is none, and both lists of ids.

    Several votes of a rater for one image (repeats, gold questions) count once, as their mean.
    """
    missing = [key for key in ('rater_id', 'image_id', 'vote') if key not in votes]
    if missing:
        raise ValueError(f'The votes table lacks the columns {missing}.')
    values = np.asarray(votes['vote'], np.float64)
    if not len(values):
        raise ValueError('The votes table is empty.')
    bad = int((~((values >= 0) & (values <= 100))).sum())
    if bad:
        raise ValueError(f'{bad} of {len(values)} votes are NaN or outside 0..100.')
    raters, rater = np.unique(np.asarray(votes['rater_id'], str), return_inverse=True)
    images, image = np.unique(np.asarray(votes['image_id'], str), return_inverse=True)
    total, count = np.zeros((2, len(raters), len(images)))
    np.add.at(total, (rater, image), values)
    np.add.at(count, (rater, image), 1)
    with np.errstate(invalid='ignore'):
        return total / count, raters.astype(object), images.astype(object)


def _bias(table: np.ndarray) -> np.ndarray:
    """Each rater's offset [R]: least squares of vote = image mean + rater bias.

    With all raters on all images this is the mean difference to the mean votes, as in P.913; with
    other designs the images a rater happened to get no longer count as the rater's bias. Offsets of
    raters linked by common images add up to zero.
    """
    held = ~np.isnan(table)
    values = np.where(held, table, 0)
    held = held.astype(np.float64)
    votes = held.sum(0)
    share = np.divide(held, votes, out=np.zeros_like(held), where=votes > 0)
    normal = np.diag(held.sum(1)) - held @ share.T
    # The smallest solution: votes cannot tell the common level of raters linked by images.
    return np.linalg.lstsq(normal, values.sum(1) - share @ values.sum(0), rcond=1e-10)[0]


def _screened(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes of each rater far above and far below the panel, int [R] each, as BT.500 counts them.

    Far means beyond 2 standard deviations of the image's votes, or sqrt(20) where their kurtosis is
    not near normal.
    """
    votes = (~np.isnan(table)).sum(0)
    deviation = table - np.nansum(table, 0) / votes
    square, fourth = (np.nansum(deviation**power, 0) / votes for power in (2, 4))
    with np.errstate(invalid='ignore', divide='ignore'):
        kurtosis = fourth / square**2
        std = np.sqrt(square * votes / (votes - 1))
    near_normal = (kurtosis >= _NEAR_NORMAL[0]) & (kurtosis <= _NEAR_NORMAL[1])
    limit = np.where(near_normal, 2.0, np.sqrt(20.0)) * std
    limit[~(std > 0)] = np.inf  # one vote, or all the same: nobody stands out
    return (deviation > limit).sum(1), (deviation < -limit).sum(1)


def mos_from_votes(
    votes: Mapping[str, np.ndarray], *, remove_bias: bool = True, screen: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Mean opinion scores of a votes table (rater_id, image_id, vote in 0..100): (images, raters).

    First each rater's bias is removed, then raters are screened once by BT.500 on what is left,
    then the bias of the others is estimated again. Repeated votes of a rater for an image count
    once, as their mean.

    `images`, one row per voted image, by id: image_id, mos (clipped to 0..100), mos_std (of single
    votes, n - 1), votes (int32), standard_error, low and high (95 %, Student's t). An image with
    one vote has no spread, standard error and interval (nan), one that only excluded raters saw has
    no mos either, and votes 0. `raters`: rater_id, bias and inconsistency (mean and standard
    deviation of vote - mos), votes (int32), excluded (bool), reason ('' if kept). Numbers are
    float64. Raises ValueError. Source: ITU-R BT.500-14, ITU-T P.913.
    """
    table, raters, images = _table(votes)

    def unbiased(part):
        return part - _bias(part)[:, None] if remove_bias else part

    seen = (~np.isnan(table)).sum(1)
    above, below = _screened(unbiased(table))
    outliers = above + below
    excluded = (outliers > _OUTLIER_SHARE * seen) & (np.abs(above - below) < _ONE_SIDED * outliers)
    excluded &= screen
    kept = unbiased(table[~excluded])
    count = (~np.isnan(kept)).sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        mos = np.nansum(kept, 0) / count
        std = np.sqrt(np.nansum((kept - mos) ** 2, 0) / (count - 1))
        error = std / np.sqrt(count)
        reach = scipy.special.stdtrit(count - 1, 0.5 + _CONFIDENCE / 2) * error
        difference = table - mos
        known = (~np.isnan(difference)).sum(1)
        bias = np.nansum(difference, 1) / known
        spread = np.nansum((difference - bias[:, None]) ** 2, 1) / (known - 1)
    reasons = [
        f'BT.500: {n} of {total} votes are outliers, to both sides' if out else ''
        for out, n, total in zip(excluded, outliers, seen, strict=True)
    ]
    return {
        'image_id': images,
        'mos': mos.clip(0, 100),
        'mos_std': std,
        'votes': count.astype(np.int32),
        'standard_error': error,
        'low': mos - reach,
        'high': mos + reach,
    }, {
        'rater_id': raters,
        'bias': bias,
        'inconsistency': np.sqrt(spread),
        'votes': seen.astype(np.int32),
        'excluded': excluded,
        'reason': np.array(reasons, object),
    }
