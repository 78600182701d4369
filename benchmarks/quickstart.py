"""Time and memory of the whole quickstart on this machine.

    python benchmarks/quickstart.py [--config=configs/quickstart.py] [--workdir=DIR]

Runs the command twice in a fresh workdir and prints seconds, peak resident memory (of the process
and its children, sampled twice a second) and the headline figures; the second run finds all done.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import psutil

ROOT = pathlib.Path(__file__).resolve().parents[1]


def measure(command: list[str]) -> dict[str, float]:
    """Seconds and peak resident GiB of a command; raises CalledProcessError if it fails."""
    start, peak = time.monotonic(), 0
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    process = psutil.Process(child.pid)
    while child.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(p.memory_info().rss for p in family))
        except psutil.NoSuchProcess:
            pass  # it ended between the two calls
        time.sleep(0.5)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return {'seconds': round(time.monotonic() - start, 1), 'peak_gib': round(peak / 2**30, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='configs/quickstart.py')
    parser.add_argument('--workdir')
    options = parser.parse_args()
    workdir = pathlib.Path(options.workdir or tempfile.mkdtemp(prefix='quickstart_'))
    if workdir.exists() and any(workdir.iterdir()):
        parser.error(f'--workdir={workdir} is not empty; a finished run would be measured.')
    command = [sys.executable, '-m', 'iqa_jax.main', '--config', options.config]
    command += ['--workdir', str(workdir)]
    first, again = measure(command), measure(command)
    summary = json.loads((workdir / 'summary.json').read_text())
    row = {'cores': os.cpu_count(), 'machine': platform.machine(), **first}
    row |= {'again_seconds': again['seconds'], 'workdir': str(workdir)}
    row |= {key: value for key, value in summary.items() if key.startswith('unseen_')}
    row['stages'] = {name: round(s['seconds'], 1) for name, s in summary['stages'].items()}
    print(json.dumps(row))


if __name__ == '__main__':
    main()
