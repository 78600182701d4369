"""Score tables read chunk by chunk, in memory that does not grow with the table."""

import concurrent.futures
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from iqa_jax.data import parquet_statistics, tables
from iqa_jax.runtime import artifacts, paths

_LARGEST = np.iinfo(np.int32).max - 1
_CSV_BLOCK = 1 << 24  # bytes


class Batch(NamedTuple):
    """Rows of a table: `index` int32 [B], their numbers in it, ascending; `ids` and `contents`
    Arrow arrays [B], contents None where nobody asked, '' where empty; `scores` float32 [C, B], NaN
    where empty; `nameless` counts the rows without an id.
    """

    index: np.ndarray
    ids: pa.Array
    contents: pa.Array | None
    scores: np.ndarray
    nameless: int


@dataclasses.dataclass(frozen=True)
class Table:
    """A score table: an Arrow table, or the path of a Parquet or CSV file that stays on disk.

    Raises ValueError for an unknown suffix, a file that does not parse, or a column that is not
    there; artifacts.DamagedArtifact for a file of ours that changed since it was written or whose
    sidecar is gone.
    """

    where: paths.Path | pa.Table
    id_column: str = 'image_id'
    content_column: str | None = None

    def __post_init__(self):
        if not self.in_memory:
            tables.is_foreign(self.where)
        with _explained(self.name):
            tables.check_names(self.schema.names)
        given = [self.id_column, *([self.content_column] if self.content_column else [])]
        if missing := [name for name in given if name not in self.schema.names]:
            raise ValueError(
                f'{self.name} has no column {missing[0]}; it has {", ".join(self.schema.names)}.'
            )
        if self.in_memory and self.where.num_rows > _LARGEST:
            raise ValueError(f'{self.name} has more than {_LARGEST} rows.')

    @property
    def in_memory(self) -> bool:
        """Whether the whole table is in memory anyway."""
        return isinstance(self.where, pa.Table)

    @property
    def name(self) -> str:
        """What errors call it."""
        return 'The score table' if self.in_memory else str(self.where)

    @property
    def schema(self) -> pa.Schema:
        """Names and types of all columns."""
        if self.in_memory:
            return self.where.schema
        with _explained(self.name):
            if self.where.suffix == '.parquet':
                return pq.read_schema(paths.local_copy(self.where))
            if self.where.suffix == '.csv':
                return pyarrow.csv.open_csv(paths.local_copy(self.where)).schema
        raise ValueError(f'{self.name} is not a table: use the suffix .parquet or .csv.')

    @property
    def id_type(self) -> pa.DataType:
        """Arrow type of the ids that `batches` gives."""
        return _id_type(self.schema.field(self.id_column).type)

    def columns(self) -> list[str]:
        """Names of the columns that hold numbers, id and content aside."""
        aside = (self.id_column, self.content_column)
        return [f.name for f in self.schema if _is_number(f.type) and f.name not in aside]

    def described(self) -> dict:
        """What the table's metadata says of each column, {} for tables of other programs.

        Verifies the digest of a table that has one, reading it once.
        """
        if self.in_memory or tables.is_foreign(self.where):
            return {}
        columns = artifacts.meta(self.where)['meta'].get('columns')
        return columns if isinstance(columns, dict) else {}

    def extremes(self, columns: Sequence[str]) -> dict[str, tuple[float, float]] | None:
        """Smallest and largest value of each column as a Parquet file states them, else None."""
        if self.in_memory or self.where.suffix != '.parquet':
            return None
        copy = paths.local_copy(self.where)
        if tables.is_foreign(self.where):
            return parquet_statistics.asked(copy, columns)
        artifacts.meta(self.where)  # Arrow may only look into what is whole
        return parquet_statistics.stated(copy, columns)

    def batches(
        self, columns: Sequence[str], size: int, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """Batches of at most `size` rows in the table's order, the next one read meanwhile.

        `share` (k, n): this reader sees every n-th part of the table, from part k on.
        """
        if missing := [name for name in columns if name not in self.schema.names]:
            raise ValueError(
                f'{self.name} has no column {missing[0]}; it has {", ".join(self.schema.names)}.'
            )
        names = list(dict.fromkeys([self.id_column, *columns]))
        if self.content_column:
            names = list(dict.fromkeys([*names, self.content_column]))
        parts = self._record_batches(names, size, share)
        reader = (self._batch(*found, columns) for found in parts)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            coming = pool.submit(next, reader, None)
            while True:
                with _explained(self.name):
                    found = coming.result()
                if found is None:
                    return
                coming = pool.submit(next, reader, None)
                yield found

    def load(self, columns: Sequence[str]) -> 'Table':
        """The given columns of the whole table in memory, in order of id."""
        found = list(self.batches(columns, _LARGEST))
        ids = pa.concat_arrays([batch.ids for batch in found])
        contents = None
        if self.content_column:
            contents = pa.concat_arrays([batch.contents for batch in found]).to_pylist()
        scores = np.concatenate([batch.scores for batch in found], 1)
        columns = dict(zip(columns, scores, strict=True))
        return of_columns(columns, ids.to_numpy(zero_copy_only=False), contents)

    def _record_batches(self, names, size, share) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        part, parts = share
        if not self.in_memory and self.where.suffix == '.parquet':
            # Buffered ahead, the whole file would be held.
            file = pq.ParquetFile(paths.local_copy(self.where), pre_buffer=False)
            yield from _of_parquet(file, names, size, share, self.name)
            return
        if self.in_memory:
            batches = self.where.select(names).to_batches(max_chunksize=size)
        else:
            batches = _of_csv(
                paths.local_copy(self.where), names, self.id_column, self.content_column, size
            )
        start = 0
        for number, batch in enumerate(batches):
            _check_size(start + batch.num_rows, self.name)
            if number % parts == part:
                yield np.arange(start, start + batch.num_rows, dtype=np.int32), batch
            start += batch.num_rows

    def _batch(self, index: np.ndarray, batch: pa.RecordBatch, columns: Sequence[str]) -> Batch:
        scores = np.empty((len(columns), len(index)), np.float32)
        for row, name in enumerate(columns):
            column = batch.column(name)
            if not _is_number(column.type):
                raise ValueError(f'Column {name} of {self.name} is not of numbers.')
            scores[row] = column.to_numpy(zero_copy_only=False)
        ids = batch.column(self.id_column)
        ids = ids.cast(_id_type(ids.type))
        contents = _texts(batch.column(self.content_column)) if self.content_column else None
        return Batch(index, ids, contents, scores, _nameless(ids))


def of_columns(
    columns: Mapping[str, np.ndarray], ids: Sequence | None, contents: Sequence | None
) -> Table:
    """A table of arrays [N] in order of image id; `ids` None numbers the rows.

    Raises ValueError.
    """
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    size = len(next(iter(arrays.values()), ids))
    names = np.arange(size) if ids is None else np.asarray(ids)
    groups = None if contents is None else np.asarray(contents)
    for name, array in {**arrays, 'image ids': names, 'contents': groups}.items():
        if array is not None and array.shape != (size,):
            raise ValueError(f'{name} has shape {array.shape} for {size} images.')
    try:
        listed = pa.array(names)
    except pa.ArrowException as error:
        raise ValueError(f'Image ids must be all texts or all numbers: {error}.') from error
    if count := _nameless(listed):
        raise ValueError(f'{count} of {size} rows have no image id; leave them out or name them.')
    table = pa.table({**arrays, _ID: listed.cast(_id_type(listed.type))})
    if groups is not None:
        table = table.append_column(_CONTENT, _texts(pa.array(groups, from_pandas=True)))
    if not (names[1:] > names[:-1]).all():  # as most tables are, and copying takes longest
        order = np.argsort(names, kind='stable')
        names = names[order]
        if (twice := names[1:] == names[:-1]).any():
            raise ValueError(f"image_ids must be unique, but '{names[1:][twice][0]}' is not.")
        table = table.take(pa.array(order)).combine_chunks()
    return Table(table, _ID, None if groups is None else _CONTENT)


def _id_type(kind: pa.DataType) -> pa.DataType:
    """Text of any kind, also as categories, is text; numbers stay numbers."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind if pa.types.is_integer(kind) or pa.types.is_floating(kind) else pa.string()


def _nameless(ids: pa.Array) -> int:
    nobody = pc.is_null(ids, nan_is_null=True)
    if not (pa.types.is_integer(ids.type) or pa.types.is_floating(ids.type)):
        nobody = pc.or_(nobody, pc.fill_null(pc.equal(ids.cast(pa.string()), ''), False))
    return pc.sum(nobody).as_py() or 0


def _texts(contents: pa.Array) -> pa.Array:
    """Contents as text, '' where there is none."""
    if pa.types.is_dictionary(contents.type):
        contents = contents.dictionary_decode()
    return pc.fill_null(contents.cast(pa.string()), '')


_ID, _CONTENT = '\x00image_id', '\x00content'  # no column of a user's can have these names


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)


def _check_size(rows: int, name: str) -> None:
    if rows > _LARGEST:
        raise ValueError(f'{name} has more than {_LARGEST} rows; divide it.')


def _of_parquet(file, names, size, share, name):
    part, parts = share
    tables.check_rows(file.metadata)
    rows = np.array([file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)], int)
    _check_size(int(rows.sum()), name)
    groups = np.arange(part, len(rows), parts)
    starts, own = np.cumsum(rows) - rows, np.cumsum(rows[groups])
    shift = starts[groups] - (own - rows[groups])  # from the number among own rows to that in all
    done = 0
    for batch in file.iter_batches(
        batch_size=size, columns=names, row_groups=groups.tolist(), use_threads=False
    ):
        number, done = np.arange(done, done + batch.num_rows), done + batch.num_rows
        yield (number + shift[np.searchsorted(own, number, 'right')]).astype(np.int32), batch


def _of_csv(path, names, id_column, content_column, size) -> Iterator[pa.RecordBatch]:
    texts = {id_column: pa.string(), content_column: pa.string()}
    types = {name: texts.get(name, pa.float64()) for name in names}
    options = pyarrow.csv.ConvertOptions(include_columns=names, column_types=types)
    with pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK),
        convert_options=options,
    ) as reader:
        for batch in reader:
            for start in range(0, batch.num_rows, size):
                yield batch.slice(start, size)


class _explained:
    """Turns Arrow's errors into a ValueError that names the table."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, FileNotFoundError):
            raise ValueError(f'There is no file {self._name}.') from error
        if isinstance(error, pa.ArrowException | OSError | UnicodeDecodeError):
            raise tables.unreadable(self._name, error) from error
