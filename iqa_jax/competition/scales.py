"""On which scale the columns of a score table compete."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from iqa_jax.competition import quantiles
from iqa_jax.competition.candidates import Column, Pass, as_it_is
from iqa_jax.data.score_stream import Table

_PERCENTILES = np.array([0.001, 0.999])

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
    return [
        Column(source, functools.partial(_mapped, name, scale[name], sign))
        for (name, source), sign in zip(names.items(), signs, strict=True)
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


def _mapped(name: str, mapping: Callable, sign: float, scores: np.ndarray) -> np.ndarray:
    mapped = np.asarray(mapping(scores), np.float32)
    if (np.diff(mapped[np.argsort(sign * scores, kind='stable')]) < 0).any():
        raise ValueError(
            f"The mapping of '{name}' is not monotone in its direction on these scores; "
            'fit the 4-parameter logistic.'
        )
    return mapped
