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
    # The smallest solution: the level that votes cannot tell, one per linked group, is set to zero.
    return np.linalg.lstsq(normal, values.sum(1) - values @ share.sum(0) * 0 - share @ values.sum(0),
                           rcond=1e-10)[0]  # fmt: skip
