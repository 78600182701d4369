"""NLPD once more, in float64 NumPy and SciPy, with two-dimensional filters.

It shares no code and no formula arrangement with the package. Inputs are [H,W,3] in 0..255.
"""

import numpy as np
from float64_ssim import gray
from scipy import ndimage

FILTER = np.outer([0.05, 0.25, 0.4, 0.25, 0.05], [0.05, 0.25, 0.4, 0.25, 0.05])
SIGMA = [0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782]
# What multiplies the pixel above, below, left, right and two to the left.
WEIGHTS = [
    [0.1015, 0.1011, 0.1460, 0.1493, 0.0072],
    [0.0837, 0.0757, 0.1846, 0.1986, 0],
    [0.0467, 0.0477, 0.2243, 0.2138, 0],
    [0, 0, 0.2616, 0.2503, 0],
    [0, 0, 0.2552, 0.2598, 0],
    [0, 0, 0.0717, 0.2215, 0],
]


def expand(low, shape):
    padded = np.pad(low, 1, mode='edge')
    sparse = np.zeros((2 * padded.shape[0], 2 * padded.shape[1]))
    sparse[::2, ::2] = 4 * padded
    full = ndimage.correlate(sparse, FILTER, mode='constant')
    return full[2 : 2 + shape[0], 2 : 2 + shape[1]]


def normalized(band, k):
    above, below, left, right, second_left = WEIGHTS[k]
    kernel = np.zeros((5, 5))
    kernel[1, 2], kernel[3, 2], kernel[2, 1], kernel[2, 3] = above, below, left, right
    kernel[2, 0] = second_left
    return band / (SIGMA[k] + ndimage.correlate(abs(band), kernel, mode='constant'))


def bands(image):
    result = []
    for _ in range(5):
        low = ndimage.correlate(image, FILTER, mode='reflect')[::2, ::2]
        result.append(image - expand(low, image.shape))
        image = low
    return [*result, image]


def nlpd(reference, distorted, rounded=True, normalize=True):
    pyramids = [bands(gray(image, rounded) / 255) for image in (reference, distorted)]
    distances = []
    for k, (x, y) in enumerate(zip(*pyramids, strict=True)):
        if normalize:
            x, y = normalized(x, k), normalized(y, k)
        distances.append(np.sqrt(((x - y) ** 2).mean()))
    return np.mean(distances)
