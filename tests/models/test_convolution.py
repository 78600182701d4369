"""Every form of a convolution equals lax.conv in value and in both gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.models import convolution, pooling, winograd

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


def relative(got, want):
    """Largest error over the largest value."""
    return float(jnp.max(jnp.abs(got - want)) / jnp.max(jnp.abs(want)))


def check_relative(form, reference, x, kernel):
    """Value and both slopes agree within 1e-5 of the largest entry."""
    weight = normal(2, (x.size * 200,))
    got, want = (
        jax.jit(partial(value_and_slopes, f))(x, kernel, weight) for f in (form, reference)
    )
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert relative(a, b) < 1e-5


@pytest.mark.parametrize(
    ('shape', 'features', 'pads'),
    [
        ((2, 7, 9, 64), 70, ((1, 1), (1, 1))),
        ((1, 3, 4, 128), 5, ((0, 0), (2, 1))),  # a map smaller than its kernel
        ((1, 5, 4, 3), 256, ((1, 1), (1, 1))),  # the kernel's slope column by column
        ((2, 13, 6, 130), 3, ((0, 2), (1, 0))),
        ((1, 1, 1, 6), 4, ((1, 1), (2, 0))),
    ],
)
def test_winograds_form_equals_the_3x3_convolution(shape, features, pads):
    x, kernel = normal(0, shape), normal(1, (3, 3, shape[-1], features))
    check_relative(
        lambda x, k: winograd.winograd(x, k, pads),
        lambda x, k: convolution.dense(x, k, 1, pads),
        x,
        kernel,
    )


@pytest.mark.parametrize(
    ('shape', 'size', 'stride', 'padding'),
    [
        ((2, 13, 10, 3), 7, 2, ((3, 3), (3, 3))),
        ((1, 12, 15, 3), 5, 3, 'SAME'),
        ((2, 11, 9, 4), 4, 2, 'VALID'),
        ((2, 12, 9, 3), 7, 1, ((0, 2), (3, 1))),
        ((2, 9, 12, 70), 3, 2, ((1, 1), (1, 1))),
        ((2, 8, 7, 64), 3, 2, 'SAME'),
        ((2, 8, 9, 64), 4, 3, 'VALID'),
        ((2, 9, 12, 6), (1, 7), 2, ((1, 0), (3, 2))),
    ],
)
def test_the_slope_from_patches_equals_the_dense_convolution(shape, size, stride, padding):
    size = size if isinstance(size, tuple) else (size, size)
    x, kernel = normal(0, shape), normal(1, (*size, shape[-1], 5))
    check_relative(
        lambda x, k: convolution.patched(x, k, stride, padding),
        lambda x, k: convolution.dense(x, k, stride, padding),
        x,
        kernel,
    )


def test_where_nothing_comes_out_the_slopes_are_zero():
    x, kernel = normal(0, (2, 2, 9, 64)), normal(1, (3, 3, 64, 64))
    slopes = jax.grad(lambda x, k: convolution.patched(x, k, 2, 'VALID').sum(), (0, 1))(x, kernel)
    for slope, like in zip(slopes, (x, kernel), strict=True):
        np.testing.assert_array_equal(slope, jnp.zeros_like(like))


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize(
    ('channels', 'stride', 'dtype', 'form'),
    [
        (64, 1, 'float32', 'winograd'),
        (64, 2, 'float32', 'patched'),
        (8, 1, 'float32', ''),
        (8, 2, 'float32', ''),
        (64, 1, 'bfloat16', ''),
        (64, 2, 'bfloat16', ''),
    ],
)
def test_wide_3x3_convolutions_have_forms_of_their_own(channels, stride, dtype, form, padding):
    x, kernel = normal(0, (1, 6, 5, channels)), normal(1, (3, 3, channels, channels))
    x, kernel = x.astype(dtype), kernel.astype(dtype)

    def convolve(x):
        return convolution.convolve(x, kernel, stride, padding, False)

    assert relative(convolve(x), convolution.dense(x, kernel, stride, padding)) < 1e-5
    program = str(jax.make_jaxpr(convolve)(x))
    assert [name for name in ('winograd', 'patched') if name in program] == [form] * bool(form)


@pytest.mark.parametrize(
    ('size', 'stride', 'pads'),
    [
        (3, 2, ((1, 1), (1, 1))),
        (2, 2, ((0, 0), (0, 0))),
        (3, 2, ((0, 0), (0, 0))),
        (2, 3, ((1, 0), (0, 1))),
        (5, 2, ((2, 1), (0, 2))),
    ],
)
def test_the_slope_of_max_pooling_goes_to_the_first_largest_pixel(size, stride, pads):
    x = jnp.round(2 * normal(0, (2, 11, 8, 3)))  # many ties
    ours = jax.vjp(lambda x: pooling.max_pool(x, size, stride, pads), x)
    reference = jax.vjp(lambda x: pooling.max_pool_lax(x, size, stride, pads), x)
    np.testing.assert_array_equal(ours[0], reference[0])
    slope = normal(1, ours[0].shape)
    np.testing.assert_allclose(ours[1](slope)[0], reference[1](slope)[0], rtol=1e-6, atol=1e-6)
