"""Memory: what is held without being used, and what to do when it runs out."""

import contextlib
import ctypes
import gc
import math
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
from absl import logging

Part = TypeVar('Part')
# How a quarantined item gets another chance, as its shard is committed without it.
ELSEWHERE = 'run it in another --workdir where there is more memory'


class DoesNotFit(ValueError):
    """One item alone needs more memory than there is.

    Attributes:
      item: its number among those that were to be computed.
    """

    def __init__(self, sentence: str, item: int):
        super().__init__(sentence)
        self.item = item


class AtOnce:
    """How much is computed at once: halved when memory runs out, for the rest of the process.

    It is held as a number of pixels, so that large images do not slow down small ones.

    Args:
      what: the items, in the plural, such as 'images'.
      key: what the log line says to lower, such as 'config.batch_size'.
    """

    def __init__(self, what: str, key: str):
        self._what, self._key = what, key
        self._pixels = math.inf

    def parts(
        self, compute: Callable[[int, int], Part], count: int, wanted: int, size: tuple[int, ...]
    ) -> Iterator[tuple[int, int, Part | DoesNotFit]]:
        """(first, last, `compute(first, last)`) of ranges that cover 0..count, in order.

        An item that fails alone is computed once more after all that can be freed was, and has a
        DoesNotFit in place of its result if that fails too.

        Args:
          compute: of the items first <= i < last; it is repeated with half of them when it raises
            what `is_exhausted` knows.
          count: of items.
          wanted: most items at once while memory suffices.
          size: height and width of each item, in pixels.
        """
        first, tried = 0, -1
        while first < count:
            most = max(1, int(min(wanted, self._pixels // math.prod(size))))
            last = min(first + most, count)
            try:
                part = compute(first, last)
            except Exception as error:
                if not is_exhausted(error):
                    raise
                part = self._fewer(first, last, size, tried == first)
            if part is self:
                tried = first if last - first == 1 else -1
                release()  # here, where the error is gone and what its frames held
                continue
            yield first, last, part
            first = last

    def _fewer(
        self, first: int, last: int, size: tuple[int, ...], was_tried: bool
    ) -> 'DoesNotFit | AtOnce':
        """Itself where another try is worth it, with half as much if it can be, or why not."""
        n, named = last - first, f'of {size[1]}x{size[0]} pixels'
        if n == 1:
            failed = DoesNotFit(f'memory does not suffice for one image {named}', first)
            return failed if was_tried else self
        self._pixels = n // 2 * math.prod(size)
        logging.warning(
            'Memory does not suffice for %d %s %s at once: it goes on with %d at once; lower %s.',
            n, self._what, named, n // 2, self._key,
        )  # fmt: skip
        return self


@contextlib.contextmanager
def explained(sentence: str) -> Iterator[None]:
    """Turns what `is_exhausted` knows into a ValueError with the sentence."""
    try:
        yield
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise ValueError(sentence) from error


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory, of the host or of a device, has run out."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return 'RESOURCE_EXHAUSTED' in str(error)
    # The stack of a thread is memory too.
    is_stack = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    return is_stack or isinstance(error, MemoryError)


def release() -> bool:
    """Gives freed memory back to the system where the C library can (glibc); whether it could.

    Compiling the full-reference metrics leaves 380 MiB that glibc would keep (measured on Linux,
    jax 0.10.2).
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None) if sys.platform == 'linux' else None
    if trim is None:
        return False
    trim(0)
    return True
