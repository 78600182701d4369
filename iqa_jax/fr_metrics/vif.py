"""VIF, visual information fidelity in the wavelet domain, as the authors' vifvec.m computes it.

The filters of the steerable pyramid are those of matlabPyrTools; their licence is beside them in
`data/`. Of the six orientations VIF uses two.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics import information
from iqa_jax.images import filters

LEVELS = 4
WINDOWS = (17, 9, 5, 3)  # sides of the windows in which gain and noise are estimated, finest first
BLOCK = 3  # side of the blocks that the model of the reference describes
NOISE = 0.4  # variance of the noise of the eye
# Under these parts of what is there, float32 cannot tell a variance from 0.
ROUNDING, SINGULAR = 1e-7, 1e-7
_DATA = pathlib.Path(__file__).parent / 'data'
# How far apart two samples of a block can be, the first one coming first in row-major order.
SHIFTS = [(dy, dx) for dy in range(BLOCK) for dx in range(1 - BLOCK, BLOCK) if (dy, dx) >= (0, 0)]


def _entry(a: int, b: int) -> int:
    """Index into sums [shift, row, column] of shifted products for samples a and b of a block."""
    (i, j), (k, m) = divmod(min(a, b), BLOCK), divmod(max(a, b), BLOCK)
    return (SHIFTS.index((k - i, m - j)) * BLOCK + i) * BLOCK + j


ENTRIES = np.array([[_entry(a, b) for b in range(BLOCK**2)] for a in range(BLOCK**2)])


@functools.cache
def _kernel(name: str) -> np.ndarray:
    return np.loadtxt(_DATA / f'sp5_{name}.csv', delimiter=',')


def _mirrored(kernel: np.ndarray, axis: int) -> float:
    """1.0 for a kernel that equals its mirror image along the axis, -1.0 for its negative."""
    for sign in (1.0, -1.0):
        if np.array_equal(kernel, sign * np.flip(kernel, axis)):
            return sign
    raise ValueError('a filter of the pyramid is neither symmetric nor antisymmetric')


def _fold(x: jax.Array, axis: int, k: int, size: int, shape: tuple, sign: float) -> jax.Array:
    """Sample k of a window plus or minus the one it mirrors; shape is (length, stride)."""
    length, stride = shape
    ends = [
        jax.lax.slice_in_dim(x, start, start + length, stride, axis) for start in (k, size - 1 - k)
    ]
    if k == size // 2:
        return ends[0]
    return ends[0] + ends[1] if sign > 0 else ends[0] - ends[1]


def _correlate(planes: jax.Array, name: str, stride: int = 1) -> jax.Array:
    """Planes [...,H,W] correlated with a named filter, mirrored at the border; every stride-th.

    Shifted slices, of which those with the same weight are added first. For one plane of 384x512
    this takes 0.5 ms on CPU, an FFT 1.2 ms and `lax.conv` 20 ms.
    """
    kernel = _kernel(name)
    size, half = len(kernel), len(kernel) // 2
    across, down = _mirrored(kernel, 1), _mirrored(kernel, 0)
    height, width = planes.shape[-2:]
    border = [(0, 0)] * (planes.ndim - 2) + [(half, half)] * 2
    padded = filters.materialize(jnp.pad(planes, border, 'reflect'))
    total = 0.0
    for j in range(half + (across > 0)):
        columns = _fold(padded, -1, j, size, (width, stride), across)
        for i in range(half + (down > 0)):
            rows = _fold(columns, -2, i, size, (height, stride), down)
            total = total + float(kernel[i, j]) * rows
    return filters.materialize(total)


def _subbands(planes: jax.Array) -> list[jax.Array]:
    """Bands [...,2,h,w] of planes [...,H,W] for each level, finest first, of whole blocks."""
    low = _correlate(planes, 'lo0filt')
    bands = []
    for level in range(LEVELS):
        height, width = (side // BLOCK * BLOCK for side in low.shape[-2:])
        both = jnp.stack([_correlate(low, name) for name in ('band4', 'band1')], -3)
        bands.append(both[..., :height, :width])
        if level < LEVELS - 1:
            low = _correlate(low, 'lofilt', stride=2)
    return bands


def _window_sums(planes: jax.Array, size: int, drop: int) -> jax.Array:
    """Sums over size x size windows at the centres of the blocks but `drop` at each side."""
    for axis in (-2, -1):
        count = planes.shape[axis] // BLOCK - 2 * drop
        first = BLOCK * drop + 1 - size // 2
        starts = range(first, first + size)
        last = BLOCK * (count - 1) + 1
        planes = sum(
            jax.lax.slice_in_dim(planes, start, start + last, BLOCK, axis) for start in starts
        )
        planes = filters.materialize(planes)
    return planes


def _covariance(band: jax.Array) -> jax.Array:
    """Covariance [...,9,9] of the samples of all overlapping 3x3 blocks of a band [...,h,w].

    An entry is the sum of one of 13 shifted products over all positions of a block but for two
    rows and columns at the border, so every product is summed down its columns only once.
    """
    height, width = band.shape[-2:]
    rows, cols = height - BLOCK + 1, width - BLOCK + 1
    border = [(0, 0)] * (band.ndim - 2) + [(0, BLOCK - 1), (BLOCK - 1, BLOCK - 1)]
    padded = filters.materialize(jnp.pad(band, border))
    seconds = [
        padded[..., dy : dy + height, dx + BLOCK - 1 : dx + BLOCK - 1 + width] for dy, dx in SHIFTS
    ]
    products = [*(band * second for second in seconds), band]
    full = jnp.stack([product.sum(-2) for product in products], -2)
    first, second, last_but_one, last = (
        jnp.stack([product[..., row, :] for product in products], -2) for row in (0, 1, -2, -1)
    )
    sums = [full - last_but_one - last, full - first - last, full - first - second]
    column = np.arange(width)[:, None] - np.arange(BLOCK)
    inside = ((column >= 0) & (column < cols)).astype(np.float32)
    table = _dot(jnp.stack(sums, -2), jnp.asarray(inside, band.dtype)) / (rows * cols)
    mean = table[..., -1, :, :].reshape(*band.shape[:-2], BLOCK**2)
    squares = table.reshape(*band.shape[:-2], -1)[..., ENTRIES]
    return squares - mean[..., :, None] * mean[..., None, :]


def _model(band: jax.Array, drop: int) -> tuple[jax.Array, jax.Array]:
    """Gaussian model of the 3x3 blocks of a reference band [...,h,w].

    Variances [...,9] along its axes, and for each block the scale s [...,h/3-2*drop,w/3-2*drop].
    """
    covariance = _covariance(band)
    # The axes have no slope where variances coincide, and none is needed: to first order a
    # variance changes by the change of the covariance along its axis.
    values, axes = jnp.linalg.eigh(jax.lax.stop_gradient(covariance))
    variances = (axes * _dot(covariance, axes)).sum(-2)
    # Rows that give the samples of a block variance 1 each, and their slope: what they change by
    # to first order. The inverse itself, as a quadratic form, would cancel most of its digits.
    floor = jnp.maximum(SINGULAR * values[..., -1:], 1e-9)
    whiten = (axes / jnp.sqrt(jnp.maximum(values, floor))[..., None, :]).swapaxes(-1, -2)
    change = covariance - jax.lax.stop_gradient(covariance)  # 0, with a slope
    whiten = whiten - _dot(_dot(whiten, _dot(change, whiten.swapaxes(-1, -2))), whiten) / 2

    rows, cols = (side // BLOCK for side in band.shape[-2:])
    inner = slice(drop, -drop)
    blocks = band.reshape(*band.shape[:-2], rows, BLOCK, cols, BLOCK)[..., inner, :, inner, :]
    samples = filters.materialize(jnp.moveaxis(blocks, (-3, -1), (0, 1)))
    samples = samples.reshape(BLOCK**2, *samples.shape[2:])
    scale = 0.0
    for a in range(BLOCK**2):
        white = sum(whiten[..., a, b, None, None] * samples[b] for b in range(BLOCK**2))
        scale = scale + white * white
    return variances, filters.materialize(scale / BLOCK**2)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _sum_of_logarithms(ratios: list[jax.Array], quotients: list[jax.Array]) -> jax.Array:
    """Sum of log(1 + ratio) of nine ratios; products of three stay within float32.

    The quotients are the sums 1 + ratio themselves, which keep their digits where they are small.
    """
    total = 0.0
    for start in range(0, len(ratios), 3):
        grown, product = 0.0, 1.0
        triple = slice(start, start + 3)
        for ratio, quotient in zip(ratios[triple], quotients[triple], strict=True):
            grown = grown + ratio + grown * ratio
            product = product * quotient
        small = grown < -0.5
        large = jnp.log1p(jnp.where(small, 0.0, grown))
        total = total + jnp.where(small, jnp.log(jnp.maximum(product, 1e-37)), large)
    return total


def _information(x: jax.Array, z: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Information lost and information there was, [N] in nats, of bands x and z = y - x [N,2,h,w].

    With `gain` the slope of y on x in a window, `residue` what is left of y, and s the scale of a
    block, every axis of the model carries log(1 + s * variance / NOISE) in the reference and
    log(1 + gain^2 * s * variance / (residue + NOISE)) in the distorted image.
    """
    count = size * size
    drop = -(-(size // 2) // BLOCK)
    moments = filters.materialize(jnp.stack([x, z, x * x, x * z, z * z]))
    sum_x, sum_z, square, product, difference = _window_sums(moments, size, drop)
    energy = square - sum_x * sum_x / count
    flat = energy <= ROUNDING * count
    covariance = product - sum_x * sum_z / count
    slope = covariance / jnp.where(flat, 1.0, energy)  # gain - 1
    slope = jnp.where(flat | (slope <= -1), -1.0, slope)
    gain = 1 + slope
    residue = (difference - sum_z * sum_z / count - slope * covariance) / count
    residue = jnp.maximum(residue, 0.0)
    loss = filters.materialize(residue - NOISE * slope * (1 + gain))
    variances, scale = _model(x, drop)
    present, lost, left = [], [], []
    for k in range(BLOCK**2):
        signal = jnp.maximum(scale * variances[..., k, None, None], 0.0)
        present.append(signal / NOISE)
        # (1 + signal / noise) / (1 + what is left of it): less 1, which is exactly 0 where z is 0,
        # and as it is.
        share = 1 / (NOISE * (residue + NOISE + gain * gain * signal))
        lost.append(signal * loss * share)
        left.append((signal + NOISE) * (residue + NOISE) * share)
    logarithms = [
        _sum_of_logarithms(lost, left),
        _sum_of_logarithms(present, [1 + ratio for ratio in present]),
    ]
    lost, total = filters.materialize(jnp.stack(logarithms)).sum(-2).sum((-1, -2))
    return lost, total


def _informations(x: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Information lost and information there was, [N], of gray x and z = y - x, [N,H,W]."""
    bands = zip(_subbands(jnp.stack([x, z])), WINDOWS, strict=True)
    terms = [_information(level[0], level[1], size) for level, size in bands]
    return sum(lost for lost, _ in terms), sum(total for _, total in terms)


def vif(
    reference: jax.Array, distorted: jax.Array, *, rounded: bool = True, parity: bool = False
) -> jax.Array:
    """VIF float32 [N] of RGB float32 [N,H,W,3] in 0..255; HIGHER is better, 1 is identical.

    From 0 up; above 1 where the contrast was raised. Not symmetric. `rounded` takes whole gray
    levels. Source: Sheikh and Bovik, TIP 2006, vifvec.m, with matlabPyrTools' sp5Filters.

    Both sides need 72 pixels, three blocks of the coarsest level. A flat reference carries no
    information: NaN in the original and with `parity`, otherwise 1 where the distorted image has
    the same gray and 0 where it has not. float32 gives photos to 1e-5; photos that are flat in
    part to 1e-4; drawn waves to 1e-3, and waves of one direction only, whose blocks have a
    covariance that is singular to 7 digits, to 5e-3.
    """
    x, z, flat, same = information.visible(reference, distorted, rounded)
    return information.fidelity(*_informations(x, z), flat, same, parity)
