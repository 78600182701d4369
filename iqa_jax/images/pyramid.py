"""Steps of image pyramids: halving, doubling and bilinear enlargement, all on [..., H, W].

Each step is one short banded matrix per axis, applied as a sum of shifted slices whose weights
differ near the borders only; the border rule thus costs nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.images import filters

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def reduce(x: jax.Array, taps: tuple[float, ...], padding: str) -> jax.Array:
    """Filters by five `taps` per axis, keeps samples 0, 2, 4...: [..., ceil(H/2), ceil(W/2)].

    `padding` is 'reflect' (the edge sample is not repeated) or 'symmetric' (it is).
    """
    height, width = x.shape[-2:]
    x = filters.materialize(_down(x, _reduction(height, taps, padding), -2))
    return filters.materialize(_down(x, _reduction(width, taps, padding), -1))


def expand(
    x: jax.Array, height: int, width: int, taps: tuple[float, ...], padding: str
) -> jax.Array:
    """[..., height, width]: samples of x at even places, zeros between, filtered by `taps`.

    'reflect' mirrors the zero-filled image at its own edge, 'edge' repeats the edge samples of x.
    """
    x = filters.materialize(_up(x, _expansion(width, taps, padding), width, -1))
    return _up(x, _expansion(height, taps, padding), height, -2)


def enlarge(x: jax.Array, height: int, width: int) -> jax.Array:
    """The top left [..., height, width] of x enlarged twice, by the rule of the IW-SSIM authors.

    A bilinear imresize from n to 4n-3 samples, one more at each end on a straight line, and of
    these every second one.
    """
    rows, cols = x.shape[-2:]
    x = filters.materialize(_up(x, _enlargement(cols), width, -1))
    return _up(x, _enlargement(rows), height, -2)


def _shifted(x: jax.Array, start: int, stop: int, step: int, axis: int) -> jax.Array:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _zero_padded(x: jax.Array, before: int, after: int, axis: int) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return jnp.pad(x, widths)


def _weights(values: np.ndarray, axis: int) -> jax.Array | float:
    """The weights of one slice along `axis`; a plain number if all are equal."""
    if (values == values[0]).all():
        return float(values[0])
    return jnp.asarray(values, jnp.float32).reshape((-1,) + (1,) * (-1 - axis))


def _down(x: jax.Array, weights: np.ndarray, axis: int) -> jax.Array:
    """Weighs samples 2i-2 .. 2i+2 along `axis` into sample i; weights [5, ceil(n/2)]."""
    out = weights.shape[1]
    padded = _zero_padded(x, 2, 2, axis)
    total = 0.0
    for k, values in enumerate(weights):
        part = _shifted(padded, k, k + 2 * out - 1, 2, axis)
        total = total + part * _weights(values, axis)
    return total


def _up(x: jax.Array, weights: np.ndarray, out: int, axis: int) -> jax.Array:
    """Weighs samples i-1 .. i+2 along `axis` into samples 2i and 2i+1, of which `out` are kept.

    Weights are [2, 4, n], for even and odd samples.
    """
    size = weights.shape[-1]
    padded = _zero_padded(x, 1, 2, axis)
    phases = []
    for phase in weights:
        terms = [
            _shifted(padded, k, k + size, 1, axis) * _weights(values, axis)
            for k, values in enumerate(phase)
            if values.any()
        ]
        phases.append(sum(terms) if terms else jnp.zeros_like(x))  # no terms: cut off below
    axis = x.ndim + axis
    both = jnp.stack(phases, axis + 1).reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return _shifted(both, 0, out, 1, axis)


def _up_weights(matrix: np.ndarray) -> np.ndarray:
    """The weights of `_up` for matrix [m, n], whose rows 2i and 2i+1 hold samples i-1 .. i+2."""
    out, size = matrix.shape
    wide = np.pad(matrix, ((0, 2 * size - out), (1, 2)))
    i = np.arange(size)
    return np.stack([[wide[2 * i + phase, i + k] for k in range(4)] for phase in (0, 1)])


@functools.cache
def _reduction(size: int, taps: tuple[float, ...], padding: str) -> np.ndarray:
    """Weights of `_down` for one axis of `reduce`."""
    matrix = np.zeros((-(-size // 2), size))
    sources = np.pad(np.arange(size), 2, filters.PADDING_MODES[padding])
    for i in range(len(matrix)):
        np.add.at(matrix[i], sources[2 * i : 2 * i + 5], taps)
    wide, i = np.pad(matrix, ((0, 0), (2, 2))), np.arange(len(matrix))
    return np.stack([wide[i, 2 * i + k] for k in range(5)])


@functools.cache
def _expansion(size: int, taps: tuple[float, ...], padding: str) -> np.ndarray:
    """Weights of `_up` for one axis of `expand`."""
    samples = -(-size // 2)
    if padding == 'edge':
        sources = np.arange(-2, 2 * samples + 2).clip(0, 2 * samples - 2)
        sources = np.where(np.arange(-2, 2 * samples + 2) % 2, -1, sources)
    else:
        sources = np.pad(np.arange(size), 2, filters.PADDING_MODES[padding])
    matrix = np.zeros((size, samples))
    for i in range(size):
        for source, tap in zip(sources[i : i + 5], taps, strict=True):
            if source % 2 == 0:
                matrix[i, source // 2] += tap
    return _up_weights(matrix)


@functools.cache
def _enlargement(size: int) -> np.ndarray:
    """Weights of `_up` for one axis of `enlarge`."""
    fine = 4 * size - 3
    centres = (np.arange(fine) + 0.5) * size / fine - 0.5
    low = np.floor(centres).astype(int)
    resize = np.zeros((fine, size))
    for row, first, fraction in zip(resize, low, centres - low, strict=True):
        np.add.at(row, np.clip([first, first + 1], 0, size - 1), [1 - fraction, fraction])
    ends = 2 * resize[[0, -1]] - resize[[1, -2]]
    return _up_weights(np.concatenate([ends[:1], resize, ends[1:]])[::2])
