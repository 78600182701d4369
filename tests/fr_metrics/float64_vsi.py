"""VSI once more, in float64 NumPy and SciPy, with complex transforms and complex powers."""

import float64_ssim
import numpy as np
from float64_resize import imresize
from scipy import ndimage


def lab(rgb):
    """L, a, b of RGB planes [3,h,w] in 0..255 with the original's mixture of D65 and D50."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    x, y, z = np.tensordot(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ],
        linear,
        1,
    )

    def f(t):
        return np.where(t > 0.008856, np.cbrt(t), (903.3 * t + 16) / 116)

    fx, fy, fz = f(x / 0.9642), f(y), f(z / 0.8251)
    return [116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)]


def log_gabor():
    v, u = np.meshgrid((np.arange(1, 257) - 129) / 256, (np.arange(1, 257) - 129) / 256)
    outside = u**2 + v**2 > 0.25
    u[outside] = v[outside] = 0
    radius = np.fft.ifftshift(np.hypot(u, v))
    radius[0, 0] = 1
    with np.errstate(divide='ignore'):
        band = np.exp(-(np.log(radius / 0.021) ** 2) / (2 * 1.34**2))
    band[0, 0] = 0
    return band


def minmax(x):
    return (x - x.min()) / (x.max() - x.min())


def saliency(image):
    planes = [imresize(image[..., i].astype(np.float64), (256, 256)) for i in range(3)]
    channels = lab(np.stack(planes))
    band = log_gabor()
    energy = sum(np.fft.ifft2(np.fft.fft2(channel) * band).real ** 2 for channel in channels)
    i, j = np.mgrid[1:257, 1:257]
    place = np.exp(-((i - 128) ** 2 + (j - 128) ** 2) / 145**2)
    na, nb = minmax(channels[1]), minmax(channels[2])
    colour = 1 - np.exp(-(na**2 + nb**2) / 0.001**2)
    return minmax(imresize(np.sqrt(energy) * place * colour, image.shape[:2]))


def scharr(image):
    kernel = np.array([[3, 0, -3], [10, 0, -10], [3, 0, -3]]) / 16
    across = ndimage.correlate(image, kernel, mode='constant')
    return np.hypot(across, ndimage.correlate(image, kernel.T, mode='constant'))


def vsi(reference, distorted):
    if min(np.ptp(image.reshape(-1, 3), 0).max() for image in (reference, distorted)) == 0:
        return np.nan
    factor = float64_ssim.automatic_factor(reference)
    weights = [[0.06, 0.63, 0.27], [0.30, 0.04, -0.35], [0.34, -0.60, 0.17]]
    planes = []
    for image in (reference, distorted):
        mixed = [np.asarray(image, np.float64) @ w for w in weights]
        planes.append([float64_ssim.box(x, factor, 'constant') for x in (*mixed, saliency(image))])
    (l1, m1, n1, s1), (l2, m2, n2, s2) = planes
    similarity = float64_ssim.similarity
    chroma = similarity(m1, m2, 130) * similarity(n1, n2, 130)
    total = similarity(scharr(l1), scharr(l2), 386) ** 0.4 * similarity(s1, s2, 1.27)
    total = total * np.real(chroma.astype(complex) ** 0.02)
    weight = np.maximum(s1, s2)
    return (total * weight).sum() / weight.sum()
