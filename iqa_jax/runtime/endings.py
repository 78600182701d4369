"""What a run says when an exception ends it."""

import contextlib
import signal
import sys
import traceback
from typing import NoReturn

from absl import logging

from iqa_jax.runtime import disk_errors, memory, parallel, signals


def of(error: BaseException) -> tuple[int, str]:
    """Exit code and the one sentence about what ended a run.

    Raises:
      the error itself, unless it is a stop, of bad input, the disk or memory. Of several processes
      each prints the traceback instead, as the others shall hear of its end.
    """
    if isinstance(error, KeyboardInterrupt) or signals.heard():  # a library may change a stop
        given = error.args[0] if isinstance(error, KeyboardInterrupt) and error.args else 0
        return 128 + (given or signals.heard() or signal.SIGINT), signals.STOPPED
    if isinstance(error, ValueError | OSError):
        said = disk_errors.sentence(error)
    elif memory.is_exhausted(error):
        first = str(error).partition('\n')[0] or type(error).__name__
        said = f'memory does not suffice: {first}'
    elif parallel.process_count() > 1:
        parallel.blame(error)
        traceback.print_exception(error)
        said = f'{type(error).__name__}, as the lines above say.'
    else:
        raise error
    logging.debug('The error arose here:', exc_info=error)
    return 1, f'Error: {said}'


def leave(code: int, sentence: str) -> NoReturn:
    """Ends the process, and the others with it, with what `of` has found."""
    parallel.end(code, sentence)  # of several processes
    if sentence == signals.STOPPED:
        signals.say_stopped()
    else:
        with contextlib.suppress(OSError):  # nobody reads any more
            print(sentence, file=sys.stderr, flush=True)
    signals.leave(code)
