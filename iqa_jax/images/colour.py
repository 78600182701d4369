"""Colour spaces: grey and the saturation axis of HSV of pixels, Lab and studio YCbCr of planes."""

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.images import filters, powers

# MATLAB's rgb2gray: the first row of the inverse of the NTSC matrix, not the rounded 0.299...
GRAY_WEIGHTS = (0.298936021293775, 0.587043074451121, 0.114020904255103)

# BT.709 primaries, white D65, as the six-digit tables most software carries: with exact inverses
# instead, about one 8-bit sample in 10,000 comes out a level away from them.
_XYZ_FROM_RGB = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_RGB_FROM_XYZ = np.array(
    [
        [3.240479, -1.537150, -0.498535],
        [-0.969256, 1.875992, 0.041556],
        [0.055648, -0.204043, 1.057311],
    ]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_WHITENED_FROM_RGB = _XYZ_FROM_RGB / _WHITE[:, None]
_RGB_FROM_WHITENED = _RGB_FROM_XYZ * _WHITE

# L = 116 fy - 16, a = 500 (fx - fy), b = 200 (fy - fz).
_LAB_FROM_ROOTS = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_ROOTS_FROM_LAB = np.linalg.inv(_LAB_FROM_ROOTS)
_LAB_OFFSET = np.array([16.0, 0.0, 0.0])

# ITU-R BT.601 studio range over 255: Y in [16, 235]/255, Cb and Cr in [16, 240]/255.
_YCBCR_FROM_RGB = (
    np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
    / 255
)
_YCBCR_OFFSET = np.array([16.0, 128.0, 128.0]) / 255
_RGB_FROM_YCBCR = np.linalg.inv(_YCBCR_FROM_RGB)


def rgb_to_gray(x255: jax.Array, rounded: bool) -> jax.Array:
    """Luma float32 [...] of RGB float32 [..., 3] in 0..255, to whole grey levels if `rounded`.

    Source: MATLAB's rgb2gray, which returns 8-bit values (half up) for 8-bit images.
    """
    x255 = jnp.asarray(x255, jnp.float32)
    red, green, blue = (GRAY_WEIGHTS[i] * x255[..., i] for i in range(3))
    gray = red + green + blue
    return jnp.floor(gray + 0.5) if rounded else gray


def scale_saturation(rgb: jax.Array, factor: jax.Array | float) -> jax.Array:
    """RGB float32 [..., 3] with its HSV saturation times `factor`, hue and value kept, unclipped.

    Every channel is v * (1 - s * g(hue)), so the round trip through HSV is one line; a negative
    factor goes past grey to the complementary hue and may exceed [0, 1].
    """
    # Not rgb.max(axis=-1): a reduction over three neighbours is four times as slow on CPU.
    value = jnp.maximum(jnp.maximum(rgb[..., :1], rgb[..., 1:2]), rgb[..., 2:])
    return value - factor * (value - rgb)


def to_planes(pixels: jax.Array) -> jax.Array:
    """[H, W, 3] as [3, H, W], whose products with a 3x3 matrix vectorise."""
    return jnp.moveaxis(pixels, -1, 0)


def to_pixels(planes: jax.Array) -> jax.Array:
    """[3, H, W] as [H, W, 3]."""
    # Else XLA's CPU backend would do what made the planes pixel by pixel, three samples at a time.
    return jnp.moveaxis(filters.materialize(planes), 0, -1)


def rgb_to_lab(rgb: jax.Array) -> jax.Array:
    """CIE L*a*b* planes float32 [3, ...] (L 0..100) of sRGB [3, ...] in [0, 1], white D65."""
    power = powers.power_12_5((jnp.maximum(rgb, 0.04045) + 0.055) / 1.055)
    linear = jnp.where(rgb <= 0.04045, rgb / 12.92, power)
    whitened = _mix(linear, _WHITENED_FROM_RGB)
    # The cube root has infinite slope at 0, so its argument stays above the linear part's end.
    root = powers.cube_root(jnp.maximum(whitened, 216 / 24389))
    f = jnp.where(whitened > 216 / 24389, root, whitened * (841 / 108) + 4 / 29)
    return _mix(f, _LAB_FROM_ROOTS, -_LAB_OFFSET)


def lab_to_rgb(lab: jax.Array) -> jax.Array:
    """SRGB planes float32 [3, ...] of CIE L*a*b* [3, ...], white D65, not clipped to [0, 1]."""
    f = _mix(lab, _ROOTS_FROM_LAB, _ROOTS_FROM_LAB @ _LAB_OFFSET)
    whitened = jnp.where(f > 6 / 29, f * f * f, (f - 4 / 29) * (108 / 841))
    linear = _mix(whitened, _RGB_FROM_WHITENED)
    power = 1.055 * powers.power_5_12(jnp.maximum(linear, 0.0031308)) - 0.055
    return jnp.where(linear <= 0.0031308, linear * 12.92, power)


def rgb_to_ycbcr(rgb: jax.Array) -> jax.Array:
    """Studio-range BT.601 YCbCr [3, ...] (Y 16..235, C 16..240, over 255) of RGB [3, ...]."""
    return _mix(rgb, _YCBCR_FROM_RGB, _YCBCR_OFFSET)


def ycbcr_to_rgb(ycbcr: jax.Array) -> jax.Array:
    """RGB planes float32 [3, ...] of studio-range BT.601 YCbCr [3, ...], not clipped to [0, 1]."""
    return _mix(ycbcr, _RGB_FROM_YCBCR, -_RGB_FROM_YCBCR @ _YCBCR_OFFSET)


def _mix(planes: jax.Array, matrix: np.ndarray, offset: np.ndarray | None = None) -> jax.Array:
    """A 3x3 matrix times planes [3, ...], plus an offset [3].

    As a product: XLA's CPU backend would fuse a written-out sum with what comes before and compute
    every power and random number three times.
    """
    flat = jnp.asarray(planes, jnp.float32).reshape(3, -1)
    product = jnp.dot(jnp.asarray(matrix, jnp.float32), flat, precision=jax.lax.Precision.HIGHEST)
    if offset is not None:
        product += jnp.asarray(offset, jnp.float32)[:, None]
    return product.reshape(planes.shape)
