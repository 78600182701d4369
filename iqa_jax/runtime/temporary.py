"""The temporary folder of this process; signals need it before anything large is imported."""

import functools
import os
import pathlib
import shutil
import tempfile


def folder() -> pathlib.Path:
    """A folder of this machine, below the one TMPDIR names, that goes when the process ends."""
    return pathlib.Path(_made()[0].name)


def remove() -> None:
    """Removes the folder, before `os._exit`; errors, and whether there is one, do not matter."""
    if _made.cache_info().currsize:
        made, process = _made()
        if process == os.getpid():  # a forked process ends without its parent
            shutil.rmtree(made.name, ignore_errors=True)


@functools.cache
def _made() -> tuple[tempfile.TemporaryDirectory, int]:
    """The folder, and the process that has made it."""
    made = tempfile.TemporaryDirectory(prefix='iqa_jax_', ignore_cleanup_errors=True)
    return made, os.getpid()
