"""Inception-ResNet-v2 against Keras and timm: every MLSP map, names and order of their files."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from iqa_jax import models
from iqa_jax.models import pretrained
from iqa_jax.models.inception_resnet_v2 import InceptionResNetV2

ARCHIVE = parity.GOLDEN / 'inception_parity.npz'
NET = InceptionResNetV2()
MAPS = (*NET.taps(), 'conv_7b_ac')
OUTPUTS_AXIS = {'keras': -1, 'timm': 0}
apply = jax.jit(lambda variables, x: NET.apply(variables, x, train=False))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def rule_of(names):
    return pretrained.choose_rule(list(names), pretrained.SOURCES['inception_resnet_v2'].rules)


def our_maps(tree):
    """All compared maps of the network with converted variables, its classifier left out."""
    params = {key: value for key, value in tree['params'].items() if key != 'classifier'}
    out = apply(tree | {'params': params}, jnp.asarray(parity.photo()))[1]
    return {name: np.asarray(out[name]) for name in MAPS}


def check(ours, theirs):
    errors = {name: parity.error(ours[name], theirs[name]) for name in MAPS}
    print(f'{max(errors.values()):.2g}')
    assert max(errors.values()) <= parity.TOLERANCE, errors


def test_taps_and_parameters_are_the_published_ones():
    shapes = jax.eval_shape(
        lambda key, x: NET.init(key, x, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32),
    )
    # Keras counts the running statistics and has no factor in its batch normalisation.
    scales = {name: unit['bn']['scale'] for name, unit in shapes['params'].items() if 'bn' in unit}
    assert len(scales) == 204
    assert count(shapes) - count(scales) == 54_336_736
    last, out = jax.eval_shape(apply, shapes, jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32))
    assert last.shape == (1, 8, 8, 1536)
    widths = [out[name].shape[-1] for name in NET.taps()]
    assert widths == [320] + [128] * 10 + [1088] + [384] * 20 + [2080] + [448] * 10
    assert sum(widths) == 16_928
    assert out['mixed_5b'].shape[1:3] == (35, 35) and out['mixed_6a'].shape[1:3] == (17, 17)


@pytest.mark.parametrize('peer', ['keras', 'timm'])
def test_maps_equal_the_peers(peer):
    shapes, theirs = parity.read(peer, ARCHIVE)
    rule = rule_of(shapes)
    assert rule.origin.lower() == peer
    state = parity.random_state(shapes, OUTPUTS_AXIS[peer])
    check(parity.summary(our_maps(pretrained.convert(state, NET, rule))), theirs)


def test_keras_numbers_layers_by_creation_and_older_files_by_the_graph():
    names = list(parity.read('keras', ARCHIVE)[0])
    rule = rule_of(names)
    places = [rule.place(name) for name in names]
    assert None not in places and len(set(places)) == len(places)
    # Without the layers' names a file counts them, the named ones too, as Keras lists them.
    layers = {'conv2d': [], 'batch_normalization': []}
    orders = {'kernel': '0', 'bias': '1', 'beta': '0', 'moving_mean': '1', 'moving_variance': '2'}
    for name, place in zip(names, places, strict=True):
        layer, _, leaf = name.rpartition('/')
        if layer == 'predictions':
            continue
        listed = layers['conv2d' if leaf in ('kernel', 'bias') else 'batch_normalization']
        if layer not in listed:
            listed.append(layer)
        kind = 'conv2d' if leaf in ('kernel', 'bias') else 'batch_normalization'
        number = f'_{len(listed) - 1}' if len(listed) > 1 else ''
        assert rule.place(f'layers/{kind}{number}/{orders[leaf]}') == place
    assert [len(listed) for listed in layers.values()] == [244, 204]
    assert rule.place('layers/conv2d_244/0') is None and rule.place('#203 conv2d_203/0') is None
    assert rule.place('layers/dense/0') == ('params', 'classifier/kernel')


@pytest.mark.parametrize(
    ('peer', 'name', 'shape', 'sentence'),
    [
        ('keras', 'block8_3_conv/bias', None, 'no tensor for params/block8_3_conv/bias and 0 more'),
        ('keras', '#7 batch_normalization_7/gamma', (64,), 'read as one of Keras, has no place'),
        ('timm', 'repeat.10.conv2d.bias', (320,), 'read as one of timm, has no place'),
    ],
)
def test_a_file_that_does_not_fit_names_the_tensor(peer, name, shape, sentence):
    shapes = parity.read(peer, ARCHIVE)[0] | {name: shape}
    zero = np.zeros((), np.float32)
    state = {key: np.broadcast_to(zero, size) for key, size in shapes.items() if size is not None}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        pretrained.convert(state, NET, rule_of(state))


def test_too_small_a_picture_is_a_sentence():
    model = models.build('inception_resnet_v2', head='gap', outputs=1)
    with pytest.raises(ValueError, match='InceptionResNetV2 reads .* of at least 75, not'):
        model.init(jax.random.key(0), jnp.zeros((1, 128, 74, 3)), train=False)


# --- with the peers installed, through files that they write --------------------------------------


@pytest.fixture(scope='module')
def inception_peers():
    for package in ('h5py', 'keras', 'timm', 'torch'):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} of the extra 'parity' is not installed")
    import inception_peers

    return inception_peers


def test_files_of_keras_give_its_maps(inception_peers, tmp_path):
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    net = inception_peers.build_keras()
    shapes = parity.read('keras', ARCHIVE)[0]
    inception_peers.load_keras(net, parity.random_state(shapes, outputs_axis=-1))
    theirs = parity.summary(inception_peers.keras_maps(net, parity.photo()))
    net.save_weights(tmp_path / 'new.weights.h5')
    net.save(tmp_path / 'model.h5')
    with h5py.File(tmp_path / 'weights.h5', 'w') as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, net)
    with h5py.File(tmp_path / 'old.weights.h5', 'w') as file:
        with h5py.File(tmp_path / 'new.weights.h5') as new:
            new.copy('layers', file)
        for layer in file['layers'].values():
            layer['vars'].attrs.pop('name', None)
    trees = [
        pretrained.load_pretrained('inception_resnet_v2', path) for path in tmp_path.glob('*.h5')
    ]
    assert len(trees) == 4
    for tree in trees[1:]:
        jax.tree.map(np.testing.assert_array_equal, tree, trees[0])
    check(parity.summary(our_maps(trees[0])), theirs)


def test_files_of_timm_give_its_maps(inception_peers, tmp_path):
    import safetensors.torch
    import torch

    net = inception_peers.build_timm()
    state = parity.random_state(parity.read('timm', ARCHIVE)[0])
    state = {name: torch.from_numpy(np.array(x)) for name, x in state.items()}
    net.load_state_dict(state)
    theirs = parity.summary(inception_peers.timm_maps(net, parity.photo()))
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    safetensors.torch.save_file(state, tmp_path / 'net.safetensors')
    for name in ('net.pth', 'net.safetensors'):
        tree = pretrained.load_pretrained('inception_resnet_v2', tmp_path / name)
        check(parity.summary(our_maps(tree)), theirs)
