"""3x3 convolutions of stride 1 with half the multiplications, by Winograd's minimal filtering.

Four rows of the output come from six rows of the input: both are transformed along the height by
small fixed matrices, between which each of the six transformed rows meets its own 1x3 kernel, so
that six products take the place of twelve. F(4, 3) of Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016, along one axis only: along both it would save twice as
much and lose three more bits.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]

WIDE = 256  # from so many features on the kernel's slope is a product for each of its columns
ROWS, TAPS = 4, 6  # rows of output per tile, rows of input it reads
INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def winograd(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """Convolve [N,H,W,C] with [3,3,C,D] at stride 1; pads of 0 to 2 zeros per side."""
    return _filter(x, kernel, pads, transposed=False)


def _forward(x, kernel, pads):
    return winograd(x, kernel, pads), (x, kernel)


def _backward(pads, saved, slope):
    x, kernel = saved
    opposite = tuple((2 - before, 2 - after) for before, after in pads)
    into_x = _filter(slope, kernel, opposite, transposed=True)
    return into_x, _kernel_slope(x, slope, pads)


winograd.defvjp(_forward, _backward)


def _filter(x: jax.Array, kernel: jax.Array, pads: Pads, transposed: bool) -> jax.Array:
    """The convolution, or with `transposed` that of the kernel turned by 180 degrees, [3,3,D,C]."""
    height = x.shape[1] + sum(pads[0]) - 2
    kernels = _mix(KERNEL, kernel[::-1] if transposed else kernel)
    rows = [
        _one_row(row, k, pads[1], transposed)
        for row, k in zip(_input_rows(x, pads[0], height), kernels, strict=True)
    ]
    y = jnp.stack(_mix(OUTPUT, rows), axis=2)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :height]


def _one_row(x: jax.Array, kernel: jax.Array, pads: tuple[int, int], transposed: bool) -> jax.Array:
    """Convolve [N,T,W,C] along W with [3,C,D], or with the turned [3,D,C]."""
    if x.size > kernel.size:
        kernel = kernel[::-1].swapaxes(1, 2) if transposed else kernel
        return _direct(x, kernel[None], ((0, 0), pads))
    # A small map: lax.conv would spend as long on copying the kernel into another layout.
    kernel = [k.T for k in kernel[::-1]] if transposed else list(kernel)
    return sum(part @ k for part, k in zip(_columns(x, pads), kernel, strict=True))


def _direct(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    layout = ('NHWC', 'HWIO', 'NHWC')
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=layout)


def _kernel_slope(x: jax.Array, slope: jax.Array, pads: Pads) -> jax.Array:
    """Slope of the kernel: the transposes of the three transforms about six matrix products."""
    height = slope.shape[1]
    tiles = -(-height // ROWS)
    slope = jnp.pad(slope, ((0, 0), (0, tiles * ROWS - height), (0, 0), (0, 0)))
    slopes = _mix(OUTPUT.T, [slope[:, i::ROWS] for i in range(ROWS)])
    rows = (_columns(row, pads[1]) for row in _input_rows(x, pads[0], height))
    found = [_column_slopes(columns, into) for columns, into in zip(rows, slopes, strict=True)]
    return jnp.stack(_mix(KERNEL.T, found))


def _column_slopes(parts: list[jax.Array], slope: jax.Array) -> jax.Array:
    """Products [3,C,D] of three maps [N,T,W,C] with one [N,T,W,D], over all positions."""
    channels, features = parts[0].shape[-1], slope.shape[-1]
    slope = slope.reshape(-1, features)
    if features >= WIDE:
        return jnp.stack([part.reshape(-1, channels).T @ slope for part in parts])
    # Thin products are slow: the three side by side. The slope is transposed, mostly the narrower.
    joined = jnp.concatenate(parts, -1).reshape(-1, 3 * channels)
    found = lax.dot_general(slope, joined, (((0,), (0,)), ((), ())))
    return found.reshape(features, 3, channels).transpose(1, 2, 0)


def _input_rows(x: jax.Array, pads: tuple[int, int], height: int) -> list[jax.Array]:
    """The six transformed rows [N,T,W,C] of all T tiles that make `height` rows of output."""
    tiles = -(-height // ROWS)
    missing = tiles * ROWS + 2 - x.shape[1] - pads[0]
    x = jnp.pad(x, ((0, 0), (pads[0], missing), (0, 0), (0, 0)))
    last = ROWS * (tiles - 1) + 1
    return _mix(INPUT, [x[:, i : i + last : ROWS] for i in range(TAPS)])


def _columns(x: jax.Array, pads: tuple[int, int]) -> list[jax.Array]:
    """The three slices of the padded [N,T,W,C] that the taps of a 1x3 kernel meet."""
    x = jnp.pad(x, ((0, 0), (0, 0), pads, (0, 0)))
    return [x[:, :, i : x.shape[2] - 2 + i] for i in range(3)]


def _mix(matrix: np.ndarray, parts) -> list[jax.Array]:
    """The matrix times a list of arrays, without its zeros."""
    return [
        sum(float(weight) * part for weight, part in zip(line, parts, strict=True) if weight)
        for line in matrix
    ]
