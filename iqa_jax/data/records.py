"""Bytes of a manifest's image files: a file of its own, or one record of an ArrayRecord file.

`FILE.array_record#7` names the eighth record of a file; thousands of small files in one are what
object stores and network disks want.
"""

import contextlib
import errno
import functools
import itertools
import os
from collections.abc import Callable, Iterator

from iqa_jax.images import io
from iqa_jax.runtime import artifacts, disk_errors, paths
from iqa_jax.runtime.paths import Path, as_path

SUFFIX = '.array_record'


def name(file: str | Path, number: int) -> str:
    """How a manifest names record `number` (from 0) of an ArrayRecord file."""
    return f'{file}#{number}'


def read(file: str | Path) -> bytes:
    """Bytes of a manifest's file or record.

    Raises:
      images.io.ImageError: it is not there or is not what it should be; the sentence names it.
      OSError: the machine could not read it now.
    """
    file = str(file)
    path, number = _split(file)
    if number is None:
        return io.read_file(as_path(file))
    try:
        local = paths.local_copy(path, fresh=False)
        local.stat()  # before is_file, which hides what went wrong
    except OSError as error:
        raise io.unread(path, error) from None
    if not local.is_file():
        raise io.ImageError(f'{path} is not a file')
    from array_record.python import array_record_module as array_record

    try:
        reader = array_record.ArrayRecordReader(str(local))
        try:
            if number < reader.num_records():
                return reader.read([number])[0]
        finally:
            reader.close()
    except (RuntimeError, ValueError, IndexError) as error:
        for code in errno.errorcode:
            if f'failed: {os.strerror(code)};' in str(error):
                raise io.unread(path, OSError(code, os.strerror(code))) from error
        raise io.ImageError(f'{path} is not an intact ArrayRecord file: {error}') from error
    raise io.ImageError(f'{path} has no record {number}')


def path_of(file: str | Path) -> str:
    """The file itself, or the file that holds the record."""
    return _split(str(file))[0]


def exists(file: str | Path) -> bool:
    """Whether the file, or the file that holds the record, is there."""
    return as_path(path_of(file)).is_file()


@contextlib.contextmanager
def writer(path: str | Path) -> Iterator[Callable[[bytes], int]]:
    """Writes an ArrayRecord file record by record; the file appears when all are written.

    Each record is a group of its own, so that it can be read alone. Atomic and durable like every
    other file; the manifest carries the digest of each record.

    Yields:
      A function that takes the bytes of a record and returns its number.

    Raises:
      OSError: the disk does not take it.
    """
    from array_record.python import array_record_module as array_record

    path = as_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = artifacts.draft_path(path)
    numbers = itertools.count()
    failing = functools.partial(disk_errors.of_library, path)
    try:
        with failing():
            file = array_record.ArrayRecordWriter(str(draft), 'group_size:1,uncompressed')

        def append(record: bytes) -> int:
            with failing():
                file.write(record)
            return next(numbers)

        yield append
        with failing():
            file.close()
        artifacts.adopt(path)
    finally:
        draft.unlink(missing_ok=True)


def _split(file: str) -> tuple[str, int | None]:
    path, mark, number = file.rpartition(f'{SUFFIX}#')
    return (path + SUFFIX, int(number)) if mark and number.isdecimal() else (file, None)
