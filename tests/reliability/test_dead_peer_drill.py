"""One of two processes is killed: the other ends and names it, and the same command finishes."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ZERO = ('late', 'zero_exit', 'unnamed', 'unfinished', 'different')


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    """A workdir with the data and the model of a smoke quickstart."""
    workdir = tmp_path_factory.mktemp('dead_peer')
    subprocess.run(
        [sys.executable, '-m', 'iqa_jax.main', '--config=configs/quickstart.py:smoke',
         '--config.order=("data", "pretrain")', f'--workdir={workdir}'],
        cwd=ROOT, check=True,
    )  # fmt: skip
    (workdir / 'model').symlink_to(workdir / 'pretrain/model')
    return workdir


@pytest.mark.parametrize('kind', ['training', 'scoring'])
def test_the_survivor_names_the_dead_and_a_restart_has_the_same_bits(base, kind):
    script = ROOT / 'benchmarks/reliability/dead_peer.py'
    done = subprocess.run(
        [sys.executable, script, '--brief', '--cases=1', '--processes=2', f'--kinds={kind}',
         f'--base={base}', '--seed=1'],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert counts['cases'] == counts[kind] == 1
    assert [counts[name] for name in ZERO] == [0] * len(ZERO)
    assert 0 < counts['slowest_end'] < 30
