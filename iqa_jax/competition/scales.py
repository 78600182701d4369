"""On which scale the columns of a score table compete."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from iqa_jax.competition import quantiles
from iqa_jax.competition.reading import Column, Pass, as_it_is
from iqa_jax.data.score_stream import Table

_PERCENTILES = np.array([0.001, 0.999])
_GRID = 4097  # scores on which a mapping is checked

Scale = str | Mapping[str, Callable[[np.ndarray], np.ndarray]]


def columns(
    table: Table,
    names: Mapping[str, str],
    higher_is_better: Mapping[str, bool],
    scale: Scale,
    chunk_size: int,
) -> list[Column]:
    """Columns of a table, label -> its name there, on `scale`, see `search.compete`.

    Raises ValueError.
    """
    signs = [1.0 if higher_is_better[name] else -1.0 for name in names]
    if scale == 'own':
        return [
            Column(source, as_it_is if sign > 0 else np.negative)
            for source, sign in zip(names.values(), signs, strict=True)
        ]
    if scale == 'percentile':
        own = [Column(source, as_it_is) for source in names.values()]
        ends = column_quantiles(table, own, _PERCENTILES, chunk_size).tolist()
        return [
            Column(source, _between(name, sign, *end))
            for (name, source), sign, end in zip(names.items(), signs, ends, strict=True)
        ]
    if isinstance(scale, str):
        raise ValueError(f"scale must be 'own', 'percentile' or functions, not {scale!r}.")
    if missing := [name for name in names if name not in scale]:
        raise ValueError(
            f"No mapping for '{missing[0]}'; give one for every model and rival, or none."
        )
    ends = raw_extremes(table, list(names.values()), chunk_size)
    for (name, source), sign in zip(names.items(), signs, strict=True):
        _check_mapping(name, scale[name], sign, *ends[source])
    return [
        Column(source, functools.partial(_mapped, scale[name])) for name, source in names.items()
    ]


def clipped(scale: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """`scale` within 0..100."""
    return lambda scores: scale(scores).clip(0, 100)


def column_quantiles(
    table: Table, chosen: Sequence[Column], shares: np.ndarray, chunk_size: int
) -> np.ndarray:
    """Quantiles of columns of a table, float64 [columns, shares]. Raises ValueError."""

    def batches():
        reading = Pass(table, chosen, chunk_size)
        for _, scores in reading:
            yield scores
        reading.close()

    return quantiles.streamed(batches, len(chosen), shares)


def _between(name: str, sign: float, low: float, high: float) -> Callable:
    if low == high:
        raise ValueError(
            f"Scores '{name}': the 0.1 and 99.9 percentiles are equal, so they have no 0..100 "
            'scale; leave the column out or give a mapping for it.'
        )
    bottom, top = (low, high) if sign > 0 else (-high, -low)

    def stretched(scores: np.ndarray) -> np.ndarray:
        oriented = sign * scores.astype(np.float64)
        return (100 * (oriented - bottom) / (top - bottom)).astype(np.float32)

    return stretched


def raw_extremes(
    table: Table, names: Sequence[str], chunk_size: int
) -> dict[str, tuple[float, float]]:
    """Smallest and largest score of columns, of a file's own statistics or by reading it."""
    names = list(dict.fromkeys(names))
    if (stated := table.extremes(names)) is not None:
        return stated
    reading = Pass(table, [Column(name, as_it_is) for name in names], chunk_size)
    for _ in reading:
        pass
    return dict(zip(names, reading.close()[1].tolist(), strict=True))


def _check_mapping(name: str, mapping: Callable, sign: float, low: float, high: float) -> None:
    """Raises a ValueError for a mapping that is not one of scores, or not monotone between them."""
    grid = np.linspace(low, high, _GRID).astype(np.float32)
    mapped = np.asarray(mapping(grid))
    if mapped.shape != grid.shape:
        raise ValueError(
            f"The mapping of '{name}' makes {mapped.shape} of {grid.shape} scores; it must give "
            'one for each.'
        )
    if (np.diff(mapped) * sign < 0).any():
        raise ValueError(
            f"The mapping of '{name}' is not monotone in its direction on these scores; "
            'fit the 4-parameter logistic.'
        )


def _mapped(mapping: Callable, scores: np.ndarray) -> np.ndarray:
    return np.asarray(mapping(scores), np.float32)
