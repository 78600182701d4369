"""FSIM and FSIMc, feature similarity by phase congruency, as the authors' FeatureSIM.m computes it.

Inputs are RGB float32 [N,H,W,3] in 0..255, outputs float32 [N] in 0..1, higher is better, 1 is
identical; symmetric. Source: Zhang, Zhang, Mou and Zhang, TIP 2011.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters

LUMA = (0.299, 0.587, 0.114)
CHROMA_I = (0.596, -0.274, -0.322)
CHROMA_Q = (0.211, -0.523, 0.312)
CONGRUENCY_CONSTANT, GRADIENT_CONSTANT, CHROMA_CONSTANT = 0.85, 160.0, 200.0
CHROMA_EXPONENT = 0.03

SCALES = 4
ORIENTATIONS = 4
MIN_WAVELENGTH = 6
BANDWIDTH = 0.55  # ratio of the log-Gabor deviation to the centre frequency
ANGULAR_DEVIATION = math.pi / ORIENTATIONS / 1.2
LOW_PASS_CUTOFF, LOW_PASS_ORDER = 0.45, 15
NOISE_DEVIATIONS = 2.0
NOISE_DIVISOR = 1.7  # corrects the threshold for summing several scales
EPSILON = 1e-4


def _frequencies(length: int) -> np.ndarray:
    """Frequencies [length] in FFT order; an odd length divides by length - 1, as the original."""
    first = -(length // 2)
    return np.fft.ifftshift(np.arange(first, first + length)) / (length - length % 2)


@functools.lru_cache(maxsize=8)
def _filter_bank(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radial [scales,H,W] and angular [orientations,H,W] filters, and noise factors [orientations].

    A noise factor times the root of the median finest energy is the noise threshold.
    """
    y, x = _frequencies(height)[:, None], _frequencies(width)
    radius = np.hypot(x, y)
    angle = np.arctan2(-y, x)
    low_pass = 1 / (1 + (radius / LOW_PASS_CUTOFF) ** (2 * LOW_PASS_ORDER))
    radius[0, 0] = 1
    centres = 1 / (MIN_WAVELENGTH * 2.0 ** np.arange(SCALES))
    octaves = np.log(radius / centres[:, None, None])
    radial = np.exp(-(octaves**2) / (2 * math.log(BANDWIDTH) ** 2)) * low_pass
    radial[:, 0, 0] = 0
    apart = angle - (np.arange(ORIENTATIONS) * math.pi / ORIENTATIONS)[:, None, None]
    apart = np.arctan2(np.sin(apart), np.cos(apart))
    angular = np.exp(-(apart**2) / (2 * ANGULAR_DEVIATION**2))

    # By Parseval, the energy of the summed filters' real part in space is that of the even part.
    total = radial.sum(0) * angular
    even = (total + np.roll(np.flip(total, (-2, -1)), 1, (-2, -1))) / 2
    finest = ((radial[0] * angular) ** 2).sum((-2, -1))
    deviation = np.sqrt((even**2).sum((-2, -1)) / (math.log(2) * finest))
    spread = math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)
    noise = deviation * spread / NOISE_DIVISOR
    return tuple(part.astype(np.float32) for part in (radial, angular, noise))


def _middle(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two middle values (equal for an odd count) of non-negative float32 [K], without sorting.

    The bits of non-negative floats order like integers, so the value is found bit by bit: that is
    31 passes that count, many times faster than XLA's sort on CPU.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    rank = (x.size - 1) // 2

    def next_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | (1 << (30 - i))
        return jnp.where((bits < candidate).sum() <= rank, candidate, found)

    # From a 0 that varies over devices as x does, or shard_map refuses the loop.
    lower = jax.lax.fori_loop(0, 31, next_bit, bits[0] & 0)
    above = jnp.where(bits > lower, bits, np.iinfo(np.int32).max).min()
    upper = jnp.where((bits <= lower).sum() > x.size // 2, lower, above)
    return tuple(jax.lax.bitcast_convert_type(b, jnp.float32) for b in (lower, upper))


@jax.custom_jvp
def _median(x: jax.Array) -> jax.Array:
    """Median of non-negative float32 [K]; its gradient goes to the middle values."""
    lower, upper = _middle(x)
    return (lower + upper) / 2


@_median.defjvp
def _median_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    middle = _middle(x)
    chosen = [(x == value).astype(x.dtype) for value in middle]
    # None is chosen where the compiler computes x twice and rounds it differently.
    slope = sum((mask * tangent).sum() / jnp.maximum(mask.sum(), 1.0) for mask in chosen) / 2
    return (middle[0] + middle[1]) / 2, slope


def _each(function: Callable, inputs: tuple | jax.Array) -> tuple | jax.Array:
    """function over the first axis: one after another on CPU, where the cache then holds it all."""
    if jax.default_backend() == 'cpu':
        return jax.lax.map(function, inputs)
    return jax.vmap(function)(inputs)


def _magnitude(real: jax.Array, imaginary: jax.Array) -> jax.Array:
    return maps.power(real * real + imaginary * imaginary, 0.5)


def phase_congruency(plane: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Phase congruency [H,W] of float32 [H,W], and whether it is 0/0 (taken as 0) anywhere."""
    radial, angular, noise = _filter_bank(*plane.shape)
    # No filter sees an offset; without it a flat image has no rounding noise but is exactly 0.
    spectrum = jnp.fft.fft2(plane - jax.lax.stop_gradient(plane[0, 0]))

    def orientation(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Energy above noise and amplitude, both [H,W], of one orientation."""
        angular, noise = inputs
        responses = jnp.fft.ifft2(spectrum * (radial * angular))
        # Scale by scale, not with sums over the first axis: those recompute all they depend on.
        parts = [(response.real, response.imag) for response in responses]
        sums = [functools.reduce(jnp.add, part) for part in zip(*parts, strict=True)]
        length = _magnitude(*sums)
        deviation = sum(jnp.abs(real * sums[1] - imag * sums[0]) for real, imag in parts)
        energy = (length * length - deviation) / (length + EPSILON)
        real, imag = parts[0]
        median = _median(filters.materialize((real * real + imag * imag).reshape(-1)))
        threshold = noise * maps.power(median, 0.5)
        return jnp.maximum(energy - threshold, 0.0), sum(_magnitude(*part) for part in parts)

    energies, amplitudes = _each(orientation, (jnp.asarray(angular), jnp.asarray(noise)))
    energy, amplitude = functools.reduce(jnp.add, energies), functools.reduce(jnp.add, amplitudes)
    silent = amplitude == 0
    return jnp.where(silent, 0.0, energy / jnp.where(silent, 1.0, amplitude)), silent.any()


@maps.shared
def _light_error(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """1 - similarity and weight maps [N,h,w] of two light planes [N,h,w], and 0/0 flags [N]."""
    both = jnp.concatenate([first, second])
    congruency, silent = _each(phase_congruency, both)
    congruency = jnp.split(congruency, 2)
    gradients = [maps.gradient(x, 'scharr') for x in (first, second)]
    phase = maps.dissimilarity(*congruency, CONGRUENCY_CONSTANT)
    edges = maps.dissimilarity(*gradients, GRADIENT_CONSTANT)
    error = phase + edges - phase * edges
    return error, jnp.maximum(*congruency), silent.reshape(2, -1).any(0)


def _chroma_error(i: list[jax.Array], q: list[jax.Array]) -> jax.Array:
    """1 - real part of (similarity of I times similarity of Q) ** 0.03 of two pairs of planes."""
    in_phase, quadrature = (maps.dissimilarity(*pair, CHROMA_CONSTANT) for pair in (i, q))
    error = in_phase + quadrature - in_phase * quadrature
    modulus_error = -jnp.expm1(CHROMA_EXPONENT * maps.log_similarity(error))
    # MATLAB's power of a negative number is complex.
    turned = 1 - (1 - modulus_error) * math.cos(math.pi * CHROMA_EXPONENT)
    return jnp.where(error > 1, turned, modulus_error)


def fsim(
    reference: jax.Array, distorted: jax.Array, *, parity: bool = False, chromatic: bool = False
) -> jax.Array:
    """FSIM, or FSIMc where `chromatic`, float32 [N].

    A flat image has no phase: the original answers NaN, and so does `parity`. Otherwise its phase
    congruency is 0, and where neither image has any, all pixels weigh the same.
    """
    factor = filters.downsample_factor(*reference.shape[-3:-1])
    planes = [
        [maps.mixture(image, factor, weights) for image in (reference, distorted)]
        for weights in ((LUMA, CHROMA_I, CHROMA_Q) if chromatic else (LUMA,))
    ]
    error, weight, silent = _light_error(*planes[0])
    if chromatic:
        chroma = _chroma_error(*planes[1:])
        error = error + chroma - error * chroma
    loss, empty = maps.weighted_mean(error, weight)
    return jnp.where((silent | empty) & parity, jnp.nan, 1 - loss)
