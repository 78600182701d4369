"""Colour spaces against published values, the standard library and their own inverses."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.images import colour

PIXELS = np.random.default_rng(0).uniform(0, 1, (6, 7, 3)).astype(np.float32)


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
    np.testing.assert_allclose(colour.rgb_to_lab(rgb.astype(np.float32)), lab, atol=0.02)


def test_lab_comes_back_and_is_not_clipped():
    # The six-digit matrices are inverses of each other to about 1e-5.
    np.testing.assert_allclose(colour.lab_to_rgb(colour.rgb_to_lab(PIXELS)), PIXELS, atol=2e-5)
    outside = colour.lab_to_rgb(jnp.array([[110.0, 0, 0], [50.0, 120, 0]]))
    assert outside[0].min() > 1 and outside[1, 1] < 0


def test_lab_has_finite_gradients_at_black_and_white():
    def total(rgb):
        return colour.lab_to_rgb(colour.rgb_to_lab(rgb)).sum()

    for level in (0.0, 1.0):
        gradient = jax.grad(total)(jnp.full((2, 2, 3), level))
        np.testing.assert_allclose(gradient, 1, atol=0.01)


def test_ycbcr_of_known_colours_in_studio_range():
    rgb = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    ycbcr = [[235, 128, 128], [16, 128, 128], [81.481, 90.203, 240], [40.966, 240, 109.786]]
    np.testing.assert_allclose(255 * colour.rgb_to_ycbcr(rgb), ycbcr, atol=1e-3)


def test_ycbcr_comes_back_and_is_not_clipped():
    np.testing.assert_allclose(
        colour.ycbcr_to_rgb(colour.rgb_to_ycbcr(PIXELS)), PIXELS, atol=1e-6, rtol=1e-6
    )
    assert colour.ycbcr_to_rgb(jnp.array([1.0, 0.5, 0.5])).max() > 1


@pytest.mark.parametrize('shape', [(3,), (5, 3), (3, 5, 3), (2, 3, 4, 3)])
def test_conversions_do_not_depend_on_the_shape(shape):
    rgb = np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)
    for convert in (colour.rgb_to_lab, colour.rgb_to_ycbcr):
        one_by_one = np.stack([convert(pixel) for pixel in rgb.reshape(-1, 3)]).reshape(shape)
        np.testing.assert_allclose(convert(rgb), one_by_one, atol=1e-4)
