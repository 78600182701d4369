"""Smallest and largest values that Parquet files state of their columns.

Arrow ends the process when it is asked for the statistics of a damaged file. So a file that no
digest vouches for is asked in a child process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from iqa_jax.data import parquet_statistics
print(json.dumps(parquet_statistics.stated(sys.argv[2], sys.argv[3:])))
"""

SECONDS = 60.0  # a child on a busy machine takes a few
Ends = dict[str, tuple[float, float]]


def stated(path: str | os.PathLike, columns: Sequence[str]) -> Ends | None:
    """What a file that is known to be whole states; None if it does not of every column."""
    footer = pq.ParquetFile(path).metadata
    number = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    found = {}
    for name in columns:
        parts = [
            footer.row_group(group).column(number[name]).statistics
            for group in range(footer.num_row_groups)
        ]
        if not parts or not all(map(_states_ends, parts)):
            return None
        found[name] = min(part.min for part in parts), max(part.max for part in parts)
    return found


def asked(path: str | os.PathLike, columns: Sequence[str]) -> Ends | None:
    """The same of any file; None too if it is damaged, which reading it will tell.

    A file about which nothing is known after SECONDS of the clock gets None as well.
    """
    paths = json.dumps([os.path.abspath(folder) for folder in sys.path])
    try:
        done = subprocess.run(
            [sys.executable, '-c', CODE, paths, os.fspath(path), *columns],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    found = None if done.returncode else json.loads(done.stdout)
    return found and {name: tuple(ends) for name, ends in found.items()}


def _states_ends(part: Any) -> bool:
    ends = (part.min, part.max) if part is not None and part.has_min_max else (None,)
    return all(isinstance(end, int | float) for end in ends)
