"""Quality levels of a defender, and the cells into which their ends divide its axis."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_WIDTH = 0.54  # of the distance between two centres: the toolbox's 9 of 100 points at six levels

WINDOWS = ('equal_width', 'quantile')


class Windows(NamedTuple):
    """Open intervals of a defender's scores, float32 [levels] each; level 0 is the lowest."""

    low: np.ndarray
    high: np.ndarray


def given(levels: Sequence[tuple[float, float]]) -> Windows:
    """Windows given as (low, high), ends excluded. Raises ValueError for an empty one."""
    try:
        low, high = np.asarray(levels, np.float32).reshape(-1, 2).T
    except ValueError as error:
        raise ValueError(f'Levels must be a number or (low, high) pairs, not {levels}.') from error
    if not len(low) or not (low < high).all():
        raise ValueError(f'Every level needs low < high, not {levels}.')
    return Windows(low, high)


def check(
    levels: int, window: str, half_width: float | None, half_points: float | None = None
) -> None:
    """Raises a ValueError for values that the windows do not take."""
    if window not in WINDOWS:
        raise ValueError(f"window must be 'equal_width' or 'quantile', not {window!r}.")
    if levels < 1 or (half_width is not None and not 0 < half_width <= 1):
        raise ValueError(
            f'levels must be at least 1 and half_width in (0, 1], not {levels} and {half_width}.'
        )
    if half_points is not None and (not half_points > 0 or window != 'equal_width'):
        raise ValueError(f"half_points={half_points!r} must be above 0 and needs 'equal_width'.")


def _centres(levels: int, half_width: float | None) -> tuple[np.ndarray, float]:
    return (np.arange(levels) + 0.5) / levels, half_width or _WIDTH / levels


def equal_width(
    ends: np.ndarray,
    levels: int,
    half_width: float | None = None,
    half_points: float | None = None,
) -> Windows:
    """Windows of the same width between a defender's smallest and largest score, `ends` [2].

    Centres are (k + 1/2) / levels of the way, windows reach `half_width` of the range to both sides
    (None: 0.54 / levels, so neighbours overlap a little), or `half_points` in the defender's units.
    Source: the Waterloo gMAD toolbox, which takes 6 levels and 9 points on a scale of 0..100,
    strict. Raises ValueError.
    """
    smallest, largest = map(float, ends)
    _check_ends(smallest, largest)
    centres, reach = _centres(levels, half_width)
    span = largest - smallest
    reach = half_points or span * reach
    middle = smallest + span * centres
    return Windows((middle - reach).astype(np.float32), (middle + reach).astype(np.float32))


def shares(levels: int, half_width: float | None = None) -> np.ndarray:
    """Shares of all images at which `quantile` windows begin and end, float64 [2 * levels]."""
    centres, reach = _centres(levels, half_width)
    return np.concatenate([centres - reach, centres + reach]).clip(0, 1)


def quantile(ends: np.ndarray) -> Windows:
    """As `equal_width` on the share of images instead of the range, ends included.

    `ends` [2 * levels]: the defender's quantiles at `shares`. Raises ValueError.
    """
    low, high = np.split(np.asarray(ends, np.float64).astype(np.float32), 2)
    _check_ends(low[0], high[-1])
    return Windows(np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf)))


def _check_ends(smallest: float, largest: float) -> None:
    if not smallest < largest:
        raise ValueError(
            'The defender gives every image the same score (in float32), so it has no levels.'
        )


class Cells(NamedTuple):
    """Cells between the ends of possibly overlapping windows; each window is a run of cells.

    `cuts` int32 [C] and `cell_of` int32 [C + 1] as in `kernel.Axes`, `count` cells with cell 0,
    `runs` one slice of cells for each window.
    """

    cuts: np.ndarray
    cell_of: np.ndarray
    count: int
    runs: list[slice]


def keys(scores: np.ndarray) -> np.ndarray:
    """`kernel.keys` of host arrays."""
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)


def cells(windows: Windows) -> Cells:
    """The cells of `windows`; those of no window become cell 0, which holds nobody."""
    first, end = keys(windows.low) + 1, keys(windows.high)
    cuts = np.unique(np.concatenate([first, end]))
    begin, stop = np.searchsorted(cuts, first) + 1, np.searchsorted(cuts, end) + 1
    number = np.arange(len(cuts) + 1)[:, None]
    covered = ((number >= begin) & (number < stop)).any(1)
    cell_of = (covered * covered.cumsum()).astype(np.int32)
    runs = [
        slice(cell_of[a], cell_of[a] + b - a) if a < b else slice(0, 0)
        for a, b in zip(begin, stop, strict=True)
    ]
    return Cells(cuts, cell_of, int(covered.sum()) + 1, runs)
