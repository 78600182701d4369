"""Objects of gs://, s3:// and other stores that fsspec knows, with the methods of pathlib.Path."""

import contextlib
import fnmatch
import functools
import glob
import io
import os
import pathlib
import posixpath
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import fsspec

EXTRAS = {'gs': 'gcs', 'gcs': 'gcs', 's3': 's3', 's3a': 's3'}  # of setup.py
_REMOTE = re.compile(r'([a-z][a-z0-9+.-]+)://(.*)', re.DOTALL)
_REFUSED = {'file': 'leave out file://'}
_REFUSED |= dict.fromkeys(('http', 'https'), 'download it and give the path of the file')


class UnreachableStore(ValueError):
    """The object store did not answer, or refused; whether the object is there is not known."""


class Stat(NamedTuple):
    """Bytes of an object and its time of writing, 0 where the store does not tell."""

    st_size: int
    st_mtime_ns: int


@functools.total_ordering
class RemotePath:
    """An object, or all objects below a name, with the methods of pathlib.Path that stages use.

    Not an os.PathLike on purpose: what takes files of this machine only must fail on it rather than
    make a local folder `gs:`. Methods raise FileNotFoundError for an object that is not there and
    UnreachableStore for whatever else the store says.
    """

    __slots__ = ('_key', 'scheme')

    def __init__(self, scheme: str, key: str):
        bucket, _, rest = key.strip('/').partition('/')
        rest = posixpath.normpath(rest) if rest else '.'
        if not bucket or rest.split('/')[0] == '..':
            raise ValueError(f'{scheme}://{key} names nothing in a bucket; write gs://BUCKET/NAME.')
        self.scheme = scheme
        self._key = bucket if rest == '.' else f'{bucket}/{rest.lstrip("/")}'

    def __str__(self) -> str:
        return f'{self.scheme}://{self._key}'

    __repr__ = as_posix = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: 'RemotePath') -> bool:
        return (self.scheme, self._key.split('/')) < (other.scheme, other._key.split('/'))

    def __truediv__(self, name: Any) -> 'Path':
        """An absolute name stays what it is, as in pathlib."""
        if is_remote(name) or os.path.isabs(name):
            return as_path(name)
        return RemotePath(self.scheme, f'{self._key}/{os.fspath(name)}')

    @property
    def _pure(self) -> pathlib.PurePosixPath:
        return pathlib.PurePosixPath(self._key)

    @property
    def name(self) -> str:
        """Last part."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """Last part without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """'.png' of a picture."""
        return self._pure.suffix

    @property
    def parent(self) -> 'RemotePath':
        """What the object lies in; a bucket lies in itself."""
        return RemotePath(self.scheme, posixpath.dirname(self._key) or self._key)

    def with_name(self, name: str) -> 'RemotePath':
        """Another object beside this one."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> 'RemotePath':
        """The same name with another suffix."""
        return RemotePath(self.scheme, str(self._pure.with_suffix(suffix)))

    def absolute(self) -> 'RemotePath':
        """Itself, as every remote name is whole."""
        return self

    resolve = absolute

    def relative_to(self, other: Any) -> pathlib.PurePosixPath:
        """The name below `other`; a ValueError if it is not below it."""
        other = as_path(other)
        if not is_remote(other) or other.scheme != self.scheme:
            raise ValueError(f'{self} is not below {other}.')
        return self._pure.relative_to(other._pure)

    def is_relative_to(self, other: Any) -> bool:
        """Whether it is `other` or lies below it."""
        other = as_path(other)
        return is_remote(other) and (self == other or str(self).startswith(f'{other}/'))

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        return (self._info() or {}).get('type') == 'file'

    def is_dir(self) -> bool:
        """Whether any object lies below this name."""
        return (self._info() or {}).get('type') == 'directory'

    def exists(self) -> bool:
        """Whether there is an object of, or below, this name."""
        return self._info() is not None

    def stat(self) -> Stat:
        """Size and time of the object."""
        info = self._info()
        if info is None:
            raise FileNotFoundError(f'There is no {self}.')
        with self._told() as fs:
            try:
                written = fs.modified(self._key).timestamp()
            except NotImplementedError:
                written = 0
        return Stat(int(info['size'] or 0), round(written * 1e9))

    def mkdir(self, **options: bool) -> None:
        """Nothing: an object store has no folders."""

    def iterdir(self) -> Iterator['RemotePath']:
        """What lies directly below this name."""
        with self._told() as fs:
            found = fs.ls(self._key, detail=False)
        below = [RemotePath(self.scheme, key) for key in found]
        yield from (path for path in below if path != self)

    def glob(self, pattern: str) -> Iterator['RemotePath']:
        """What lies directly below and has a name of the pattern."""
        below = self.iterdir() if self.is_dir() else ()
        yield from (path for path in below if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator['RemotePath']:
        """Objects at any depth below whose last part has the pattern."""
        with self._told() as fs:
            found = [RemotePath(self.scheme, key) for key in fs.find(self._key)]
        yield from (path for path in found if fnmatch.fnmatchcase(path.name, pattern))

    def open(self, mode: str = 'r', encoding: str = 'utf-8') -> IO:
        """The object as a file to read; objects are written whole, by `write_bytes`.

        Reading raises what opening does.
        """
        if mode not in ('r', 'rb'):
            raise ValueError(f'{self} cannot be opened to write; objects are written whole.')
        with self._told() as fs:
            file = io.BufferedReader(_Reading(self, fs.open(self._key, 'rb')))
        return file if mode == 'rb' else io.TextIOWrapper(file, encoding)

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self._told() as fs:
            return fs.cat_file(self._key)

    def read_text(self, encoding: str = 'utf-8') -> str:
        """The whole content as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> int:
        """Replaces the object at once: readers see the old content or the new."""
        with self._told() as fs:
            fs.pipe_file(self._key, bytes(data))
        return len(data)

    def upload(self, file: pathlib.Path) -> None:
        """Replaces the object by a file of this machine, at once."""
        with self._told() as fs:
            fs.put_file(str(file), self._key)

    def download(self, file: pathlib.Path) -> None:
        """Writes the object to a file of this machine; its folder is made."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._told() as fs:
            fs.get_file(self._key, str(file))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object; S3 does not tell whether it was there."""
        with contextlib.suppress(*[FileNotFoundError] * missing_ok), self._told() as fs:
            fs.rm_file(self._key)

    def rmtree(self) -> None:
        """Removes all objects below this name, if there are any."""
        with contextlib.suppress(FileNotFoundError), self._told() as fs:
            fs.rm(glob.escape(self._key), recursive=True)  # it would take patterns

    def _info(self) -> dict | None:
        with contextlib.suppress(FileNotFoundError), self._told() as fs:
            return fs.info(self._key)

    @contextlib.contextmanager
    def _told(self) -> Iterator[fsspec.AbstractFileSystem]:
        """The store; what it raises becomes one of the two classes that callers know."""
        try:
            yield _store(self.scheme, os.getpid())
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(f'There is no object {self}.') from error
        except Exception as error:  # each store has classes of its own
            raise UnreachableStore(
                f'{self} cannot be reached ({type(error).__name__}: {error}); see that the bucket '
                'is there and that this machine may use it, then run the same command again.'
            ) from error


class _Reading(io.RawIOBase):
    """An open object; what the store raises while it is read is told as of its opening."""

    def __init__(self, path: RemotePath, file: IO[bytes]):
        self._path, self._file = path, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._path._told():
            return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._path._told():
            return self._file.seek(offset, whence)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()


Path = pathlib.Path | RemotePath
AnyPath = str | os.PathLike | RemotePath


def as_path(name: AnyPath) -> Path:
    """The path of a name; raises a ValueError where no file system is known for `NAME://`."""
    if isinstance(name, RemotePath):
        return name
    found = _REMOTE.match(name) if isinstance(name, str) else None
    if not found:
        return pathlib.Path(name)
    scheme, key = found.groups()
    if scheme in _REFUSED:
        raise ValueError(f'{name} is no path of a file or an object; {_REFUSED[scheme]}.')
    _class(scheme)
    return RemotePath(scheme, key)


def is_remote(path: AnyPath) -> bool:
    """Whether a path, or its text, lies in an object store."""
    return isinstance(path, RemotePath) or (isinstance(path, str) and bool(_REMOTE.match(path)))


@functools.cache
def _store(scheme: str, process: int) -> fsspec.AbstractFileSystem:
    """The file system of a scheme, one for each process; listings are asked for every time."""
    return _class(scheme)(use_listings_cache=False)


def _class(scheme: str) -> type[fsspec.AbstractFileSystem]:
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        mend = f"pip install -e '.[{extra}]'" if extra else str(error)
        raise ValueError(f'{scheme}:// needs a package that is not installed: {mend}.') from error
    except ValueError as error:
        raise ValueError(
            f'{scheme}:// is no object store that is known; use gs://, s3:// or a local folder.'
        ) from error
