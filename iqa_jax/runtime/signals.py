"""How a run hears that it shall stop."""

import os
import signal
import sys
import threading
from typing import Any, NoReturn

_PAUSE = 0.05  # seconds until a signal is sent again


def listen() -> None:
    """From now on SIGTERM raises KeyboardInterrupt(15), and neither it nor Ctrl-C gets lost.

    A handler's exception that arises while a finalizer or a callback of the garbage collector runs
    is dropped by Python; its signal is then sent again.
    """
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _hear_again


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(number)


def _hear_again(lost: Any) -> None:
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    given = lost.exc_value.args
    number = given[0] if given and isinstance(given[0], int) else signal.SIGINT
    again = threading.Timer(_PAUSE, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
