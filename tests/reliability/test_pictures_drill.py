"""The scripts about pictures and readers in a reduced form: every count is what it should be."""

import json
import os
import pathlib
import subprocess
import sys

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


def test_bombs():
    found = line('bombs.py', '--repeats', '1')
    assert found['figure'] == 'R5'
    assert not any(found[name] for name in ('decoded', 'unclear', 'slow', 'large', 'endless_slow'))
    formats = {'files', 'png', 'gif', 'jpeg', 'webp', 'bmp', 'tiff', 'jpeg2000'}
    assert found['declared'].keys() == found['endless'].keys() == formats
    assert found['declared']['files'] >= 20 and found['endless']['files'] >= 25


def test_readers():
    found = line('parsers.py', '--inputs', '4000', '--seed', '3')
    assert found['figure'] == 'R11' and found['inputs'] >= 4000
    assert not any(found[name] for name in ('others', 'hangs', 'executed', 'over_memory'))
    assert len(found['parsers']) == 21
    assert all(counts['refused'] > 0 for counts in found['parsers'].values())
    accepted = {name for name, counts in found['parsers'].items() if counts['accepted']}
    assert {'manifest csv', 'table csv', 'sidecar', 'stage config', 'torch'} <= accepted
