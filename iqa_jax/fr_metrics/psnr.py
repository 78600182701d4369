"""PSNR, peak signal-to-noise ratio in decibels, of colour and of gray images.

Inputs are RGB float32 [N,H,W,3] in 0..255, outputs float32 [N], higher is better; symmetric.
"""

import jax
import jax.numpy as jnp

from iqa_jax.fr_metrics import maps

PEAK = 255.0


def _decibels(squared: jax.Array) -> jax.Array:
    """Decibels [N] of squared errors [N,H,W]; +Inf, with slope 0, where all are 0."""
    error = maps.mean(squared)
    equal = error == 0
    finite = jnp.maximum(10 * jnp.log10(PEAK**2 / jnp.where(equal, 1.0, error)), 0.0)
    return jnp.where(equal, jnp.inf, finite)


def psnr(reference: jax.Array, distorted: jax.Array, *, parity: bool = False) -> jax.Array:
    """PSNR [N] over all pixels and channels, in dB: 0 for black against white, no upper end.

    Identical images give +Inf, the ideal value, whatever `parity` says; nothing else degenerates.
    Source: the definition, 10 log10(255^2 / mean squared error).
    """
    del parity
    height, width, channels = reference.shape[-3:]
    squared = (reference - distorted) ** 2
    return _decibels(squared.reshape(-1, height, width * channels))


def psnr_gray(
    reference: jax.Array, distorted: jax.Array, *, parity: bool = False, rounded: bool = True
) -> jax.Array:
    """PSNR [N] of the gray images, `rounded` to whole levels or not.

    Images whose gray is identical give +Inf. Source: as `psnr`, on MATLAB's rgb2gray.
    """
    del parity
    if not rounded:
        # Gray is linear: weighing the difference loses fewer digits than subtracting two grays.
        return _decibels(maps.luma(reference - distorted, False) ** 2)
    return _decibels((maps.luma(reference, True) - maps.luma(distorted, True)) ** 2)
