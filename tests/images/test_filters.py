"""Filters against scipy.ndimage and plain loops: windows, borders, phases, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from iqa_jax.images import filters

SCIPY_MODES = {'zero': 'constant', 'symmetric': 'reflect', 'reflect': 'mirror', 'edge': 'nearest'}


@pytest.fixture(scope='module')
def image():
    return np.random.default_rng(0).uniform(0, 255, (2, 13, 17, 3)).astype(np.float32)


def correlated(image, kernel, padding):
    """Float64 correlation of every plane; even kernels look forward, hence the origin."""
    origin = [-1 if side % 2 == 0 else 0 for side in kernel.shape]
    kernel = kernel[None, :, :, None]
    mode = SCIPY_MODES[padding]
    return ndimage.correlate(image.astype(np.float64), kernel, mode=mode, origin=[0, *origin, 0])


@pytest.mark.parametrize('padding', SCIPY_MODES)
@pytest.mark.parametrize('rows,cols', [(3, 5), (4, 1), (2, 10), (11, 11)])
def test_separable_correlation_matches_scipy(image, padding, rows, cols):
    rng = np.random.default_rng(rows)
    rows_taps, cols_taps = rng.uniform(0, 1, rows), rng.uniform(0, 1, cols)
    kernel = np.outer(rows_taps, cols_taps) / (rows * cols)
    expected = correlated(image, kernel, padding)
    separable = filters.correlate_separable(
        image, rows_taps / rows, jnp.asarray(cols_taps / cols), padding
    )
    np.testing.assert_allclose(separable, expected, rtol=1e-5)


def test_valid_is_the_inner_part_of_the_padded_result(image):
    taps = filters.gaussian_taps(5, 1.5)
    inner = filters.correlate_separable(image, taps, taps)
    assert inner.shape == (2, 9, 13, 3)
    padded = filters.correlate_separable(image, taps, taps, 'edge')
    np.testing.assert_allclose(inner, padded[:, 2:-2, 2:-2], rtol=1e-6)


def test_filters_take_a_traced_filter_per_image(image):
    sigma = jnp.asarray([0.8, 2.5])
    taps = jax.jit(filters.gaussian_taps, static_argnums=0)(7, sigma)
    blurred = filters.correlate_separable(image, taps, taps, 'edge')
    for i, value in enumerate((0.8, 2.5)):
        constant = filters.gaussian_taps(7, value)
        np.testing.assert_allclose(taps[i], constant, rtol=1e-6)
        expected = correlated(image[i : i + 1], np.outer(constant, constant), 'edge')
        np.testing.assert_allclose(blurred[i : i + 1], expected, rtol=1e-5)


def test_gaussian_taps_are_matlabs_window():
    taps = filters.gaussian_taps(11, 1.5)
    assert taps.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(taps[5] / taps[0], np.exp(25 / 4.5))
    np.testing.assert_allclose(filters.gaussian_taps(2, 1.0), [0.5, 0.5])


def test_correlation_does_not_flip_the_kernel():
    impulse = np.zeros((1, 3, 3, 1), np.float32)
    impulse[0, 1, 1] = 1
    out = filters.correlate_separable(impulse, [1.0], [1.0, 2.0, 3.0], 'zero')
    np.testing.assert_array_equal(out[0, 1, :, 0], [3, 2, 1])


@pytest.mark.parametrize(
    'side,factor', [(1, 1), (383, 1), (384, 2), (512, 2), (640, 3), (896, 4), (1152, 5)]
)
def test_downsample_factor_rounds_halves_up(side, factor):
    assert filters.downsample_factor(side, side + 7) == factor
    assert filters.downsample_factor(side + 7, side) == factor


@pytest.mark.parametrize('padding', SCIPY_MODES)
@pytest.mark.parametrize('factor', [1, 2, 3, 4, 5])
def test_box_downsample_is_the_filtered_image_at_every_factor_th_sample(image, padding, factor):
    for height, width in [(13, 17), (12, 15), (10, 16)]:
        x = image[:, :height, :width]
        box = np.full((factor, factor), 1 / factor**2)
        expected = correlated(x, box, padding)[:, ::factor, ::factor]
        actual = filters.box_downsample(jnp.asarray(x), factor, padding)
        assert actual.shape == (2, -(-height // factor), -(-width // factor), 3)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_box_downsample_looks_forward_and_mirrors_the_last_sample():
    x = np.arange(5, dtype=np.float32)[None, None, :, None]
    mirrored = filters.box_downsample(x, 2, 'symmetric')[0, 0, :, 0]
    np.testing.assert_allclose(mirrored, [0.5, 2.5, 4.0])
    darkened = filters.box_downsample(np.ones_like(x), 2)[0, 0, :, 0]
    np.testing.assert_allclose(darkened, [0.5, 0.5, 0.25])


@pytest.mark.parametrize('kind,taps', [('prewitt', [1, 1, 1]), ('scharr', [3, 10, 3])])
def test_gradient_magnitude_matches_scipy_with_a_zero_border(image, kind, taps):
    kernel = np.outer(np.array(taps) / sum(taps), [1, 0, -1])
    expected = np.hypot(correlated(image, kernel, 'zero'), correlated(image, kernel.T, 'zero'))
    actual = filters.gradient_magnitude(image, kind)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-3)


def test_gradient_magnitude_of_a_flat_image_is_zero_inside_with_finite_slope():
    flat = jnp.full((1, 6, 6, 1), 77.0)
    assert (filters.gradient_magnitude(flat, 'prewitt')[:, 1:-1, 1:-1] == 0).all()
    slope = jax.grad(lambda x: filters.gradient_magnitude(x, 'scharr').sum())(flat)
    assert np.isfinite(slope).all()


def test_materialize_changes_nothing(image):
    x = jnp.asarray(image)
    np.testing.assert_array_equal(jax.jit(filters.materialize)(x), x)
    np.testing.assert_array_equal(jax.vmap(filters.materialize)(x), x)
    slope = jax.jit(jax.grad(lambda x: (filters.materialize(x) ** 2).sum()))(x)
    np.testing.assert_array_equal(slope, 2 * x)
    assert np.isnan(filters.materialize(x.at[0, 0, 0, 0].set(jnp.nan))).any()
    assert np.isnan(filters.materialize(x.at[1, 2, 3, 0].set(jnp.nan))).sum() == 1


def test_too_small_images_and_unknown_paddings_are_refused(image):
    with pytest.raises(ValueError, match='13x17 is smaller than a 14x1 filter'):
        filters.correlate_separable(image, np.ones(14), np.ones(1))
    with pytest.raises(ValueError, match='smaller than a 3x18 filter'):
        filters.correlate_separable(image, np.ones(3), np.ones(18))
    with pytest.raises(ValueError, match='padding must be'):
        filters.correlate_separable(image, np.ones(3), np.ones(3), 'wrap')


def test_materialize_is_the_identity_and_a_barrier_in_every_transformation():
    x = jnp.arange(12.0).reshape(3, 4)
    plane = jnp.where(x == 0, jnp.nan, x)  # a NaN stays where it is
    np.testing.assert_array_equal(filters.materialize(plane), plane)
    np.testing.assert_array_equal(jax.vmap(filters.materialize, 1, 1)(plane), plane)

    def loss(x):
        return (filters.materialize(x * x) ** 2).sum()

    slope = jax.vmap(jax.grad(loss))
    np.testing.assert_allclose(slope(x), 4 * x**3)
    np.testing.assert_allclose(jax.jvp(loss, (x,), (jnp.ones_like(x),))[1], (4 * x**3).sum())
    assert jax.hessian(loss)(x[0]).shape == (4, 4)

    def conditioned(x):
        with filters.conditioned_on(x):
            return slope(x)

    for function in (slope, conditioned):
        compiled = jax.jit(function).lower(x).compile()
        assert ' conditional(' in compiled.as_text()
        np.testing.assert_allclose(compiled(x), 4 * x**3)
