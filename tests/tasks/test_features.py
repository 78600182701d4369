"""Features extracted once, and heads trained on them: equal to the whole model, resumable."""

import errno
import functools
import json
import os
import re
import shutil

import jax
import numpy as np
import pytest

import iqa_jax
from configs import score as score_defaults
from configs import train_ranking
from iqa_jax import models
from iqa_jax.data import features, manifest, tables
from iqa_jax.data.pipeline import Source
from iqa_jax.images import io
from iqa_jax.runtime import artifacts, endings
from iqa_jax.tasks import score, train, train_features, train_setup
from iqa_jax.training import extraction, saved_model, steps

SPEC = {'backbone': 'tiny', 'head': 'gap'}
SIZES = [(32, 48), (40, 32), (32, 48)]  # of the pictures, in turn


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """A saved model, 12 rated pictures, one of them damaged, in train and val; their features."""
    folder = tmp_path_factory.mktemp('features')
    model = models.build(**SPEC, outputs=2)
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(1), np.zeros((1, 32, 32, 3), np.float32))
    state = steps.create_state(variables, _NoOptimiser(), None, 0)
    meta = {'origin': '', 'simulated': False}
    saved_model.save(folder / 'model', state, SPEC, ['a', 'b'], meta, '')
    rng = np.random.default_rng(0)
    names = [f'p{i:02d}' for i in range(12)]
    for i, name in enumerate(names):
        image = rng.integers(0, 256, (*SIZES[i % 3], 3), np.uint8)
        (folder / f'{name}.png').write_bytes(io.encode_png(image))
    (folder / 'p05.png').write_bytes(b'no picture')
    columns = {
        'image_id': np.array(names, object),
        'file': np.array([str(folder / f'{name}.png') for name in names], object),
        'split': np.array(['train'] * 8 + ['val'] * 4, object),
        'mos': rng.uniform(0, 100, 12).astype(np.float32),
    }
    manifest.write(folder / 'all.parquet', columns, {})
    good = tables.select(columns, np.array(names) != 'p05')
    manifest.write(folder / 'rated.parquet', good, {})
    only = tables.select(good, good['split'] == 'train')
    manifest.write(folder / 'train_only.parquet', only, {})
    score.run(extract_config(folder), folder / 'mean_std')
    return folder


class _NoOptimiser:
    """State of the optimiser is no part of a saved model."""

    def init(self, params):
        return ()


def extract_config(folder, pooling: str = 'mean_std', **changes) -> dict:
    return {
        'task': 'score', 'root': str(folder), 'manifest': 'all.parquet', 'model': 'model',
        'splits': ('train', 'val'), 'batch_size': 2, 'shard_size': 5, 'shard': '',
        'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
        'features': {'backbone': 'tiny', 'pooling': pooling, 'preprocess': None},
    } | changes  # fmt: skip


def train_config(folder, **changes) -> dict:
    return {
        'task': 'train', 'root': str(folder), 'targets': ('mos',), 'crop': (32, 32),
        'databases': {
            'rated': {
                'manifest': 'rated.parquet', 'scores': '', 'weight': 1.0,
                'features': 'mean_std/features.parquet',
            },
        },
        'batch_size': 3, 'pairs_per_database': None, 'resize': '', 'cache_mb': 1,
        'input_threads': 1, 'prefetch_steps': 1,
        'model': {
            'backbone': 'tiny', 'head': 'mlsp', 'normalise': 'batch', 'hidden': (8, 4),
            'hidden_norm': 'batch', 'dropout': (0.25, 0.5),
        },
        'init_from': 'model', 'init_optimizer': False, 'init_output_scale': 1.0,
        'loss': 'mse', 'loss_options': {}, 'ohem': None,
        'total_steps': 6, 'total_epochs': None, 'total_examples': None,
        'warmup_steps': 0, 'schedule': 'constant', 'learning_rate': 1e-2, 'decay_at': (),
        'decay_factor': 1.0, 'weight_decay': 0.0, 'decoupled_weight_decay': True, 'clip_norm': 1e6,
        'freeze': (), 'rate_scales': {}, 'keep': 'last', 'eval_steps': 2, 'eval_images': 4,
        'eval_batch_size': 2, 'checkpoint_steps': 3, 'log_steps': 3,
        'save_optimizer': False, 'seed': 0,
    } | changes  # fmt: skip


def database(**changes) -> dict:
    entry = {'manifest': 'rated.parquet', 'scores': '', 'weight': 1.0}
    return {'databases': {'rated': entry | changes}}


TRAIN_ONLY = database(manifest='train_only.parquet', features='mean_std/features.parquet')
DENSE = train_ranking.get_config().ohem.to_dict() | {'layers': 'all'}


@pytest.fixture(scope='module')
def trained(world):
    """The folder of a head trained on the features, its best validation kept."""
    train.run(train_config(world, keep='best'), world / 'best')
    return world / 'best'


def test_weights_of_the_best_validation_that_are_gone_are_missed(world, trained, tmp_path):
    shutil.copytree(trained, tmp_path / 'run')
    (tmp_path / 'run/stage.json').unlink()
    (best,) = (tmp_path / 'run/checkpoints').glob('*/best')
    for file in best.glob('step_*.json'):
        file.unlink()
    # The best was found before the first checkpoint.
    with pytest.raises(ValueError, match=r'has lost the checkpoint of step \d, the best') as caught:
        train.run(train_config(world, keep='best'), tmp_path / 'run')
    assert f'{best.parent} is intact' in str(caught.value)
    assert 'delete the folder to start again from step 0.' in str(caught.value)
    shutil.rmtree(best.parent)  # as it says
    train.run(train_config(world, keep='best'), tmp_path / 'run')
    again = (tmp_path / 'run/model/weights.msgpack').read_bytes()
    assert again == (trained / 'model/weights.msgpack').read_bytes()


VALIDATED = {2: 0.1, 4: 0.5, 6: 0.2, 8: 0.4}  # step -> SRCC


def train_well(world, folder, monkeypatch, values=VALIDATED):
    """Trains eight steps, a checkpoint after each, whose best is known; the final weights."""
    validate = lambda _, state: values[int(np.max(state.step))]  # noqa: E731
    monkeypatch.setattr(train_setup.Validation, '__call__', validate)
    (folder / 'stage.json').unlink(missing_ok=True)
    config = train_config(world, keep='best', total_steps=8, checkpoint_steps=1)
    train.run(config, folder)
    return (folder / 'model/weights.msgpack').read_bytes()


def damage_best(folder, *steps):
    """Flips a bit in the checkpoints of these steps among the best ones."""
    for step in steps:
        (file,) = folder.glob(f'checkpoints/*/best/steps/{step}/state/_METADATA')
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def checkpoint_steps(folder):
    names = (file.stem.removeprefix('step_') for file in folder.glob('checkpoints/*/step_*.json'))
    return sorted(int(name) for name in names if name.isdecimal())


def test_a_damaged_best_is_found_again(world, tmp_path, monkeypatch, caplog):
    whole = train_well(world, tmp_path, monkeypatch)
    assert saved_model.load(tmp_path / 'model').meta['step'] == 4
    assert checkpoint_steps(tmp_path) == [3, 7, 8]
    log = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    damage_best(tmp_path, 4)
    assert train_well(world, tmp_path, monkeypatch) == whole
    for said in (
        r'step 4 in \S+/best is damaged \(state/_METADATA has other bytes',
        r'step 8 in \S+ cannot be used \(\S+/best has lost the checkpoint of step 4, the best then',
    ):
        assert re.search(said, caplog.text)
    assert checkpoint_steps(tmp_path) == [3, 7, 8]
    again = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert [row['step'] for row in again] == [json.loads(line)['step'] for line in log]


def test_the_only_best_is_found_again(world, tmp_path, monkeypatch):
    values = VALIDATED | {2: 0.9}
    whole = train_well(world, tmp_path, monkeypatch, values)
    assert checkpoint_steps(tmp_path) == [1, 7, 8]
    damage_best(tmp_path, 2)
    assert train_well(world, tmp_path, monkeypatch, values) == whole


def test_two_damaged_best_ones_end_in_a_mend_that_works(world, tmp_path, monkeypatch):
    whole = train_well(world, tmp_path, monkeypatch)
    damage_best(tmp_path, 2, 4)
    (folder,) = (tmp_path / 'checkpoints').iterdir()
    with pytest.raises(ValueError, match='delete the folder to start again') as caught:
        train_well(world, tmp_path, monkeypatch)
    assert f'None of the checkpoints in {folder} is intact (step 8: ' in str(caught.value)
    assert f'step 3: {folder}/best has lost the checkpoint of step 2' in str(caught.value)
    shutil.rmtree(folder)
    assert train_well(world, tmp_path, monkeypatch) == whole


def test_a_best_that_is_damaged_before_the_end_is_not_replaced_by_another(
    world, tmp_path, monkeypatch
):
    whole = train_well(world, tmp_path / 'whole', monkeypatch)

    def damage(point):
        if point == 'train.checkpoint' and checkpoint_steps(tmp_path / 'run')[-1] == 8:
            damage_best(tmp_path / 'run', 4)

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, 'crash_point', damage)
        with pytest.raises(ValueError, match='lost the checkpoint of step 4.* same command again'):
            train_well(world, tmp_path / 'run', monkeypatch)
    assert train_well(world, tmp_path / 'run', monkeypatch) == whole


def test_features_are_those_of_the_backbone_in_half_precision(world):
    table, meta = tables.read(world / 'mean_std/features.parquet')
    assert table['image_id'].tolist() == [f'p{i:02d}' for i in range(12) if i != 5]
    assert meta['shape'] == [2 * (16 + 16 + 32) + 32] and meta['crop'] == 'whole image'
    assert meta['preprocess'] == 'lite'
    quarantine = tables.read(world / 'mean_std/quarantine.csv')[0]
    assert len(quarantine['file']) == 1 and quarantine['file'][0] == 'p05'
    store = features.FeatureStore(
        [(str(world / 'mean_std/features.parquet'), np.array(['p07', 'p00'], object))]
    )
    model = models.extractor('tiny', 'mean_std')
    variables = saved_model.load(world / 'model').variables
    got = store.load(np.array([0, 1]))
    for vector, name in zip(got, ('p07', 'p00'), strict=True):
        image = io.decode((world / f'{name}.png').read_bytes())[None] / np.float32(255)
        run = jax.jit(functools.partial(model.apply, train=False, method='extract'))
        expected = np.asarray(run(extraction.backbone_of(variables), image)[0][0])
        np.testing.assert_allclose(vector, expected, rtol=2**-10, atol=1e-6)
        assert np.abs(vector - vector.astype(np.float16)).max() == 0


@pytest.mark.parametrize('code', [errno.EIO, errno.EMFILE, errno.ESTALE])
@pytest.mark.parametrize('kind', ['scores', 'features'])
def test_a_picture_that_cannot_be_read_for_a_moment_ends_the_run(
    world, tmp_path, failing_read, kind, code
):
    config = extract_config(world)
    if kind == 'scores':
        config = score_defaults.get_config().to_dict() | {
            key: config[key] for key in ('root', 'manifest', 'model', 'splits', 'shard_size')
        }
    failing_read('p07.png', code)
    with pytest.raises(OSError, match=r'p07\.png') as error:
        score.run(config, tmp_path / 'run')
    sentence = f'{world}/p07.png could not be read ({os.strerror(code)})'
    exit_code, said = endings.of(error.value)
    assert exit_code == 1 and said.startswith(f'Error: {sentence}') and '\n' not in said
    shards = {file.name.partition('.')[0] for file in (tmp_path / 'run').rglob('0*')}
    assert shards == {'000000000'} and not (tmp_path / 'run/quarantine.csv').exists()
    summary = score.run(config, tmp_path / 'run')
    assert (summary['images'], summary['quarantined']) == (11, 1)  # p05 is no picture


def test_finished_shards_are_kept_and_missing_ones_made_again(world, tmp_path, monkeypatch):
    shutil.copytree(world / 'mean_std', tmp_path / 'run')
    before = (tmp_path / 'run/shards/000000005.npy').read_bytes()
    (tmp_path / 'run/shards/000000005.npy').unlink()
    seen = []
    write = features.write_shard
    monkeypatch.setattr(
        features, 'write_shard', lambda path, *rest: seen.append(path.name) or write(path, *rest)
    )
    score.run(extract_config(world), tmp_path / 'run')
    assert seen == ['000000005.npy']
    assert (tmp_path / 'run/shards/000000005.npy').read_bytes() == before
    score.run(extract_config(world), tmp_path / 'run')
    assert len(seen) == 1


def test_a_damaged_shard_is_refused(world, tmp_path):
    shutil.copytree(world / 'mean_std', tmp_path / 'run')
    path = tmp_path / 'run/shards/000000000.npy'
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(artifacts.DamagedArtifact, match='is damaged'):
        features.FeatureStore([(str(tmp_path / 'run' / features.INDEX), np.array(['p00'], object))])


def test_what_float16_cannot_hold_is_quarantined_by_name(world, tmp_path, monkeypatch):
    real = extraction.step

    def large(**wanted):
        def step(variables, batch):
            found = real(**wanted)(variables, batch)['features']
            return {'features': np.where(np.arange(found.shape[1]) == 3, 65520.0, found)}

        return step

    monkeypatch.setattr(extraction, 'step', large)
    summary = score.run(extract_config(world, splits=('val',)), tmp_path / 'run')
    assert summary['images'] == 0 and summary['quarantined'] == 4
    reasons = tables.read(tmp_path / 'run/quarantine.csv')[0]['reason']
    assert reasons[0] == 'its largest feature is 65520, more than float16 holds (65504)'
    assert features.refusal(np.array([65504.0, np.inf])) == 'its features are not finite'
    assert features.refusal(np.array([-65504.0])) == ''


def test_a_head_on_features_is_the_whole_model(world, trained):
    model = iqa_jax.load_model(trained / 'model')
    built = saved_model.build(model.spec, 1)
    ids = np.array([f'p{i:02d}' for i in (0, 1, 2, 9)], object)
    store = features.FeatureStore([(str(world / 'mean_std/features.parquet'), ids)])
    variables = {name: model.variables[name] for name in ('params', 'batch_stats')}
    expected, _ = built.apply(variables, store.load(np.arange(4)), train=False, method='regress')
    images = [io.decode((world / f'{name}.png').read_bytes()) for name in ids]
    # Sides are multiples of 8, so that no picture is padded.
    found = np.concatenate([model.score(image, bucket_step=8) for image in images])
    np.testing.assert_allclose(found, expected[:, 0], rtol=2e-3, atol=2e-3)
    assert np.ptp(found) > 0.01
    theirs = saved_model.load(world / 'model').variables
    assert extraction.digest(variables) == extraction.digest(theirs)


@pytest.mark.parametrize('batch_stats', ['shared', 'dual'])
def test_a_head_on_features_has_a_twin_whose_backbone_is_whole(world, tmp_path, batch_stats):
    ohem = DENSE | {'batch_stats': batch_stats}
    train.run(train_config(world, ohem=ohem, total_steps=2), tmp_path)
    model = iqa_jax.load_model(tmp_path / 'model')
    pruned, full = model.variables['twin_params'], model.variables['params']
    jax.tree.map(np.testing.assert_array_equal, pruned['backbone'], full['backbone'])
    assert (pruned['regressor']['hidden_0']['kernel'] == 0).any()
    both = model.score(np.full((40, 40, 3), 90, np.uint8), twin=True)
    assert np.isfinite(both['twin']).all() and (both['twin'] != both['prediction']).all()


def test_neither_optimiser_nor_checkpoint_holds_the_backbone(world, trained):
    record = next((trained / 'checkpoints').glob('*/step_6.json'))
    leaves = json.loads(record.read_text())['leaves']
    assert leaves and not [name for name in leaves if 'backbone' in name]
    assert [name for name in leaves if 'opt_state' in name and 'hidden_0' in name]


def test_the_backbone_is_set_aside(world):
    path, n = str(world / 'mean_std/features.parquet'), 11
    columns = manifest.read(world / 'rated.parquet')
    source = Source(columns, np.zeros((n, 1), np.float32), np.zeros(n, np.float32), 1.0, path)
    variables = saved_model.load(world / 'model').variables
    trained, aside = train_features.set_aside(variables, [source], train_config(world))
    assert list(trained['params']) == ['regressor'] and trained['batch_stats'] == {}
    assert extraction.digest(aside) == extraction.digest(variables)


def test_the_best_validation_is_kept(world, trained):
    rows = [json.loads(x) for x in (trained / 'metrics.jsonl').read_text().splitlines()]
    values = {row['step']: row['val_srcc'] for row in rows if 'val_srcc' in row}
    assert sorted(values) == [2, 4, 6]
    best = max(values.values())
    first = min(step for step, value in values.items() if value == best)
    summary = json.loads((trained / 'stage.json').read_text())
    assert summary['val_srcc'] == best
    assert saved_model.load(trained / 'model').meta['step'] == first


def test_validation_comes_once_per_epoch_where_no_steps_are_given(world, tmp_path):
    train.run(train_config(world, eval_steps=0, total_steps=5), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    # Seven images make two batches of three; the last step is validated too.
    assert [row['step'] for row in rows if 'val_srcc' in row] == [2, 4, 5]


def test_a_stopped_run_ends_with_the_same_best_weights(world, trained, tmp_path, monkeypatch):
    def stop(point: str) -> None:
        if point == 'train.checkpoint':
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, 'crash_point', stop)
        with pytest.raises(KeyboardInterrupt):
            train.run(train_config(world, keep='best'), tmp_path / 'run')
    assert not (tmp_path / 'run/model').exists()
    train.run(train_config(world, keep='best'), tmp_path / 'run')
    again = (tmp_path / 'run/model/weights.msgpack').read_bytes()
    assert again == (trained / 'model/weights.msgpack').read_bytes()


def test_wide_features_train_through_their_cells(world):
    score.run(extract_config(world, 'grid5', splits=('val',)), world / 'grid5')
    assert features.describe(world / 'grid5/features.parquet')['shape'] == [5, 5, 64]
    model = {'backbone': 'tiny', 'pooling': 'grid5', 'cells': (4,), 'normalise': 'layer'}
    columns = manifest.read(world / 'rated.parquet')
    few = tables.select(columns, columns['split'] == 'val') | {'split': np.array(['train'] * 4)}
    manifest.write(world / 'few.parquet', few, {})
    entry = database(manifest='few.parquet', features='grid5/features.parquet')
    train.run(train_config(world, model=model, total_steps=2, **entry), world / 'grid5_head')
    variables = iqa_jax.load_model(world / 'grid5_head/model').variables
    assert variables['params']['cells']['layer_0']['kernel'].shape == (64, 4)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (
            {'model': {'backbone': 'tiny', 'pooling': 'mean'}},
            'with the pooling mean_std, the model',
        ),
        ({'init_from': ''}, r"config\.init_from='' with features"),
        ({'ohem': train_ranking.get_config().ohem.to_dict()}, r'config\.ohem prunes convolutions'),
        ({'ohem': DENSE | {'crops': 'different'}}, "config.ohem.crops='different' with features"),
        ({'keep': 'all'}, r"config\.keep='all'; use one of last, best"),
        ({'keep': 'best'} | TRAIN_ONLY, "config.keep='best' needs a val split"),
        ({'model': {'backbone': 'tiny', 'uncertainty': True}}, 'uncertainty is not taught by'),
        ({'model': {'backbone': 'tiny', 'dtype': 'bfloat16'}}, 'dtype or config.resize with'),
        ({'resize': 'unique'}, 'dtype or config.resize with features'),
        (
            database(manifest='all.parquet', features='mean_std/features.parquet'),
            'has no row for 1',
        ),
        (database(features='nothing.parquet'), 'nothing.parquet'),
    ],
)
def test_features_that_do_not_fit_are_a_sentence(world, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        train.run(train_config(world, **changes), tmp_path / 'out')


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'extractor': 'another'}, 'extracted with the weights another, the model has'),
        ({'preprocess': 'half'}, 'extracted with the preprocess half, the model has lite'),
    ],
)
def test_features_of_other_weights_are_refused(world, tmp_path, change, sentence):
    shutil.copytree(world / 'mean_std', tmp_path / 'set')
    path = tmp_path / 'set/features.parquet'
    table, meta = tables.read(path)
    tables.write(path, table, meta | change)
    entry = database(features=str(path))
    with pytest.raises(ValueError, match=sentence):
        train.run(train_config(world, **entry), tmp_path / 'out')


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'pooling': 'max'}, "pooling is 'max'"),
        ({'backbone': 'resnet18'}, 'holds tiny, config.features'),
        ({'preprocess': 'half'}, "preprocess is 'lite', config.features.preprocess is 'half'"),
        ({'crop': 9}, r'config\.features\.crop is not a key'),
    ],
)
def test_an_extraction_that_cannot_be_is_a_sentence(world, tmp_path, changes, sentence):
    config = extract_config(world)
    config['features'] |= changes
    with pytest.raises(ValueError, match=sentence):
        score.run(config, tmp_path / 'out')


def test_an_extraction_has_its_own_keys(world, tmp_path):
    with pytest.raises(ValueError, match=r'config\.twin is not a key'):
        score.run(extract_config(world, twin=True), tmp_path / 'out')


def test_narrow_features_of_inception_are_16_928_numbers():
    assert extraction.shape('inception_resnet_v2', 'mean') == (16_928,)
