"""The progress bar: rate and time left, on terminals only."""

import sys
from collections.abc import Iterable

import tqdm

from iqa_jax.runtime import parallel


def progress(
    iterable: Iterable | None = None,
    total: int | None = None,
    desc: str = '',
    initial: int = 0,
    unit: str = 'it',
) -> tqdm.tqdm:
    """A tqdm bar, to iterate or, as a context manager, to `update(n)`; silent in log files.

    Args:
      iterable: what is iterated, or None for `update`.
      total: number of items, counted from 0.
      desc: name of the work.
      initial: items that were done before this run.
      unit: name of one item.
    """
    return tqdm.tqdm(
        iterable,
        total=total,
        desc=desc,
        initial=initial,
        unit=unit,
        dynamic_ncols=True,
        disable=not (sys.stderr.isatty() and parallel.is_main()),
    )
