"""SR-SIM once more, in float64 NumPy and SciPy, with the logarithm and angle of the paper."""

import float64_ssim
import numpy as np
from float64_resize import imresize
from scipy import ndimage


def scharr(image):
    kernel = np.array([[3, 0, -3], [10, 0, -10], [3, 0, -3]]) / 16
    across = ndimage.correlate(image, kernel, mode='constant')
    return np.hypot(across, ndimage.correlate(image, kernel.T, mode='constant'))


def saliency(light):
    shape = [-(-side // 4) for side in light.shape]
    spectrum = np.fft.fft2(imresize(light, shape, cubic=True, scale=0.25))
    with np.errstate(divide='ignore'):
        amplitude = np.log(np.abs(spectrum))
    residual = amplitude - ndimage.uniform_filter(amplitude, 3, mode='nearest')
    found = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    offsets = np.arange(10) - 4.5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 3.8**2))
    found = ndimage.correlate(found, window / window.sum(), mode='constant', origin=-1)
    found = (found - found.min()) / (found.max() - found.min())
    return imresize(found, light.shape, cubic=True)


def sr_sim(reference, distorted):
    factor = float64_ssim.automatic_factor(reference)
    lights = [
        float64_ssim.box(np.asarray(image, np.float64) @ [0.299, 0.587, 0.114], factor, 'constant')
        for image in (reference, distorted)
    ]
    if min(np.ptp(light) for light in lights) == 0:
        return np.nan
    s1, s2 = (saliency(light) for light in lights)
    gradient = float64_ssim.similarity(*(scharr(light) for light in lights), 225)
    weight = np.maximum(s1, s2)
    return (float64_ssim.similarity(s1, s2, 0.4) * gradient**0.5 * weight).sum() / weight.sum()
