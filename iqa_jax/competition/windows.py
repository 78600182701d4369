"""Quality levels of a defender, and who excites an attacker most inside each of them."""

import jax
import numpy as np

from iqa_jax.competition import kernel

CHUNK_SIZE = 16384  # fastest of 4,096 to 32,768 on a CPU; any value gives the same result
_OUTSIDE = np.int32(np.iinfo(np.int32).max)


def level_windows(
    defender: np.ndarray,
    levels: int = 6,
    window: str = 'equal_width',
    half_width: float = 0.09,
) -> tuple[np.ndarray, np.ndarray]:
    """Open intervals (low, high), float32 [levels] each, of `defender` [N]; level 0 is the lowest.

    'equal_width' follows the Waterloo gMAD toolbox: centres are (k + 1/2) / levels of the way from
    the smallest to the largest score, windows reach `half_width` of that range to both sides
    (toolbox: 9 of 100 points, so neighbours overlap) and are strict. 'quantile' does the same
    on the share of images instead of the range, ends included. Raises ValueError.
    """
    if levels < 1 or not 0 < half_width <= 1:
        raise ValueError(
            f'levels must be at least 1 and half_width in (0, 1], not {levels} and {half_width}.'
        )
    scores = np.asarray(defender, np.float64)
    if scores.min() == scores.max():
        raise ValueError('The defender gives every image the same score, so it has no levels.')
    centres = (np.arange(levels) + 0.5) / levels
    if window == 'equal_width':
        span = scores.max() - scores.min()
        low = scores.min() + span * (centres - half_width)
        high = scores.min() + span * (centres + half_width)
        return low.astype(np.float32), high.astype(np.float32)
    if window == 'quantile':
        low = np.quantile(scores, np.maximum(centres - half_width, 0)).astype(np.float32)
        high = np.quantile(scores, np.minimum(centres + half_width, 1)).astype(np.float32)
        return np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))
    raise ValueError(f"window must be 'equal_width' or 'quantile', not {window!r}.")


def _places(scores: np.ndarray) -> np.ndarray:
    """Int32 numbers in the order of the float32 `scores`, so that strict bounds stay exact."""
    # Adding zero makes -0.0 and 0.0 one place. Integers, since XLA may flush what lies next to 0.
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.int32)
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)


def candidate_lists(
    defender: np.ndarray,
    attackers: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    candidates: int,
    *,
    out: np.ndarray | None = None,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[np.ndarray, np.ndarray]:
    """Each attacker's `candidates` largest and smallest images inside each window (low, high).

    `defender` float32 [N], `attackers` float32 [N, M], finite; `out` bool [N]: images left out.
    Returns (highs, lows), int [M, levels, candidates]: image indices, best first, equal scores by
    ascending index, padded with -1 where a window has fewer images.
    """
    place, size, rivals = _places(defender), len(defender), attackers.shape[1]
    if out is not None:
        place = np.where(out, _OUTSIDE, place)
    # Windows may overlap. Their ends cut the axis into cells, which do not; each window is a run of
    # cells, and the cells of no window become cell 0, which holds nobody.
    first, end = _places(low) + 1, _places(high)
    cuts = np.unique(np.concatenate([first, end]))
    begin, stop = np.searchsorted(cuts, first) + 1, np.searchsorted(cuts, end) + 1
    cells = np.arange(len(cuts) + 1)[:, None]
    covered = ((cells >= begin) & (cells < stop)).any(1)
    cell_of = (covered * covered.cumsum()).astype(np.int32)
    state = kernel.empty(covered.sum() + 1, rivals, candidates)
    for start in range(0, size, chunk_size):
        chunk, scores = place[start : start + chunk_size], attackers[start : start + chunk_size]
        if missing := chunk_size - len(chunk):  # one shape, one compilation
            chunk = np.pad(chunk, (0, missing), constant_values=_OUTSIDE)
            scores = np.pad(scores, ((0, missing), (0, 0)))
        state = kernel.update(state, cuts, cell_of, chunk, scores, start)
    values, index = jax.device_get(state)

    lists = np.full((2 * rivals, len(low), candidates), kernel.NOBODY)
    for level, (a, b) in enumerate(zip(begin, stop, strict=True)):
        if a >= b:
            continue
        run = slice(cell_of[a], cell_of[a] + b - a)
        merged = index[run].swapaxes(0, 1).reshape(2 * rivals, -1)
        order = np.lexsort((merged, -values[run].swapaxes(0, 1).reshape(merged.shape)))
        lists[:, level] = np.take_along_axis(merged, order[:, :candidates], 1)
    return lists[:rivals], lists[rivals:]
