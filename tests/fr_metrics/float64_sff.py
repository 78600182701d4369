"""SFF once more, in float64 NumPy with boolean selections, written from its description.

It shares no code and no formula arrangement with the package. Inputs are [H,W,3] in 0..255.
"""

import pathlib

import numpy as np

from iqa_jax import fr_metrics

DATA = pathlib.Path(fr_metrics.__file__).parent / 'data'
W = np.loadtxt(DATA / 'sff_W_8x192.csv', delimiter=',')


def patches(image):
    """Columns of 192 samples, one per 8x8 block: down each column, then across, then R, G, B."""
    image = np.asarray(image, np.float64)
    height, width = image.shape[:2]
    columns = []
    for row in range((height - 1) // 8):
        for col in range((width - 1) // 8):
            block = image[8 * row : 8 * row + 8, 8 * col : 8 * col + 8]
            columns.append(block.transpose(2, 1, 0).reshape(-1))
    return np.array(columns).T


def sff(reference, distorted):
    x, y = patches(reference), patches(distorted)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    error = np.abs(x - y).mean(0)
    chosen = error >= np.median(error)
    a, b = W @ x[:, chosen], W @ y[:, chosen]
    strength = (a**2).sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        strong = strength > 0.4 * strength.mean()
        a, b = a[:, strong], b[:, strong]
        feature = ((2 * a * b + 0.08) / (a**2 + b**2 + 0.08)).sum() / np.float64(a.size)
    shift = np.abs(mean_x - mean_y)
    chosen = shift >= np.median(shift)
    p, q = mean_x[chosen], mean_y[chosen]
    p, q = p - p.mean(), q - q.mean()
    light = ((p * q).sum() + 0.001) / (np.sqrt((p**2).sum() * (q**2).sum()) + 0.001)
    return 0.8 * light + 0.2 * feature
