"""White, colour-component, impulse and multiplicative noise (KADID types 11 to 14)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.distortions import random_bits
from iqa_jax.images import colour, filters

WHITE_VARIANCES = (0.001, 0.002, 0.003, 0.005, 0.01)
COLOR_VARIANCES = (0.0001, 0.0005, 0.001, 0.002, 0.003)
IMPULSE_DENSITIES = (0.001, 0.005, 0.01, 0.02, 0.03)
MULTIPLICATIVE_VARIANCES = (0.001, 0.005, 0.01, 0.02, 0.05)


def white_noise(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 11: Gaussian noise per sample of float32 [H, W, 3] in [0, 1], clipped."""
    return add_gaussian(image, WHITE_VARIANCES, level, key)


def color_noise(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 12: Gaussian noise on the studio-range YCbCr planes of float32 [H, W, 3]."""
    ycbcr = colour.rgb_to_ycbcr(colour.to_planes(image))
    noisy = add_gaussian(ycbcr, COLOR_VARIANCES, level, key)
    return colour.to_pixels(jnp.clip(colour.ycbcr_to_rgb(noisy), 0, 1))


def impulse_noise(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 13: samples (not pixels) of float32 [H, W, 3] set to 0 or 1, half each."""
    # Compared as whole numbers: the rarest density is then right to a millionth of itself.
    densities = np.round(2**32 * np.asarray(IMPULSE_DENSITIES)).astype(np.uint32)
    density = jnp.asarray(densities)[level - 1]
    bits = random_bits.bits(key, image.shape)
    return jnp.where(bits < density, (bits >= density // 2).astype(image.dtype), image)


def multiplicative_noise(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 14: x + x*n of float32 [H, W, 3], n uniform with zero mean, clipped to [0, 1]."""
    half_width = jnp.asarray([math.sqrt(3 * v) for v in MULTIPLICATIVE_VARIANCES])[level - 1]
    uniform = random_bits.uniform(key, image.shape)
    return jnp.clip(image + image * half_width * uniform, 0, 1)


def add_gaussian(x: jax.Array, variances: tuple, level: jax.Array, key: jax.Array) -> jax.Array:
    """White Gaussian noise of the level's variance on float32 of any shape, clipped to [0, 1]."""
    deviation = jnp.asarray([math.sqrt(v) for v in variances])[level - 1]
    # Else XLA's CPU backend draws again for the extremes of the stretch and for its result.
    noise = filters.materialize(random_bits.normal(key, x.shape))
    return jnp.clip(x + deviation * noise, 0, 1)
