"""Small forms of the reliability scripts: they run, reach every kind of case and find nothing."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from iqa_jax.runtime import artifacts

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'reliability'


def run(script: str, *args: str) -> dict:
    """The line that a script prints; it has to end with 0."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *args],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_killed_training_ends_as_an_undisturbed_one():
    points = ('checkpoints.saved', 'artifacts.data.renamed')
    found = run('kills.py', '--tiny', '--kills=1', '--per-run=2', '--ordinals=1',
                '--points', *points)  # fmt: skip
    assert (found['kills'], found['crashes'], found['runs']) == (1, 2, 2)
    assert found['compared'] > 20 and found['points_not_reached'] == 0
    assert 0 <= found['redone_intervals'] <= 1


def test_a_restart_from_a_step_ends_as_an_undisturbed_run():
    found = run('resume.py', '--steps=4', '--every=2', '--variants', 'twin', '--processes=1')
    assert found['restarts'] == 4  # before the first save, at 2 and before the next one, at 4
    assert found['steps'] == 4 + 2 + 2 and found['batches'] == found['steps']
    assert found['leaves'] > 1000 and found['leaves_different'] == 0


def test_damage_is_never_silent():
    found = run('damaged_checkpoints.py', '--cases=45', '--files=12')
    assert found['cases'] == 45 and found['files'] == 12 and found['undamaged'] == 0
    assert all(found[kind] == 5 for kind in ('flip', 'truncate', 'delete', 'append', 'vanish'))
    assert found['fell_back'] > 20 and found['refused'] > 0
    assert found['lost_record'] == 6 and found['files_named'] >= 4
    assert 6 < found['files_read_alone'] < 12


@pytest.mark.skipif(shutil.which('cc') is None, reason='compiles the failing disk')
def test_a_disk_that_fails_leaves_what_was_committed():
    found = run('full_disk.py', '--cases=6', '--commands=1', '--tmpfs=0', '--reads=0',
                '--stages', 'proxies')  # fmt: skip
    kinds = ('full', 'read_only', 'no_permission', 'sync_fails', 'write_fails', 'slow')
    assert all(found[kind] == 1 for kind in kinds)
    assert found['hit'] == 6 and found['commands'] == 1 and found['committed'] > 10


@pytest.mark.skipif(shutil.which('cc') is None, reason='compiles the failing disk')
def test_a_picture_that_cannot_be_read_ends_the_run():
    found = run('full_disk.py', '--cases=0', '--reads=6', '--stages', '--readers', 'scores',
                'features', 'pairs')  # fmt: skip
    assert found['read_fails'] == found['no_descriptors'] == 3 and found['hit'] == 6


def test_what_is_lost_after_its_commit_is_seen(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(SCRIPTS)
    import full_disk

    judge, work = full_disk.Judge(tmp_path), tmp_path / 'work'
    names = ('kept', 'gone', 'unmarked', 'other', 'broken', 'begun', 'vanished', 'forgotten')
    files = {name: work / name for name in names}
    with judge.journal.kept():
        for file in files.values():
            artifacts.commit(file, b'old')
        artifacts.forget(files['forgotten'])
        with monkeypatch.context() as patch:
            patch.setattr(artifacts, '_staged', no_space)
            with pytest.raises(OSError, match='full'):
                artifacts.commit(files['begun'], b'new')
    judge.intact(work, 'nothing is lost')
    assert judge.counts['lost'] == judge.counts['not_intact'] == 0
    assert judge.counts['committed'] == 7  # all but the forgotten one
    files['gone'].unlink()
    artifacts.sidecar_path(files['unmarked']).unlink()
    artifacts.commit(files['other'], b'other')
    files['broken'].write_bytes(b'bad')
    artifacts.forget(files['vanished'])
    judge.intact(work, 'lost')
    assert judge.counts['lost'] == 4 and judge.counts['not_intact'] == 1


def no_space(*_):
    raise OSError('full')


def test_a_stopped_training_ends_in_time_and_goes_on():
    few = ('--signals=2', '--per-run=2', '--page=0', '--compiling=0')
    found = run('stop_signals.py', '--tiny', *few)
    assert found['signals'] + found['finished_first'] >= 2 and found['signals'] >= 1
    assert found['wrong_code'] == found['not_one_sentence'] == found['different'] == 0
