"""The newest checkpoint is missed when nothing of it is left."""

import shutil

import numpy as np
import pytest

from iqa_jax.runtime import artifacts, noted_checkpoints

STATE = {'weights': np.arange(3, dtype=np.float32)}


@pytest.fixture
def folder(tmp_path):
    saved = noted_checkpoints.NotedCheckpoints(tmp_path / 'run')
    for step in (10, 20):
        saved.save(step, STATE, {})
    saved.close()
    return tmp_path / 'run'


def restored(folder) -> int:
    saved = noted_checkpoints.NotedCheckpoints(folder)
    found = saved.restore(STATE)
    saved.close()
    return found[0] if found else 0


def vanish(folder, step: int) -> None:
    shutil.rmtree(folder / f'steps/{step}')
    artifacts.forget(folder / f'step_{step}.json')


def test_a_step_that_vanished_is_named_and_the_one_before_is_used(folder, caplog):
    assert restored(folder) == 20 and not caplog.text
    vanish(folder, 20)
    assert restored(folder) == 10
    said = f'Checkpoint step 20, the newest in {folder}, is gone; going on from step 10.'
    assert said in caplog.text
    vanish(folder, 10)
    assert restored(folder) == 0
    assert 'is gone; going on from step 0.' in caplog.text


@pytest.mark.parametrize('how', ['older', 'gone', 'damaged'])
def test_a_note_that_tells_nothing_is_no_reason_to_stop(folder, caplog, how):
    note = folder / noted_checkpoints.NOTE
    if how == 'older':  # killed between the checkpoint and the note
        artifacts.commit(note, b'{"step":10}')
    elif how == 'gone':
        artifacts.forget(note)
    else:
        note.write_bytes(b'{"st')
    assert restored(folder) == 20 and not caplog.text
    assert artifacts.read(note) == b'{"step":20}'  # as if it had never been otherwise
