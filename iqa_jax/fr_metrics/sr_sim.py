"""SR-SIM, spectral residual similarity, as the authors' SR_SIM.m computes it."""

import jax
import jax.numpy as jnp

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters, resize

LUMINANCE = (0.299, 0.587, 0.114)
SALIENCY_CONSTANT, GRADIENT_CONSTANT = 0.40, 225.0
SALIENCY_SCALE = 0.25
SALIENCY_WINDOW = filters.gaussian_taps(10, 3.8)
MEAN_TAPS = (1 / 3, 1 / 3, 1 / 3)
FLAT_RANGE = 1e-4  # grey levels that rounding could explain
AMPLITUDE_FLOOR = 1e-6  # below what rounding leaves of a spectrum


def _spectral_residual(small: jax.Array, offset: jax.Array) -> jax.Array:
    """Squared modulus [N,h,w] of the inverse transform of the residual of small + offset [N,1,1].

    The transform sees `small` only and the offset joins the first coefficient, so that a bright
    picture of little contrast keeps its digits.
    """
    spectrum = jnp.fft.fft2(small)
    spectrum = spectrum.at[..., 0, 0].add(offset[..., 0, 0] * (small.shape[-2] * small.shape[-1]))
    power = spectrum.real**2 + spectrum.imag**2
    positive = power > AMPLITUDE_FLOOR**2
    amplitude = jnp.log(jnp.where(positive, power, AMPLITUDE_FLOOR**2)) / 2
    # In the order of the transform, with its edges repeated: the original does not shift it.
    mean = filters.correlate_separable(amplitude[..., None], MEAN_TAPS, MEAN_TAPS, 'edge')[..., 0]
    # exp(log|Z| - mean + i angle(Z)) without logarithm or angle of a zero.
    residual = jnp.fft.ifft2(spectrum * jnp.exp(-mean))
    return residual.real**2 + residual.imag**2


def _saliency(light: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Saliency [N,h,w] of luminance [N,h,w], 1 everywhere if it is flat, and whether it is [N]."""
    offset = light[..., :1, :1]
    small = resize.rescale(light - offset, SALIENCY_SCALE, 'bicubic')
    flat = jnp.max(jnp.abs(small), axis=(-2, -1), keepdims=True) <= FLAT_RANGE
    residual = _spectral_residual(small, offset)[..., None]
    blurred = filters.correlate_separable(residual, SALIENCY_WINDOW, SALIENCY_WINDOW, 'zero')
    normal = maps.normalize(blurred[..., 0])
    large = resize.resize(normal, *light.shape[-2:], 'bicubic')
    return filters.materialize(jnp.where(flat, 1.0, large)), flat[..., 0, 0]


def sr_sim(reference: jax.Array, distorted: jax.Array, *, parity: bool = False) -> jax.Array:
    """SR-SIM float32 [N] of RGB float32 [N,H,W,3] in 0..255; higher is better, 1 is identical.

    An image whose downsampled luminance is flat has no spectrum to take logarithms of, and the
    original returns NaN; so does parity=True. Otherwise a flat image counts as equally salient
    everywhere, with finite values and gradients. Symmetric.
    Source: Zhang and Li, ICIP 2012, SR_SIM.m.
    """
    factor = filters.downsample_factor(*reference.shape[-3:-1])
    light = [maps.mixture(x, factor, LUMINANCE) for x in (reference, distorted)]
    gradients = [maps.gradient(x, 'scharr') for x in light]
    (saliency_r, flat_r), (saliency_d, flat_d) = (_saliency(x) for x in light)
    gradient = maps.dissimilarity(*gradients, GRADIENT_CONSTANT)
    root = gradient / (1 + jnp.sqrt(1 - gradient))  # 1 - sqrt(1 - gradient), exact near 0
    saliency = maps.dissimilarity(saliency_r, saliency_d, SALIENCY_CONSTANT)
    error = saliency + root - saliency * root
    weight = jnp.maximum(saliency_r, saliency_d)
    score = 1 - maps.weighted_mean(error, weight)[0]
    return jnp.where((flat_r | flat_d) & parity, jnp.nan, score)
