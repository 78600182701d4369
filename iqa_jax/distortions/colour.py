"""Colour diffusion, colour shift and the two saturation changes (KADID types 4, 5, 7, 8)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.distortions.blur import correlate_fft, gaussian_filter, gaussian_kernel
from iqa_jax.distortions.stretch import stretch
from iqa_jax.images import colour

DIFFUSION_AMOUNTS = (1, 3, 6, 8, 12)
DIFFUSION_SIGMAS = tuple(1.5 * amount + 2 for amount in DIFFUSION_AMOUNTS)
SHIFT_AMOUNTS = (1, 3, 6, 8, 12)
HSV_FACTORS = (0.4, 0.2, 0.1, 0.0, -0.4)
LAB_FACTORS = (1.0, 2.0, 3.0, 6.0, 9.0)
SHIFT_MASK_SIGMA = 4.0


def color_diffusion(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 4: a and b of Lab of float32 [H, W, 3] blurred and amplified; key unused."""
    lab = colour.rgb_to_lab(colour.to_planes(image))
    amount = jnp.asarray(DIFFUSION_AMOUNTS)[level - 1]
    half_size = math.ceil(2 * DIFFUSION_SIGMAS[-1])
    kernels = jnp.asarray(np.stack([gaussian_kernel(s, half_size) for s in DIFFUSION_SIGMAS]))
    chroma = amount * correlate_fft(lab[1:], kernels[level - 1])
    lab = jnp.concatenate([lab[:1], chroma])
    return colour.to_pixels(jnp.clip(colour.lab_to_rgb(lab), 0, 1))


def draw_color_shift(key: jax.Array) -> jax.Array:
    """Two float32 uniforms in (0, 1]: the direction down and right, before scaling."""
    return 1 - jax.random.uniform(key, (2,))


def apply_color_shift(image: jax.Array, level: jax.Array, draws: jax.Array) -> jax.Array:
    """KADID type 5: green of float32 [H, W, 3] moved down and right where the image has edges."""
    height, width, _ = image.shape
    largest = SHIFT_AMOUNTS[-1]
    amount = jnp.asarray(SHIFT_AMOUNTS)[level - 1]
    shift = jnp.floor(amount * draws / jnp.hypot(*draws) + 0.5).astype(jnp.int32)
    green = image[..., 1]
    padded = jnp.pad(green, ((largest, 0), (largest, 0)), 'edge')
    moved = jax.lax.dynamic_slice(padded, largest - shift, (height, width))
    mask = _edge_mask(image)
    mixed = mask * moved + (1 - mask) * green
    return jnp.stack([image[..., 0], mixed, image[..., 2]], axis=-1)


def color_shift(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 5 of float32 [H, W, 3] in [0, 1] at level 1..5 in a random direction."""
    return apply_color_shift(image, level, draw_color_shift(key))


def saturation_hsv(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 7: HSV saturation of float32 [H, W, 3] times a factor, unclipped; key unused."""
    return colour.scale_saturation(image, jnp.asarray(HSV_FACTORS)[level - 1])


def saturation_lab(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 8: a and b of Lab of float32 [H, W, 3] times a factor, clipped; key unused."""
    factor = jnp.asarray(LAB_FACTORS)[level - 1]
    lightness, a, b = colour.rgb_to_lab(colour.to_planes(image))
    lab = jnp.stack([lightness, factor * a, factor * b])
    return colour.to_pixels(jnp.clip(colour.lab_to_rgb(lab), 0, 1))


def _edge_mask(image: jax.Array) -> jax.Array:
    """Blurred gradient magnitude [H, W] of the luma, stretched and cut to [0, 1]."""
    luma = colour.rgb_to_gray(image, rounded=False)
    magnitude = jnp.hypot(*jnp.gradient(luma))
    blurred = gaussian_filter(magnitude[..., None], SHIFT_MASK_SIGMA)
    mask = stretch(blurred[..., 0])
    mask = stretch(jnp.clip(mask, 0.1, 1))
    high_rank = int(mask.size * 0.99 + 0.5) - 1
    ranks = jnp.asarray([mask.size - 1 - high_rank, high_rank])
    low, high = _order_statistics(mask, ranks)
    return stretch(jnp.clip(mask, low, high))


def _order_statistics(x: jax.Array, ranks: jax.Array) -> jax.Array:
    """Sorted x (not negative) at `ranks`, exactly: bisection on the bits, as XLA's sort is slow."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)

    def halve(i: jax.Array, found: jax.Array) -> jax.Array:
        tried = found | (1 << (30 - i))
        below = jnp.stack([(bits < value).sum() for value in tried])
        return jnp.where(below <= ranks, tried, found)

    found = jax.lax.fori_loop(0, 31, halve, jnp.zeros(ranks.shape, jnp.int32))
    return jax.lax.bitcast_convert_type(found, jnp.float32)
