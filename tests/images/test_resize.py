"""The resize against a loop over samples, written from the definition of MATLAB's imresize."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.images import resize


def triangle(t):
    return max(0.0, 1 - abs(t))


def keys_cubic(t):
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0


def mirrored(index, length):
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def sample(line, position, scale, method):
    """The value of a line of pixels at a position, each pixel weighted by the stretched kernel."""
    kernel, reach = (triangle, 1) if method == 'bilinear' else (keys_cubic, 2)
    stretch = min(scale, 1.0)
    nearest, reach = math.floor(position), math.ceil(reach / stretch) + 1
    total = mass = 0.0
    for index in range(nearest - reach, nearest + reach + 1):
        weight = kernel((position - index) * stretch)
        total += weight * line[mirrored(index, len(line))]
        mass += weight
    return total / mass


def looped(plane, shape, scales, method):
    """Plane [H,W] resized to shape in float64, output k (from 1) at k/s + (1 - 1/s)/2 (from 1)."""
    for count, scale in zip(shape, scales, strict=True):
        places = [k / scale + (1 - 1 / scale) / 2 - 1 for k in range(1, count + 1)]
        lines = [[sample(line, u, scale, method) for u in places] for line in plane.T]
        plane = np.array(lines)  # one axis is done and comes first: next the other
    return plane


@pytest.fixture(scope='module')
def planes():
    return np.random.default_rng(0).uniform(0, 255, (2, 19, 26))


@pytest.mark.parametrize('method', ['bilinear', 'bicubic'])
@pytest.mark.parametrize(
    'height,width', [(19, 26), (8, 11), (40, 31), (7, 50), (38, 13), (2, 3), (1, 1), (70, 140)]
)
def test_resize_to_a_size_matches_the_loop(planes, height, width, method):
    resized = resize.resize(jnp.asarray(planes, jnp.float32), height, width, method)
    assert resized.shape == (2, height, width) and resized.dtype == jnp.float32
    for plane, actual in zip(planes, resized, strict=True):
        expected = looped(plane, (height, width), (height / 19, width / 26), method)
        np.testing.assert_allclose(actual, expected, atol=1e-3)


@pytest.mark.parametrize('method', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('scale', [0.25, 0.7, 1.0, 1.3, 2.0])
def test_rescale_by_a_factor_matches_the_loop_and_rounds_sizes_up(planes, scale, method):
    shape = (math.ceil(19 * scale), math.ceil(26 * scale))
    rescaled = resize.rescale(jnp.asarray(planes, jnp.float32), scale, method)
    assert rescaled.shape == (2, *shape)
    for plane, actual in zip(planes, rescaled, strict=True):
        expected = looped(plane, shape, (scale, scale), method)
        np.testing.assert_allclose(actual, expected, atol=1e-3)


@pytest.mark.parametrize('method', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('length,out', [(9, 4), (5, 16), (3, 1), (300, 256), (384, 96)])
def test_matrices_are_exact_in_float64(length, out, method):
    matrix = resize.weights(length, out / length, method, out)
    line = np.random.default_rng(1).uniform(size=length)
    places = [(k + 0.5) * length / out - 0.5 for k in range(out)]
    expected = [sample(line, u, out / length, method) for u in places]
    np.testing.assert_allclose(matrix @ line, expected, atol=1e-13)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-14)


def test_the_form_for_accelerators_gives_the_same(monkeypatch):
    """On CPU taps are gathered, elsewhere the matrices are multiplied."""
    x = np.random.default_rng(2).uniform(0, 255, (2, 100, 131))
    planes = jnp.asarray(x, jnp.float32)
    for height, width in [(64, 257), (210, 32), (3, 2)]:
        rows, columns = (
            resize.weights(length, out / length, 'bicubic', out)
            for length, out in zip(x.shape[1:], (height, width), strict=True)
        )
        gathered = resize.resize(planes, height, width, 'bicubic')
        np.testing.assert_allclose(gathered, rows @ x @ columns.T, atol=1e-3)
        with monkeypatch.context() as patch:
            patch.setattr(jax, 'default_backend', lambda: 'gpu')
            multiplied = resize.resize(planes, height, width, 'bicubic')
        np.testing.assert_allclose(multiplied, gathered, atol=1e-3)


def test_the_same_size_changes_nothing_and_a_zero_plane_stays_exactly_zero(planes):
    x = jnp.asarray(planes, jnp.float32)
    np.testing.assert_array_equal(resize.resize(x, 19, 26, 'bilinear'), x)
    np.testing.assert_array_equal(resize.resize(x, 19, 26, 'bicubic'), x)
    assert (resize.resize(jnp.zeros_like(x), 30, 11, 'bicubic') == 0).all()


def test_jit_vmap_and_gradient(planes):
    x = jnp.asarray(planes, jnp.float32)
    function = functools.partial(resize.rescale, scale=0.6, method='bicubic')
    np.testing.assert_allclose(jax.jit(function)(x), function(x), atol=1e-4)
    np.testing.assert_allclose(jax.vmap(function)(x), function(x), atol=1e-4)
    slope = jax.grad(lambda x: function(x)[..., 3, 4].sum())(x)
    rows, columns = (resize.weights(length, 0.6, 'bicubic') for length in (19, 26))
    np.testing.assert_allclose(slope[1], np.outer(rows[3], columns[4]), atol=1e-6)


def test_unknown_methods_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of .'bicubic', 'bilinear'.*not 'lanczos'"):
        resize.resize(jnp.zeros((4, 4)), 2, 2, 'lanczos')
