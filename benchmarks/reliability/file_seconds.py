"""How long each picture takes to decode, in a child process that is ended when one takes too long.

The clock is this program's, so a decoder that never comes back is seen too.
"""

import json
import math
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time

import drill

START_SECONDS = 120.0  # for a child to import Pillow on a busy machine
# Reads file names as JSON and prints a line for each file as soon as it is through.
CODE = """
import json, sys
from iqa_jax.images import io
print('ready', flush=True)
for file in json.load(sys.stdin):
    try:
        io.decode(file)
    except (ValueError, OSError, MemoryError):
        pass
    print('done', flush=True)
"""


def measured(files: list[pathlib.Path], limit: float) -> list[float]:
    """Seconds that `io.decode` took of each file, read or refused.

    Infinite for a file that takes more than `limit` seconds or ends the child, which then goes on
    with the next file as a new one.
    """
    found: list[float] = []
    while len(found) < len(files):
        found += _of_one_child(files[len(found) :], limit)
    return found


def _of_one_child(files: list[pathlib.Path], limit: float) -> list[float]:
    """The same of the first files, up to the first one that is infinite."""
    child = subprocess.Popen(
        [sys.executable, '-c', CODE], cwd=drill.ROOT, env=drill.environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(child, lines))
    reader.start()
    found: list[float] = []
    try:
        if lines.get(timeout=START_SECONDS) != 'ready\n':
            raise RuntimeError('The process that decodes pictures did not start.')
        start = time.monotonic()
        child.stdin.write(json.dumps([os.fspath(file) for file in files]))
        child.stdin.close()
        for _ in files:
            answer = lines.get(timeout=limit)
            end = time.monotonic()
            found.append(end - start if answer and end - start <= limit else math.inf)
            if not answer:
                break
            start = end
    except queue.Empty:
        found.append(math.inf)
    finally:
        child.kill()
        child.wait()
        reader.join()
    return found


def _read(child: subprocess.Popen, lines: queue.SimpleQueue) -> None:
    """Hands on the lines of a child, and '' at its end."""
    for line in child.stdout:
        lines.put(line)
    lines.put('')
