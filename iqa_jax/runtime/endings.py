"""What a run says when an exception ends it."""

import sys

from absl import logging

from iqa_jax.runtime import disk_errors, signals


def say(error: BaseException) -> int:
    """Prints one sentence about what ended a run and returns its exit code.

    Raises:
      the error itself, for its traceback, where it is neither a stop nor of bad input or the disk.
    """
    signals.leave_at_once()  # no second signal comes between
    if isinstance(error, KeyboardInterrupt) or signals.heard():  # a library may change a stop
        return signals.say_stopped()
    if not isinstance(error, ValueError | OSError):
        raise error
    logging.debug('The error arose here:', exc_info=error)
    print(f'Error: {disk_errors.sentence(error)}', file=sys.stderr, flush=True)
    return 1
