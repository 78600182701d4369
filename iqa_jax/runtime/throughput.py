"""How fast the training loop runs, and how much of its time goes into waiting for data."""

import time
from collections.abc import Iterable, Iterator
from typing import Any


class Throughput:
    """Images per second and the share of waiting since the last `restart`.

    Args:
      batch_size: images per step of all processes.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        """Counts from here; call it after work that is not part of a step, such as validation."""
        self._start, self._waited, self._steps = time.monotonic(), 0.0, 0

    def watch(self, batches: Iterable) -> Iterator[Any]:
        """Yields the batches and adds up the time until each of them is there."""
        asked = time.monotonic()
        for batch in batches:
            self._waited += time.monotonic() - asked
            self._steps += 1
            yield batch
            asked = time.monotonic()

    def read(self) -> dict[str, float]:
        """{'images_per_second', 'data_wait_fraction' in 0..1} since the last restart; restarts.

        Where steps run asynchronously, as on GPUs, the device may be busy while the loop waits: the
        fraction is an upper bound there.
        """
        seconds = time.monotonic() - self._start
        values = {
            'images_per_second': self._steps * self._batch_size / seconds,
            'data_wait_fraction': self._waited / seconds,
        }
        self.restart()
        return values
