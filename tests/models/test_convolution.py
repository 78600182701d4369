"""Every form of a convolution equals lax.conv in value and in both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.models import convolution

SHAPES = [(2, 12, 16, 4), (1, 13, 9, 3), (2, 7, 8, 5), (1, 5, 5, 2)]


def value_and_slopes(form, x, kernel, weight):
    """Output, and the slopes of a random weighted sum of it."""
    y = form(x, kernel)
    slopes = jax.grad(lambda x, k: jnp.sum(form(x, k) * weight[: y.size].reshape(y.shape)), (0, 1))
    return y, *slopes(x, kernel)


def check(form, reference, x, kernel):
    weight = jnp.asarray(np.random.default_rng(2).normal(size=x.size * 8), jnp.float32)
    got, want = (value_and_slopes(f, x, kernel, weight) for f in (form, reference))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('size', [3, 5])
@pytest.mark.parametrize('stride', [1, 2])
def test_shifted_slices_equal_the_depthwise_convolution(shape, size, stride):
    x, kernel = normal(0, shape), normal(1, (size, size, 1, shape[-1]))
    check(
        lambda x, k: convolution.depthwise_shifted(x, k, stride),
        lambda x, k: convolution.depthwise_lax(x, k, stride),
        x,
        kernel,
    )


@pytest.mark.parametrize('stride', [1, 2])
def test_the_matrix_product_equals_the_1x1_convolution(stride):
    x, kernel = normal(0, (2, 9, 6, 4)), normal(1, (1, 1, 4, 7))
    check(
        lambda x, k: convolution.convolve(x, k, stride, 'SAME', False),
        lambda x, k: convolution.dense(x, k, stride, 'VALID'),
        x,
        kernel,
    )
