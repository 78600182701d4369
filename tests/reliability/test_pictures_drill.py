"""The scripts about pictures and readers in a reduced form: every count is what it should be."""

import collections
import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np

from iqa_jax.images import io

FOLDER = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks/reliability'


def line(name, *arguments):
    """The line of a script that ends with 0."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), *arguments],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_damaged_pictures():
    found = line('mutated_images.py', '--cases', '130', '--seed', '7', '--processes', '1')
    zero = ('crashes', 'hangs', 'good_changed', 'silently_wrong', 'accepted', 'unlisted')
    assert found['figure'] == 'R4' and not any(found[name] for name in (*zero, 'over_memory'))
    assert found['files'] == 143 and found['good'] > 20 and found['exit_codes'] == [0, 3, 3]
    assert len(found['cases']) == 25 and min(found['cases'].values()) >= 1
    assert found['decoded'] >= found['other_pixels'] > 0
    assert 0 < found['slowest'] < 10


def test_a_picture_that_takes_too_long_is_a_hang(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    import file_seconds

    files = [tmp_path / f'{name}.png' for name in ('good', 'slow', 'deadly', 'last')]
    for file in files:
        file.write_bytes(io.encode_png(np.zeros((8, 8, 3), np.uint8)))
    code = """if 'slow' in file: __import__('time').sleep(600)
        if 'deadly' in file: __import__('os')._exit(1)
        io.decode"""
    monkeypatch.setattr(file_seconds, 'CODE', file_seconds.CODE.replace('io.decode', code))
    found = file_seconds.measured(files, 5)
    assert found[1:3] == [math.inf, math.inf] and max(found[0], found[3]) < 5
    assert file_seconds.measured(files[:1], 1e-9) == [math.inf]


def test_bombs():
    found = line('bombs.py', '--repeats', '1')
    assert found['figure'] == 'R5'
    assert not any(found[name] for name in ('decoded', 'unclear', 'slow', 'large', 'endless_slow'))
    formats = {'files', 'png', 'gif', 'jpeg', 'webp', 'bmp', 'tiff', 'jpeg2000'}
    assert found['declared'].keys() == found['endless'].keys() == formats
    assert found['declared']['files'] >= 20 and found['endless']['files'] >= 35
    assert found['disguised'].keys() == {'files', 'tiff'} and found['disguised']['files'] >= 9


def test_a_reader_that_waits_for_ever_is_a_hang(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import parsers

    monkeypatch.setattr(parsers, 'CLOCK_SECONDS', 0.2)
    found = collections.Counter()
    child = [sys.executable, '-c', 'import time; time.sleep(600)']
    with parsers.timed():
        parsers.measured(lambda: subprocess.run(child, check=True), 2, found, [], 'child')
    assert found == {'hangs': 2}


def test_readers():
    found = line('parsers.py', '--inputs', '4000', '--seed', '3')
    assert found['figure'] == 'R11' and found['inputs'] >= 4000
    assert not any(found[name] for name in ('others', 'hangs', 'executed', 'over_memory'))
    assert len(found['parsers']) == 21
    assert all(counts['refused'] > 0 for counts in found['parsers'].values())
    accepted = {name for name, counts in found['parsers'].items() if counts['accepted']}
    assert {'manifest csv', 'table csv', 'sidecar', 'stage config', 'torch'} <= accepted
