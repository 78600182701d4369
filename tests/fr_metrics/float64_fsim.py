"""FSIM and FSIMc once more, in float64 NumPy and SciPy, written step by step from the definition.

Shares no code with the package and takes no short cuts: NumPy's median, filters in space for the
noise estimate, complex powers. Inputs are [H,W,3] in 0..255.
"""

import numpy as np
from scipy import ndimage

YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def downsampled(plane):
    factor = max(1, int(np.floor(min(plane.shape) / 256 + 0.5)))
    origin = -1 if factor % 2 == 0 else 0
    mean = ndimage.uniform_filter(plane, factor, mode='constant', origin=origin)
    return mean[::factor, ::factor] if factor > 1 else plane


def frequencies(length):
    if length % 2:
        return np.arange(-(length - 1) / 2, (length - 1) / 2 + 1) / (length - 1)
    return np.arange(-length / 2, length / 2) / length


def filter_stack(height, width):
    """[4 orientations, 4 scales, height, width]."""
    x, y = np.meshgrid(frequencies(width), frequencies(height))
    radius, angle = (np.fft.ifftshift(m) for m in (np.sqrt(x**2 + y**2), np.arctan2(-y, x)))
    radius[0, 0] = 1
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    stack = np.empty((4, 4, height, width))
    for o in range(4):
        apart = np.abs(np.angle(np.exp(1j * (angle - o * np.pi / 4))))
        angular = np.exp(-(apart**2) / (2 * (np.pi / 4 / 1.2) ** 2))
        for s in range(4):
            centre = 1 / (6 * 2**s)
            radial = np.exp(-(np.log(radius / centre) ** 2) / (2 * np.log(0.55) ** 2)) * low_pass
            radial[0, 0] = 0
            stack[o, s] = radial * angular
    return stack


def noise_threshold(bank, finest):
    """Of one orientation: filters [4,H,W] and the finest response [H,W]."""
    power = np.median(np.abs(finest) ** 2) / np.log(2) / (bank[0] ** 2).sum()
    in_space = np.fft.ifft2(bank).real * np.sqrt(finest.size)
    squares = sum((h * h).sum() for h in in_space)
    cross = sum((in_space[s] * in_space[t]).sum() for s in range(4) for t in range(s + 1, 4))
    tau = np.sqrt((2 * power * squares + 4 * power * cross) / 2)
    return (tau * np.sqrt(np.pi / 2) + 2 * np.sqrt((2 - np.pi / 2) * tau**2)) / 1.7


def phase_congruency(plane):
    spectrum = np.fft.fft2(plane)
    energies, amplitudes = 0, 0
    for bank in filter_stack(*plane.shape):
        e = np.fft.ifft2(spectrum * bank)
        even, odd = e.real.sum(0), e.imag.sum(0)
        length = np.sqrt(even**2 + odd**2) + 1e-4
        even, odd = even / length, odd / length
        energy = (e.real * even + e.imag * odd - np.abs(e.real * odd - e.imag * even)).sum(0)
        energies = energies + np.maximum(energy - noise_threshold(bank, e[0]), 0)
        amplitudes = amplitudes + np.abs(e).sum(0)
    with np.errstate(invalid='ignore'):
        return energies / amplitudes


def scharr(plane):
    kernel = np.array([[3, 0, -3], [10, 0, -10], [3, 0, -3]]) / 16
    across = ndimage.correlate(plane, kernel, mode='constant')
    return np.hypot(across, ndimage.correlate(plane, kernel.T, mode='constant'))


def similarity(a, b, constant):
    return (2 * a * b + constant) / (a**2 + b**2 + constant)


def fsim(reference, distorted, chromatic=False):
    (y1, i1, q1), (y2, i2, q2) = (
        [downsampled(np.asarray(image, np.float64) @ row) for row in YIQ]
        for image in (reference, distorted)
    )
    pc1, pc2 = phase_congruency(y1), phase_congruency(y2)
    score = similarity(pc1, pc2, 0.85) * similarity(scharr(y1), scharr(y2), 160)
    if chromatic:
        colour = similarity(i1, i2, 200) * similarity(q1, q2, 200)
        score = score * (colour.astype(complex) ** 0.03).real
    weight = np.maximum(pc1, pc2)
    with np.errstate(invalid='ignore'):
        return (score * weight).sum() / weight.sum()
