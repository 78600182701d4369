"""One reading of a score table: columns on the scale on which they compete, and their census."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from iqa_jax.competition import lists
from iqa_jax.data.score_stream import Batch, Table
from iqa_jax.runtime import parallel


class Column(NamedTuple):
    """A row of scores of the competition: `scale` of the table's column `name`.

    `scale` takes float32 [B] and returns them turned so that higher is better, on the scale on
    which they compete; it is monotone.
    """

    name: str
    scale: Callable[[np.ndarray], np.ndarray]


def as_it_is(scores: np.ndarray) -> np.ndarray:
    """The scale of scores that compete as they are."""
    return scores


class Pass:
    """One reading of this process's part of a table; `images` and errors are of all processes."""

    def __init__(self, table: Table, columns: Sequence[Column], batch_size: int):
        self._table, self._columns, self._batch_size = table, columns, batch_size
        self._names = list(dict.fromkeys(column.name for column in columns))
        self._plain = all(column.scale is as_it_is for column in columns) and len(columns) == len(
            self._names
        )
        self._images, self._nameless = 0, np.zeros(1, np.int64)
        self._bad = np.zeros((2, len(self._names)), np.int64)
        self._badly_scaled = np.zeros((2, len(columns)), np.int64)
        self._extremes = np.tile(np.float32([np.inf, -np.inf]), (len(columns), 1))

    def __iter__(self) -> Iterator[tuple[Batch, np.ndarray]]:
        """Batches of the table with the scores of the columns, float32 [columns, B]."""
        share = (parallel.process_index(), parallel.process_count())
        for batch in self._table.batches(self._names, self._batch_size, share):
            self._images += batch.scores.shape[1]
            self._nameless += batch.nameless
            scores = self._scaled(batch.scores)
            smallest, largest = scores.min(1), scores.max(1)
            if not (np.isfinite(smallest) & np.isfinite(largest)).all():  # as NaN spreads to both
                self._bad += np.isnan(batch.scores).sum(1), np.isinf(batch.scores).sum(1)
                self._badly_scaled += np.isnan(scores).sum(1), np.isinf(scores).sum(1)
            self._extremes[:, 0] = np.minimum(self._extremes[:, 0], smallest)
            self._extremes[:, 1] = np.maximum(self._extremes[:, 1], largest)
            yield batch, scores

    def _scaled(self, raw: np.ndarray) -> np.ndarray:
        if self._plain:
            return raw
        row = {name: i for i, name in enumerate(self._names)}
        scores = [column.scale(raw[row[column.name]]) for column in self._columns]
        return np.stack(scores).astype(np.float32, copy=False)

    def close(self) -> tuple[int, np.ndarray]:
        """Number of images and extremes of the columns.

        Raises a ValueError with the counts of scores that are not finite.
        """
        own = self._images, self._nameless, self._bad, self._badly_scaled, self._extremes
        parts = list(zip(*lists.gathered(own), strict=True))
        images, nameless, bad, badly_scaled = (sum(part) for part in parts[:4])
        if nameless[0]:
            raise ValueError(
                f'{nameless[0]} of {images} rows of {self._table.name} have no '
                f'{self._table.id_column}; leave them out or name them.'
            )
        names = [column.name for column in self._columns]
        for what, counted, of in (
            ("Scores '{}' hold", bad, self._names),
            ("The mapping of '{}' gives", badly_scaled, names),
        ):
            for name, missing, infinite in zip(of, *counted.tolist(), strict=True):
                if missing or infinite:
                    raise ValueError(
                        f'{what.format(name)} {missing} NaN and {infinite} infinite values among '
                        f'{images} (in float32); leave those images or this column out.'
                    )
        if images < 2:
            raise ValueError(f'A competition needs at least 2 images, not {images}.')
        low, high = zip(*(part.T for part in parts[4]), strict=True)
        return images, np.stack([np.min(low, 0), np.max(high, 0)], 1)
