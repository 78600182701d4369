"""Every backbone, given a peer's weights under the peer's names, makes the peer's maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from iqa_jax import models
from iqa_jax.models import pretrained

# (backbone, peer whose maps are compared, families of files with the same tensors)
LITES = ('efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2')
TORCHVISION = ('resnet18', 'resnet34', 'resnet50', 'vgg16', 'vgg16_bn')
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
