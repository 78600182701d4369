"""Max pooling with a gradient that is fast on each backend.

XLA's CPU backend runs the gradient of lax.reduce_window with index tables and a scatter, which
takes longer than any convolution of a ResNet-18 (benchmarks/conv_forms.py).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

Pads = tuple[tuple[int, int], tuple[int, int]]


def max_pool(x: jax.Array, size: int, stride: int, pads: Pads) -> jax.Array:
    """Largest value of each window: [N,H,W,C] -> [N,H',W',C]; outside the picture is -infinity.

    The slope goes to the first of equal values. Pads are smaller than `size`.
    """
    if jax.default_backend() == 'cpu':
        return _max_pool_cpu(x, size, stride, pads)
    return max_pool_lax(x, size, stride, pads)


def max_pool_lax(x: jax.Array, size: int, stride: int, pads: Pads) -> jax.Array:
    """The same through lax.reduce_window."""
    return nn.max_pool(x, (size, size), (stride, stride), pads)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool_cpu(x: jax.Array, size: int, stride: int, pads: Pads) -> jax.Array:
    return max_pool_lax(x, size, stride, pads)


def _forward(x, size, stride, pads):
    """Saves the number of the window's first largest tap instead of the picture."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    rows, columns = ((n - size) // stride + 1 for n in padded.shape[1:3])
    best, tap = None, None
    for i in range(size):
        for j in range(size):
            bottom, right = i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1
            part = padded[:, i:bottom:stride, j:right:stride]
            if best is None:
                best, tap = part, jnp.zeros(part.shape, jnp.uint8)
                continue
            tap = jnp.where(part > best, jnp.uint8(i * size + j), tap)
            best = jnp.maximum(best, part)
    return best, (tap, x.shape)


def _backward(size, stride, pads, saved, slope):
    """Pixels of one phase (position mod stride) are met by the same taps: one sum for each."""
    tap, shape = saved
    (top, _), (left, _) = pads
    reach = size // stride + 1
    rows, columns = (-(-n // stride) for n in shape[1:3])
    # Room for every shift below; what lies outside belongs to no tap.
    spare = [
        (reach, reach + max(0, phase_size - size_out))
        for phase_size, size_out in ((rows, tap.shape[1]), (columns, tap.shape[2]))
    ]
    tap = jnp.pad(tap, ((0, 0), *spare, (0, 0)), constant_values=255)
    slope = jnp.pad(slope, ((0, 0), *spare, (0, 0)))

    def phase(a: int, b: int) -> jax.Array:
        total = jnp.zeros((), slope.dtype)
        for i in range(size):
            for j in range(size):
                if (a + top - i) % stride or (b + left - j) % stride:
                    continue
                down, along = reach + (a + top - i) // stride, reach + (b + left - j) // stride
                here = (slice(None), slice(down, down + rows), slice(along, along + columns))
                total += jnp.where(tap[here] == i * size + j, slope[here], 0)
        return jnp.broadcast_to(total, (shape[0], rows, columns, shape[3]))

    lines = [jnp.stack([phase(a, b) for b in range(stride)], 3) for a in range(stride)]
    whole = jnp.stack(lines, 2).reshape(shape[0], rows * stride, columns * stride, shape[3])
    return (whole[:, : shape[1], : shape[2]],)


_max_pool_cpu.defvjp(_forward, _backward)
