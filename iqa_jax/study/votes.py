"""The votes of a study as a matrix of raters by images, and the raters' offsets in it."""

from collections.abc import Mapping

import numpy as np


def matrix(votes: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes as float64 [raters, images], nan where there is none, and both lists of ids, sorted.

    Several votes of a rater for one image (repeats, gold questions) count once, as their mean.
    Raises ValueError where columns lack, there is no vote, or a vote is not in 0..100.
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


def several_shared(table: np.ndarray) -> np.ndarray:
    """Whose votes tell bias from noise: at least two on images that others saw; bool [R]."""
    held = ~np.isnan(table)
    return (held & (held.sum(0) >= 2)).sum(1) >= 2


def rater_bias(table: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Each rater's offset [R]: weighted least squares of vote = image's quality + rater's bias.

    With all raters on all images, and `weights` [R] > 0 all equal (None), this is the mean
    difference to the mean votes, as in P.913; with other designs the images a rater happened to get
    no longer count as the rater's bias. Offsets of raters linked by common images add up to zero.
    One vote on an image that others saw is all bias or all noise: such a rater's offset is 0.
    """
    held = ~np.isnan(table) & several_shared(table)[:, None]
    values = np.where(held, table, 0)
    held = held.astype(np.float64)
    weight = np.ones(len(table)) if weights is None else weights
    weighted = weight[:, None] * held
    total = weighted.sum(0)

    def over_total(x):
        return np.divide(x, total, out=np.zeros_like(held), where=total > 0)

    normal = np.diag(held.sum(1)) - held @ over_total(weighted).T
    sums = (weight[:, None] * values).sum(0)
    # The smallest solution: votes cannot tell the common level of raters linked by images.
    return np.linalg.lstsq(normal, values.sum(1) - over_total(held) @ sums, rcond=1e-10)[0]


def left_by_bias(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is known of each image after `rater_bias` (equal weights) is taken off `table` [R, M].

    Returns the degrees of freedom left for the spread of its votes, and the variance of their mean
    over that of one vote, [M] each: n - 1 and 1 / n of n votes of raters whose bias is known, fewer
    and more by what the biases cost. The former is the sum of 1 - leverage over the votes.
    """
    held = ~np.isnan(table)
    fitted = held & several_shared(table)[:, None]
    with np.errstate(invalid='ignore', divide='ignore'):
        share, counted = held / held.sum(0), np.nan_to_num(fitted / fitted.sum(0))
        one = 1 / held.sum(0)
    normal = np.diag(fitted.sum(1)) - fitted @ counted.T
    covariance = np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
    # The bias of the rater and the mean bias of the image's raters both are uncertain.
    own = covariance @ np.nan_to_num(share)
    common = np.nansum(share * own, 0)
    leverage = one + np.diag(covariance)[:, None] - 2 * own + common
    return np.where(held, 1 - leverage, 0).sum(0), one + common
