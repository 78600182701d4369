"""How a run hears that it shall stop, and that it ends in seconds wherever it is."""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from iqa_jax.runtime import temporary

STOPPED = 'Stopped; run the same command to continue.'
GRACE = 8.0  # seconds that a run has to end by itself
_PAUSE = 0.05  # seconds until a signal is sent again
_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_saying = threading.RLock()
_said = False
_heard = 0
_at_once = True  # there is nothing to end in good order
_end: Callable[[int, str], None] | None = None


def listen(end: Callable[[int, str], None]) -> None:
    """From now on SIGTERM and Ctrl-C raise KeyboardInterrupt(number), and neither gets lost.

    A handler's exception that arises while a finalizer or a callback of the garbage collector runs
    is dropped by Python; its signal is then sent again. Where the main thread cannot hear, as in a
    long compilation, or waits for others too long, the process ends itself after GRACE seconds: no
    commit needs more than to be stopped between two system calls.

    Args:
      end: ends one of several processes with an exit code and a sentence, and returns otherwise.
    """
    global _at_once, _end
    _at_once, _end = False, end
    _handle(_interrupt)
    sys.unraisablehook = _hear_again


def leave_at_once() -> None:
    """From now on either signal ends the process at once: before a run, and when it has ended.

    Also where the main thread cannot hear, as while it waits for other processes to join.
    """
    global _at_once
    _at_once = True
    with contextlib.suppress(OSError):  # nobody reads any more
        sys.stdout.flush()
    _handle(_leave)


def heard() -> int:
    """Number of the signal that stops this run; 0 while none does."""
    return _heard


def say_stopped() -> None:
    """Prints the sentence, once in the life of the process."""
    global _said
    # The watcher and the main thread may both end the process; who is second waits for the first's
    # words, but not for ever, as nobody may read them.
    if _saying.acquire(timeout=1.0):
        if not _said:
            with contextlib.suppress(OSError):
                os.write(2, f'{STOPPED}\n'.encode())
            _said = True
        _saying.release()


def _handle(handler: Any) -> None:
    signal.set_wakeup_fd(_watcher(), warn_on_full_buffer=False)
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs have it
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> NoReturn:
    global _heard
    _heard = number
    raise KeyboardInterrupt(number)


def leave(code: int) -> NoReturn:
    """Ends the process at once, with that exit code.

    Python's own end would wait for threads, also for one in which XLA compiles, or for other
    processes, and abort without them.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads any more
            stream.flush()
    temporary.remove()
    os._exit(code)


def _leave(number: int, frame: object) -> NoReturn:
    say_stopped()
    temporary.remove()
    os._exit(128 + number)


@functools.cache
def _watcher() -> int:
    """Starts the thread that hears signals from the system itself; where it hears them."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # What a forked child is sent is not meant for this process.
    os.register_at_fork(after_in_child=functools.partial(signal.set_wakeup_fd, -1))
    threading.Thread(target=_watch, args=(reading,), name='stop watcher', daemon=True).start()
    return writing


def _watch(reading: int) -> None:
    """Ends the process after a signal: at once, or when a run has had GRACE seconds."""
    while (number := os.read(reading, 1)[0]) not in _NUMBERS:
        pass
    if not _at_once:
        threading.Event().wait(GRACE)
        if _end is not None:
            _end(128 + number, STOPPED)
    _leave(number, None)


def _hear_again(lost: Any) -> None:
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    given = lost.exc_value.args
    number = given[0] if given and isinstance(given[0], int) else signal.SIGINT
    again = threading.Timer(_PAUSE, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
