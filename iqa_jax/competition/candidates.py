"""Who excites each attacker most inside each level, of score tables in memory or on disk."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iqa_jax.competition import lists
from iqa_jax.competition.reading import Column, Pass
from iqa_jax.competition.windows import keys
from iqa_jax.data.score_stream import Batch, Table

_SPARE = 4096  # noted images above twice those listed, before the others are forgotten
CHUNK_SIZE = 65536  # images per device and step; any number gives the same result


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


def collect(
    table: Table,
    columns: Sequence[Column],
    meetings: Sequence[lists.Meeting],
    candidates: int,
    *,
    exclude: pa.Array | None = None,
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
            listed = builder.listed()
            fresh = np.intersect1d(listed, batch.index, assume_unique=True)
            notes.append(_note(batch, scores, np.searchsorted(batch.index, fresh)))
            if sum(map(len, notes)) > _SPARE + 2 * len(listed):
                held = pa.concat_tables(notes)
                notes = [held.filter(pa.array(np.isin(held['index'].to_numpy(), listed)))]
    images, extremes = reading.close()
    found = builder.finish()
    if table.in_memory:
        return _of_memory(table, columns, exclude, found, extremes)
    found, settled = _settle_ties(table, columns, meetings, found, exclude, builder.batch_size)
    return _of_notes([*lists.gathered(_together(notes)), *settled], table, found, extremes, images)


def hold(
    table: Table, columns: Sequence[Column], exclude: pa.Array | None, chunk_size: int
) -> Candidates:
    """All images of a table in memory, without lists, as `collect` otherwise."""
    reading = Pass(table, columns, chunk_size)
    for _ in reading:
        pass
    return _of_memory(table, columns, exclude, None, reading.close()[1])


def _excluded(ids: pa.Array, exclude: pa.Array | None) -> np.ndarray:
    if exclude is None:
        return np.zeros(len(ids), bool)
    return pc.is_in(ids, value_set=exclude).to_numpy(zero_copy_only=False)


def listed_ids(exclude: Collection | None, kind: pa.DataType) -> pa.Array | None:
    """Ids to leave out as an array of the table's own type; ValueError for what are none."""
    if isinstance(exclude, str | bytes):
        raise ValueError(f'exclude must be a list of ids, not the text {exclude!r}.')
    values = [] if exclude is None else list(exclude)
    if not values:
        return None
    try:
        return pa.array(values).cast(kind)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f'exclude must hold ids of the type {kind}: {error}.') from error


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
        contents = batch.contents.take(taken)
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
        if not len(index):
            return number
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
