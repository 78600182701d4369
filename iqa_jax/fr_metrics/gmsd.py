"""GMSD, gradient magnitude similarity deviation, as the authors' GMSD.m computes it."""

import jax

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters

CONSTANT = 170.0


def gmsd(
    reference: jax.Array, distorted: jax.Array, *, parity: bool = False, rounded: bool = True
) -> jax.Array:
    """GMSD float32 [N] of RGB float32 [N,H,W,3] in 0..255; LOWER is better, 0 is identical.

    Source: Xue, Zhang, Mou and Bovik, TIP 2014, GMSD.m. The downsampling by 2 does not depend on
    the size; zero padding makes the border count, as in the original. Nothing degenerates, so
    `parity` changes nothing.
    """
    del parity
    halves = [
        filters.box_downsample(maps.luma(x, rounded)[..., None], 2)[..., 0]
        for x in (reference, distorted)
    ]
    error = maps.dissimilarity(*(maps.gradient(x, 'prewitt') for x in halves), CONSTANT)
    count = error.shape[-2] * error.shape[-1]
    deviation = error - maps.mean(error)[..., None, None]
    return maps.power(maps.mean(deviation * deviation) * (count / (count - 1)), 0.5)
