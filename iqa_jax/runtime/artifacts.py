"""The one atomic, digested write: whatever a later stage reads goes through `commit`.

An artifact is a data file and, beside it, `<name>.meta.json` with the SHA-256, the size, the
fingerprint of what made it and free metadata. The sidecar is replaced before the data, so it also
keeps the record of the data it is about to replace: a process killed between the two renames leaves
the old data intact and readable. Data without a matching record does not exist for the readers.
"""

import collections
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import signal
from collections.abc import Callable, Iterator

from iqa_jax.runtime import disk_errors, paths
from iqa_jax.runtime.paths import as_path

SIDECAR_SUFFIX = '.meta.json'
CRASH_VARIABLE = 'IQA_JAX_CRASH_AT'

Path = paths.AnyPath
_passes: collections.Counter[str] = collections.Counter()
_writer: int | str = 0  # this process among those that may write the same files


class MissingArtifact(ValueError):
    """The file, or the sidecar without which it does not count, is not there."""


class DamagedArtifact(ValueError):
    """The bytes on disk are not the bytes that were committed."""


def crash_point(name: str) -> None:
    """Kills this process with SIGKILL at the n-th pass when IQA_JAX_CRASH_AT is `name:n`."""
    wanted = os.environ.get(CRASH_VARIABLE)
    if wanted is None:
        return
    _passes[name] += 1
    if wanted == f'{name}:{_passes[name]}':
        os.kill(os.getpid(), signal.SIGKILL)


def commit(path: Path, data: bytes, *, fingerprint: str = '', meta: dict | None = None) -> None:
    """Writes `data` and its sidecar durably; after a crash anywhere the old or the new is intact.

    Args:
      path: file to write; missing folders are made.
      data: the whole content.
      fingerprint: what the content was made from, compared by `is_current`.
      meta: free JSON metadata, returned by `meta(path)['meta']`.
    """
    path = as_path(path)
    record = {
        'sha256': hashlib.sha256(data).hexdigest(),
        'size': len(data),
        'fingerprint': fingerprint,
        'meta': meta or {},
    }
    record['previous'] = _replaced_record(path, record['sha256'])
    record = json.loads(canonical_json(record))  # as it will be read: string keys, plain numbers
    record['check'] = _check(record)
    text = canonical_json(record).encode() + b'\n'
    with _staged(path, data, 'data') as finish, _staged(sidecar_path(path), text, 'meta') as first:
        first()
        finish()


def write(path: Path, data: bytes) -> None:
    """Writes `data` as atomically and durably as `commit`, but without a sidecar.

    For files whose digest another artifact carries, such as the pictures of a manifest.
    """
    with _staged(as_path(path), data, 'data') as finish:
        finish()


def read(path: Path) -> bytes:
    """Returns the committed bytes, or raises MissingArtifact or DamagedArtifact."""
    path = as_path(path)
    _require(path)
    # Data before sidecar: a commit that runs meanwhile leaves a sidecar that knows both.
    with disk_errors.naming(path):
        data = path.read_bytes()
    _matching_record(path, hashlib.sha256(data).hexdigest())
    return data


def meta(path: Path) -> dict:
    """Returns {'sha256', 'size', 'fingerprint', 'meta'} after verifying the file against it.

    Raises MissingArtifact or DamagedArtifact as `read` does, without holding the file in memory.
    """
    path = as_path(path)
    _require(path)
    return _matching_record(path, paths.sha256(path))


def is_current(path: Path, fingerprint: str) -> bool:
    """Whether `path` is intact and was committed with this fingerprint."""
    try:
        return meta(path)['fingerprint'] == fingerprint
    except (MissingArtifact, DamagedArtifact):
        return False


def fingerprint(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a value; tuples count as lists."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """JSON with sorted keys; NumPy scalars and arrays become numbers and lists, paths strings.

    Raises ValueError for a value that JSON cannot hold.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(',', ':'), default=_plain)
    except TypeError as error:
        raise ValueError(f'This value cannot be written as JSON: {error}.') from error


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result; 'none' if not installed."""
    names = ['iqa-jax-gmad', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint']
    names += ['numpy', 'scipy', 'pillow', 'pyarrow']
    found = {'python': platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = 'none'
    return found


def sidecar_path(path: Path) -> paths.Path:
    """Where the record of `path` lies: `<name>.meta.json` in the same folder."""
    path = as_path(path)
    return path.with_name(path.name + SIDECAR_SUFFIX)


def forget(path: Path) -> None:
    """Removes an artifact and its record, if they are there."""
    for file in (as_path(path), sidecar_path(path)):
        file.unlink(missing_ok=True)
        paths.forget_copy(file)


def set_writer(name: int | str) -> None:
    """Keeps the temporary files of this process apart from those of processes beside it."""
    global _writer
    _writer = name


@contextlib.contextmanager
def writing_as(name: int | str) -> Iterator[None]:
    """`set_writer` for the time of a block."""
    before = _writer
    set_writer(name)
    try:
        yield
    finally:
        set_writer(before)


def draft_path(path: Path) -> paths.Path:
    """Where on this machine is written what will replace `path`, if too large for `write`."""
    path = as_path(path)
    beside = paths.scratch(path) if paths.is_remote(path) else path
    return beside.with_name(f'.{beside.name}.{_writer}.tmp')


def is_draft(name: str, writer: str = '.+') -> bool:
    """Whether a file of this name is a draft, of a writer whose name matches the pattern."""
    return re.fullmatch(rf'\..+\.{writer}\.tmp', name) is not None


def adopt(path: Path) -> None:
    """Makes the file at `draft_path` durable and puts it in place of `path`, as `write` does."""
    path = as_path(path)
    if paths.is_remote(path):
        paths.upload(draft_path(path), path)
        return
    paths.sync(draft_path(path))
    crash_point('artifacts.draft.synced')
    os.replace(draft_path(path), path)
    crash_point('artifacts.draft.renamed')
    paths.sync(path.parent)


def _plain(value: object) -> object:
    if hasattr(value, 'tolist'):  # NumPy and JAX scalars and arrays, without importing either
        return value.tolist()
    if isinstance(value, os.PathLike | paths.RemotePath):
        return str(value)
    raise TypeError(f'{value!r} is a {type(value).__name__}')


def _check(record: dict) -> str:
    """Digest of the record itself, so that a flipped byte in metadata is seen too."""
    return fingerprint({key: value for key, value in record.items() if key != 'check'})


@contextlib.contextmanager
def _staged(path: paths.Path, data: bytes, part: str) -> Iterator[Callable[[], None]]:
    """Writes a durable temporary file beside `path`; the yielded function renames it into place.

    An object has no temporary file: the store puts it in place whole.
    """
    if paths.is_remote(path):
        yield lambda: paths.put(path, data)
        return
    # A fixed name: what a killed process left is overwritten by the next write of the same file.
    temporary = draft_path(path)

    def finish() -> None:
        os.replace(temporary, path)
        crash_point(f'artifacts.{part}.renamed')
        paths.sync(path.parent)
        crash_point(f'artifacts.{part}.folder_synced')

    paths.make_folder(path.parent)
    try:
        with disk_errors.naming(path):
            _write_synced(temporary, data, part)
        yield finish
    finally:  # a full disk or Ctrl-C: leave no half-written file behind
        # A disk that fails refuses this too; what it said first must be heard.
        with contextlib.suppress(OSError):
            temporary.unlink()


def _write_synced(path: paths.Path, data: bytes, part: str) -> None:
    crash_point(f'artifacts.{part}.before_write')
    middle = len(data) // 2
    with open(path, 'wb') as file:
        file.write(memoryview(data)[:middle])
        file.flush()
        crash_point(f'artifacts.{part}.half_written')
        file.write(memoryview(data)[middle:])
        file.flush()
        crash_point(f'artifacts.{part}.written')
        os.fsync(file.fileno())
    crash_point(f'artifacts.{part}.synced')


def _require(path: paths.Path) -> None:
    if not path.is_file():
        raise MissingArtifact(f'There is no file {path}; run the stage that makes it first.')
    if not sidecar_path(path).is_file():
        raise MissingArtifact(
            f'{path} has no {path.name}{SIDECAR_SUFFIX} beside it and so does not count as written;'
            ' run the stage that makes it again.'
        )


def _read_sidecar(path: paths.Path) -> dict:
    sidecar = sidecar_path(path)
    with disk_errors.naming(sidecar):
        data = sidecar.read_bytes()
    try:
        record = json.loads(data)
        intact = record['check'] == _check(record)
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise DamagedArtifact(
            f'{sidecar} is damaged; delete it and run again the stage that makes {path.name}.'
        )
    return record


def _matching_record(path: paths.Path, digest: str) -> dict:
    """The record, new or replaced, of the data that is there; raises DamagedArtifact if none is."""
    newest = _read_sidecar(path)
    for candidate in (newest, newest['previous']):
        if candidate and candidate['sha256'] == digest:
            return {key: candidate[key] for key in ('sha256', 'size', 'fingerprint', 'meta')}
    raise DamagedArtifact(
        f'{path} is damaged: its SHA-256 is not the one in {sidecar_path(path).name};'
        ' delete it and run again the stage that makes it.'
    )


def _replaced_record(path: paths.Path, digest: str) -> dict | None:
    """The verified record of the data about to be replaced, if there is other intact data."""
    try:
        current = meta(path)
    except (MissingArtifact, DamagedArtifact):
        return None
    return None if current['sha256'] == digest else current
