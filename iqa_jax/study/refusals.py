"""Counts of refused requests, told to the log once a minute and not once each."""

import collections
import time

from absl import logging

_EVERY = 60.0  # seconds


class Tally:
    """`all`: HTTP code -> how often it was the answer since the start."""

    def __init__(self) -> None:
        self.all: collections.Counter[int] = collections.Counter()
        self._recent: collections.Counter[int] = collections.Counter()
        self._told = -_EVERY

    def add(self, code: int) -> None:
        """Notes one refusal; the log hears of the first at once, then at most once a minute."""
        self.all[code] += 1
        self._recent[code] += 1
        if time.monotonic() - self._told >= _EVERY:
            counts = ', '.join(f'{n} with {code}' for code, n in sorted(self._recent.items()))
            logging.warning('The rating page refused requests: %s.', counts)
            self._recent.clear()
            self._told = time.monotonic()
