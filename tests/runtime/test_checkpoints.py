"""Checkpoints: exact, or an older exact one with a sentence, or an error; never altered weights."""

import errno
import hashlib
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from iqa_jax.runtime import artifacts, checkpoints

SAVE_THREE = """
import sys
import numpy as np
from iqa_jax.runtime import checkpoints
saved = checkpoints.Checkpoints(sys.argv[1], keep=1)
for step in (1, 2, 3):
    saved.save(step, {'w': np.full(4, step, np.float32)}, {'step': step})
"""


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: tuple
    mask: dict
    nothing: jax.Array
    key: jax.Array
    epoch: int


def make_state(value: float) -> State:
    params = {
        'conv': {'kernel': jnp.full((3, 3), value), 'bias': jnp.full(2, value, jnp.bfloat16)},
        'scale': jnp.float32(value),
    }
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return State(
        step=jnp.int32(value),
        params=params,
        opt_state=tx.init(params),
        mask=jax.tree.map(lambda x: x > 0, params),
        nothing=jnp.zeros((0, 3)),
        key=jax.random.key_data(jax.random.key(3)),
        epoch=4,
    )


def assert_equal(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture
def two_steps(tmp_path):
    """A folder with intact steps 10 and 20."""
    saved = checkpoints.Checkpoints(tmp_path / 'run')
    for step in (10, 20):
        saved.save(step, make_state(step), {'epoch': step // 10})
    saved.close()
    return tmp_path / 'run'


def restore(folder, target=None):
    saved = checkpoints.Checkpoints(folder)
    try:
        return saved.restore(make_state(0) if target is None else target)
    finally:
        saved.close()


@pytest.mark.parametrize('kind', ['abstract', 'concrete', 'host'])
def test_round_trip(two_steps, kind):
    target = {
        'abstract': lambda: jax.eval_shape(lambda: make_state(0)).replace(epoch=0),
        'concrete': lambda: make_state(0),
        'host': lambda: jax.device_get(make_state(0)),
    }[kind]()
    step, state, metadata = restore(two_steps, target)
    assert (step, metadata) == (20, {'epoch': 2})
    assert_equal(state, make_state(20))
    assert all(not isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


def test_nothing_saved_is_none(tmp_path):
    assert restore(tmp_path / 'new') is None


def test_retention(tmp_path):
    for keep, kept in ((1, [4]), (2, [3, 4])):
        saved = checkpoints.Checkpoints(tmp_path / str(keep), keep)
        for step in (1, 2, 3, 4):
            saved.save(step, {'w': np.ones(2)}, {})
        assert saved.steps() == kept
        assert sorted(os.listdir(tmp_path / str(keep) / 'steps')) == [str(s) for s in kept]
        saved.close()
    with pytest.raises(ValueError, match='keep=0'):
        checkpoints.Checkpoints(tmp_path, keep=0)


def damage(path: pathlib.Path, how: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    if how == 'delete':
        path.unlink()
    elif how == 'flip':
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        path.write_bytes({'truncate': data[:middle], 'zero': bytes(len(data)), 'empty': b''}[how])


@pytest.mark.parametrize('how', ['flip', 'truncate', 'delete', 'zero', 'empty'])
def test_every_file_damaged_in_turn_falls_back(two_steps, tmp_path, caplog, how):
    files = [p for p in (two_steps / 'steps' / '20').rglob('*') if p.is_file()]
    files += list(two_steps.glob('step_20.json*'))
    assert len(files) > 8
    for i, file in enumerate(files):
        folder = shutil.copytree(two_steps, tmp_path / str(i))
        damage(folder / file.relative_to(two_steps), how)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            step, state, metadata = restore(folder)
        assert (step, metadata) == (10, {'epoch': 1}), file
        assert_equal(state, make_state(10))
        said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert any('20' in s and ('is damaged' in s or 'never finished' in s) for s in said), file


def test_no_intact_step_is_an_error(two_steps):
    damage(two_steps / 'steps' / '20' / 'commit_success.txt', 'delete')
    damage(two_steps / 'step_10.json', 'flip')
    with pytest.raises(ValueError, match='None of the checkpoints') as caught:
        restore(two_steps)
    for part in ('step 20: commit_success.txt is missing', 'step 10:', 'delete the folder'):
        assert part in str(caught.value)


@pytest.fixture
def bad_sectors(monkeypatch):
    """A set of names of files whose bytes the disk does not give back, as open files say it."""
    names, digest = set(), hashlib.file_digest

    def read(file, *rest):
        if pathlib.Path(file.name).name in names:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return digest(file, *rest)

    monkeypatch.setattr(hashlib, 'file_digest', read)
    return names


def test_bytes_that_the_disk_has_lost_are_damage(two_steps, bad_sectors, caplog):
    bad_sectors.add('_METADATA')
    with pytest.raises(checkpoints.NoneIntact) as caught:
        restore(two_steps)
    for step in (10, 20):
        lost = two_steps / f'steps/{step}/state/_METADATA cannot be read: Input/output error'
        assert f'step {step}: {lost}' in str(caught.value) and str(lost) in caplog.text


@pytest.mark.skipif(not os.path.exists('/proc/self/mem'), reason='reads /proc')
@pytest.mark.parametrize('name', ['step_20.json', 'step_20.json.meta.json'])
def test_a_record_that_the_disk_has_lost_is_damage(two_steps, name, caplog):
    (two_steps / name).unlink()
    (two_steps / name).symlink_to('/proc/self/mem')  # it opens, and the read answers EIO
    step, state, _ = restore(two_steps)
    assert step == 10
    assert_equal(state, make_state(10))
    assert f'{two_steps / name} cannot be read: Input/output error' in caplog.text


def test_what_may_be_intact_is_not_passed_over(two_steps, monkeypatch):
    def read(file, *rest):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(hashlib, 'file_digest', read)
    with pytest.raises(OSError, match='Too many open files') as caught:
        restore(two_steps)
    assert '/steps/20/' in caught.value.filename


def test_a_refused_step_is_passed_over_and_replaced(two_steps, caplog):
    saved = checkpoints.Checkpoints(two_steps)
    refuse = lambda metadata: 'not that one' * (metadata['epoch'] == 2)  # noqa: E731
    assert saved.restore(make_state(0), refuse)[0] == 10
    assert f'step 20 in {two_steps} cannot be used (not that one)' in caplog.text
    saved.save(15, make_state(15), {})
    assert saved.steps() == [10, 15]
    saved.close()
    with pytest.raises(checkpoints.NoneIntact, match='step 15: never; step 10: never'):
        checkpoints.Checkpoints(two_steps).restore(make_state(0), lambda metadata: 'never')


def test_a_step_before_another_is_held(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    held = {1: 0, 2: 0, 3: 3, 4: 3, 5: 3, 6: 6, 7: 6, 8: 6, 9: 0}
    kept = []
    for step, hold in held.items():
        saved.save(step, {'w': np.ones(2)}, {}, hold=hold)
        kept.append(saved.steps())
    saved.close()
    assert kept == [
        [1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [5, 6, 7], [5, 7, 8], [8, 9],
    ]  # fmt: skip


def test_a_whole_step_under_the_number_of_another_is_refused(two_steps, caplog):
    shutil.rmtree(two_steps / 'steps' / '20')
    shutil.copytree(two_steps / 'steps' / '10', two_steps / 'steps' / '20')
    for suffix in ('', '.meta.json'):
        shutil.copy(two_steps / f'step_10.json{suffix}', two_steps / f'step_20.json{suffix}')
    assert restore(two_steps)[0] == 10
    assert 'step_20.json is that of step 10' in caplog.text


def test_what_the_disk_does_not_take_is_one_sentence(two_steps, monkeypatch, capfd):
    message = "RESOURCE_EXHAUSTED: Error writing [os_error_code='28'] [tensorstore_spec='...']"

    def fail(*args, **rest):
        logging.getLogger('absl').error('in a thread', exc_info=ValueError(message))
        raise ValueError(message)

    monkeypatch.setattr(checkpoints.ocp.CheckpointManager, 'save', fail)
    saved = checkpoints.Checkpoints(two_steps)
    sentence = (
        r'^Checkpoint step 30 in .*run cannot be written \(No space left on device\); make room'
    )
    with pytest.raises(OSError, match=sentence):
        saved.save(30, make_state(30), {})
    assert 'Traceback' not in capfd.readouterr().err
    monkeypatch.undo()
    assert restore(two_steps)[0] == 20
    saved.save(30, make_state(30), {})
    assert_equal(restore(two_steps)[1], make_state(30))


@pytest.mark.parametrize(
    'record', [5, [], None, {}, {'files': 3}, {'files': {'a': 1}}, {'files': {}, 'leaves': 0}]
)
def test_an_intact_record_of_something_else_is_damage(two_steps, record, caplog):
    artifacts.commit(two_steps / 'step_20.json', artifacts.canonical_json(record).encode())
    assert restore(two_steps)[0] == 10
    assert 'step 20' in caplog.text and 'its record is not that of a checkpoint' in caplog.text


def test_unfinished_steps_do_not_exist(two_steps, caplog):
    (two_steps / 'steps' / '30').mkdir()
    shutil.copytree(two_steps / 'steps' / '20', two_steps / 'steps' / '40')
    (two_steps / 'steps' / '50.orbax-checkpoint-tmp').mkdir()
    saved = checkpoints.Checkpoints(two_steps)
    with caplog.at_level(logging.WARNING):
        step, state, _ = saved.restore(make_state(0))
    assert step == 20
    assert_equal(state, make_state(20))
    assert sum('never finished' in r.getMessage() for r in caplog.records) == 3
    saved.save(30, make_state(30), {})
    assert sorted(os.listdir(two_steps / 'steps')) == ['20', '30']
    assert saved.restore(make_state(0))[0] == 30
    saved.close()


def test_what_a_stopped_removal_leaves_goes_without_another_save(two_steps):
    artifacts.forget(two_steps / 'step_10.json')
    saved = checkpoints.Checkpoints(two_steps)
    assert saved.restore(make_state(0))[0] == 20
    saved.close()
    assert os.listdir(two_steps / 'steps') == ['20']
    assert_equal(restore(two_steps)[1], make_state(20))


def test_only_an_unfinished_step_is_a_fresh_start(tmp_path):
    (tmp_path / 'steps' / '10').mkdir(parents=True)
    assert restore(tmp_path) is None


def test_training_goes_on_after_damage(two_steps):
    damage(two_steps / 'steps' / '20' / 'state' / '_METADATA', 'flip')
    saved = checkpoints.Checkpoints(two_steps)
    assert saved.restore(make_state(0))[0] == 10
    saved.save(15, make_state(15), {})
    saved.save(20, make_state(21), {})
    assert saved.steps() == [15, 20]
    assert_equal(saved.restore(make_state(0))[1], make_state(21))
    saved.close()


def test_saving_behind_an_intact_step_is_refused(two_steps):
    saved = checkpoints.Checkpoints(two_steps)
    with pytest.raises(ValueError, match='holds a checkpoint of step 20, later than step 5'):
        saved.save(5, make_state(5), {})
    assert restore(two_steps)[0] == 20


def test_wrong_structure_names_the_leaf(two_steps):
    state = make_state(0)
    params = state.params | {'scale': jnp.zeros(7)}
    with pytest.raises(ValueError, match=r"'scale'\] is float32\[\] there and float32\[7\] here"):
        restore(two_steps, state.replace(params=params))
    with pytest.raises(ValueError, match='absent there'):
        restore(two_steps, state.replace(params=state.params | {'new': jnp.zeros(1)}))


def test_typed_keys_are_refused(tmp_path):
    saved = checkpoints.Checkpoints(tmp_path)
    with pytest.raises(ValueError, match=r"state.*'rng'.* typed PRNG key"):
        saved.save(1, {'rng': jax.random.key(0)}, {})
    assert saved.restore({'rng': np.zeros(2, np.uint32)}) is None


def test_kill_at_any_point_of_a_save(tmp_path):
    """SIGKILL during the save of step 2 with keep=1: step 1 or step 2 is there and exact."""
    expected = {
        'checkpoints.before_save:2': 1,
        'checkpoints.saved:2': 1,
        'checkpoints.digested:2': 1,
        'artifacts.meta.renamed:2': 1,
        'checkpoints.committed:2': 2,
        'checkpoints.removed_old:1': 2,
    }
    children = {}
    for point in expected:
        environment = os.environ | {artifacts.CRASH_VARIABLE: point}
        command = [sys.executable, '-c', SAVE_THREE, str(tmp_path / point)]
        children[point] = subprocess.Popen(command, env=environment)
    for point, step in expected.items():
        assert children[point].wait(timeout=120) == -signal.SIGKILL, point
        saved = checkpoints.Checkpoints(tmp_path / point, keep=1)
        found, state, metadata = saved.restore({'w': np.zeros(4, np.float32)})
        assert (found, metadata) == (step, {'step': step}), point
        np.testing.assert_array_equal(state['w'], np.full(4, step, np.float32))
        for later in range(step + 1, 4):
            saved.save(later, {'w': np.full(4, later, np.float32)}, {'step': later})
        assert saved.steps() == [3]
        assert os.listdir(tmp_path / point / 'steps') == ['3']
        saved.close()
