"""Pictures padded to a larger size: what a network must do to see them as if they were not.

A convolution sees zeros outside its picture, so what lies in the padding is set to zero before each
one; and where XLA's 'SAME' rule starts a strided convolution depends on the true size, so pictures
of a batch are moved by up to one position. Both make padding exact for networks of convolutions.
"""

import contextlib
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import heads, layers


def unseen(valid: jax.Array | None, size: tuple[int, int]) -> contextlib.AbstractContextManager:
    """Within this context no convolution with zero padding sees the padding of the pictures."""
    if valid is None:
        return contextlib.nullcontext()

    def intercept(call: Callable, args: tuple, options: dict, context) -> jax.Array:
        layer = context.module
        if isinstance(layer, layers.Conv) and layer.kernel_size > 1 and layer.padding != 'VALID':
            x, *rest = args
            x = jnp.where(heads.valid_part(x, valid, size), x, 0)
            if layer.padding == 'SAME' and layer.stride > 1:
                x = _aligned(x, layer, valid, size)
            return call(x, *rest, **options)
        y = call(*args, **options)
        # A pooling may follow, whose border counts as nothing; after a ReLU that is as good as 0.
        if isinstance(layer, layers.BatchNorm) and layer.activation is not None and y.ndim == 4:
            y = jnp.where(heads.valid_part(y, valid, size), y, 0)
        return y

    return nn.intercept_methods(intercept)


def _zeros_before(length: jax.Array | int, conv: layers.Conv) -> jax.Array | int:
    """How many zeros 'SAME' puts before an axis."""
    stride = conv.stride
    total = (-(-length // stride) - 1) * stride + conv.kernel_size - length
    return jnp.maximum(total, 0) // 2


def _aligned(x: jax.Array, conv: layers.Conv, valid: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Moves each picture so that the convolution starts where it would without padding.

    `size` has sides that are multiples of a power of two with the pictures' sides in the last one,
    so a shorter axis never asks for fewer zeros; what rolls to the front is zero.
    """
    for axis, length in enumerate(x.shape[1:3]):
        true = _zeros_before(heads.valid_length(length, valid, size, axis), conv)
        more = (true > _zeros_before(length, conv)).reshape(-1, 1, 1, 1)
        x = jnp.where(more, jnp.roll(x, 1, axis + 1), x)
    return x
