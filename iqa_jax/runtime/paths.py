"""Where files lie: a folder of this machine, or an object store such as gs:// and s3://.

`as_path` gives a pathlib.Path for a local name and a RemotePath for `NAME://...`; both have the
methods that the stages use, so nothing else needs to know which one it holds. Names that are stored
in tables and configs are text, and go through `join`, `relative` and `normal`.
"""

import hashlib
import os
import pathlib
import posixpath
import shutil
import threading

from iqa_jax.runtime import disk_errors, temporary
from iqa_jax.runtime.remote import (
    AnyPath,
    Path,
    RemotePath,
    Stat,
    UnreachableStore,
    as_path,
    is_remote,
)

__all__ = ['AnyPath', 'Path', 'RemotePath', 'UnreachableStore', 'as_path', 'is_remote']

_locks: dict[RemotePath, threading.Lock] = {}
_copies: dict[RemotePath, tuple[Stat, pathlib.Path]] = {}


def require_local(path: AnyPath, what: str) -> None:
    """Raises a ValueError for a remote path: `what` can only work in a folder of this machine."""
    if is_remote(path):
        raise ValueError(f'{path} is in an object store, but {what}; give a local folder.')


def join(folder: AnyPath, name: AnyPath) -> Path:
    """`name` below `folder`; an absolute or remote name stays what it is."""
    return as_path(name) if is_remote(name) else as_path(folder) / name


def normal(path: Path) -> str:
    """The text of a path without `.` and `..`."""
    return str(path) if is_remote(path) else os.path.normpath(path)


def real(path: Path) -> str:
    """One text for all names of a file."""
    return str(path) if is_remote(path) else os.path.realpath(path)


def whole(path: AnyPath) -> str:
    """The text of a path from the root of its disk or store."""
    return str(path) if is_remote(path) else os.path.abspath(path)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it."""
    if is_remote(path) != is_remote(folder):
        return False
    return path.resolve().is_relative_to(folder.resolve())


def common(files: list[str]) -> str:
    """The deepest folder that whole names of files share, '' for names of several stores."""
    folders = [os.path.dirname(file) for file in files]
    if not any(map(is_remote, files)):
        return os.path.commonpath(folders)
    shared = []
    for parts in zip(*(folder.split('/') for folder in folders), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return '/'.join(shared)


def relative(path: AnyPath, folder: AnyPath) -> str:
    """How `path` is named from `folder`: `../` included, whole where they share no store."""
    path, folder = as_path(path), as_path(folder)
    if not is_remote(path) and not is_remote(folder):
        return os.path.relpath(path, folder)
    if not is_remote(path):
        return str(path.absolute())
    if not is_remote(folder) or (path.scheme, path._pure.parts[0]) != (
        folder.scheme, folder._pure.parts[0],
    ):  # fmt: skip
        return str(path)
    return posixpath.relpath(path._key, folder._key)


def sha256(path: AnyPath) -> str:
    """SHA-256 (hex) of a file's bytes, which need not fit into memory."""
    with disk_errors.naming(path), as_path(path).open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def sync(path: pathlib.Path) -> None:
    """Flushes a local file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with disk_errors.naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: pathlib.Path) -> None:
    """Makes a local folder and those above it, durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def put(path: RemotePath, data: bytes) -> None:
    """Replaces an object, whole or not at all."""
    forget_copy(path)
    path.write_bytes(data)


def upload(file: pathlib.Path, path: RemotePath) -> None:
    """Replaces an object by a file of this machine, whole or not at all."""
    forget_copy(path)
    path.upload(file)


def append(path: Path, data: bytes) -> None:
    """Adds to the end of a file, making it if needed; an object is written anew."""
    if is_remote(path):
        put(path, (path.read_bytes() if path.is_file() else b'') + data)
        return
    with disk_errors.naming(path), open(path, 'ab') as file:
        file.write(data)


def remove_tree(folder: Path) -> None:
    """Removes a folder and everything in it, if it is there."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    folder.rmtree()


def scratch(path: AnyPath) -> pathlib.Path:
    """Where this process keeps on its own disk, until it ends, what belongs to a remote path."""
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return temporary.folder() / f'{digest}_{as_path(path).name}'


def local_copy(path: AnyPath, fresh: bool = True) -> pathlib.Path:
    """A file of this machine with the content of `path`, for libraries that need one.

    Args:
      path: a local one comes back as it is; an object is downloaded once and kept until the process
        ends, in the folder that TMPDIR names.
      fresh: ask the store whether the object has changed since.

    Raises:
      FileNotFoundError: there is no such object.
    """
    path = as_path(path)
    if not is_remote(path):
        return path
    with _locks.setdefault(path, threading.Lock()):
        known = _copies.get(path)
        if known and not fresh:
            return known[1]
        stat = path.stat()
        if not known or known[0] != stat:
            forget_copy(path)
            path.download(scratch(path))
            _copies[path] = stat, scratch(path)
        return _copies[path][1]


def forget_copy(path: AnyPath) -> None:
    """Removes what `local_copy` keeps of a path, as its content is about to change."""
    if known := _copies.pop(as_path(path), None):
        known[1].unlink(missing_ok=True)  # whoever has it open keeps it
