"""What a run says when an exception ends it."""

import sys

from absl import logging

from iqa_jax.runtime import disk_errors, memory, signals


def say(error: BaseException) -> int:
    """Prints one sentence about what ended a run and returns its exit code.

    Raises:
      the error itself, with its traceback, unless it is a stop, of bad input, the disk or memory.
    """
    signals.leave_at_once()  # no second signal comes between
    if isinstance(error, KeyboardInterrupt) or signals.heard():  # a library may change a stop
        return signals.say_stopped()
    if isinstance(error, ValueError | OSError):
        said = disk_errors.sentence(error)
    elif memory.is_exhausted(error):
        said = f'memory does not suffice: {str(error).splitlines()[0]}'
    else:
        raise error
    logging.debug('The error arose here:', exc_info=error)
    print(f'Error: {said}', file=sys.stderr, flush=True)
    return 1
