"""Convolution, batch normalisation and activation, the layers every backbone is made of."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from iqa_jax.models.convolution import Padding, convolve
from iqa_jax.runtime import parallel


class Conv(nn.Module):
    """Convolution; 'kernel' is [h,w,C,features], or [h,w,1,C] if depthwise; 'bias' if asked."""

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    padding: Padding = 'SAME'
    depthwise: bool = False
    bias: bool = False
    init: nn.initializers.Initializer | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N,H,W,C] -> [N,H',W',features] in `dtype`; the kernel itself is float32."""
        inputs = 1 if self.depthwise else x.shape[-1]
        size = self.kernel_size
        size = (size, size) if isinstance(size, int) else tuple(size)
        shape = (*size, inputs, self.features)
        # He et al.'s fan-out; that of a depthwise kernel is not C times its area but its area.
        fan = 'fan_in' if self.depthwise else 'fan_out'
        init = self.init or nn.initializers.variance_scaling(2.0, fan, 'normal')
        kernel = self.param('kernel', init, shape).astype(self.dtype)
        x = convolve(x.astype(self.dtype), kernel, self.stride, self.padding, self.depthwise)
        if not self.bias:
            return x
        return x + self.param('bias', nn.initializers.zeros, (self.features,)).astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last; statistics in float32, over `axis_name` too.

    Variables are named as Flax names them: params scale, bias; batch_stats mean, var. A running
    value becomes momentum * old + (1 - momentum) * batch, with the biased variance.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    axis_name: str | None = None
    activation: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalise [...,C] by the batch's statistics when `train`, else by the running ones."""
        features = x.shape[-1]
        scale = self.param('scale', nn.initializers.ones, (features,))
        bias = self.param('bias', nn.initializers.zeros, (features,))
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (features,))
        running_var = self.variable('batch_stats', 'var', jnp.ones, (features,))
        mean, var = running_mean.value, running_var.value
        if train and not self.is_initializing():
            mean, var = self._batch_statistics(x.astype(jnp.float32))
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * var
        # One multiply and one add per value: the form that XLA fuses with its neighbours.
        gain = scale * lax.rsqrt(var + self.epsilon)
        y = x * gain.astype(x.dtype) + (bias - mean * gain).astype(x.dtype)
        return y if self.activation is None else self.activation(y)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = tuple(range(x.ndim - 1))
        mean, square = x.mean(axes), jnp.square(x).mean(axes)
        if self.axis_name is not None:
            mean, square = lax.pmean((mean, square), self.axis_name)
        return mean, jnp.maximum(square - jnp.square(mean), 0.0)


class Dropout(nn.Module):
    """Zeroes a share `rate` of all values in training and divides the others by 1 - rate.

    The masks of a batch are the same on any number of devices; the key is the stream 'dropout'.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N,...] -> [N,...]."""
        if not train or self.rate == 0:
            return x
        if self.rate == 1:  # 0 / 0 would have no slope
            return jnp.zeros_like(x)
        key, keep = self.make_rng('dropout'), 1 - self.rate
        kept = parallel.draw(lambda shape: jax.random.bernoulli(key, keep, shape), x.shape)
        return lax.select(kept, x / keep, jnp.zeros_like(x))


@jax.custom_jvp
def relu6(x: jax.Array) -> jax.Array:
    """Clip to [0, 6], the activation of the Lite networks; slope 0 outside and at both corners."""
    return jnp.clip(x, 0.0, 6.0)


@relu6.defjvp
def _relu6_slope(primals, tangents):
    # clip's own rule divides where values tie, which costs as much as the convolution it follows.
    (x,), (slope,) = primals, tangents
    return relu6(x), jnp.where((x > 0) & (x < 6), slope, 0)
