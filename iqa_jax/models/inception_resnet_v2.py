"""Inception-ResNet-v2: inception modules whose branches are summed into a residual stream."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import layers
from iqa_jax.models.preprocess import preprocess


class Unit(NamedTuple):
    """Convolution without bias, batch norm and ReLU."""

    features: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = 'SAME'


def _halving(features: int) -> Unit:
    return Unit(features, (3, 3), 2, 'VALID')


# Szegedy et al. (AAAI 2017), figures 3 to 13 with the widths of the released weights. Only the stem
# and what halves the map have no padding.
STEM = {
    'conv2d_1a': Unit(32, (3, 3), 2, 'VALID'),
    'conv2d_2a': Unit(32, (3, 3), 1, 'VALID'),
    'conv2d_2b': Unit(64, (3, 3)),
    'conv2d_3b': Unit(80),
    'conv2d_4a': Unit(192, (3, 3), 1, 'VALID'),
}
POOLED = ('conv2d_2b', 'conv2d_4a')
BRANCHES = {
    'mixed_5b': (
        (Unit(96),),
        (Unit(48), Unit(64, (5, 5))),
        (Unit(64), Unit(96, (3, 3)), Unit(96, (3, 3))),
        (Unit(64),),
    ),
    'block35': (
        (Unit(32),),
        (Unit(32), Unit(32, (3, 3))),
        (Unit(32), Unit(48, (3, 3)), Unit(64, (3, 3))),
    ),
    'mixed_6a': ((_halving(384),), (Unit(256), Unit(256, (3, 3)), _halving(384)), ()),
    'block17': ((Unit(192),), (Unit(128), Unit(160, (1, 7)), Unit(192, (7, 1)))),
    'mixed_7a': (
        (Unit(256), _halving(384)),
        (Unit(256), _halving(288)),
        (Unit(256), Unit(288, (3, 3)), _halving(320)),
        (),
    ),
    'block8': ((Unit(192),), (Unit(192), Unit(224, (1, 3)), Unit(256, (3, 1)))),
}
# A module that changes the width, then its residual blocks, their number and residual scale.
STAGES = (
    ('mixed_5b', 'block35', 10, 0.17),
    ('mixed_6a', 'block17', 20, 0.1),
    ('mixed_7a', 'block8', 10, 0.2),
)


def modules() -> tuple[tuple[str, str], ...]:
    """(name, row of BRANCHES) of the 43 inception modules in the order of computation."""
    found = []
    for entry, block, repeats, _ in STAGES:
        found += [(entry, entry), *((f'{block}_{i}', block) for i in range(1, repeats + 1))]
    return tuple(found)


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2), 'VALID')


def _average_pool(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), (1, 1), 'SAME', count_include_pad=False)


# What the last branch of a module reads in place of the module's input.
POOLS = {'mixed_5b': _average_pool, 'mixed_6a': _max_pool, 'mixed_7a': _max_pool}


class ConvBN(nn.Module):
    """One `Unit`; batch norm with epsilon 1e-3."""

    unit: Unit
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N,H,W,C] -> [N,H',W',unit.features]."""
        x = layers.Conv(*self.unit, dtype=self.dtype, name='conv')(x)
        return layers.BatchNorm(1e-3, self.momentum, self.axis_name, nn.relu, name='bn')(x, train)


class InceptionResNetV2(nn.Module):
    """Backbone [N,H,W,3] float32 in [0,1] -> (last map [N,about H/32,W/32,1536], all maps).

    `out` has every unit of the stem, the branch concatenation of every inception module under
    Keras's name ('mixed_5b', 'block35_1_mixed'), the output of every residual block ('block35_1')
    and the last map ('conv_7b_ac').
    """

    preprocess: str = 'half'
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    # Without padding in the stem nothing is left of a smaller picture.
    minimum_side = 75
    # Its convolutions and poolings without padding end where the picture does.
    exact_when_padded = False

    def taps(self) -> tuple[str, ...]:
        """Names of the 43 maps that make the MLSP vector of 16,928 numbers (Hosu et al., 2019).

        Inside a residual block it is the concatenation of the branches, before the 1x1 projection
        and the sum.
        """
        return tuple(name if name == kind else f'{name}_mixed' for name, kind in modules())

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Normalise by `preprocess`, then run all blocks."""
        out = {}

        def run(x: jax.Array, unit: Unit, name: str) -> jax.Array:
            options = (self.momentum, self.axis_name, self.dtype)
            return ConvBN(unit, *options, name=name)(x, train)

        def mixed(x: jax.Array, name: str, kind: str) -> jax.Array:
            ends = []
            for branch, units in enumerate(BRANCHES[kind]):
                last = branch == len(BRANCHES[kind]) - 1
                end = POOLS[kind](x) if last and kind in POOLS else x
                for index, unit in enumerate(units):
                    end = run(end, unit, f'{name}_branch{branch}_{index}')
                ends.append(end)
            return jnp.concatenate(ends, axis=-1)

        x = preprocess(images, self.preprocess)
        for name, unit in STEM.items():
            x = out[name] = run(x, unit, name)
            if name in POOLED:
                x = _max_pool(x)
        for entry, block, repeats, scale in STAGES:
            x = out[entry] = mixed(x, entry, entry)
            for name in (f'{block}_{i}' for i in range(1, repeats + 1)):
                concatenated = out[f'{name}_mixed'] = mixed(x, name, block)
                up = layers.Conv(x.shape[-1], 1, bias=True, dtype=self.dtype, name=f'{name}_conv')(
                    concatenated
                )
                # The very last block adds its whole residual and has no ReLU.
                x = x + up if name == 'block8_10' else nn.relu(x + scale * up)
                out[name] = x
        x = out['conv_7b_ac'] = run(x, Unit(1536), 'conv_7b')
        return x, out
