"""What to say when the disk does not take what is written."""

import contextlib
import errno
import functools
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_AGAIN = 'run the same command again: it goes on from what was committed'
_MENDS = {
    errno.ENOSPC: f'make room and {_AGAIN}',
    errno.EDQUOT: f'make room and {_AGAIN}',
    errno.EROFS: f'make the folder writable and {_AGAIN}',
    errno.EACCES: f'give this user the right to it and {_AGAIN}',
    errno.EPERM: f'give this user the right to it and {_AGAIN}',
    errno.EIO: f'look after the disk and {_AGAIN}',
}
# What a file system answers where the disk has lost the bytes themselves.
_LOST = {errno.EIO, errno.EBADMSG, getattr(errno, 'EUCLEAN', errno.EIO)}
_CODE = re.compile(r"os_error_code='(\d+)'")


@contextlib.contextmanager
def naming(path: object) -> Iterator[None]:
    """Gives an OSError from inside the name of its file; that of a read or a write has none."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def of_library(what: str | os.PathLike) -> Iterator[None]:
    """Turns what a library, such as TensorStore, raises while it writes into an OSError.

    Tracebacks that Orbax and TensorStore print themselves, also later in threads, are not shown.

    Args:
      what: the subject of its one sentence, such as 'Checkpoint step 3 in runs/x'.
    """
    logger, hook = logging.getLogger('absl'), sys.unraisablehook
    logger.addFilter(_has_no_traceback)
    sys.unraisablehook = functools.partial(_of_python, hook)
    try:
        yield
        logger.removeFilter(_has_no_traceback)
        sys.unraisablehook = hook
    except Exception as error:  # the classes are many, and the cause goes with ours
        code = error.errno if isinstance(error, OSError) else _code(str(error))
        reason = os.strerror(code) if code else ' '.join(str(error).split())[:200]
        raise OSError(
            f'{what} cannot be written ({reason}); {_MENDS.get(code, _AGAIN)}.'
        ) from error


def lost(error: OSError) -> str:
    """What is lost, if the error says that the disk has lost a file's bytes; raises any other."""
    if error.errno not in _LOST:
        raise error
    return f'{error.filename} cannot be read: {error.strerror}'


def sentence(error: ValueError | OSError) -> str:
    """What an error says; of the disk's own errors one sentence with the file and the mend."""
    if not isinstance(error, OSError) or error.errno not in _MENDS or error.filename is None:
        return str(error)
    return f'{error.filename} cannot be used ({error.strerror}); {_MENDS[error.errno]}.'


def _has_no_traceback(record: logging.LogRecord) -> bool:
    return not record.exc_info


def _of_python(hook: Callable, lost: Any) -> None:
    """Leaves out that a thread of TensorStore finds nobody who waits for it any more."""
    if lost.object is not None or threading.current_thread() is threading.main_thread():
        hook(lost)


def _code(text: str) -> int | None:
    """The system's error that a message of a library tells of."""
    if found := _CODE.search(text):
        return int(found[1])
    return next((code for code in _MENDS if os.strerror(code) in text), None)
