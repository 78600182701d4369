"""SSIM and MS-SSIM as the authors' MATLAB files compute them.

Inputs are RGB float32 [N,H,W,3] in 0..255, outputs float32 [N], higher is better, 1 is identical.
"""

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters

WINDOW = filters.gaussian_taps(11, 1.5)
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # sum 1.0001, as published


def _errors(reference: jax.Array, distorted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """1 - luminance term and 1 - contrast-structure term, maps [N,H-10,W-10] of gray [N,H,W]."""
    # Variances do not see an offset; around 0 they lose fewer digits to cancellation.
    x, y = reference - 128, distorted - 128
    moments = jnp.stack([x, y, x * x + y * y, (x - y) ** 2])
    blurred = filters.correlate_separable(moments[..., None], WINDOW, WINDOW)[..., 0]
    mean_x, mean_y, squares, squared_difference = blurred
    offset = (mean_x - mean_y) ** 2
    luminance = maps.dissimilarity(mean_x + 128, mean_y + 128, C1)
    # var(x) + var(y) - 2 cov(x, y) is var(x - y), which is exactly 0 for equal images.
    variances = squares - mean_x * mean_x - mean_y * mean_y
    return luminance, (squared_difference - offset) / (variances + C2)


@maps.shared
def _means(reference: jax.Array, distorted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean SSIM and mean contrast-structure term [N] of gray [N,H,W]."""
    luminance, structure = _errors(reference, distorted)
    full = luminance + structure - luminance * structure
    means = maps.mean(jnp.stack([full, structure]))
    return 1 - means[0], 1 - means[1]


@maps.shared
def _halve(gray: jax.Array, factor: int) -> jax.Array:
    return filters.box_downsample(gray[..., None], factor, 'symmetric')[..., 0]


def ssim(
    reference: jax.Array,
    distorted: jax.Array,
    *,
    parity: bool = False,
    downsample: bool = True,
    rounded: bool = True,
) -> jax.Array:
    """SSIM; `downsample` averages min(H,W)/256 pixels first, `rounded` takes whole grey levels.

    Nothing degenerates, so `parity` changes nothing. Source: Wang et al., TIP 2004, ssim.m of 2009;
    downsample=False is ssim_index.m.
    """
    del parity
    factor = filters.downsample_factor(*reference.shape[-3:-1]) if downsample else 1
    gray = [_halve(maps.luma(x, rounded), factor) for x in (reference, distorted)]
    return _means(*gray)[0]


def ms_ssim(
    reference: jax.Array,
    distorted: jax.Array,
    *,
    parity: bool = False,
    rounded: bool = True,
    product: bool = True,
) -> jax.Array:
    """MS-SSIM over five scales, as a product or (product=False) a normalised weighted sum.

    A mean term below 0, for which the original returns a complex number, makes the product 0, or
    that number's real part with `parity`. Source: Wang, Simoncelli and Bovik, Asilomar 2003,
    msssim.m.
    """
    gray = [maps.luma(x, rounded) for x in (reference, distorted)]
    terms = []
    for scale in range(len(SCALE_WEIGHTS)):
        if scale:
            gray = [_halve(x, 2) for x in gray]
        terms.append(_means(*gray)[1 if scale < len(SCALE_WEIGHTS) - 1 else 0])
    if not product:
        weights = np.array(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS)
        # Errors are summed, so that equal images give exactly 1.
        return 1 - sum(float(w) * (1 - term) for w, term in zip(weights, terms, strict=True))
    return maps.product_of_powers(terms, SCALE_WEIGHTS, parity)
