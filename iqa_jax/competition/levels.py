"""Windows of every defender of a competition, from as few readings of its table as it takes."""

from collections.abc import Mapping, Sequence

import numpy as np

from iqa_jax.competition import scales, windows
from iqa_jax.competition.reading import Column, Pass
from iqa_jax.competition.rules import Rules
from iqa_jax.data.score_stream import Table


def of_defenders(
    table: Table, columns: Sequence[Column], defenders: Sequence[tuple[str, int]], rules: Rules
) -> tuple[dict[int, windows.Windows], dict[int, np.ndarray]]:
    """Windows by number of column of the `defenders` (name, number), and what they rest on.

    The second is smallest and largest score of every column that a file's own statistics gave, to
    be compared with what the search sees (`check`). Raises ValueError.
    """
    found = {number: rules.given(name) for name, number in defenders}
    asked = [(name, number) for name, number in defenders if found[number] is None]
    chosen = [columns[number] for _, number in asked]
    stated: dict[int, np.ndarray] = {}
    if asked and rules.window == 'equal_width':
        ends = _stated(table, chosen)
        if ends is not None:
            stated = {number: end for (_, number), end in zip(asked, ends, strict=True)}
        else:
            reading = Pass(table, chosen, rules.chunk_size)
            for _ in reading:
                pass
            ends = reading.close()[1]
    elif asked:
        shares = windows.shares(rules.levels, rules.half_width)
        every, place = np.unique(shares, return_inverse=True)
        ends = scales.column_quantiles(table, chosen, every, rules.chunk_size)[:, place]
    for row, (name, number) in enumerate(asked):
        try:
            if rules.window == 'equal_width':
                found[number] = windows.equal_width(
                    ends[row], rules.levels, rules.half_width, rules.half_points
                )
            else:
                found[number] = windows.quantile(ends[row])
        except ValueError as error:
            raise ValueError(f"Defender '{name}': {error}") from error
    return found, stated


def check(
    table: Table,
    columns: Sequence[Column],
    stated: Mapping[int, np.ndarray],
    seen: np.ndarray,
) -> None:
    """Raises a ValueError if a file's statistics are not what its columns hold, [columns, 2]."""
    for number, ends in stated.items():
        if not np.array_equal(ends, seen[number]):
            raise ValueError(
                f'{table.name} states wrong smallest and largest values of '
                f'{columns[number].name}; write the file again.'
            )


def _stated(table: Table, chosen: Sequence[Column]) -> np.ndarray | None:
    """Extremes [columns, 2] on the columns' scales, from the file's statistics, if it has them."""
    ends = table.extremes(list(dict.fromkeys(column.name for column in chosen)))
    if ends is None:
        return None
    # A scale is monotone, so that the ends stay ends.
    return np.sort([column.scale(np.float32(ends[column.name])) for column in chosen], axis=1)
