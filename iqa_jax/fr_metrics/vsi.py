"""VSI, visual saliency induced index, as the authors' VSI.m computes it with its SDSP saliency."""

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters, resize

LUMINANCE = (0.06, 0.63, 0.27)
CHROMA_M = (0.30, 0.04, -0.35)
CHROMA_N = (0.34, -0.60, 0.17)
SALIENCY_CONSTANT, GRADIENT_CONSTANT, CHROMA_CONSTANT = 1.27, 386.0, 130.0
GRADIENT_EXPONENT, CHROMA_EXPONENT = 0.40, 0.020
SIDE = 256  # of the picture that saliency is found in
SIGMA_FREQUENCY, OMEGA, SIGMA_DISTANCE, SIGMA_COLOUR = 1.34, 0.0210, 145.0, 0.001
# Primaries for white D65, then divided by white D50: grey pixels are not neutral in the original.
XYZ_FROM_RGB = (
    np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    / np.array([0.9642, 1.0, 0.8251])[:, None]
)
FLAT_RANGE = 1e-5  # of a and b, what rounding could explain


def _log_gabor() -> np.ndarray:
    """The band-pass filter [SIDE, SIDE/2+1] in the order of a real transform."""
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    radius = np.hypot(rows, columns)
    inside = (radius > 0) & (radius <= 0.5)
    ratio = np.where(inside, radius, OMEGA) / OMEGA
    return np.where(inside, np.exp(-(np.log(ratio) ** 2) / (2 * SIGMA_FREQUENCY**2)), 0)


def _centre_prior() -> np.ndarray:
    """How salient a place of the picture is by itself [SIDE, SIDE]."""
    offsets = np.arange(1, SIDE + 1) - SIDE // 2
    axis = np.exp(-(offsets**2) / SIGMA_DISTANCE**2)
    return np.outer(axis, axis)


LOG_GABOR = _log_gabor().astype(np.float32)
CENTRE_PRIOR = _centre_prior().astype(np.float32)


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """x ** exponent for 0 < x <= 1, four times as fast on CPU as XLA's general power."""
    return jnp.exp(exponent * jnp.log(x))


def _lab(rgb: jax.Array) -> jax.Array:
    """L, a, b planes [N,3,h,w] of sRGB planes [N,3,h,w] in 0..255, L without its constant."""
    c = rgb * (1 / 255)
    curve = _power((jnp.maximum(c, 0.04045) + 0.055) * (1 / 1.055), 2.4)
    linear = filters.materialize(jnp.where(c <= 0.04045, c * (1 / 12.92), curve))
    t = jnp.stack(
        [sum(float(w) * linear[:, i] for i, w in enumerate(row)) for row in XYZ_FROM_RGB], 1
    )
    root = _power(jnp.maximum(t, 0.008856), 1 / 3)
    f = filters.materialize(jnp.where(t > 0.008856, root, t * (903.3 / 116) + 16 / 116))
    x, y, z = f[:, 0], f[:, 1], f[:, 2]
    return filters.materialize(jnp.stack([116 * y, 500 * (x - y), 200 * (y - z)], 1))


def _saliency(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """SDSP saliency [N,H,W] of RGB [N,H,W,3], 1 everywhere if it is flat, and whether it is [N]."""
    planes = jnp.moveaxis(maps.planes(image, 1), 0, 1)
    offset = planes[..., :1, :1]
    small = resize.resize(planes - offset, SIDE, SIDE, 'bilinear') + offset
    lab = _lab(filters.materialize(small))
    ranges = jnp.max(lab[:, 1:], axis=(-2, -1)) - jnp.min(lab[:, 1:], axis=(-2, -1))
    flat = (jnp.min(ranges, axis=-1) <= FLAT_RANGE)[:, None, None]
    # The filter has no constant term; without one in the input its output rounds less.
    spectrum = jnp.fft.rfft2(lab - lab[..., :1, :1])
    bands = filters.materialize(jnp.fft.irfft2(spectrum * LOG_GABOR, (SIDE, SIDE)))
    frequency = maps.power((bands * bands).sum(1), 0.5)
    colours = maps.normalize(lab[:, 1:])
    warmth = 1 - jnp.exp((colours * colours).sum(1) * (-1 / SIGMA_COLOUR**2))
    salient = filters.materialize(frequency * CENTRE_PRIOR * warmth)
    large = filters.materialize(resize.resize(salient, *image.shape[-3:-1], 'bilinear'))
    return jnp.where(flat, 1.0, maps.normalize(large)), flat[:, 0, 0]


def _planes(image: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """L, M, N and saliency planes [N,h,w] of RGB [N,H,W,3], zero padded and downsampled; flat."""
    saliency, flat = _saliency(image)
    factor = filters.downsample_factor(*image.shape[-3:-1])
    mixed = [maps.mixture(image, factor, row) for row in (LUMINANCE, CHROMA_M, CHROMA_N)]
    small = filters.materialize(filters.box_downsample(saliency[..., None], factor)[..., 0])
    return [*mixed, small], flat


def _power_error(gradient: jax.Array, chroma: jax.Array) -> jax.Array:
    """1 - real part of (1 - gradient) ** 0.4 * (1 - chroma) ** 0.02, exactly 0 where both are 0.

    A chroma similarity below 0 gives a complex power in MATLAB, of which VSI takes the real part.
    """
    log_chroma = maps.log_similarity(chroma)
    exponent = GRADIENT_EXPONENT * jnp.log1p(-gradient) + CHROMA_EXPONENT * log_chroma
    error = -jnp.expm1(exponent)
    lost = 1 - np.cos(CHROMA_EXPONENT * np.pi)
    return error + jnp.where(chroma > 1, lost * (1 - error), 0.0)


def vsi(reference: jax.Array, distorted: jax.Array, *, parity: bool = False) -> jax.Array:
    """VSI float32 [N] of RGB float32 [N,H,W,3] in 0..255; higher is better, 1 is identical.

    Saliency divides by the range of a picture's colours: for flat images the original returns NaN,
    and so does parity=True. Otherwise a flat image counts as equally salient everywhere, with
    finite values and gradients. Symmetric. Source: Zhang, Shen and Li, TIP 2014, VSI.m.
    """
    (planes_r, flat_r), (planes_d, flat_d) = (_planes(x) for x in (reference, distorted))
    light_r, m_r, n_r, saliency_r = planes_r
    light_d, m_d, n_d, saliency_d = planes_d
    gradients = [maps.gradient(x, 'scharr') for x in (light_r, light_d)]
    gradient = maps.dissimilarity(*gradients, GRADIENT_CONSTANT)
    m = maps.dissimilarity(m_r, m_d, CHROMA_CONSTANT)
    n = maps.dissimilarity(n_r, n_d, CHROMA_CONSTANT)
    saliency = maps.dissimilarity(saliency_r, saliency_d, SALIENCY_CONSTANT)
    power_error = _power_error(gradient, m + n - m * n)
    error = saliency + power_error - saliency * power_error
    weight = jnp.maximum(saliency_r, saliency_d)
    score = 1 - maps.weighted_mean(error, weight)[0]
    return jnp.where((flat_r | flat_d) & parity, jnp.nan, score)
