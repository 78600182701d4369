"""The papers' two stages through the real task: literal pairs, frozen backbone, Adam continued."""

import json

import numpy as np
import pytest

from configs import train_unique
from iqa_jax.data import manifest
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import pipeline, train
from iqa_jax.training import saved_model


@pytest.fixture
def root(photos):
    """A folder with a rated manifest of four photographs."""
    files = sorted(photos.glob('*.png'))
    columns = {
        'image_id': np.array([f.stem for f in files], object),
        'ref_id': np.array([f.stem for f in files], object),
        'file': np.array([str(f) for f in files], object),
        'split': np.array(['train'] * len(files), object),
        'mos': np.array([10.0, 60.0, 30.0, 90.0], np.float32),
        'mos_std': np.array([9.0, 8.0, 12.0, 10.0], np.float32),
    }
    rated = manifest.complete(columns, 'rated')
    manifest.write(photos.parent / 'rated.parquet', rated, {'simulated': False})
    return photos.parent


def test_the_second_stage_continues_the_head_and_a_stop_changes_no_byte(root, monkeypatch):
    config = train_unique.get_config('smoke').to_dict()
    for stage in config['stages'].values():
        rated = {'manifest': '../rated.parquet', 'scores': '', 'weight': 1.0}
        stage |= {'databases': {'rated': rated}, 'pairs_per_database': {'rated': 6}}
        stage |= {'batch_size': 2, 'crop': (32, 32), 'checkpoint_steps': 3, 'log_steps': 1}
    run = root / 'run'
    summary = pipeline.run(config, run)
    assert [summary['stages'][name]['steps'] for name in ('head', 'whole')] == [3, 6]

    head, whole = (saved_model.load(run / name / 'model').variables for name in ('head', 'whole'))
    adam = saved_model.load_optimizer(run / 'head/model')
    assert {name.partition('/')[0] for name in adam} == {'regressor', 'spread'}
    assert {int(state['count']) for state in adam.values()} == {3}
    assert not (run / 'whole/model/optimizer.msgpack').exists()
    statistics = _flat(head['batch_stats']['backbone'])
    assert all(np.any(x != 0) for name, x in statistics if name.endswith('mean'))
    changed = [np.any(a != b) for (_, a), (_, b) in zip(
        _flat(head['params']['backbone']), _flat(whole['params']['backbone']), strict=True
    )]  # fmt: skip
    assert all(changed)
    rows = [json.loads(line) for line in (run / 'whole/metrics.jsonl').open()]
    assert [row['step'] for row in rows if 'loss' in row] == [1, 2, 3, 4, 5, 6]

    class Stop(Exception):
        """Ends the run at its first checkpoint."""

    def stop(name):
        raise Stop

    whole = dict(config['stages']['whole'], root=str(run))
    del whole['folder']
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(artifacts, 'crash_point', stop)
        train.run(whole, run / 'again')
    train.run(whole, run / 'again')
    for name in saved_model.FILES:
        assert (run / 'again/model' / name).read_bytes() == (
            run / 'whole/model' / name
        ).read_bytes()


def _flat(tree, name=''):
    """(path, array) of every array of a nested dict."""
    if not isinstance(tree, dict):
        return [(name, np.asarray(tree))]
    return [pair for key, value in tree.items() for pair in _flat(value, f'{name}/{key}')]
