"""HaarPSI and PSNR once more, in float64 NumPy and SciPy, written from their definitions.

Shares no code with the package: whole 2-D kernels, the plain logistic function. Inputs are [H,W,3]
in 0..255.
"""

import numpy as np
from float64_ssim import gray
from scipy import ndimage

YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def correlate(plane, kernel):
    """Zero padded; an even window has its extra sample after the centre."""
    return ndimage.correlate(plane, kernel, mode='constant', origin=-1)


def halve(plane):
    return correlate(plane, np.full((2, 2), 0.25))[::2, ::2]


def haar(plane, scale):
    """Magnitudes of both directions [2,H,W]."""
    size = 2**scale
    kernel = np.full((size, size), 2.0**-scale)
    kernel[: size // 2] *= -1
    return np.abs([correlate(plane, kernel), correlate(plane, kernel.T)])


def similarity(a, b):
    return (2 * a * b + 30) / (a**2 + b**2 + 30)


def logistic(x):
    return 1 / (1 + np.exp(-4.2 * x))


def index(light, chroma):
    fine = sum(similarity(haar(light[0], k), haar(light[1], k)) for k in (1, 2)) / 2
    coarse = np.maximum(haar(light[0], 3), haar(light[1], 3))
    if chroma:
        box = np.full((2, 2), 0.25)
        colour = [similarity(*(np.abs(correlate(p, box)) for p in pair)) for pair in chroma]
        fine = np.concatenate([fine, [sum(colour) / 2]])
        coarse = np.concatenate([coarse, [coarse.sum(0) / 2]])
    with np.errstate(invalid='ignore'):
        mean = (logistic(fine) * coarse).sum() / coarse.sum()
    return (np.log(mean / (1 - mean)) / 4.2) ** 2


def haarpsi(reference, distorted, subsample=True):
    first, second = (np.asarray(x, np.float64) @ YIQ.T for x in (reference, distorted))
    shrink = halve if subsample else np.asarray
    planes = [[shrink(x[..., i]) for x in (first, second)] for i in range(3)]
    return index(planes[0], planes[1:])


def haarpsi_gray(reference, distorted):
    return index([halve(gray(x)) for x in (reference, distorted)], [])


def decibels(difference):
    with np.errstate(divide='ignore'):
        return 10 * np.log10(255**2 / np.mean(difference**2))


def psnr(reference, distorted):
    return decibels(np.asarray(reference, np.float64) - np.asarray(distorted, np.float64))


def psnr_gray(reference, distorted, rounded=True):
    return decibels(gray(reference, rounded) - gray(distorted, rounded))
