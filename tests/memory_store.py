"""An object store in memory in place of gs:// and s3://, without network, account or package."""

import contextlib
from collections.abc import Iterator

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from iqa_jax.runtime import paths, remote


@contextlib.contextmanager
def opened() -> Iterator[type[MemoryFileSystem]]:
    """An empty store behind both schemes for the time of a block."""

    class Memory(MemoryFileSystem):
        store, pseudo_dirs = {}, ['']

    with pytest.MonkeyPatch.context() as patch:
        for scheme in ('gs', 's3'):
            patch.setitem(_registry, scheme, Memory)
        remote._store.cache_clear()
        try:
            yield Memory
        finally:
            remote._store.cache_clear()
            for path in list(paths._copies):
                paths.forget_copy(path)


def flip(path: paths.RemotePath, at: int = -1) -> None:
    """Changes one byte of a stored object."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
