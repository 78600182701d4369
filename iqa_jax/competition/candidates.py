"""Who excites each attacker most inside each level, of score tables in memory or on disk."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iqa_jax.competition import lists
from iqa_jax.competition.windows import keys
from iqa_jax.data.score_stream import Batch, Table
from iqa_jax.runtime import parallel

CHUNK_SIZE = 65536  # images per device and step; any number gives the same result


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


class Candidates(NamedTuple):
    """Images in order of their ids, with everything that choosing pairs needs.

    `ids` and `contents` (or None), Arrow arrays [n]; `scores`, float32 [n] of each column; `out`
    bool [n], images not to be shown; for each meeting `highs` and `lows` int [attackers, levels,
    K], numbers of images, best first, equal scores in order of id, -1 where a level holds fewer;
    None where nobody asked. `level_images` int [levels] for each meeting, images of the table in
    each level, None likewise. `extremes`: smallest and largest score of each column in the whole
    table, float32 [columns, 2]; `images` in the table. `whole`: the n images are all of the table,
    not only those listed.
    """

    ids: pa.Array
    contents: pa.Array | None
    scores: list[np.ndarray]
    out: np.ndarray
    highs: list[np.ndarray] | None
    lows: list[np.ndarray] | None
    level_images: list[np.ndarray] | None
    extremes: np.ndarray
    images: int
    whole: bool


class Pass:
    """One reading of this process's part of a table; `images` and errors are of all processes."""

    def __init__(self, table: Table, columns: Sequence[Column], batch_size: int):
        self._table, self._columns, self._batch_size = table, columns, batch_size
        self._names = list(dict.fromkeys(column.name for column in columns))
        self._plain = all(column.scale is as_it_is for column in columns) and len(columns) == len(
            self._names
        )
        self._images = 0
        self._bad = np.zeros((2, len(self._names)), np.int64)
        self._extremes = np.tile(np.float32([np.inf, -np.inf]), (len(columns), 1))

    def __iter__(self) -> Iterator[tuple[Batch, np.ndarray]]:
        """Batches of the table with the scores of the columns, float32 [columns, B]."""
        share = (parallel.process_index(), parallel.process_count())
        for batch in self._table.batches(self._names, self._batch_size, share):
            self._images += batch.scores.shape[1]
            scores = self._scaled(batch.scores)
            smallest, largest = scores.min(1), scores.max(1)
            if not (np.isfinite(smallest) & np.isfinite(largest)).all():  # as NaN spreads to both
                self._bad += np.isnan(batch.scores).sum(1), np.isinf(batch.scores).sum(1)
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
        parts = lists.gathered((self._images, self._bad, self._extremes))
        images, bad = sum(part[0] for part in parts), sum(part[1] for part in parts)
        for name, missing, infinite in zip(self._names, *bad.tolist(), strict=True):
            if missing or infinite:
                raise ValueError(
                    f"Scores '{name}' hold {missing} NaN and {infinite} infinite values among "
                    f'{images}; leave those images or this column out.'
                )
        if images < 2:
            raise ValueError(f'A competition needs at least 2 images, not {images}.')
        low, high = zip(*(part[2].T for part in parts), strict=True)
        return images, np.stack([np.min(low, 0), np.max(high, 0)], 1)


def collect(
    table: Table,
    columns: Sequence[Column],
    meetings: Sequence[lists.Meeting],
    candidates: int,
    *,
    exclude: Collection = (),
    chunk_size: int = CHUNK_SIZE,
) -> Candidates:
    """Each attacker's `candidates` largest and smallest images in each window of each meeting.

    A table in memory must be in order of id, as `score_stream.of_columns` makes it. Images whose
    ids are in `exclude` are not listed. The result depends on neither chunks, devices nor
    processes. Raises ValueError with the counts of scores that are NaN or infinite.
    """
    builder = lists.Builder(meetings, candidates, chunk_size)
    reading = Pass(table, columns, builder.batch_size)
    notes: list[pa.Table] = []
    for batch, scores in reading:
        out = _excluded(batch.ids, exclude)
        builder.add(scores, out, batch.index)
        if not table.in_memory:
            fresh = np.intersect1d(builder.listed(), batch.index, assume_unique=True)
            notes.append(_note(batch, scores, np.searchsorted(batch.index, fresh)))
    images, extremes = reading.close()
    found = builder.finish()
    if table.in_memory:
        return _of_memory(table, columns, exclude, found, extremes)
    found, settled = _settle_ties(table, columns, meetings, found, exclude, builder.batch_size)
    return _of_notes([*lists.gathered(_together(notes)), *settled], table, found, extremes, images)


def hold(
    table: Table, columns: Sequence[Column], exclude: Collection, chunk_size: int
) -> Candidates:
    """All images of a table in memory, without lists, as `collect` otherwise."""
    reading = Pass(table, columns, chunk_size)
    for _ in reading:
        pass
    return _of_memory(table, columns, exclude, None, reading.close()[1])


def _excluded(ids: pa.Array, exclude: Collection) -> np.ndarray:
    if not exclude:
        return np.zeros(len(ids), bool)
    values = pa.array(list(exclude)).cast(ids.type)
    return pc.is_in(ids, value_set=values).to_numpy(zero_copy_only=False)


def _of_memory(table, columns, exclude, found, extremes) -> Candidates:
    column = {name: table.where[name].to_numpy() for name in {c.name for c in columns}}
    scores = [c.scale(column[c.name].astype(np.float32, copy=False)) for c in columns]
    scores = [x.astype(np.float32, copy=False) for x in scores]
    ids = table.where[table.id_column].combine_chunks()
    contents = table.content_column and table.where[table.content_column].combine_chunks()
    return Candidates(
        ids,
        contents,
        scores,
        _excluded(ids, exclude),
        *(_halves([x.index for x in found]) if found else (None, None)),
        [of_meeting.images for of_meeting in found] if found else None,
        extremes,
        len(ids),
        True,
    )


def _halves(index: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [x[: len(x) // 2] for x in index], [x[len(x) // 2 :] for x in index]


def _note(batch: Batch, scores: np.ndarray, rows: np.ndarray) -> pa.Table:
    """What is kept of some rows of a batch."""
    taken = pa.array(rows)
    contents = pa.nulls(len(rows), pa.string())
    if batch.contents is not None:
        contents = pc.fill_null(pc.cast(batch.contents.take(taken), pa.string()), '')
    found = {'index': batch.index[rows], 'id': batch.ids.take(taken), 'content': contents}
    return pa.table(found | {f'score_{i}': row[rows] for i, row in enumerate(scores)})


def _together(notes: list[pa.Table]) -> pa.Table | None:
    return pa.concat_tables(notes) if notes else None


def _settle_ties(table, columns, meetings, found, exclude, batch_size):
    """Lists whose ends, where equal scores were left out, hold the smallest ids; notes of those.

    Rows of a table on disk need not come in order of id, so this reads it once more.
    """
    ends = [
        (number, side, level)
        for number, of_meeting in enumerate(found)
        for side, level in np.argwhere(of_meeting.tied).tolist()
    ]
    if not ends:
        return found, []
    kept: dict[tuple, pa.Table] = {}
    for batch, scores in Pass(table, columns, batch_size):
        out, key = _excluded(batch.ids, exclude), keys(scores)
        for end in ends:
            rows = np.flatnonzero(_equals_last(key, meetings[end[0]], found[end[0]], *end[1:]))
            rows = rows[~out[rows]]
            if len(rows):
                near = [_note(batch, scores, rows), *([kept[end]] if end in kept else [])]
                kept[end] = _first_ids(near, found[end[0]].index.shape[-1])
    parts, notes = lists.gathered(kept), []
    for end in ends:
        number, side, level = end
        same = found[number].keys[side, level] == found[number].keys[side, level, -1]
        chosen = _first_ids([part[end] for part in parts if end in part], int(same.sum()))
        found[number].index[side, level, same] = chosen['index'].to_numpy()
        notes.append(chosen)
    return found, notes


def _equals_last(key, meeting, found, side: int, level: int) -> np.ndarray:
    rivals = len(meeting.attackers)
    attacker, defender = key[meeting.attackers[side % rivals]], key[meeting.defender]
    low, high = (keys(end[level : level + 1]) for end in meeting.windows)
    inside = (defender > low) & (defender < high)
    return inside & ((attacker if side < rivals else ~attacker) == found.keys[side, level, -1])


def _first_ids(notes: list[pa.Table], count: int) -> pa.Table:
    together = pa.concat_tables(notes)
    return together.take(pc.sort_indices(together['id'])[:count])


def _of_notes(notes, table, found, extremes, images) -> Candidates:
    """Everything renumbered by image id."""
    together = _together([note for note in notes if note is not None])
    listed = np.unique(np.concatenate([np.ravel(of_meeting.index) for of_meeting in found]))
    numbers, rows = np.unique(together['index'].to_numpy(), return_index=True)
    together = together.take(pa.array(rows[np.isin(numbers, listed)]))
    together = together.take(pc.sort_indices(together['id']))
    ids = together['id'].combine_chunks()
    if len(twice := ids[1:].filter(pc.equal(ids[1:], ids[:-1]))):
        raise ValueError(f"image_ids must be unique, but '{twice[0]}' is not.")
    index = together['index'].to_numpy()
    order = np.argsort(index)

    def renumbered(of_meeting: lists.Lists) -> np.ndarray:
        number = of_meeting.index
        place = np.searchsorted(index, number, sorter=order).clip(0, len(index) - 1)
        number = np.where(number >= 0, order[place], number)
        by_id = np.lexsort((number, -of_meeting.keys.astype(np.int64)))
        return np.take_along_axis(number, by_id, -1)

    names = [name for name in together.column_names if name.startswith('score_')]
    return Candidates(
        ids,
        together['content'].combine_chunks() if table.content_column else None,
        [together[name].to_numpy() for name in names],
        np.zeros(len(ids), bool),
        *_halves([renumbered(of_meeting) for of_meeting in found]),
        [of_meeting.images for of_meeting in found],
        extremes,
        images,
        False,
    )
