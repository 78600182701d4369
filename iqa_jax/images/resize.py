"""MATLAB's imresize: bilinear and bicubic, antialiased, with mirrored borders.

jax.image.resize places its samples alike but drops the taps outside the image, so that it differs
along the borders. Here every axis is one small matrix, made once in float64.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.images import filters


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0))


KERNELS = {'bilinear': (_triangle, 2), 'bicubic': (_cubic, 4)}  # and their width


@functools.lru_cache(maxsize=32)
def weights(length: int, scale: float, method: str, out_length: int | None = None) -> np.ndarray:
    """Matrix float64 [out_length, length] that resizes one axis; rows sum to 1, do not write to it.

    Without out_length it is ceil(scale * length), as MATLAB makes it. Raises ValueError for an
    unknown method.
    """
    if method not in KERNELS:
        raise ValueError(f'method must be one of {sorted(KERNELS)}, not {method!r}')
    kernel, width = KERNELS[method]
    out_length = math.ceil(scale * length) if out_length is None else out_length
    stretch = min(scale, 1.0)  # antialiasing: shrinking widens the kernel
    centres = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(centres - width / stretch / 2).astype(int)
    taps = first[:, None] + np.arange(math.ceil(width / stretch) + 2)
    values = kernel((centres[:, None] - taps) * stretch)
    values /= values.sum(1, keepdims=True)
    taps = taps % (2 * length)
    taps = np.where(taps < length, taps, 2 * length - 1 - taps)
    matrix = np.zeros((out_length, length))
    np.add.at(matrix, (np.arange(out_length)[:, None], taps), values)
    return matrix


def _taps(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First column used [out] and the float32 weights [taps, out] from there on, of each row."""
    used = matrix != 0
    first = used.argmax(1)
    taps = int((matrix.shape[1] - used[:, ::-1].argmax(1) - first).max())
    first = np.minimum(first, matrix.shape[1] - taps)
    columns = first + np.arange(taps)[:, None]
    return first, matrix[np.arange(len(matrix)), columns].astype(np.float32)


def _rows(x: jax.Array, matrix: np.ndarray) -> jax.Array:
    """The matrix [out,H] times every plane of x [...,H,W]."""
    if jax.default_backend() != 'cpu':
        dense = jnp.asarray(matrix, jnp.float32)
        return jnp.einsum('kh,...hw->...kw', dense, x, precision=jax.lax.Precision.HIGHEST)
    # The matrix is nearly all zeros: gathered rows take a quarter of the time on CPU.
    first, taps = _taps(matrix)
    total = None
    for shift, weight in enumerate(taps):
        rows = x.at[..., first + shift, :].get(mode='promise_in_bounds')
        total = rows * weight[:, None] if total is None else total + rows * weight[:, None]
    return total


def _apply(x: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """Rows matrix times every plane of x [...,H,W] times the transposed columns matrix."""
    # Whole rows are faster to gather than single pixels, hence the transposed second step.
    turned = filters.materialize(jnp.swapaxes(_rows(x, rows), -1, -2))
    return jnp.swapaxes(_rows(turned, columns), -1, -2)


def resize(x: jax.Array, height: int, width: int, method: str) -> jax.Array:
    """Float32 planes [...,H,W] resized to [...,height,width], MATLAB's imresize(x, [height width]).

    `method` is 'bilinear' or 'bicubic' (which may overshoot); raises ValueError for another.
    """
    rows, columns = (
        weights(length, out / length, method, out)
        for length, out in zip(x.shape[-2:], (height, width), strict=True)
    )
    return _apply(x, rows, columns)


def rescale(x: jax.Array, scale: float, method: str) -> jax.Array:
    """Float32 planes [...,H,W] resized to [...,ceil(scale H),ceil(scale W)], imresize(x, scale).

    Unlike `resize` to that size, samples lie exactly 1/scale apart.
    """
    return _apply(x, *(weights(length, scale, method) for length in x.shape[-2:]))
