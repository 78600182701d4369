"""One of two processes is killed: the other ends and names it, and the same command finishes."""

import json
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'benchmarks/reliability'))
import dead_peer

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
    assert counts['compared'] > 5


SAID = 'Process {} of 3 (host {}) has stopped answering; its own log says more, if it could.\n'
LAUNCHER = 'Process 1 of 3 has stopped with exit code 137; the others are stopped too.\n'


@pytest.mark.parametrize(
    ('text', 'enough'),
    [
        (2 * SAID.format(1, 'node7'), True),
        (2 * SAID.format(1, 'node7.cluster.local'), True),
        ('score:  50%\r' + 2 * SAID.format(1, 'a') + LAUNCHER, True),
        (SAID.format(1, 'node7'), False),  # one survivor is silent
        (LAUNCHER, False),
        (2 * LAUNCHER, False),
        (2 * SAID.format(0, 'node7'), False),
        (2 * SAID.format(1, 'node7') + SAID.format(0, 'node7'), False),
    ],
)
def test_each_survivor_has_to_name_the_dead(text, enough):
    assert dead_peer.named(text, 1, 3) == enough


def program(folder: pathlib.Path, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the launcher start a shell script in place of Python."""
    file = folder / 'python'
    file.write_text(f'#!/usr/bin/env bash\n{does}\n')
    file.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(file))


def test_survivors_that_hang_are_late_and_nameless(tmp_path, monkeypatch):
    program(tmp_path, f'echo "$PATIENCE" >> {tmp_path}/patience; sleep 6 & wait', monkeypatch)
    monkeypatch.setattr(dead_peer, 'LIMIT', 1.0)
    monkeypatch.setattr(dead_peer, 'MEETING', 0.5)
    monkeypatch.setattr(dead_peer, 'connected', lambda port: 2)
    found = dead_peer.killed('scoring', 2, 1, 1.0, [], tmp_path / 'run')
    assert (found['late'], found['unnamed'], found['zero_exit']) == (1, 1, 0)
    # The drill looks for three times its limit: the launcher must not end them meanwhile.
    assert set((tmp_path / 'patience').read_text().split()) == {'4'}


def test_processes_that_have_not_met_are_not_killed(tmp_path, monkeypatch):
    program(tmp_path, f'sleep 1; touch {tmp_path}/alive', monkeypatch)
    monkeypatch.setattr(dead_peer, 'MEETING', 0.1)
    assert dead_peer.killed('scoring', 2, 1, 0.2, [], tmp_path / 'run') == {}
    assert (tmp_path / 'alive').exists()


def test_only_a_run_that_was_stopped_is_a_straggler(tmp_path, monkeypatch):
    monkeypatch.setattr(dead_peer, 'STOPPED', 0.1)
    program(tmp_path, 'exit 0', monkeypatch)
    assert dead_peer.straggled(2, [], tmp_path / 'over', 1.0, 1) is None
    program(tmp_path, 'sleep 2; exit 0', monkeypatch)
    assert dead_peer.straggled(2, [], tmp_path / 'stopped', 1.0, 1) == 0


def test_a_run_without_results_is_no_measure(tmp_path, monkeypatch):
    program(tmp_path, 'exit 0', monkeypatch)
    given = dead_peer.argparse.Namespace(brief=True, cases=1)
    with pytest.raises(SystemExit, match='scoring with 2 processes makes no scores.parquet'):
        dead_peer.drill_kind('scoring', 2, [], tmp_path, given, dead_peer.random.Random(0), {})
