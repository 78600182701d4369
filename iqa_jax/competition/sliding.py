"""The exact search: over a defender's sorted scores, every pair within the tolerance is looked at.

For each image as the better one, the attacker's worst partner within reach is a minimum over a
stretch of the sorted scores, which a sparse table gives in constant time.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Reach:
    """Which images of a level may stand beside each other, by the defender alone.

    `members` int [n]: images in ascending order of the defender's scores; image members[i] may
    stand with members[begin[i]:stop[i]]. `upper` int [n]: from there on partners have a larger
    score than members[i].
    """

    members: np.ndarray
    begin: np.ndarray
    stop: np.ndarray
    upper: np.ndarray


def reach(
    order: np.ndarray,
    scores: np.ndarray,
    low: float,
    high: float,
    tolerance: float | None,
    straddling: bool,
) -> Reach:
    """The reach of a level (low, high), ends excluded.

    `order` int [N] sorts the defender's scores, `scores` float64 [N] are the sorted ones. Without
    `straddling` both images lie inside the level; with it their mean does, so that no pair within
    the tolerance is lost between two levels. `tolerance` None: no limit, and no straddling.
    """
    limit = np.inf if tolerance is None else float(tolerance)
    straddling = straddling and tolerance is not None
    margin = limit / 2 if straddling else 0.0
    first = np.searchsorted(scores, low - margin, 'left' if straddling else 'right')
    end = np.searchsorted(scores, high + margin, 'right' if straddling else 'left')
    inside = scores[first:end]
    begin = np.searchsorted(inside, inside - limit, 'left')
    stop = np.searchsorted(inside, inside + limit, 'right')
    if straddling:
        begin = np.maximum(begin, np.searchsorted(inside, 2.0 * low - inside, 'right'))
        stop = np.minimum(stop, np.searchsorted(inside, 2.0 * high - inside, 'left'))
    upper = np.searchsorted(inside, inside, 'right')
    return Reach(order[first:end], begin, np.maximum(begin, stop), upper.clip(begin, None))


def lowest(values: np.ndarray, begin: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Minimum of values[begin[i]:stop[i]] for every i, +inf where that is empty."""
    found = np.full(len(begin), np.inf, values.dtype)
    length = stop - begin
    width, table = 1, values
    longest = length.max(initial=0)
    while width <= longest:
        now = np.flatnonzero((length >= width) & (length < 2 * width))
        # Two overlapping stretches of this width cover everything between begin and stop.
        found[now] = np.minimum(table[begin[now]], table[stop[now] - width])
        if 2 * width <= longest:
            table = np.minimum(table[:-width], table[width:])
        width *= 2
    return found


def upper_bounds(
    level: Reach, attacker: np.ndarray, defender: np.ndarray, free: np.ndarray, disagreement: bool
) -> np.ndarray:
    """The largest objective of each member as the better image, float64 [n], -inf for none.

    `attacker` and `defender` float64 [n] scores of the members, `free` bool [n]: may be shown. The
    objective is the attacker's gap, with `disagreement` less the defender's absolute gap.
    """
    end = level.stop
    if disagreement:
        # |d_i - d_j| is a difference on either side of i, so each side has its own minimum.
        split = np.minimum(level.upper, end)
        below = np.where(free, attacker - defender, np.inf)
        above = np.where(free, attacker + defender, np.inf)
        bounds = np.maximum(
            attacker - defender - lowest(below, level.begin, split),
            attacker + defender - lowest(above, split, end),
        )
        # Summed in another order than the objective: never a bound below it.
        bounds += 1e-14 * np.max(np.abs(attacker) + np.abs(defender), initial=0.0)
    else:
        bounds = attacker - lowest(np.where(free, attacker, np.inf), level.begin, end)
    return np.where(free, bounds, -np.inf)
