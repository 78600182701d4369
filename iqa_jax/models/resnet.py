"""ResNet-18, 34 and 50 in torchvision's layout: same layers, names and explicit zero padding."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import layers, pooling
from iqa_jax.models.preprocess import preprocess

# torch pads both sides alike, XLA's 'SAME' only the far side of an even picture at stride 2.
PAD_1 = ((1, 1), (1, 1))
PAD_3 = ((3, 3), (3, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1 where the shape changes (He et al., CVPR 2016)."""

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N,H,W,C] -> [N,ceil(H/stride),ceil(W/stride),features]."""
        y = self.conv(self.features, 3, self.stride, PAD_1, name='conv1')(x)
        y = self.norm(activation=nn.relu, name='bn1')(y, train)
        y = self.conv(self.features, 3, 1, PAD_1, name='conv2')(y)
        y = self.norm(name='bn2')(y, train)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = self.conv(self.features, 1, self.stride, 'VALID', name='downsample_conv')(x)
            x = self.norm(name='downsample_bn')(x, train)
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the last is four times as wide as `features`.

    The stride is at the 3x3 convolution, as in torchvision, not at the first as in the paper.
    """

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N,H,W,C] -> [N,ceil(H/stride),ceil(W/stride),4 features]."""
        wide = 4 * self.features
        y = self.conv(self.features, 1, 1, 'VALID', name='conv1')(x)
        y = self.norm(activation=nn.relu, name='bn1')(y, train)
        y = self.conv(self.features, 3, self.stride, PAD_1, name='conv2')(y)
        y = self.norm(activation=nn.relu, name='bn2')(y, train)
        y = self.conv(wide, 1, 1, 'VALID', name='conv3')(y)
        y = self.norm(name='bn3')(y, train)
        if self.stride != 1 or x.shape[-1] != wide:
            x = self.conv(wide, 1, self.stride, 'VALID', name='downsample_conv')(x)
            x = self.norm(name='downsample_bn')(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Backbone [N,H,W,3] float32 in [0,1] -> (last map [N,H/32,W/32,C], maps of stem and blocks).

    C is 512 for basic blocks and 2048 for bottlenecks.
    """

    stage_sizes: tuple[int, ...]
    block: type[nn.Module] = BasicBlock
    preprocess: str = 'imagenet'
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    def taps(self) -> tuple[str, ...]:
        """Names of the maps that make the MLSP vector: every block's output."""
        return tuple(
            f'layer{stage + 1}_{index}'
            for stage, size in enumerate(self.stage_sizes)
            for index in range(size)
        )

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Normalise by `preprocess`, then run all blocks."""

        def conv(features, kernel_size, stride, padding, name):
            return layers.Conv(features, kernel_size, stride, padding, dtype=self.dtype, name=name)

        def norm(name, activation=None):
            return layers.BatchNorm(1e-5, self.momentum, self.axis_name, activation, name=name)

        x = preprocess(images, self.preprocess)
        x = conv(64, 7, 2, PAD_3, name='conv1')(x)
        x = norm('bn1', nn.relu)(x, train)
        out = {'stem': x}
        x = pooling.max_pool(x, 3, 2, PAD_1)
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                stride = 2 if stage > 0 and index == 0 else 1
                name = f'layer{stage + 1}_{index}'
                x = self.block(64 * 2**stage, stride, conv, norm, name=name)(x, train)
                out[name] = x
        return x, out
