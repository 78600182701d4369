"""How much memory a benchmark took."""

import pathlib


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MiB."""
    # Not ru_maxrss: a child starts with its parent's.
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmHWM')).split()[1]) / 1024
