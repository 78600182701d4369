"""Exact quantiles of score columns too long for memory."""

from collections.abc import Callable, Iterable

import numpy as np

from iqa_jax.competition import lists, windows

_HALF = 16  # bits of a key that one pass settles


def streamed(
    batches: Callable[[], Iterable[np.ndarray]], columns: int, shares: np.ndarray
) -> np.ndarray:
    """Quantiles of float32 columns, float64 [columns, shares], linear between neighbours.

    `batches` starts a pass over this process's part of the table, arrays [columns, B] of finite
    scores; two passes are made, and what is held does not grow with the table. `shares` [S] in
    0..1. As `numpy.quantile` of the columns in float64, whatever the batches and processes, all of
    which must call it.
    """
    counts = np.zeros((columns, 1 << _HALF), np.int64)
    for batch in batches():
        for column, keys in enumerate(windows.keys(batch)):
            counts[column] += np.bincount(_upper(keys), minlength=1 << _HALF)
    counts = np.sum(lists.gathered(counts), 0)
    size = int(counts[0].sum())
    position = np.asarray(shares, np.float64) * (size - 1)
    below = np.floor(position).astype(np.int64)
    ranks = np.unique(np.concatenate([below, np.minimum(below + 1, size - 1)]))
    totals = counts.cumsum(1)
    upper = np.stack([np.searchsorted(row, ranks, 'right') for row in totals])
    within = {
        (column, int(u)): np.zeros(1 << _HALF, np.int64)
        for column in range(columns)
        for u in np.unique(upper[column])
    }
    for batch in batches():
        keys = windows.keys(batch)
        top = _upper(keys)
        for (column, u), count in within.items():
            low = keys[column][top[column] == u] & ((1 << _HALF) - 1)
            count += np.bincount(low, minlength=1 << _HALF)
    parts = lists.gathered(within)
    within = {key: np.sum([part[key] for part in parts], 0) for key in within}
    values = np.empty((columns, len(ranks)))
    for column in range(columns):
        for i, (rank, u) in enumerate(zip(ranks, upper[column], strict=True)):
            rest = rank - (totals[column][u - 1] if u else 0)
            low = np.searchsorted(within[column, int(u)].cumsum(), rest, 'right')
            values[column, i] = _score(np.int32(((int(u) - (1 << 15)) << _HALF) | int(low)))
    first = values[:, np.searchsorted(ranks, below)]
    second = values[:, np.searchsorted(ranks, np.minimum(below + 1, size - 1))]
    t = position - below
    # Numerically as numpy.quantile: from the nearer neighbour.
    step = second - first
    return np.where(t < 0.5, first + step * t, second - step * (1 - t))


def _upper(keys: np.ndarray) -> np.ndarray:
    return (keys >> _HALF) + (1 << 15)


def _score(key: np.int32) -> float:
    return float(np.array(key if key >= 0 else key ^ np.int32(0x7FFFFFFF)).view(np.float32))
