"""NLPD, normalized Laplacian pyramid distance, as the authors' NLP_dist.m of 2016 computes it."""

import jax
import jax.numpy as jnp

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters, pyramid

TAPS = (0.05, 0.25, 0.4, 0.25, 0.05)
DOUBLED = tuple(2 * tap for tap in TAPS)  # zeros between samples halve the sum per axis
BANDS = 6
CONSTANTS = (0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782)
# Per band what multiplies the amplitude above, below, left and right of a pixel.
NEIGHBOURS = (
    (0.1015, 0.1011, 0.1460, 0.1493),
    (0.0837, 0.0757, 0.1846, 0.1986),
    (0.0467, 0.0477, 0.2243, 0.2138),
    (0.0, 0.0, 0.2616, 0.2503),
    (0.0, 0.0, 0.2552, 0.2598),
    (0.0, 0.0, 0.0717, 0.2215),
)
SECOND_LEFT = 0.0072  # two pixels to the left, in the finest band only


def _bands(image: jax.Array) -> list[jax.Array]:
    """Laplacian pyramid of [..., H, W]: five bands and the last low-pass image."""
    bands = []
    for _ in range(BANDS - 1):
        low = pyramid.reduce(image, TAPS, 'symmetric')
        expanded = pyramid.expand(low, *image.shape[-2:], DOUBLED, 'edge')
        bands.append(filters.materialize(image - expanded))
        image = low
    return [*bands, image]


def _surroundings(amplitude: jax.Array, band: int) -> jax.Array:
    """Weighted sum of the neighbours of each pixel of [..., H, W], zeros outside."""
    height, width = amplitude.shape[-2:]
    above, below, left, right = NEIGHBOURS[band]
    padded = jnp.pad(amplitude, [(0, 0)] * (amplitude.ndim - 2) + [(1, 1), (2, 1)])
    padded = filters.materialize(padded)
    middle = padded[..., 1 : height + 1, :]
    total = left * middle[..., 1 : width + 1] + right * middle[..., 3:]
    if band == 0:
        total = total + SECOND_LEFT * middle[..., :width]
    if above or below:
        columns = padded[..., 2 : width + 2]
        total = total + above * columns[..., :height, :] + below * columns[..., 2:, :]
    return total


def _normalized_difference(reference: jax.Array, difference: jax.Array, band: int) -> jax.Array:
    """Difference of the normalized bands [N,h,w], exactly 0 where the difference is."""
    distorted = reference - difference
    amplitudes = jnp.stack([abs(reference), abs(distorted) - abs(reference)])
    surroundings = _surroundings(amplitudes, band)
    scale = CONSTANTS[band] + surroundings[0]
    change = surroundings[1]
    return (difference * scale + reference * change) / (scale * (scale + change))


def nlpd(
    reference: jax.Array,
    distorted: jax.Array,
    *,
    parity: bool = False,
    rounded: bool = True,
    normalized: bool = True,
) -> jax.Array:
    """NLPD float32 [N] of RGB float32 [N,H,W,3] in 0..255; LOWER is better, 0 is identical.

    `rounded` takes whole grey levels; normalized=False leaves out the divisive normalization and
    gives the distance of plain Laplacian pyramids. Symmetric, from 0 to about 1. Source: Laparra,
    Balle, Berardino and Simoncelli, Electronic Imaging 2016, NLP_dist.m. Flat images are no special
    case, so `parity` changes nothing.
    """
    del parity
    gray = [maps.luma(x, rounded) for x in (reference, distorted)]
    # The pyramid is linear: that of the difference keeps its digits, and its zeros.
    images = filters.materialize(jnp.stack([gray[0], gray[0] - gray[1]]) * (1 / 255))
    total = 0.0
    for k, (band, difference) in enumerate(_bands(images)):
        if normalized:
            difference = _normalized_difference(band, difference, k)
        total = total + maps.power(maps.mean(difference * difference), 0.5)
    return total / BANDS
