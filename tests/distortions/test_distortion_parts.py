"""Kernels, curves and thresholds against independent computations."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage

from iqa_jax.distortions import blur, quantization, sharpness_contrast
from iqa_jax.distortions.stretch import stretch


@pytest.mark.parametrize('radius', blur.LENS_RADII)
def test_disk_kernel_is_the_covered_area(radius):
    fine = (np.arange(17 * 50) + 0.5) / 50 - 8.5
    inside = np.hypot(fine[:, None], fine) <= radius
    covered = inside.reshape(17, 50, 17, 50).mean(axis=(1, 3))
    kernel = blur.disk_kernel(radius, 8)
    np.testing.assert_allclose(kernel, covered / covered.sum(), atol=1e-3 / radius**2)


def test_motion_kernel_directions():
    lengths_and_angles = itertools.product(blur.MOTION_LENGTHS, (0, 30, 45, 90, 117, 180))
    for length, angle in lengths_and_angles:
        kernel = np.asarray(blur.motion_kernel(length, angle))
        assert kernel.sum() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    # Ten pixels long: nine whole and half of one at each end, on the middle row only.
    row = np.array([0.5] + [1] * 9 + [0.5]) / 10
    np.testing.assert_allclose(blur.motion_kernel(10, 0)[5], row, atol=1e-6)
    np.testing.assert_allclose(blur.motion_kernel(10, 180), blur.motion_kernel(10, 0), atol=1e-6)
    np.testing.assert_allclose(blur.motion_kernel(10, 90)[:, 5], row, atol=1e-6)
    assert blur.motion_kernel(1, 77)[5, 5] == pytest.approx(1)
    # Counter-clockwise: at 45 degrees the line rises to the right.
    rising = np.asarray(blur.motion_kernel(10, 45))
    assert rising[2, 8] > 0.05 and rising[2, 2] == 0


def test_correlate_fft_equals_direct_correlation():
    rng = np.random.default_rng(0)
    planes = rng.uniform(0, 1, (2, 31, 45)).astype(np.float32)
    kernel = rng.uniform(0, 1, (7, 7)).astype(np.float32)
    kernel /= kernel.sum()
    direct = [scipy.ndimage.correlate(plane, kernel, mode='nearest') for plane in planes]
    fast = blur.correlate_fft(jnp.asarray(planes), jnp.asarray(kernel))
    np.testing.assert_allclose(fast, direct, atol=1e-6)


@pytest.mark.parametrize('sigma', [0.1, 3.0, 5.0])
def test_gaussian_filter_equals_direct_correlation(sigma):
    image = np.random.default_rng(0).uniform(0, 1, (31, 45, 3)).astype(np.float32)
    kernel = blur.gaussian_kernel(sigma, math.ceil(2 * sigma))[..., None].astype(np.float64)
    direct = scipy.ndimage.correlate(image.astype(np.float64), kernel, mode='nearest')
    np.testing.assert_allclose(blur.gaussian_filter(jnp.asarray(image), sigma), direct, atol=5e-7)


def test_contrast_curve_is_the_not_a_knot_spline():
    ramp = np.linspace(0, 1, 300, dtype=np.float32).reshape(10, 10, 3)
    for level, a in enumerate(sharpness_contrast.CONTRAST_AMOUNTS, start=1):
        knots = [0, 0.3, 0.5, 0.7, 1], [0, 0.25 - a / 4, 0.5, 0.75 + a / 4, 1]
        spline = scipy.interpolate.CubicSpline(*knots, bc_type='not-a-knot')
        ours = sharpness_contrast.contrast_change(jnp.asarray(ramp), level, None)
        np.testing.assert_allclose(ours, np.clip(spline(ramp), 0, 1), atol=2e-6)


def brute_force_thresholds(histogram: np.ndarray, count: int) -> tuple[int, ...]:
    """The first of all choices of `count` last bins with the least squared error."""
    values = np.arange(256.0)

    def cost(start, end):
        weight = histogram[start:end]
        if weight.sum() == 0:
            return 0.0
        mean = (weight * values[start:end]).sum() / weight.sum()
        return (weight * (values[start:end] - mean) ** 2).sum()

    used = range(20)
    best = min(
        itertools.combinations(used, count),
        key=lambda t: round(
            sum(cost(a, b) for a, b in itertools.pairwise((0, *(i + 1 for i in t), 256))),
            6,
        ),
    )
    return best


@pytest.mark.parametrize('count', [1, 2, 3])
def test_otsu_thresholds_are_the_exact_optimum(count):
    histogram = np.zeros(256, np.int32)
    histogram[:20] = np.random.default_rng(count).integers(0, 50, 20)
    # Empty bins make equal optima: the lowest thresholds are wanted.
    histogram[[3, 4, 9, 10, 11, 15]] = 0
    ours = quantization.otsu_thresholds(jnp.asarray(histogram), count)[:count]
    assert tuple(np.asarray(ours)) == brute_force_thresholds(histogram, count)


def test_stretch_spans_the_range_and_leaves_flat_images():
    x = np.random.default_rng(0).uniform(3, 9, (4, 5, 3)).astype(np.float32)
    assert stretch(x).min() == 0 and stretch(x).max() == 1
    np.testing.assert_array_equal(stretch(np.full((2, 2, 3), 0.3, np.float32)), np.float32(0.3))
    np.testing.assert_array_equal(
        stretch(np.full((2, 2, 3), 51.0, np.float32), 255), np.float32(0.2)
    )
