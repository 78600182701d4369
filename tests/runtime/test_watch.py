"""A dead process ends the other one with its name, a slow one is waited for."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from iqa_jax.runtime.watch import LOST_SECONDS

PROGRAM = pathlib.Path(__file__).with_name('watch_program.py')
STOPPED = 6.0  # seconds
# Name -> (what processes 0 and 1 do, the signal that process n gets).
CASES = {
    'killed 1': (('wait', 'ready'), signal.SIGKILL, 1),
    'killed 0': (('ready', 'wait'), signal.SIGKILL, 0),
    'slept 1': (('wait', 'ready'), signal.SIGSTOP, 1),
    'slept 0': (('ready', 'wait'), signal.SIGSTOP, 0),
    'told 1': (('wait', 'ready'), signal.SIGTERM, 1),
    'failed 1': (('wait', 'fail'), None, 1),
}


def start(address: str, index: int, does: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), address, str(index), does],
        env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '4'},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope='module')
def ends():
    """{case: (exit codes, errors, seconds from the signal to the last end)}; all run at once."""
    running = {}
    for name, (works, _, _) in CASES.items():
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            address = f'127.0.0.1:{free.getsockname()[1]}'
        running[name] = [start(address, index, does) for index, does in enumerate(works)]
    begins, asleep = {}, []
    for name, (_, number, target) in CASES.items():
        for child in running[name]:
            while not child.stdout.readline().startswith('pid'):
                assert child.poll() is None, child.stderr.read()
        begins[name] = time.monotonic()
        if number is not None:
            running[name][target].send_signal(number)
        if number == signal.SIGSTOP:
            asleep.append(running[name][target])
    time.sleep(STOPPED)
    for child in asleep:
        child.send_signal(signal.SIGCONT)
    found = {}
    try:
        while len(found) < len(CASES):
            time.sleep(0.05)
            for name, pair in running.items():
                if name not in found and all(child.poll() is not None for child in pair):
                    seconds = time.monotonic() - begins[name]
                    texts = [child.stderr.read() for child in pair]
                    found[name] = [child.returncode for child in pair], texts, seconds
            assert time.monotonic() - min(begins.values()) < 200, sorted(found)
    finally:
        for pair in running.values():
            for child in pair:
                child.kill()
    return found


@pytest.mark.parametrize('victim', [0, 1])
def test_the_other_names_the_dead_within_half_a_minute(ends, victim):
    codes, texts, seconds = ends[f'killed {victim}']
    other = 1 - victim
    assert codes[victim] == -signal.SIGKILL and codes[other] == 1
    host = socket.gethostname()
    said = f'Process {victim} of 2 (host {host}) has stopped answering'
    assert texts[other].startswith(said), texts
    assert texts[other].rstrip().endswith('start the same command again to continue.')
    assert texts[other].count('\n') == 1
    # Nothing is lost by waiting for the dead: a launcher's patience must not run out.
    assert seconds < LOST_SECONDS + 5


@pytest.mark.parametrize('slow', [0, 1])
def test_a_slow_process_is_waited_for(ends, slow):
    codes, texts, seconds = ends[f'slept {slow}']
    assert codes == [0, 0], texts
    assert seconds > STOPPED and texts == ['', '']


def test_an_error_of_one_is_said_by_the_other(ends):
    codes, texts, _ = ends['failed 1']
    assert codes == [1, 1]
    assert texts[1] == 'Error: only mine\n'
    host = socket.gethostname()
    assert texts[0] == f'Process 1 of 2 (host {host}) has ended: Error: only mine\n'


def test_a_signal_to_one_stops_both(ends):
    codes, texts, _ = ends['told 1']
    assert codes == [143, 143]
    assert texts == ['Stopped.\n'] * 2


# The store is gone, so what process 1 tells it never returns; meanwhile JAX aborts.
ABORTED = """
import os, threading, time
from iqa_jax.runtime import watch

class Gone:
    def key_value_set(self, key, value, allow_overwrite):
        if 'host' not in key:
            time.sleep(100)

w = watch.Watch(Gone(), '127.0.0.1:1', 1, 2)
threading.Thread(target=w.end, args=(1, w._lost(0)), daemon=True).start()
time.sleep(0.5)
os.abort()
"""


def test_the_name_of_the_dead_is_said_before_an_abort():
    done = subprocess.run(
        [sys.executable, '-c', ABORTED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith('Process 0 of 2 has stopped answering')
    assert done.stderr.count('\n') == 1


# JAX gives up for a reason of its own, long before all have been waited for.
JOINING = """
import os, time
import jax
from iqa_jax.runtime import processes

def initialize(*args, **options):
    time.sleep(1.5)
    os.abort()

jax.distributed.initialize = initialize
processes.initialize(True, '127.0.0.1:1', 3, 1)
"""


def test_an_abort_before_all_have_joined_tells_how_long_they_waited():
    done = subprocess.run(
        [sys.executable, '-c', JOINING], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    start = 'Error: not all 3 processes have joined at 127.0.0.1:1 within '
    assert re.fullmatch(re.escape(start) + r'[1-9] s; look .*\n', done.stderr)
