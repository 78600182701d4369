"""Pooling over the valid part of padded pictures, against a crop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import models
from iqa_jax.models import heads

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


@pytest.mark.parametrize('head', ['gap', 'mlsp'])
def test_padding_far_from_the_image_does_not_matter(head):
    model = models.build('tiny', head=head, outputs=2)
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(2, 32, 96, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), images[:1], train=False)
    valid = np.array([[32, 40], [32, 96]])
    other = images.copy()
    other[0, :, 72:] = rng.uniform(size=(32, 24, 3))
    first, _ = model.apply(variables, images, False, valid)
    second, _ = model.apply(variables, other, False, valid)
    whole, _ = model.apply(variables, images, False)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first[1], whole[1], rtol=1e-5, atol=1e-6)
    assert abs(first[0] - whole[0]).max() > 1e-4
    assert abs(model.apply(variables, other, False)[0][0] - whole[0]).max() > 1e-4
