"""Whether a higher score is better, for score columns that do not say so."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from iqa_jax import fr_metrics
from iqa_jax.data.score_stream import Table

_SAMPLE = 65536  # rows that an inference looks at
_CLEAR = 0.1  # a rank correlation below tells nothing
# Names that other programs give their columns.
_DISTANCES = {'brisque', 'butteraugli', 'dists', 'dssim', 'ilniqe', 'lpips', 'mad', 'mse', 'niqe',
              'piqe', 'pieapp', 'ssimulacra'}  # fmt: skip
_QUALITIES = {'mos', 'ssimulacra2', 'topiq', 'vmaf', 'musiq', 'maniqa', 'clipiqa', 'hyperiqa'}


def resolve(
    table: Table, names: Sequence[str], declared: Mapping[str, bool] | None = None
) -> dict[str, bool]:
    """Direction of each column: declared, else of its metadata, else inferred with a warning.

    A name of a known metric says it; any other column is turned so that it agrees in rank with the
    columns known by then on the first 65,536 rows. Where nothing is known, the first of `names` is
    taken as higher is better. Raises ValueError for a column that agrees with none.
    """
    described = table.described()
    found = {
        name: described[name]['higher_is_better']
        for name in names
        if described.get(name, {}).get('higher_is_better') is not None
    }
    for name in names:
        if name in (declared or {}):
            found[name] = bool(declared[name])
    inferred = {n: _by_name(n) for n in names if n not in found and _by_name(n) is not None}
    found |= inferred
    if open_ones := [name for name in names if name not in found]:
        sample = next(table.batches(list(names), _SAMPLE)).scores
        column = dict(zip(names, sample, strict=True))
        if not found and open_ones[0].lower() == 'dmos':
            raise ValueError(
                "Databases disagree on whether a higher 'dmos' is better; give higher_is_better."
            )
        if not found:
            found[open_ones[0]] = inferred[open_ones[0]] = True
        for name in open_ones:
            if name not in found:
                found[name] = inferred[name] = _by_rank(name, column, found)
    if inferred:
        told = ', '.join(f'{n}: {"higher" if b else "lower"}' for n, b in inferred.items())
        warnings.warn(
            f'{table.name} does not say in which direction its scores are better; inferred {told} '
            'is better. Give higher_is_better to settle it.',
            stacklevel=4,
        )
    return {name: found[name] for name in names}


def _by_name(name: str) -> bool | None:
    word = name.lower()
    try:
        return fr_metrics.metric(word).higher_is_better
    except ValueError:
        return False if word in _DISTANCES else True if word in _QUALITIES else None


def _by_rank(name: str, column: Mapping[str, np.ndarray], known: Mapping[str, bool]) -> bool:
    votes = []
    for other, higher in known.items():
        both = np.isfinite(column[name]) & np.isfinite(column[other])
        x, y = column[name][both], column[other][both]
        if len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0:
            votes.append((1 if higher else -1) * scipy.stats.spearmanr(x, y).statistic)
    agreement = float(np.mean(votes)) if votes else 0.0
    if abs(agreement) < _CLEAR:
        raise ValueError(
            f"Whether a higher '{name}' is better cannot be inferred: its rank correlation with "
            f'{", ".join(known)} is {agreement:.2f}; give higher_is_better={{{name!r}: ...}}.'
        )
    return agreement > 0
