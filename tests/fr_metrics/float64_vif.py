"""VIF and VIFp once more, in float64 NumPy and SciPy, written from their descriptions.

They share no code and no formula arrangement with the package. Inputs are [H,W,3] in 0..255.
"""

import pathlib

import numpy as np
from float64_ssim import gray
from scipy import ndimage

from iqa_jax import fr_metrics

DATA = pathlib.Path(fr_metrics.__file__).parent / 'data'


def _valid(image, window):
    margin = len(window) // 2
    for axis in (0, 1):
        image = ndimage.correlate1d(image, window, axis)
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def vifp(reference, distorted, rounded=True):
    x, y = gray(reference, rounded), gray(distorted, rounded)
    e, num, den = 1e-10, 0.0, 0.0
    for scale, size in enumerate((17, 9, 5, 3)):
        offsets = np.arange(size) - size // 2
        window = np.exp(-(offsets**2) / (2 * (size / 5) ** 2))
        window /= window.sum()
        if scale:
            x, y = (_valid(image, window)[::2, ::2] for image in (x, y))
        mx, my = _valid(x, window), _valid(y, window)
        s1 = np.maximum(_valid(x * x, window) - mx * mx, 0)
        s2 = np.maximum(_valid(y * y, window) - my * my, 0)
        s12 = _valid(x * y, window) - mx * my
        g = s12 / (s1 + e)
        v = s2 - g * s12
        none = s1 < e
        g[none], v[none], s1[none] = 0, s2[none], 0
        none = s2 < e
        g[none], v[none] = 0, 0
        none = g < 0
        v[none], g[none] = s2[none], 0
        v = np.maximum(v, e)
        num += np.log10(1 + g * g * s1 / (v + 2)).sum()
        den += np.log10(1 + s1 / 2).sum()
    with np.errstate(invalid='ignore', divide='ignore'):
        return num / den


def _filter(image, name):
    return ndimage.correlate(
        image, np.loadtxt(DATA / f'sp5_{name}.csv', delimiter=','), mode='mirror'
    )


def _subbands(image):
    """Orientations 4 and 1 of the four levels, finest first."""
    low = _filter(image, 'lo0filt')
    for _ in range(4):
        yield _filter(low, 'band4')
        yield _filter(low, 'band1')
        low = _filter(low, 'lofilt')[::2, ::2]


def _subband_information(x, y, size):
    """The two sums of logarithms of one pair of subbands."""
    rows, cols = (side // 3 * 3 for side in x.shape)
    x, y = x[:rows, :cols], y[:rows, :cols]
    n, tol, noise = size * size, 1e-15, 0.4

    def box(image):
        for axis in (0, 1):
            image = ndimage.correlate1d(image, np.ones(size), axis, mode='mirror')
        return image[1::3, 1::3]

    mx, my = box(x) / n, box(y) / n
    sxy = box(x * y) - n * mx * my
    sxx = np.maximum(box(x * x) - n * mx * mx, 0)
    syy = np.maximum(box(y * y) - n * my * my, 0)
    g = sxy / (sxx + tol)
    v = (syy - g * sxy) / n
    none = sxx < tol
    g[none], v[none] = 0, syy[none]
    none = syy < tol
    g[none], v[none] = 0, 0
    none = g < 0
    v[none], g[none] = syy[none], 0
    v = np.maximum(v, tol)

    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3))
    covariance = np.cov(windows.reshape(-1, 9).T, bias=True)
    blocks = windows[::3, ::3].reshape(-1, 9)
    s = (blocks * np.linalg.solve(covariance, blocks.T).T).sum(1).reshape(g.shape) / 9
    drop = -(-((size - 1) // 2) // 3)
    inner = (slice(drop, g.shape[0] - drop), slice(drop, g.shape[1] - drop))
    g, v, s = g[inner], v[inner], s[inner]
    values = np.linalg.eigvalsh(covariance)
    num = sum(np.log2(1 + g * g * s * value / (v + noise)).sum() for value in values)
    den = sum(np.log2(1 + s * value / noise).sum() for value in values)
    return num, den


def vif(reference, distorted, rounded=True):
    x, y = gray(reference, rounded), gray(distorted, rounded)
    if min(x.shape) < 72 or x.min() == x.max():
        return np.nan
    sizes = np.repeat((17, 9, 5, 3), 2)
    pairs = zip(_subbands(x), _subbands(y), sizes, strict=True)
    num, den = np.sum([_subband_information(*pair) for pair in pairs], 0)
    return num / den
