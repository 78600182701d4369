"""EfficientNet-Lite: inverted residual blocks, plain batch norm, ReLU6, no squeeze-excite."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import layers
from iqa_jax.models.preprocess import preprocess


class Stage(NamedTuple):
    """One row of the architecture table: `repeats` blocks, the first with `stride`."""

    repeats: int
    kernel_size: int
    stride: int
    expand: int
    features: int


# Tan & Le (ICML 2019), table of B0; the Lite variant keeps widths, drops squeeze-excite and swish.
LITE0_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def scaled(width: float, depth: float) -> tuple[Stage, ...]:
    """The stages of a larger Lite: widths times `width`, repeats times `depth`, as published.

    Widths are rounded to eights, but never down by more than a tenth; repeats are rounded up. Lite
    leaves the repeats of the first and the last stage, and the widths of stem and top, as they are.
    """

    def widened(features: int) -> int:
        rounded = max(8, int(features * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * features * width else rounded

    middle = [s._replace(repeats=math.ceil(s.repeats * depth)) for s in LITE0_STAGES[1:-1]]
    stages = (LITE0_STAGES[0], *middle, LITE0_STAGES[-1])
    return tuple(stage._replace(features=widened(stage.features)) for stage in stages)


LITE1_STAGES = scaled(1.0, 1.1)
LITE2_STAGES = scaled(1.1, 1.2)
TINY_STAGES = (Stage(1, 3, 2, 2, 8), Stage(2, 3, 2, 2, 16))


class ConvBN(nn.Module):
    """Convolution, batch norm with epsilon 1e-3 and, unless `linear`, ReLU6."""

    features: int
    kernel_size: int = 1
    stride: int = 1
    depthwise: bool = False
    linear: bool = False
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N,H,W,C] -> [N,ceil(H/stride),ceil(W/stride),features]."""
        x = layers.Conv(
            self.features,
            self.kernel_size,
            self.stride,
            depthwise=self.depthwise,
            dtype=self.dtype,
            name='conv',
        )(x)
        activation = None if self.linear else layers.relu6
        norm = layers.BatchNorm(1e-3, self.momentum, self.axis_name, activation, name='bn')
        return norm(x, train)


class EfficientNetLite(nn.Module):
    """Backbone: [N,H,W,3] float32 in [0,1] -> (last map [N,H/32,W/32,features], all maps)."""

    stem: int = 32
    stages: tuple[Stage, ...] = LITE0_STAGES
    features: int = 1280
    preprocess: str = 'lite'
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    def taps(self) -> tuple[str, ...]:
        """Names of the maps that make the MLSP vector: every block's depthwise output."""
        count = sum(stage.repeats for stage in self.stages)
        return tuple(f'block_{index:02d}_depthwise' for index in range(count))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Normalise by `preprocess`, then run all blocks."""

        def unit(features: int, name: str, **options) -> ConvBN:
            return ConvBN(
                features,
                momentum=self.momentum,
                axis_name=self.axis_name,
                dtype=self.dtype,
                name=name,
                **options,
            )

        x = preprocess(images, self.preprocess)
        x = unit(self.stem, 'stem', kernel_size=3, stride=2)(x, train)
        out = {'stem': x}
        index = 0
        for stage in self.stages:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                name, skip, wide = f'block_{index:02d}', x, x.shape[-1] * stage.expand
                if stage.expand != 1:
                    x = unit(wide, f'{name}_expand')(x, train)
                x = unit(
                    wide,
                    f'{name}_depthwise',
                    kernel_size=stage.kernel_size,
                    stride=stride,
                    depthwise=True,
                )(x, train)
                out[f'{name}_depthwise'] = x
                x = unit(stage.features, f'{name}_project', linear=True)(x, train)
                if stride == 1 and skip.shape == x.shape:
                    x = x + skip
                out[name] = x
                index += 1
        x = unit(self.features, 'top')(x, train)
        out['top'] = x
        return x, out
