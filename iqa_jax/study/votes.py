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


def rater_bias(table: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Each rater's offset [R]: weighted least squares of vote = image's quality + rater's bias.

    With all raters on all images, and `weights` [R] > 0 all equal (None), this is the mean
    difference to the mean votes, as in P.913; with other designs the images a rater happened to get
    no longer count as the rater's bias. Offsets of raters linked by common images add up to zero.
    """
    held = ~np.isnan(table)
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
