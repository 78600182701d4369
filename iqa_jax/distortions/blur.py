"""Gaussian, lens and motion blur (KADID types 1, 2, 3); borders repeat the edge sample."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from iqa_jax.images import colour, filters

GAUSSIAN_SIGMAS = (0.1, 0.5, 1.0, 2.0, 5.0)
LENS_RADII = (1, 2, 4, 6, 8)
MOTION_LENGTHS = (1, 2, 4, 6, 10)
MOTION_RADIUS = 5  # the longest motion kernel fits 11x11


def gaussian_kernel(sigma: float, half_size: int) -> np.ndarray:
    """Unit-sum float32 [2h+1, 2h+1], zero beyond MATLAB's radius ceil(2 sigma) per axis."""
    radius = math.ceil(2 * sigma)
    taps = np.pad(filters.gaussian_taps(2 * radius + 1, sigma), half_size - radius)
    return np.outer(taps, taps).astype(np.float32)


def correlate_fft(planes: jax.Array, kernel: jax.Array) -> jax.Array:
    """Correlates float32 [C, H, W] with a traced [2r+1, 2r+1] kernel of unit sum, edges repeated.

    At 3x512x384 this takes 4 ms on a core where 17x17 shifted slices take 150, and it rounds less.
    """
    radius = kernel.shape[0] // 2
    _, height, width = planes.shape
    # Centred, so that rounding is relative to an image's contrast and not to its brightness.
    padded = jnp.pad(planes - 0.5, ((0, 0), (radius, radius), (radius, radius)), 'edge')
    # Zeros are added after the end only, where no output sample looks.
    size = [scipy.fft.next_fast_len(side, real=True) for side in padded.shape[1:]]
    spectrum = jnp.fft.rfft2(padded, s=size) * jnp.conj(jnp.fft.rfft2(kernel, s=size))
    return jnp.fft.irfft2(spectrum, s=size)[:, :height, :width] + 0.5


def gaussian_filter(x: jax.Array, sigma: float) -> jax.Array:
    """Float32 [H, W, C] blurred to MATLAB's radius ceil(2 sigma), edges repeated.

    Up to some 40 taps this is faster than `correlate_fft`.
    """
    taps = filters.gaussian_taps(2 * math.ceil(2 * sigma) + 1, sigma)
    down = filters.correlate_separable(x, taps, (1.0,), 'edge')
    return filters.correlate_separable(filters.materialize(down), (1.0,), taps, 'edge')


def gaussian_blur(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 1 of float32 [H, W, 3] in [0, 1] at level 1..5; deterministic, key unused."""
    branches = [functools.partial(gaussian_filter, sigma=sigma) for sigma in GAUSSIAN_SIGMAS]
    return jax.lax.switch(level - 1, branches, image)


def lens_blur(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 2 (defocus disk) of float32 [H, W, 3] in [0, 1] at level 1..5; key unused."""
    kernels = jnp.asarray(np.stack([disk_kernel(r, LENS_RADII[-1]) for r in LENS_RADII]))
    return colour.to_pixels(correlate_fft(colour.to_planes(image), kernels[level - 1]))


def draw_motion_blur(key: jax.Array) -> jax.Array:
    """The angle in whole degrees, int32 uniform in 0..180, both ends included."""
    return jax.random.randint(key, (), 0, 181)


def apply_motion_blur(image: jax.Array, level: jax.Array, angle: jax.Array) -> jax.Array:
    """KADID type 3 of float32 [H, W, 3] in [0, 1] at level 1..5 along `angle` degrees."""
    kernel = motion_kernel(jnp.asarray(MOTION_LENGTHS)[level - 1], angle)
    return colour.to_pixels(correlate_fft(colour.to_planes(image), kernel))


def motion_blur(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 3 of float32 [H, W, 3] in [0, 1] at level 1..5 along a random angle."""
    return apply_motion_blur(image, level, draw_motion_blur(key))


def disk_kernel(radius: float, half_size: int) -> np.ndarray:
    """Unit-sum float32 [2h+1, 2h+1]: the area of each pixel that lies inside the circle."""
    edges = np.arange(-half_size, half_size + 2) - 0.5
    # Area between the axes and (x, y), odd in both, so that differences give every pixel.
    x, y = np.meshgrid(np.minimum(abs(edges), radius), np.minimum(abs(edges), radius))
    crossing = np.minimum(x, np.sqrt(radius**2 - y**2))

    def under_arc(t: np.ndarray) -> np.ndarray:
        return (t * np.sqrt(radius**2 - t**2) + radius**2 * np.arcsin(t / radius)) / 2

    quadrant = crossing * y + under_arc(x) - under_arc(crossing)
    area = np.diff(np.diff(quadrant * np.outer(np.sign(edges), np.sign(edges)), axis=0), axis=1)
    return (area / area.sum()).astype(np.float32)


def motion_kernel(length: jax.Array, angle: jax.Array) -> jax.Array:
    """Unit-sum float32 [11, 11]: an antialiased line, `angle` degrees counter-clockwise from x."""
    half = (length - 1) / 2
    radians = jnp.deg2rad(jnp.asarray(angle, jnp.float32))
    y, x = np.mgrid[-MOTION_RADIUS : MOTION_RADIUS + 1, -MOTION_RADIUS : MOTION_RADIUS + 1]
    along = jnp.abs(x * jnp.cos(radians) - y * jnp.sin(radians))
    aside = jnp.abs(x * jnp.sin(radians) + y * jnp.cos(radians))
    # Pixels as far out as the line's ends are measured from the nearer end.
    distance = jnp.where(x * x + y * y >= half * half, jnp.hypot(along - half, aside), aside)
    weights = jnp.maximum(0, 1 - distance)
    return weights / weights.sum()
