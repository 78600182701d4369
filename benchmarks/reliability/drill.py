"""What the reliability scripts of this folder have in common: running, hashing, reporting.

Each script measures one figure, takes `--seed`, prints one line of JSON on standard output and ends
with 1 when one of the counts that have to be zero is not. Run it by its path.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START = time.monotonic()


def main_command(*args: str) -> list[str]:
    """The command line of one run of `iqa_jax.main`."""
    return [sys.executable, '-m', 'iqa_jax.main', *args]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment on the CPU, with a shared cache of compiled programs."""
    cache = {'JAX_COMPILATION_CACHE_DIR': str(ROOT / '.pytest_cache' / 'jax')}
    cache['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'
    return cache | os.environ | {'JAX_PLATFORMS': 'cpu'} | changes


def run_main(*args: str, timeout: float = 600, **changes: str) -> subprocess.CompletedProcess:
    """Runs `iqa_jax.main` to its end; output and errors are text."""
    return subprocess.run(
        main_command(*args), cwd=ROOT, env=environment(**changes), capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def tree_digests(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 (hex) of every file below a folder, by its name relative to it."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob('*'))
        if file.is_file()
    }


def finish(figure: str, seed: int, counts: dict, must_be_zero: list[str]) -> None:
    """Prints the line of a figure and ends the program.

    Args:
      figure: R1 to R12.
      seed: that every case was drawn from.
      counts: what was measured, JSON values.
      must_be_zero: names of the counts that end the program with 1 unless they are 0.
    """
    line = {'figure': figure, 'seed': seed, **counts}
    line['seconds'] = round(time.monotonic() - START, 1)
    print(json.dumps(line))
    sys.exit(int(any(counts[name] for name in must_be_zero)))
