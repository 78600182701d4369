"""Tables in Parquet or CSV: in memory a plain dict of equal-length NumPy columns."""

import collections
import contextlib
import csv
import io
import json
import mmap
import types
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from iqa_jax.runtime import artifacts, foreign, paths
from iqa_jax.runtime.paths import Path, as_path

Table = dict[str, np.ndarray]
ID_COLUMNS = ('image_id', 'ref_id')  # and image_id_best of a pair, ref_id_worst, ...
# Twice in the footer of our Parquet files, so that no flipped bit hides both.
MARK = b'written by iqa_jax, digest in .meta.json'
TEXT_COLUMNS = (
    'file', 'sha256', 'ref_file', 'ref_sha256', 'split', 'content', 'database', 'reference',
    'distorted',
)  # fmt: skip


def read(path: str | Path) -> tuple[Table, dict]:
    """Reads a table and its metadata.

    Tables that this program wrote have a sidecar with their digest and are verified. Those of
    others, see `is_foreign`, are read as they are and have no metadata.

    Raises:
      artifacts.MissingArtifact: no such file.
      artifacts.DamagedArtifact: the bytes do not match their digest, or the sidecar is gone.
      ValueError: the suffix is neither .parquet nor .csv, or the content does not parse.
    """
    path = as_path(path)
    others = is_foreign(path)
    data = path.read_bytes() if others else artifacts.read(path)
    meta = {} if others else artifacts.meta(path)['meta']
    try:
        if path.suffix == '.parquet':
            # No threads: one of pyarrow's that still lets go of Python's bytes while the process
            # ends aborts it.
            file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
            check_rows(file.metadata)
            table = file.read(use_threads=False)
            check_names(table.column_names)
            names = table.column_names
            return {name: _to_numpy(table[name], name) for name in names}, meta
        if path.suffix == '.csv':
            return _parse_csv(data.decode('utf-8-sig')), meta  # Excel marks UTF-8 by a BOM
    except (pa.ArrowException, OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error) from error
    raise ValueError(f'{path} is not a table: use the suffix .parquet or .csv.')


def check_names(names: list[str]) -> None:
    """Raises pa.ArrowInvalid where two columns have one name, so that one would be dropped."""
    for name, count in collections.Counter(names).items():
        if name and count > 1:  # columns without a name, as Excel leaves them, cannot be asked for
            raise pa.ArrowInvalid(f'{count} of its columns are called {name!r}; rename them')


def check_rows(footer: pq.FileMetaData) -> None:
    """Raises pa.ArrowInvalid for a footer that contradicts itself about the number of rows.

    Arrow reserves memory for what is declared: one damaged byte would be gigabytes. What a damaged
    footer says of columns may not even be looked at: Arrow aborts the process.
    """
    rows = sum(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    if rows != footer.num_rows:
        raise pa.ArrowInvalid(f'its parts hold {rows} rows, it declares {footer.num_rows} rows')


def unreadable(name: str | Path, error: Exception) -> ValueError:
    """What says, in one line, that a file is not the table it should be."""
    said = ' '.join(str(error).split()).rstrip('.')
    return ValueError(f'{name} is not a readable table: {said}.')


def write(
    path: str | Path, columns: Table, meta: dict | None = None, fingerprint: str = ''
) -> None:
    """Commits a table atomically; the suffix (.parquet or .csv) chooses the format.

    The metadata is that of the sidecar. A Parquet file has a copy of it for other programs.
    """
    path = as_path(path)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f'Columns of {path} have different lengths: {lengths}.')
    if path.suffix == '.parquet':
        table = pa.table({name: pa.array(_to_arrow(x)) for name, x in columns.items()})
        about = {'meta': json.dumps(meta or {}, sort_keys=True), MARK: MARK}
        table = table.replace_schema_metadata(about)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression='zstd')
        data = buffer.getvalue()
    elif path.suffix == '.csv':
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        data = _csv([columns, *rows]).encode()
    else:
        raise ValueError(f'{path} is not a table: use the suffix .parquet or .csv.')
    artifacts.commit(path, data, fingerprint=fingerprint, meta=meta or {})


def is_foreign(path: str | Path) -> bool:
    """Whether a table is there that another program wrote, so that no digest vouches for it.

    Raises:
      artifacts.DamagedArtifact: this program wrote it, as the mark in a Parquet file says or the
        record of a stage, and its sidecar is gone: nobody knows whether its bytes have changed.
    """
    path = as_path(path)
    if not foreign.is_foreign(path):
        return False
    if path.suffix == '.parquet' and _is_marked(paths.local_copy(path)):
        raise artifacts.DamagedArtifact(
            f'{path} was written by this program, but its record '
            f'{artifacts.sidecar_path(path).name} is not beside it, so its content cannot be '
            'trusted: put that there or run the stage that makes it again; a table that another '
            'program changed is used when it is saved without its schema metadata.'
        )
    return True


def require(columns: Table, names: list[str] | tuple[str, ...], where: str | Path) -> None:
    """Raises a ValueError that names the missing columns and those that are there."""
    missing = [name for name in names if name not in columns]
    if missing:
        raise ValueError(
            f'{where} has no column {", ".join(missing)}; it has {", ".join(columns)}.'
        )


def numbers(column: np.ndarray, name: str, where: str | Path) -> np.ndarray:
    """A column of numbers [N], as it is where its type is one of numbers.

    Raises a ValueError that names column and table for times, text that is no number, and lists.
    """
    if column.dtype.kind in 'biuf':
        return column
    try:
        if column.dtype.kind in 'mM':
            raise TypeError('it holds times')
        return column.astype(np.float64)
    except (TypeError, ValueError) as error:
        said = f'Column {name} of {where} is not of numbers ({error}); name another column.'
        raise ValueError(said) from error


def select(columns: Table, rows: np.ndarray) -> Table:
    """Rows of a table by boolean mask or integer index."""
    return {name: column[rows] for name, column in columns.items()}


def concatenate(parts: list[Table]) -> Table:
    """Stacks tables with the same columns."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def join(ids: np.ndarray, columns: Table, names: list[str], where: str | Path) -> Table:
    """Looks the given columns up by image_id.

    Args:
      ids: [N] image ids, in the wanted order.
      columns: a table with an `image_id` column; further rows are ignored.
      names: columns to return.
      where: named in errors.

    Returns:
      The columns, each [N].

    Raises:
      ValueError: a column or an image is missing, or an image_id is there twice.
    """
    require(columns, ['image_id', *names], where)
    index = {image_id: i for i, image_id in enumerate(columns['image_id'].tolist())}
    if len(index) < len(columns['image_id']):
        raise ValueError(f'{where} lists an image_id more than once; keep one row per image.')
    missing = [image_id for image_id in ids.tolist() if image_id not in index]
    if missing:
        raise ValueError(
            f'{where} has no row for {len(missing)} of {len(ids)} images, {missing[0]} the first.'
        )
    rows = np.array([index[image_id] for image_id in ids.tolist()], int)
    return {name: columns[name][rows] for name in names}


def quarantine_csv(entries: list[dict]) -> bytes:
    """CSV of what could not be used, one line for each entry {'file', 'reason'}."""
    text = _csv([('file', 'reason'), *((entry['file'], entry['reason']) for entry in entries)])
    return text.encode(errors='backslashreplace')  # names may be any bytes


def _csv(rows: Iterable[Iterable]) -> str:
    """Lines of CSV that end in a newline; fields with a newline or a return in them are quoted."""
    lines: list[str] = []
    # Python quotes only what ends its lines, so it is told of both.
    sink = types.SimpleNamespace(write=lambda line: lines.append(line.removesuffix('\r\n')))
    csv.writer(sink, lineterminator='\r\n').writerows(rows)
    return ''.join(f'{line}\n' for line in lines)


def _is_marked(file: Path) -> bool:
    """Whether MARK stands in the footer of a Parquet file, damaged or not."""
    with open(file, 'rb') as opened:
        if opened.seek(0, 2) < 8:
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            length = int.from_bytes(data[-8:-4], 'little')
            return data.find(MARK, max(0, len(data) - 8 - length)) >= 0


def _to_numpy(column: pa.ChunkedArray, name: str) -> np.ndarray:
    if name in ID_COLUMNS and pa.types.is_nested(column.type):
        raise pa.ArrowInvalid(f'column {name} holds {column.type}; write text')
    if _is_text(name):
        with contextlib.suppress(pa.ArrowException):  # who needs it as text will miss it
            column = _text_of_bytes(column)
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), object)
    return column.to_numpy()


def _text_of_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text, as some programs write it, in a column that is only called bytes."""
    kind = column.type
    if pa.types.is_fixed_size_binary(kind):
        column = column.cast(pa.binary())
    is_bytes = pa.types.is_binary(column.type) or pa.types.is_large_binary(kind)
    return column.cast(pa.string()) if is_bytes or pa.types.is_binary_view(kind) else column


def _is_text(name: str) -> bool:
    return name.endswith('_id') or name.startswith(ID_COLUMNS) or name in TEXT_COLUMNS


def _to_arrow(column: np.ndarray) -> pa.Array:
    if column.dtype.kind in 'OU':
        return pa.array([str(x) for x in column.tolist()], pa.string())
    return pa.array(column)


def _parse_csv(text: str) -> Table:
    rows = list(csv.reader(io.StringIO(text)))
    while rows and not rows[-1]:  # blank lines at the end, as editors leave them
        rows.pop()
    if not rows:
        raise csv.Error('it is empty')
    header, body = rows[0], rows[1:]
    check_names(header)
    for number, row in enumerate(body, 2):
        if len(row) != len(header):
            raise csv.Error(f'line {number} has {len(row)} fields, the header {len(header)}')
    return {name: _parse_column(name, [r[i] for r in body]) for i, name in enumerate(header)}


def _parse_column(name: str, values: list[str]) -> np.ndarray:
    """Numbers where every value is one, text otherwise; ids and file names stay text."""
    if _is_text(name):
        return np.array(values, object)
    for dtype in (np.int64, np.float64):
        try:
            return np.array(values, object).astype(dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(values, object)
