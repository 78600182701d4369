"""What the raters of single images say about pairs: the outcome of a gMAD contest."""

from collections.abc import Collection, Mapping

import numpy as np
import scipy.special

_CONFIDENCE = 0.95
_SIDES = ('image_id_best', 'image_id_worst')
_MEASURES = ('mean_difference', 'standard_error', 'low', 'high', 'share_preferring_best')


def pairwise_preferences(
    votes: Mapping[str, np.ndarray],
    pairs: Mapping[str, np.ndarray],
    *,
    exclude_raters: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Human preference for each of P `pairs` (image_id_best, image_id_worst), from a votes table.

    Only raters who voted on both images count, so a rater's bias cancels; repeated votes of a rater
    for an image count once, as their mean. Rows as in `pairs`: the two id columns, raters (int32)
    and, in float64, mean_difference (best - worst, -100..100), its standard_error, low and high
    (95 %, Student's t) and share_preferring_best (ties count half), nan where no rater, or for the
    error and interval only one, saw both. Raises ValueError.
    """
    needed = {'votes': ('rater_id', 'image_id', 'vote'), 'pairs': _SIDES}
    for (name, columns), table in zip(needed.items(), (votes, pairs), strict=True):
        missing = [key for key in columns if key not in table]
        if missing:
            raise ValueError(f'The {name} table lacks the columns {missing}.')
    by_image: dict[str, dict[str, list[float]]] = {}
    for rater, image, vote in zip(*(votes[key] for key in needed['votes']), strict=True):
        if not np.isfinite(vote):
            raise ValueError(f"The vote of rater '{rater}' for image '{image}' is not a number.")
        if rater not in exclude_raters:
            by_image.setdefault(image, {}).setdefault(rater, []).append(float(vote))
    columns = {key: [] for key in ('raters', *_MEASURES)}
    for best, worst in zip(*(pairs[side] for side in _SIDES), strict=True):
        first, second = by_image.get(best, {}), by_image.get(worst, {})
        common = sorted(first.keys() & second.keys())
        difference = np.array([np.mean(first[r]) - np.mean(second[r]) for r in common])
        for key, value in zip(columns, (len(common), *_measures(difference)), strict=True):
            columns[key].append(value)
    return {
        **{side: np.asarray(pairs[side], object) for side in _SIDES},
        'raters': np.array(columns['raters'], np.int32),
        **{key: np.array(columns[key], np.float64) for key in _MEASURES},
    }


def _measures(difference: np.ndarray) -> tuple[float, ...]:
    count = len(difference)
    if not count:
        return (float('nan'),) * len(_MEASURES)
    mean, share = difference.mean(), (np.sign(difference) + 1).mean() / 2
    if count == 1:
        return mean, float('nan'), float('nan'), float('nan'), share
    error = difference.std(ddof=1) / np.sqrt(count)
    reach = scipy.special.stdtrit(count - 1, 0.5 + _CONFIDENCE / 2) * error
    return mean, error, mean - reach, mean + reach, share
