"""Every backbone, given a peer's weights under the peer's names, makes the peer's maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
import safetensors.numpy

from iqa_jax import models
from iqa_jax.models import pretrained

LITES = ('efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2')
TORCHVISION = ('resnet18', 'resnet34', 'resnet50', 'vgg16', 'vgg16_bn')
# Whose maps are compared; the other families differ in names, not in tensors, as tested below.
PEERS = {
    **{name: f'torchvision/{name}' for name in TORCHVISION},
    **{name: f'timm/tf_{name}' for name in LITES},
}


def rule_of(name, shapes):
    return pretrained.choose_rule(list(shapes), pretrained.SOURCES[name].rules)


@functools.cache
def converted(name, peer):
    """The peer's random weights as ours, and the rule that they were read by."""
    shapes, _ = parity.read(peer)
    rule = rule_of(name, shapes)
    # Tensors that are let out, such as VGG's 120 million of the classifier, need not be made.
    state = parity.random_state({n: () if rule.ignored(n) else s for n, s in shapes.items()})
    return pretrained.convert(state, pretrained.SOURCES[name].backbone, rule), rule


def variables_of(tree):
    return tree | {'params': {k: v for k, v in tree['params'].items() if k != 'classifier'}}


@pytest.mark.parametrize(('name', 'peer'), PEERS.items())
def test_maps_equal_the_peers(name, peer):
    tree, rule = converted(name, peer)
    options = {} if rule.preprocess is None else {'preprocess': rule.preprocess}
    backbone = models.BACKBONES[name](**options)
    apply = jax.jit(lambda variables, x: backbone.apply(variables, x, train=False)[1])
    ours = parity.summary(apply(variables_of(tree), jnp.asarray(parity.photo())))
    theirs = parity.read(peer)[1]
    assert set(theirs) <= set(ours) and set(backbone.taps()) <= set(theirs)
    errors = {key: parity.error(ours[key], theirs[key]) for key in theirs}
    print(name, f'{max(errors.values()):.2g}')
    assert max(errors.values()) <= parity.TOLERANCE, errors


@pytest.mark.parametrize('name', LITES)
def test_timm_and_the_packages_name_the_same_tensors(name):
    """Both peers list their tensors in the order of the layers, which needs no table of names."""
    placed = []
    for peer, origin in ((f'timm/tf_{name}', "timm's"), (f'package/{name}', 'the efficientnet')):
        shapes = parity.read(peer)[0]
        rule = rule_of(name, shapes)
        assert rule.origin.startswith(origin)
        kept = {key: shape for key, shape in shapes.items() if not rule.ignored(key)}
        placed.append([(rule.place(key), shape) for key, shape in kept.items()])
    assert placed[0] == placed[1] and None not in dict(placed[0])


@pytest.mark.parametrize('name', TORCHVISION)
def test_timm_and_torchvision_name_the_same_tensors(name):
    placed = []
    for peer in (f'timm/{name}', f'torchvision/{name}'):
        shapes = parity.read(peer)[0]
        rule = rule_of(name, shapes)
        kept = {key: shape for key, shape in shapes.items() if not rule.ignored(key)}
        placed.append({rule.place(key): shape for key, shape in kept.items()})
    assert placed[0] == placed[1] and None not in placed[0]


@pytest.mark.parametrize(
    ('file', 'name', 'sentence'),
    [
        ('torchvision/resnet34', 'resnet18', r"'layer1\.2\.conv1\.weight'.*no place"),
        ('torchvision/resnet50', 'resnet34', r"'layer1\.0\.conv1\.weight'.*but the backbone has"),
        ('torchvision/vgg16_bn', 'vgg16', r"'features\.1\.weight'.*no place"),
        ('timm/tf_efficientnet_lite1', 'efficientnet_lite0', r"'blocks\.1\.2.*timm's.*no place"),
        ('timm/tf_efficientnet_lite0', 'efficientnet_lite2', r"timm's.*but the backbone has"),
        ('package/efficientnet_lite0', 'efficientnet_lite1', 'packages.*but the backbone has'),
    ],
)
def test_a_file_of_another_network_names_the_tensor(file, name, sentence):
    shapes = parity.read(file)[0]
    state = {key: np.zeros(shape, np.float16) for key, shape in shapes.items()}
    with pytest.raises(ValueError, match=sentence):
        pretrained.convert(state, pretrained.SOURCES[name].backbone, rule_of(name, shapes))


def test_weights_for_another_input_are_refused(tmp_path):
    path = tmp_path / 'lite0.safetensors'
    shapes = parity.read('timm/tf_efficientnet_lite0')[0]
    safetensors.numpy.save_file(parity.random_state(shapes), path)
    with pytest.raises(ValueError, match=r"lite0\.safetensors: .*set preprocess='half'"):
        models.load_pretrained('efficientnet_lite0', path)
    tree = models.load_pretrained('efficientnet_lite0', path, 'half')
    same = converted('efficientnet_lite0', 'timm/tf_efficientnet_lite0')[0]
    assert jax.tree.all(jax.tree.map(np.array_equal, tree, same))
