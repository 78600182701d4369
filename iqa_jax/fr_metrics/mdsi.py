"""MDSI, mean deviation similarity index, as the authors' MDSI.m computes it."""

import jax
import jax.numpy as jnp

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters

LUMINANCE = (0.2989, 0.5870, 0.1140)
CHROMA_H = (0.30, 0.04, -0.35)
CHROMA_M = (0.34, -0.60, 0.17)
C1, C2, C3 = 140.0, 55.0, 550.0  # gradient, gradient of the fused image, chroma
GRADIENT_WEIGHT = 0.6


def _channels(image: jax.Array) -> list[jax.Array]:
    """L, H and M planes [N,h,w] of RGB [N,H,W,3], downsampled with zero padding."""
    factor = filters.downsample_factor(*image.shape[-3:-1])
    return [maps.mixture(image, factor, weights) for weights in (LUMINANCE, CHROMA_H, CHROMA_M)]


def _errors(reference: jax.Array, distorted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """1 - gradient similarity and 1 - chroma similarity, maps [N,h,w]; 0 where images are equal."""
    light_r, h_r, m_r = _channels(reference)
    light_d, h_d, m_d = _channels(distorted)
    grad_r, grad_d, grad_f = (
        maps.gradient(light, 'prewitt') for light in (light_r, light_d, (light_r + light_d) / 2)
    )
    gradient = (
        maps.dissimilarity(grad_r, grad_d, C1)
        + maps.dissimilarity(grad_d, grad_f, C2)
        - maps.dissimilarity(grad_r, grad_f, C2)
    )
    energy = h_r * h_r + h_d * h_d + m_r * m_r + m_d * m_d
    chroma = ((h_r - h_d) ** 2 + (m_r - m_d) ** 2) / (energy + C3)
    return gradient, chroma


def _root(powers: list[tuple[jax.Array, float]]) -> tuple[jax.Array, jax.Array]:
    """(1 - real part, imaginary part) of the product of (1 - error) ** exponent, principal values.

    A similarity below 0 gives a complex root in MATLAB, and the original goes on with it.
    """
    modulus_error = -jnp.expm1(
        sum(exponent * maps.log_similarity(error) for error, exponent in powers)
    )
    angle = sum(jnp.where(error > 1, exponent * jnp.pi, 0.0) for error, exponent in powers)
    modulus = 1 - modulus_error
    return modulus_error + 2 * modulus * jnp.sin(angle / 2) ** 2, modulus * jnp.sin(angle)


def mdsi(
    reference: jax.Array, distorted: jax.Array, *, parity: bool = False, weighted_sum: bool = True
) -> jax.Array:
    """MDSI float32 [N] of RGB float32 [N,H,W,3] in 0..255; LOWER is better, 0 is identical.

    Gradient and chroma similarity are combined as a weighted sum or (False) as a product of powers.
    Source: Ziaei Nafchi et al., IEEE Access 2016, MDSI.m. Not symmetric in the two images. Nothing
    degenerates, so `parity` changes nothing.
    """
    del parity
    gradient, chroma = _errors(reference, distorted)
    if weighted_sum:
        powers = [(GRADIENT_WEIGHT * gradient + (1 - GRADIENT_WEIGHT) * chroma, 1 / 4)]
    else:
        powers = [(gradient, 0.2 / 4), (chroma, 0.1 / 4)]
    parts = filters.materialize(jnp.stack(_root(powers)))
    deviations = parts - maps.mean(parts)[..., None, None]
    moduli = maps.power((deviations * deviations).sum(0), 0.5)
    return maps.power(maps.mean(moduli), 0.25)
