"""IW-SSIM, information content weighted SSIM, as the authors' iwssim.m computes it.

SSIM's contrast-structure term of each band of a Laplacian pyramid is averaged with weights: how
much information the pixel carries in a Gaussian scale mixture model of the reference band.
"""

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics import maps
from iqa_jax.fr_metrics.ssim import C1, C2, SCALE_WEIGHTS, WINDOW
from iqa_jax.images import filters, pyramid

BANDS = len(SCALE_WEIGHTS)
EXPONENTS = tuple(float(w) for w in np.array(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS))
MID_GRAY = 128.0  # subtracted first; only the low-pass band sees it
NOISE = 0.4
TINY = 1e-15  # variances below are 0, as in the original
FLAT = 1e-12  # mean squares of a band below are rounding
# The authors' taps are sqrt(2) times these; powers of two make the sums exact, so that flat
# regions cancel.
DOUBLED = tuple(2 * tap for tap in pyramid.BINOMIAL)
WINDOW_3X3 = [(row, col) for row in range(3) for col in range(3)]
MARGIN = 4  # of the 11x11 window beyond the 3x3 window


def _split(parts: jax.Array, level: int) -> jax.Array:
    """Parts [2,...] of the same sum: the first on a grid of 16 bits, the second what is left."""
    grid = 2.0 ** (level - 9)
    coarse = jax.lax.stop_gradient(jnp.round(parts[0] / grid) * grid)
    return filters.materialize(jnp.stack([coarse, (parts[0] - coarse) + sum(parts[1:])]))


def _bands(images: jax.Array, whole: bool) -> list[jax.Array]:
    """Laplacian pyramid of [...,H,W] within +-255: four bands and the low-pass image.

    Nearly flat regions decide much of the weights, and float32 sums would fill them with rounding
    errors. Each level is therefore the sum of two parts, the larger of which is exact. Images of
    `whole` numbers need that from level 2 on only.
    """
    bands, parts = [], images[None]
    if not whole:
        parts = _split(parts, 0)
    for level in range(1, BANDS):
        low = 2 * pyramid.reduce(parts, pyramid.BINOMIAL, 'reflect')
        if level > 1 or not whole:
            low = _split(low, level)
        expanded = 0.5 * pyramid.expand(low, *parts.shape[-2:], DOUBLED, 'reflect')
        remainder = sum(parts[1:]) - sum(expanded[1:])
        bands.append(filters.materialize((parts[0] - expanded[0]) + remainder))
        parts = low
    return [*bands, parts.sum(0)]


def _statistics(x: jax.Array, difference: jax.Array) -> tuple[jax.Array, ...]:
    """Local means of x and y = x - difference, sum of their variances, variance of the difference.

    Maps [N,h-10,w-10].
    """
    y = x - difference
    moments = jnp.stack([x, difference, x * x + y * y, difference * difference])
    moments = filters.materialize(moments)
    blurred = filters.correlate_separable(moments[..., None], WINDOW, WINDOW)[..., 0]
    mean_x, mean_difference, squares, squared_difference = blurred
    mean_y = mean_x - mean_difference
    variances = jnp.maximum(squares - mean_x * mean_x - mean_y * mean_y, 0)
    return mean_x, mean_y, variances, squared_difference - mean_difference**2


def _structure_error(x: jax.Array, difference: jax.Array) -> jax.Array:
    """1 - contrast-structure term, map [N,h-10,w-10]."""
    _, _, variances, change = _statistics(x, difference)
    return filters.materialize(change / (variances + C2))


def _low_pass_mean(x: jax.Array, difference: jax.Array) -> jax.Array:
    """Mean SSIM [N] of the low-pass band [N,h,w] around MID_GRAY times its gain."""
    # Variances do not see an offset; without one they lose fewer digits to cancellation.
    level, shift = (
        jnp.round(jax.lax.stop_gradient(maps.mean(plane)))[:, None, None]
        for plane in (x, difference)
    )
    mean_x, mean_y, variances, change = _statistics(x - level, difference - shift)
    offset = MID_GRAY * 2 ** (BANDS - 1) + level
    mean_x, mean_y = mean_x + offset, mean_y + offset - shift
    luminance = maps.dissimilarity(mean_x, mean_y, C1)
    structure = change / (variances + C2)
    error = maps.mean(luminance + structure - luminance * structure)
    # 1 - error is exactly 1 for equal images, and has no digits left where it is nearly 0.
    light = (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    similarity = maps.mean(light * (variances - change + C2) / (variances + C2))
    return jnp.where(error > 0.5, similarity, 1 - error)


def _windows(band: jax.Array, margin: int) -> list[jax.Array]:
    """The nine pixels around each pixel that is `margin` + 1 or more from the border."""
    height, width = (n - 2 - 2 * margin for n in band.shape[-2:])
    return [
        band[..., margin + row : margin + row + height, margin + col : margin + col + width]
        for row, col in WINDOW_3X3
    ]


def _parent(bands: list[jax.Array], k: int) -> jax.Array | None:
    """The reference's next band in the size of band k; the coarsest band has none."""
    if k == BANDS - 2:
        return None
    return filters.materialize(pyramid.enlarge(bands[k + 1][0], *bands[k].shape[-2:]))


def _neighbourhoods(band: jax.Array, parent: jax.Array | None) -> list[jax.Array]:
    """The nine windows and, if there is one, the parent of each interior pixel."""
    windows = _windows(band, 0)
    return windows if parent is None else [*windows, _windows(parent, 0)[4]]


def _gain_and_noise(x: jax.Array, difference: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gain g and residual variance v of y = g x + noise over 3x3 windows, maps [N,h-10,w-10]."""
    xs, ds = _windows(x, MARGIN), _windows(difference, MARGIN)
    # Differences to the middle pixel: the variances of nearly equal values keep their digits.
    xs = [part - xs[4] for part in xs]
    ys = [a - (d - ds[4]) for a, d in zip(xs, ds, strict=True)]
    products = [(a, b, a * a, b * b, a * b) for a, b in zip(xs, ys, strict=True)]
    # Kept apart from what follows, or the compiler fuses the slopes without end.
    sums = filters.materialize(jnp.stack([sum(parts) for parts in zip(*products, strict=True)]))
    mean_x, mean_y, square_x, square_y, product = sums / 9
    var_x = jnp.maximum(square_x - mean_x * mean_x, 0)
    var_y = jnp.maximum(square_y - mean_y * mean_y, 0)
    covariance = product - mean_x * mean_y
    flat_x, flat_y = var_x < TINY, var_y < TINY
    gain = jnp.where(flat_x | flat_y, 0.0, covariance / (jnp.where(flat_x, 1.0, var_x) + TINY))
    noise = jnp.where(flat_y, 0.0, var_y - gain * covariance)
    return gain, jnp.maximum(noise, 0)


def _covariance(vectors: jax.Array) -> jax.Array:
    """Mean [N,K,K] of u u^T over all neighbourhoods u [N,K,h,w]."""
    vectors = vectors.reshape(*vectors.shape[:2], -1)
    products = jnp.einsum('nip,njp->nij', vectors, vectors, precision='highest')
    return products / vectors.shape[-1]


def _model(covariance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Eigenvalues [N,K], whitening matrix [N,K,K] (lower triangular) and whether the band is flat.

    A singular covariance gets a small ridge, and a flat band the identity, before it is inverted.
    """
    size = covariance.shape[-1]
    identity = jnp.eye(size, dtype=covariance.dtype)
    mean_square = jnp.trace(covariance, axis1=-2, axis2=-1) / size
    flat = mean_square < FLAT
    # Fixed vectors give eigenvalues their right slope, also where some are equal.
    vectors = jax.lax.stop_gradient(jnp.linalg.eigh(covariance)[1])
    eigenvalues = jnp.einsum('nij,nik,nkj->nj', vectors, covariance, vectors, precision='highest')
    eigenvalues = jnp.maximum(eigenvalues, 0)
    singular = eigenvalues.min(-1) < 1e-5 * eigenvalues.max(-1)
    ridge = jnp.where(singular, 1e-5 * mean_square, 0.0) + flat
    factor = jnp.linalg.cholesky(covariance + ridge[:, None, None] * identity)
    whitening = jax.scipy.linalg.solve_triangular(
        factor, jnp.broadcast_to(identity, covariance.shape), lower=True
    )
    return eigenvalues, whitening, flat


def _sum_of_log2(terms: list[jax.Array]) -> jax.Array:
    """Sum of the base 2 logarithms of positive numbers, with one logarithm for all of them."""
    product, exponents = 1.0, 0
    for term in terms:
        bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(term), jnp.int32) >> 23
        scale = jax.lax.bitcast_convert_type((254 - bits) << 23, jnp.float32)
        product = product * (term * scale)  # a number in [1, 2)
        exponents = exponents + (bits - 127)
    return jnp.log2(product) + exponents.astype(jnp.float32)


def _information(
    vectors: list[jax.Array], model: tuple[jax.Array, jax.Array], pair: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Weights, map [N,h-10,w-10], of a pair of bands (reference, difference) [N,h,w].

    From the neighbourhoods [N,h-2,w-2] of the reference and their eigenvalues and whitening matrix.
    """
    eigenvalues, whitening = model
    size = len(vectors)
    inner = [part[..., MARGIN:-MARGIN, MARGIN:-MARGIN] for part in vectors]
    energy = 0.0
    for i in range(size):
        white = sum(whitening[:, i, j, None, None] * inner[j] for j in range(i + 1))
        energy = energy + white * white
    gain, noise = _gain_and_noise(*pair)
    base = filters.materialize(1 + noise / NOISE)
    slope = (noise + (1 + gain * gain) * NOISE) * energy * (1 / (size * NOISE**2))
    slope = filters.materialize(slope)
    terms = [base + slope * eigenvalues[:, i, None, None] for i in range(size)]
    weights = _sum_of_log2(terms)
    return filters.materialize(jnp.where(weights < TINY, 0.0, weights))


def _models(neighbourhoods: list[list[jax.Array]]) -> list[tuple[jax.Array, ...]]:
    """`_model` of each band; those with as many neighbours are decomposed together."""
    covariances = [_covariance(jnp.stack(vectors, 1)) for vectors in neighbourhoods]
    with_parent = _model(jnp.concatenate(covariances[:-1]))
    split = [jnp.split(part, len(covariances) - 1) for part in with_parent]
    return [*zip(*split, strict=True), _model(covariances[-1])]


def _weighted(error: jax.Array, weights: jax.Array, flat: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighted mean [N] of error, or without information the plain one, and whether that is so."""
    total, weighted, plain = maps.mean(jnp.stack([weights, weights * error, error]))
    empty = flat | (total <= 0)
    return jnp.where(empty, plain, weighted / jnp.where(empty, 1.0, total)), empty


def iw_ssim(
    reference: jax.Array, distorted: jax.Array, *, parity: bool = False, rounded: bool = True
) -> jax.Array:
    """IW-SSIM float32 [N] of RGB float32 [N,H,W,3] in 0..255; higher is better, 1 is identical.

    `rounded` takes whole grey levels. Range [0, 1]; not symmetric; sides of 176 and more. A band
    mean below 0, for which the original returns a complex number, makes the product 0, or that
    number's real part with `parity`. A flat reference carries no information: all pixels then weigh
    alike, or NaN with `parity`. Source: Wang and Li, TIP 2011, iwssim.m.
    """
    x, y = (maps.luma(image, rounded) for image in (reference, distorted))
    images = filters.materialize(jnp.stack([x - MID_GRAY, x - y]))
    bands = _bands(images, whole=rounded)
    # Written out one by one, or the compiler fuses their slopes into one endless sum of sums.
    neighbourhoods = [
        [filters.materialize(part) for part in _neighbourhoods(bands[k][0], _parent(bands, k))]
        for k in range(BANDS - 1)
    ]
    terms, undefined = [], jnp.zeros(x.shape[0], bool)
    for k, (*model, flat) in enumerate(_models(neighbourhoods)):
        weights = _information(neighbourhoods[k], tuple(model), tuple(bands[k]))
        error, empty = _weighted(_structure_error(*bands[k]), weights, flat)
        terms.append(1 - error)
        undefined = undefined | empty
    terms.append(_low_pass_mean(*bands[-1]))
    score = maps.product_of_powers(terms, EXPONENTS, parity)
    return jnp.where(undefined & parity, jnp.nan, score)
