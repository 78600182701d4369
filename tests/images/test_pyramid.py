"""Steps of the pyramids against dense filters, at sizes where every sample is near a border."""

import numpy as np
import pytest
from scipy import ndimage

from iqa_jax.images import pyramid

DOUBLED = tuple(2 * tap for tap in pyramid.BINOMIAL)


def smooth(image, taps, mode):
    for axis in (0, 1):
        image = ndimage.correlate1d(image, taps, axis, mode=mode)
    return image


def images(height, width):
    return np.random.default_rng(0).integers(-99, 99, (3, height, width)).astype(np.float32)


SIZES = pytest.mark.parametrize('height,width', [(11, 13), (12, 16), (23, 11), (4, 5)])


@SIZES
@pytest.mark.parametrize('padding,mode', [('reflect', 'mirror'), ('symmetric', 'reflect')])
def test_reduce_filters_and_keeps_every_second_sample(height, width, padding, mode):
    x = images(height, width)
    for image, low in zip(x, pyramid.reduce(x, pyramid.BINOMIAL, padding), strict=True):
        expected = smooth(image.astype(np.float64), pyramid.BINOMIAL, mode)[::2, ::2]
        np.testing.assert_allclose(low, expected, atol=1e-4)


@SIZES
def test_expand_filters_the_image_with_zeros_between(height, width):
    low = images(-(-height // 2), -(-width // 2))
    for image, high in zip(
        low, pyramid.expand(low, height, width, DOUBLED, 'reflect'), strict=True
    ):
        sparse = np.zeros((height, width))
        sparse[::2, ::2] = image
        np.testing.assert_allclose(high, smooth(sparse, DOUBLED, 'mirror'), atol=1e-4)


@SIZES
def test_enlarge_doubles_bilinearly(height, width):
    """Inside, away from the borders, where both rules sample straight lines."""
    x = images(height, width)
    high = np.asarray(pyramid.enlarge(x, 2 * height - 1, 2 * width))
    assert high.shape == (3, 2 * height - 1, 2 * width)
    ramp = np.add.outer(3.0 * np.arange(height), 5.0 * np.arange(width)).astype(np.float32)
    doubled = np.asarray(pyramid.enlarge(ramp, 2 * height, 2 * width))
    # Straight lines stay straight, steps of half the height or a little less.
    np.testing.assert_allclose(np.diff(doubled, 2, axis=0)[2:-2], 0, atol=1e-3)
    np.testing.assert_allclose(np.diff(doubled, 2, axis=1)[:, 2:-2], 0, atol=1e-3)


def test_the_smallest_images_pass():
    x = images(1, 2)
    assert pyramid.expand(x, 2, 3, DOUBLED, 'edge').shape == (3, 2, 3)
    assert pyramid.reduce(x, pyramid.BINOMIAL, 'symmetric').shape == (3, 1, 1)
