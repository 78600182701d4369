"""Padded pictures give what the pictures alone give: pooling against a crop, whole networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import models
from iqa_jax.models import efficientnet_lite, heads, lfc, resnet, tiling, vgg

MAP = np.random.default_rng(0).normal(size=(3, 4, 6, 5)).astype(np.float32)
SIZE, VALID = (64, 96), np.array([[64, 96], [33, 96], [40, 17]])  # 16 pixels per position
PARTS = [(4, 6), (3, 6), (3, 2)]  # ceil(4 * height / 64), ceil(6 * width / 96)


@pytest.mark.parametrize('dtype', [np.int32, np.float32])
def test_pooling_sees_the_valid_part_alone(dtype):
    inside = heads.valid_part(MAP, jnp.asarray(VALID, dtype), SIZE)
    assert inside.shape == (3, 4, 6, 1)
    average, both = heads.global_average(MAP, inside), heads.mean_and_std(MAP, inside)
    for k, (rows, columns) in enumerate(PARTS):
        part = MAP[k, :rows, :columns].astype(np.float64).reshape(-1, 5)
        expected = np.concatenate([part.mean(0), np.sqrt(part.var(0) + 1e-6)])
        np.testing.assert_allclose(both[k], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(average[k], expected[:5], rtol=1e-5, atol=1e-6)


def test_the_count_of_positions_is_exact():
    heights = np.arange(1, 4097)
    x = np.zeros((len(heights), 171, 1, 1), bool)
    inside = heads.valid_part(x, jnp.stack([heights, np.ones_like(heights)], 1), (4096, 1))
    assert (inside.sum((1, 2, 3)) == -(-171 * heights // 4096)).all()


# Strides with kernels of 3, 5 and 7 and a max pooling, two to five halvings.
WIDE = functools.partial(
    efficientnet_lite.EfficientNetLite,
    stem=4,
    stages=tuple(efficientnet_lite.Stage(1, k, 2, 2, 4) for k in (5, 3, 5, 3)),
    features=8,
)
SMALL = {
    'lite': WIDE,
    'resnet': functools.partial(resnet.ResNet, (1, 1)),
    'vgg': functools.partial(vgg.VGG, ((4,), (8,))),
    'lfc': lfc.LFC,
}


@pytest.mark.parametrize('backbone', SMALL)
def test_a_padded_picture_is_seen_as_if_it_were_not_or_its_backbone_says_so(backbone, monkeypatch):
    monkeypatch.setitem(models.BACKBONES, 'small', SMALL[backbone])
    model = models.build('small', head='mlsp', outputs=1, normalise='none')
    rng = np.random.default_rng(1)
    start = jnp.zeros((1, 64, 64, 3))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), start)
    # Statistics and biases that are not their neutral start, so that zero maps to something else.
    variables = jax.tree.map(lambda x: x + 0.1 * rng.uniform(size=x.shape), variables)

    @jax.jit
    def features(images, valid=None):
        return model.apply(variables, images, False, valid)[1]['features'][0]

    image = rng.uniform(size=(75, 50, 3)).astype(np.float32)  # odd and even sides at every halving
    alone, valid = features(image[None]), np.array([[75, 50]], np.int32)
    exact = models.exact_when_padded(SMALL[backbone]())
    for step in (16, 64):
        padded = tiling.pad(image, tiling.bucket(75, 50, step))[None]
        found = features(padded, valid)
        if exact:
            np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)
        else:
            assert abs(found - alone).max() > 1e-3
    if exact:
        assert abs(features(padded) - alone).max() > 1e-2


def test_each_picture_of_a_batch_has_its_own_part():
    model = models.build('tiny', head='mlsp', outputs=2, normalise='layer')
    images = np.random.default_rng(1).uniform(size=(2, 32, 64, 3)).astype(np.float32)
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0), images[:1])
    other = images.copy()
    other[0, :, 40:] = 0.5
    valid = np.array([[32, 40], [32, 64]])
    predict = jax.jit(lambda x, valid=None: model.apply(variables, x, False, valid)[0])
    first = predict(images, valid)
    np.testing.assert_array_equal(first, predict(other, valid))
    alone = np.stack([predict(np.stack([images[0, :, :40]] * 2))[0], predict(images)[1]])
    np.testing.assert_allclose(first, alone, rtol=1e-4, atol=1e-5)
