"""Two processes repeat trainings together: a slow one still finds what it has to read."""

import os
import pathlib
import subprocess
import sys

from test_repeat import write_splits

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = """
from configs import ablate_ohem


def get_config():
    config = ablate_ohem.get_config('smoke')
    config.variants = {'plain': {'ohem': None}}
    config.splits = SPLITS
    config.train.keep = 'best'
    config.evaluate.resamples = 50
    return config
"""
# Process 1 comes late to the best step, which process 0 has read and would remove.
LATE = """
import runpy
import sys
import time

from iqa_jax.runtime import checkpoints, parallel

load = checkpoints.Checkpoints._load


def late(saved, step, target):
    if parallel.process_index():
        time.sleep(3)
    return load(saved, step, target)


checkpoints.Checkpoints._load = late
del sys.argv[1:3]
runpy.run_module('iqa_jax.main', run_name='__main__', alter_sys=True)
"""


def test_the_best_step_stays_until_the_slowest_process_has_read_it(tmp_path):
    splits = write_splits(tmp_path / 'data', count=1, val=True)
    (tmp_path / 'config.py').write_text(CONFIG.replace('SPLITS', repr(splits)))
    (tmp_path / 'late.py').write_text(LATE)
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/late.py "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ['launch/local_processes.sh', '2', f'--config={tmp_path}/config.py', '--config.root=',
         f'--workdir={tmp_path}/out'],
        cwd=ROOT, env=os.environ | {'PYTHON': str(python), 'PYTHONPATH': str(ROOT)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count('\nrepeat: ') == done.stderr.count(', 1 runs, ') == 1, done.stderr
    folder = tmp_path / 'out/plain/s0/seed_0'
    assert (folder / 'train/model/model.json').is_file()
    assert not (folder / 'train/checkpoints').exists()
    assert (tmp_path / 'out/table.txt').read_text() in done.stdout
    assert not list((tmp_path / 'out').glob('difference_*'))  # the baseline alone
