"""VIFp, visual information fidelity in the pixel domain, as the authors' vifp_mscale.m has it."""

import jax
import jax.numpy as jnp

from iqa_jax.fr_metrics import information, maps
from iqa_jax.images import filters

WINDOWS = tuple(filters.gaussian_taps(size, size / 5) for size in (17, 9, 5, 3))
NOISE = 2.0  # variance of the noise of the eye
# Part of the mean square under which float32 cannot tell a variance from 0.
ROUNDING = 1e-6


def _blur(planes: jax.Array, taps) -> jax.Array:
    return filters.correlate_separable(planes[..., None], taps, taps)[..., 0]


def _halve(planes: jax.Array, taps) -> jax.Array:
    return filters.materialize(_blur(planes, taps)[..., ::2, ::2])


def _information(x: jax.Array, z: jax.Array, taps) -> tuple[jax.Array, jax.Array]:
    """Information lost and information there was, [N] in nats, of x and z = y - x, [N,H,W]."""
    moments = filters.materialize(jnp.stack([x, z, x * x, x * z, z * z]))
    mean_x, mean_z, square, product, difference = filters.materialize(_blur(moments, taps))
    variance = square - mean_x * mean_x
    flat = variance <= jnp.maximum(ROUNDING * square, 1e-10)
    variance = jnp.where(flat, 0.0, variance)
    covariance = product - mean_x * mean_z
    slope = covariance / jnp.where(flat, 1.0, variance)  # gain - 1
    lost = slope <= -1
    slope = jnp.where(lost, -1.0, slope)
    gain = 1 + slope
    residue = jnp.maximum(difference - mean_z * mean_z - slope * covariance, 0.0)
    # (1 + variance / 2) / (1 + gain^2 variance / (residue + 2)) - 1, exactly 0 where z is 0.
    ratio = variance * (residue - NOISE * slope * (1 + gain))
    ratio = ratio / (NOISE * (residue + NOISE + gain * gain * variance))
    logarithms = jnp.log1p(jnp.stack([ratio, variance / NOISE]))
    lost, total = maps.mean(logarithms) * (ratio.shape[-1] * ratio.shape[-2])
    return lost, total


def _informations(x: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Information lost and information there was, [N], of gray x and z = y - x, [N,H,W]."""
    lost = total = 0.0
    for scale, taps in enumerate(WINDOWS):
        if scale:
            x, z = _halve(jnp.stack([x, z]), taps)
        terms = _information(x, z, taps)
        lost, total = lost + terms[0], total + terms[1]
    return lost, total


def vifp(
    reference: jax.Array, distorted: jax.Array, *, rounded: bool = True, parity: bool = False
) -> jax.Array:
    """VIFp float32 [N] of RGB float32 [N,H,W,3] in 0..255; HIGHER is better, 1 is identical.

    From 0 up; above 1 where the contrast was raised. Not symmetric. `rounded` takes whole gray
    levels. Both sides need 41 pixels. Source: Sheikh and Bovik, TIP 2006, vifp_mscale.m.

    A flat reference carries no information: NaN in the original and with `parity`, otherwise 1
    where the distorted image has the same gray and 0 where it has not.
    """
    x, z, flat, same = information.visible(reference, distorted, rounded)
    return information.fidelity(*_informations(x, z), flat, same, parity)
