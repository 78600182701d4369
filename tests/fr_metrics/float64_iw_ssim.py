"""IW-SSIM once more, in float64 NumPy and SciPy, with dense matrices and direct windows.

It shares no code and no formula arrangement with the package. Inputs are [H,W,3] in 0..255.
"""

import numpy as np
from float64_ssim import gray
from scipy import ndimage

SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
KERNEL = np.sqrt(2) / 16 * np.array([1.0, 4.0, 6.0, 4.0, 1.0])


def smooth(image, kernel):
    for axis in (0, 1):
        image = ndimage.correlate1d(image, kernel, axis, mode='mirror')
    return image


def pyramid(image):
    bands = []
    for _ in range(4):
        low = smooth(image, KERNEL)[::2, ::2]
        sparse = np.zeros_like(image)
        sparse[::2, ::2] = low
        bands.append(image - smooth(sparse, KERNEL))
        image = low
    return [*bands, image]


def resize_matrix(size, out):
    """MATLAB's bilinear imresize of one axis, enlarging."""
    scale = out / size
    u = np.arange(1, out + 1) / scale + (1 - 1 / scale) / 2
    samples = np.arange(size + 2)  # 1-based, with one mirrored sample at each end
    matrix = np.maximum(0, 1 - abs(u[:, None] - samples))
    matrix[:, 1] += matrix[:, 0]
    matrix[:, -2] += matrix[:, -1]
    return matrix[:, 1:-1]


def enlarge(band):
    rows, cols = band.shape
    fine = resize_matrix(rows, 4 * rows - 3) @ band @ resize_matrix(cols, 4 * cols - 3).T
    fine = np.vstack([2 * fine[0] - fine[1], fine, 2 * fine[-1] - fine[-2]])
    left, right = 2 * fine[:, 0] - fine[:, 1], 2 * fine[:, -1] - fine[:, -2]
    return np.column_stack([left, fine, right])[::2, ::2]


def ssim_terms(x, y):
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(image):
        for axis in (0, 1):
            image = ndimage.correlate1d(image, window, axis)
        return image[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx = np.maximum(blur(x * x) - mx * mx, 0)
    vy = np.maximum(blur(y * y) - my * my, 0)
    cov = blur(x * y) - mx * my
    luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
    return luminance, (2 * cov + 58.5225) / (vx + vy + 58.5225)


def information(x, y, parent):
    """Weights of the interior pixels."""

    def box(image):
        # Not uniform_filter: its running sums carry rounding errors into flat regions.
        return ndimage.correlate(image, np.full((3, 3), 1 / 9), mode='constant')

    mx, my = box(x), box(y)
    cov = box(x * y) - mx * my
    vx, vy = np.maximum(box(x * x) - mx * mx, 0), np.maximum(box(y * y) - my * my, 0)
    g = cov / (vx + 1e-15)
    v = vy - g * cov
    g[vx < 1e-15], v[vx < 1e-15] = 0, vy[vx < 1e-15]
    g[vy < 1e-15] = v[vy < 1e-15] = 0
    blocks = np.lib.stride_tricks.sliding_window_view(x, (3, 3))
    u = blocks.reshape(*blocks.shape[:2], 9)
    if parent is not None:
        u = np.concatenate([u, parent[1:-1, 1:-1, None]], -1)
    flat_u = u.reshape(-1, u.shape[-1])
    covariance = flat_u.T @ flat_u / len(flat_u)
    eigenvalues = np.linalg.eigvalsh(covariance)
    positive = np.maximum(eigenvalues, 0)
    eigenvalues = positive * eigenvalues.sum() / positive.sum()
    energy = (flat_u @ np.linalg.inv(covariance) * flat_u).sum(1) / u.shape[-1]
    energy = energy.reshape(u.shape[:2])[..., None]
    g, v = g[1:-1, 1:-1, None], v[1:-1, 1:-1, None]
    ratio = ((v + (1 + g**2) * 0.4) * energy * eigenvalues + 0.4 * v) / 0.16
    weights = np.log2(1 + ratio).sum(-1)
    return np.where(weights < 1e-15, 0, weights)


def iw_ssim(reference, distorted, rounded=True):
    xs, ys = (pyramid(gray(image, rounded)) for image in (reference, distorted))
    terms = []
    for k in range(5):
        luminance, structure = ssim_terms(xs[k], ys[k])
        if k == 4:
            terms.append((luminance * structure).mean())
            continue
        rows, cols = xs[k].shape
        parent = enlarge(xs[k + 1])[:rows, :cols] if k < 3 else None
        weights = information(xs[k], ys[k], parent)[4:-4, 4:-4]
        terms.append((weights * structure).sum() / weights.sum())
    return np.prod(np.maximum(terms, 0) ** (SCALE_WEIGHTS / SCALE_WEIGHTS.sum()))
