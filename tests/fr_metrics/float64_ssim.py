"""SSIM, MS-SSIM, GMSD and MDSI once more, in float64 NumPy and SciPy, written from the papers.

The tests compare against it where no run of the authors' code is at hand: other sizes, gradients.
It shares no code and no formula arrangement with the package. Inputs are [H,W,3] in 0..255.
"""

import numpy as np
from scipy import ndimage

GRAY_WEIGHTS = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])
SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def gray(image, rounded=True):
    value = np.asarray(image, np.float64) @ GRAY_WEIGHTS
    return np.floor(value + 0.5) if rounded else value


def box(image, factor, mode):
    """MATLAB's imfilter with ones(F)/F^2, whose even windows look forward, then every F-th."""
    origin = -1 if factor % 2 == 0 else 0
    mean = ndimage.uniform_filter(np.asarray(image, np.float64), factor, mode=mode, origin=origin)
    return mean[::factor, ::factor]


def automatic_factor(image):
    return max(1, int(np.floor(min(image.shape[:2]) / 256 + 0.5)))


def ssim_terms(x, y):
    """Luminance and contrast-structure maps of the valid region."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(image):
        for axis in (0, 1):
            image = ndimage.correlate1d(image, window, axis)
        return image[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
    return luminance, (2 * cov + 58.5225) / (vx + vy + 58.5225)


def ssim(reference, distorted, downsample=True, rounded=True):
    x, y = gray(reference, rounded), gray(distorted, rounded)
    if downsample:
        factor = automatic_factor(reference)
        x, y = box(x, factor, 'reflect'), box(y, factor, 'reflect')
    luminance, structure = ssim_terms(x, y)
    return (luminance * structure).mean()


def ms_ssim(reference, distorted, rounded=True, product=True):
    x, y = gray(reference, rounded), gray(distorted, rounded)
    terms = []
    for scale in range(5):
        if scale:
            x, y = box(x, 2, 'reflect'), box(y, 2, 'reflect')
        luminance, structure = ssim_terms(x, y)
        terms.append((luminance * structure if scale == 4 else structure).mean())
    if not product:
        return np.sum(SCALE_WEIGHTS / SCALE_WEIGHTS.sum() * terms)
    return np.prod(np.maximum(terms, 0) ** SCALE_WEIGHTS)


def prewitt(image):
    kernel = np.array([[1, 0, -1]] * 3) / 3
    across = ndimage.correlate(image, kernel, mode='constant')
    return np.hypot(across, ndimage.correlate(image, kernel.T, mode='constant'))


def similarity(a, b, constant):
    return (2 * a * b + constant) / (a**2 + b**2 + constant)


def gmsd(reference, distorted, rounded=True):
    x, y = (prewitt(box(gray(image, rounded), 2, 'constant')) for image in (reference, distorted))
    return similarity(x, y, 170).std(ddof=1)


def mdsi(reference, distorted, weighted_sum=True):
    factor = automatic_factor(reference)
    planes = []
    for image in (reference, distorted):
        red, green, blue = (box(image[..., i], factor, 'constant') for i in range(3))
        planes.append(
            (
                0.2989 * red + 0.5870 * green + 0.1140 * blue,
                0.30 * red + 0.04 * green - 0.35 * blue,
                0.34 * red - 0.60 * green + 0.17 * blue,
            )
        )
    (l1, h1, m1), (l2, h2, m2) = planes
    g1, g2, fused = prewitt(l1), prewitt(l2), prewitt((l1 + l2) / 2)
    gradient = similarity(g1, g2, 140) + similarity(g2, fused, 55) - similarity(g1, fused, 55)
    chroma = (2 * (h1 * h2 + m1 * m2) + 550) / (h1**2 + h2**2 + m1**2 + m2**2 + 550)
    gradient, chroma = gradient.astype(complex), chroma.astype(complex)
    combined = 0.6 * gradient + 0.4 * chroma if weighted_sum else gradient**0.2 * chroma**0.1
    root = combined**0.25
    return np.abs(root - root.mean()).mean() ** 0.25
