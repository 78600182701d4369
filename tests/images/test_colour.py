"""Colour spaces against published values, the standard library and their own inverses."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.images import colour

PIXELS = np.random.default_rng(0).uniform(0, 1, (6, 7, 3)).astype(np.float32)
PLANES = np.moveaxis(PIXELS, -1, 0)


def test_gray_is_the_weighted_sum():
    x = PIXELS * 255
    exact = x.astype(np.float64) @ np.array(colour.GRAY_WEIGHTS)
    np.testing.assert_allclose(colour.rgb_to_gray(x, rounded=False), exact, atol=2e-5)
    np.testing.assert_array_equal(colour.rgb_to_gray(x, rounded=True), np.floor(exact + 0.5))


def test_gray_takes_any_leading_shape_and_keeps_white():
    for shape in [(3,), (4, 3), (2, 4, 5, 3)]:
        gray = colour.rgb_to_gray(np.full(shape, 255, np.uint8), rounded=True)
        assert gray.dtype == jnp.float32
        np.testing.assert_array_equal(gray, np.full(shape[:-1], 255))


@pytest.mark.parametrize('factor', [0.0, 0.4, 1.0])
def test_saturation_equals_the_round_trip_through_hsv(factor):
    def by_hsv(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb(hue, saturation * factor, value)

    expected = np.apply_along_axis(by_hsv, -1, PIXELS.astype(np.float64))
    np.testing.assert_allclose(colour.scale_saturation(PIXELS, factor), expected, atol=1e-6)


def test_negative_saturation_goes_past_gray_unclipped():
    red = colour.scale_saturation(jnp.array([1.0, 0.25, 0.0]), -0.4)
    np.testing.assert_allclose(red, [1.0, 1.3, 1.4], rtol=1e-6)


def test_lab_of_known_colours():
    # Published values of the sRGB primaries, white and mid grey under D65.
    rgb = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    lab = [
        [100, 0, 0],
        [0, 0, 0],
        [53.24, 80.09, 67.20],
        [87.73, -86.18, 83.18],
        [32.30, 79.19, -107.86],
        [53.39, 0, 0],
    ]
    np.testing.assert_allclose(colour.rgb_to_lab(np.float32(rgb).T).T, lab, atol=0.02)


def test_lab_comes_back_and_is_not_clipped():
    # The six-digit matrices are inverses of each other to about 1e-5.
    np.testing.assert_allclose(colour.lab_to_rgb(colour.rgb_to_lab(PLANES)), PLANES, atol=2e-5)
    outside = colour.lab_to_rgb(jnp.array([[110.0, 0, 0], [50.0, 120, 0]]).T)
    assert outside[:, 0].min() > 1 and outside[1, 1] < 0


def test_lab_has_finite_gradients_at_black_and_white():
    @jax.jit
    @jax.grad
    def slope(rgb):
        return colour.lab_to_rgb(colour.rgb_to_lab(rgb)).sum()

    for level in (0.0, 1.0):
        np.testing.assert_allclose(slope(jnp.full((3, 2, 2), level)), 1, atol=0.01)


def test_ycbcr_of_known_colours_in_studio_range():
    rgb = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    ycbcr = [[235, 128, 128], [16, 128, 128], [81.481, 90.203, 240], [40.966, 240, 109.786]]
    np.testing.assert_allclose(255 * colour.rgb_to_ycbcr(rgb.T).T, ycbcr, atol=1e-3)


def test_ycbcr_comes_back_and_is_not_clipped():
    np.testing.assert_allclose(
        colour.ycbcr_to_rgb(colour.rgb_to_ycbcr(PLANES)), PLANES, atol=1e-6, rtol=1e-6
    )
    assert colour.ycbcr_to_rgb(jnp.array([[1.0], [0.5], [0.5]])).max() > 1


def test_planes_are_pixels_moved():
    planes = colour.to_planes(jnp.asarray(PIXELS))
    np.testing.assert_array_equal(planes, PLANES)
    np.testing.assert_array_equal(colour.to_pixels(planes), PIXELS)


@pytest.mark.parametrize('shape', [(3, 1), (3, 5), (3, 5, 3), (3, 2, 4, 3)])
def test_conversions_do_not_depend_on_the_shape(shape):
    rgb = np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)
    for convert in map(jax.jit, (colour.rgb_to_lab, colour.rgb_to_ycbcr)):
        one_by_one = np.stack([convert(pixel) for pixel in rgb.reshape(3, -1).T], axis=-1)
        np.testing.assert_allclose(convert(rgb), one_by_one.reshape(shape), atol=1e-4)


def lab_in_float64(rgb):
    """CIE's formulas with the same six-digit matrix and white, [3, N] to [3, N]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
    xyz = (np.array(matrix) @ linear) / np.array([[0.95047], [1.0], [1.08883]])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), xyz * 841 / 108 + 4 / 29)
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_lab_is_exact_to_float32():
    rgb = np.random.default_rng(2).uniform(0, 1, (3, 20_000)).astype(np.float32)
    exact = lab_in_float64(rgb.astype(np.float64))
    # A few units in the last place of the largest of the terms, 500 f.
    np.testing.assert_allclose(jax.jit(colour.rgb_to_lab)(rgb), exact, atol=2e-4)


def test_lab_of_nan_is_nan():
    for convert in map(jax.jit, (colour.rgb_to_lab, colour.lab_to_rgb)):
        assert np.isnan(convert(jnp.full((3, 4), np.nan))).all()
