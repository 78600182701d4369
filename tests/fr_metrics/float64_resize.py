"""MATLAB's imresize in float64, as SciPy samples of a mirrored picture; for the metrics' ports."""

import numpy as np


def kernel(x, cubic):
    x = np.abs(x)
    if not cubic:
        return np.clip(1 - x, 0, None)
    near = 1 - 2.5 * x**2 + 1.5 * x**3
    far = 2 - 4 * x + 2.5 * x**2 - 0.5 * x**3
    return np.select([x < 1, x < 2], [near, far], 0)


def one_axis(x, count, scale, cubic):
    """The first axis of x resampled to `count`: a loop over taps of a gather with mirrored edge."""
    length = len(x)
    shrink = min(1, scale)
    reach = int(np.ceil((2 if cubic else 1) / shrink)) + 1
    padded = np.pad(x, [(reach, reach)] + [(0, 0)] * (x.ndim - 1), 'symmetric')
    centres = (np.arange(count) + 0.5) / scale - 0.5
    nearest = np.floor(centres).astype(int)
    total, sums = 0, 0
    for tap in range(-reach + 1, reach + 1):
        weight = kernel(shrink * (centres - nearest - tap), cubic)
        weight = weight.reshape(-1, *[1] * (x.ndim - 1))
        positions = np.clip(nearest + tap + reach, 0, length + 2 * reach - 1)
        total, sums = total + weight * padded[positions], sums + weight
    return total / sums


def imresize(x, shape, cubic=False, scale=None):
    """x [H,W] to `shape`; MATLAB called with a scale uses it instead of the ratio of sizes."""
    for _ in range(2):
        count = shape[0]
        x = one_axis(x, count, scale or count / len(x), cubic).T
        shape = shape[::-1]
    return x
