"""Convolution and normalisation layers; the form of a convolution is chosen here and nowhere else."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Padding = str | tuple[tuple[int, int], tuple[int, int]]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis as XLA's 'SAME' rule has it: output = ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def depthwise_shifted(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Depthwise convolution [N,H,W,C] * [h,w,1,C] -> [N,ceil(H/s),ceil(W/s),C], 'SAME' padding, as shifted slices."""
    h, w = kernel.shape[:2]
    rows, columns = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    x = jnp.pad(
        x,
        (
            (0, 0),
            same_padding(x.shape[1], h, stride),
            same_padding(x.shape[2], w, stride),
            (0, 0),
        ),
    )
    y = None
    for i in range(h):
        for j in range(w):
            part = x[
                :,
                i : i + (rows - 1) * stride + 1 : stride,
                j : j + (columns - 1) * stride + 1 : stride,
            ]
            part = part * kernel[i, j, 0]
            y = part if y is None else y + part
    return y


def depthwise_lax(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """The same depthwise convolution through lax.conv, the form for GPU and TPU."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1],
    )


def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution [N,H,W,C] * [1,1,C,D] -> [N,H,W,D] as a matrix product."""
    return jnp.einsum('nhwc,cd->nhwd', x, kernel[0, 0])


def dense(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Dense convolution [N,H,W,C] * [h,w,C,D] through lax.conv."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Depthwise convolution in the form that is fast on the default backend."""
    form = depthwise_shifted if jax.default_backend() == 'cpu' else depthwise_lax
    return form(x, kernel, stride)


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, is_depthwise: bool
) -> jax.Array:
    """Convolve [N,H,W,C] with a kernel of HWIO layout, in the form that suits kind and backend."""
    if is_depthwise:
        return depthwise(x, kernel, stride)
    if kernel.shape[:2] == (1, 1):
        return pointwise(x[:, ::stride, ::stride], kernel)
    return dense(x, kernel, stride, padding)


class Conv(nn.Module):
    """Convolution without bias; 'kernel' is [h,w,C,features], depthwise [h,w,1,C], in every form."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: Padding = 'SAME'
    depthwise: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N,H,W,C] -> [N,H',W',features]."""
        inputs = 1 if self.depthwise else x.shape[-1]
        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        kernel = self.param(
            'kernel', nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'), shape
        )
        return convolve(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            self.stride,
            self.padding,
            self.depthwise,
        )


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, float32 statistics; `axis_name` joins devices.

    Variables are named as Flax names them: params scale, bias; batch_stats mean, var. The running
    value becomes momentum * old + (1 - momentum) * batch, with the biased variance.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    axis_name: str | None = None
    activation: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalise [..., C] with the batch's statistics when `train`, else the running ones."""
        features = x.shape[-1]
        scale = self.param('scale', nn.initializers.ones, (features,))
        bias = self.param('bias', nn.initializers.zeros, (features,))
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (features,))
        running_var = self.variable('batch_stats', 'var', jnp.ones, (features,))
        if train:
            axes = tuple(range(x.ndim - 1))
            y = x.astype(jnp.float32)
            mean, square = y.mean(axes), jnp.square(y).mean(axes)
            if self.axis_name is not None and not self.is_initializing():
                mean, square = lax.pmean((mean, square), self.axis_name)
            var = jnp.maximum(square - jnp.square(mean), 0.0)
            if not self.is_initializing():
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * var
        else:
            mean, var = running_mean.value, running_var.value
        gain = scale * lax.rsqrt(var + self.epsilon)
        y = x * gain.astype(x.dtype) + (bias - mean * gain).astype(x.dtype)
        return y if self.activation is None else self.activation(y)


def relu6(x: jax.Array) -> jax.Array:
    """Clip to [0, 6], the activation of the Lite networks."""
    return jnp.clip(x, 0.0, 6.0)
