"""Pooling of feature maps and the regression heads on the pooled vector."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import layers

HIDDEN_INIT = nn.initializers.he_normal()
GRID = 5  # cells per side of wide MLSP features
POWER_LIMIT = 3.0  # standard deviations that power normalisation lets through


def valid_part(x: jax.Array, valid: jax.Array | None, size: tuple[int, int]) -> jax.Array | None:
    """Which positions of a map [N,h,w,C] show the image and not what pads it: bool [N,h,w,1].

    valid: true height and width in pixels, [N,2], of images at the top left of a padded `size`;
    ceil(h * height / size[0]) rows belong to the image, columns likewise. None, for images that
    are not padded, gives None.
    """
    if valid is None:
        return None
    rows, columns = (
        jnp.arange(length) < valid_length(length, valid, size, axis)[:, None]
        for axis, length in enumerate(x.shape[1:3])
    )
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def valid_length(length: int, valid: jax.Array, size: tuple[int, int], axis: int) -> jax.Array:
    """Positions of an axis of a map that belong to each image, see `valid_part`: int32 [N]."""
    return -(-length * valid[:, axis].astype(jnp.int32) // size[axis])


def global_average(x: jax.Array, inside: jax.Array | None = None) -> jax.Array:
    """Mean over space, over the positions `inside` if given: [N,H,W,C] -> [N,C] float32."""
    return x.astype(jnp.float32).mean((1, 2), where=inside)


def mean_and_std(x: jax.Array, inside: jax.Array | None = None) -> jax.Array:
    """Spatial mean and standard deviation of each channel: [N,H,W,C] -> [N,2C] float32.

    Over the positions `inside`, bool [N,H,W,1], if given. The root of 1e-6 keeps the slope finite
    on flat channels, which black pictures have.
    """
    x = x.astype(jnp.float32)
    mean = x.mean((1, 2), where=inside)
    # The mean's share of the variance's slope is zero; saying so saves a pass over the map.
    centred = x - jax.lax.stop_gradient(mean)[:, None, None]
    variance = jnp.square(centred).mean((1, 2), where=inside)
    return jnp.concatenate([mean, jnp.sqrt(variance + 1e-6)], axis=-1)


def grid(x: jax.Array, inside: jax.Array | None = None) -> jax.Array:
    """Area average of GRID x GRID equal cells: [N,H,W,C] -> [N,5,5,C] float32.

    A position that lies in two cells counts in each by its share. Over the rectangle of positions
    `inside`, bool [N,H,W,1], if given.
    """
    if inside is None:
        rows, columns = (jnp.full(1, length) for length in x.shape[1:3])
    else:
        rows, columns = inside.any(2).sum((1, 2)), inside.any(1).sum((1, 2))
    high, wide = (_cell_shares(n, m) for n, m in zip((rows, columns), x.shape[1:3], strict=True))
    exact = jax.lax.Precision.HIGHEST
    bands = jnp.einsum('nih,nhwc->niwc', high, x.astype(jnp.float32), precision=exact)
    return jnp.einsum('njw,niwc->nijc', wide, bands, precision=exact)


def _cell_shares(counts: jax.Array, length: int) -> jax.Array:
    """Share of each of the first `counts` [N] positions in each cell: [N,5,length], rows sum to 1.

    Measured in fifths of a position, all borders are whole numbers and the shares exact.
    """
    first = jnp.arange(length) * GRID
    start = jnp.arange(GRID)[:, None] * counts[:, None, None]
    end = start + counts[:, None, None]
    overlap = jnp.minimum(first + GRID, end) - jnp.maximum(first, start)
    shares = jnp.maximum(overlap, 0) / counts[:, None, None]
    return jnp.broadcast_to(shares, (len(counts), GRID, length))


class Pooling(NamedTuple):
    """What becomes of every tap and of the last map: functions of (map, inside), None for nothing.

    Attributes:
      tap, last: their results are concatenated along the channels.
    """

    tap: Callable | None = None
    last: Callable | None = None


POOLINGS = {
    'gap': Pooling(last=global_average),
    'mean': Pooling(tap=global_average),  # narrow MLSP (Hosu et al., CVPR 2019)
    'mean_std': Pooling(tap=mean_and_std, last=global_average),
    'grid5': Pooling(tap=grid),  # wide MLSP
}


def signed_root(x: jax.Array) -> jax.Array:
    """sign(x) sqrt(|x|), with a slope of at most 16 around 0, where many channels are."""
    softening = 1e-3
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + softening) - softening**0.5)


class Normalise(nn.Module):
    """Normalisation of pooled vectors: 'none', 'l2' (unit length), 'layer', 'batch' or 'power'.

    'power' is the signed square root (power normalisation, Perronnin et al., ECCV 2010), then
    'batch', cut at 3 standard deviations: averages of activations have long tails.
    """

    kind: str
    momentum: float = 0.9
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        """[...,F] -> [...,F] float32; raises ValueError on an unknown kind."""
        if self.kind == 'none':
            return features
        if self.kind == 'l2':
            return features / jnp.sqrt(jnp.square(features).sum(-1, keepdims=True) + 1e-12)
        if self.kind == 'layer':
            return nn.LayerNorm(name='layer')(features)
        if self.kind not in ('batch', 'power'):
            raise ValueError(
                f'config.model.normalise is {self.kind!r}; use none, l2, layer, batch or power'
            )
        norm = layers.BatchNorm(1e-3, self.momentum, self.axis_name, name='batch')
        if self.kind == 'batch':
            return norm(features, train)
        return jnp.clip(norm(signed_root(features), train), -POWER_LIMIT, POWER_LIMIT)


class Cells(nn.Module):
    """Dense layers with ReLU shared by all cells of a grid, then the mean over the cells.

    The published wide head convolves; 25 x 16,928 numbers cannot enter a dense layer as they are.
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """[N,5,5,F] -> [N,widths[-1]] float32."""
        x = features
        for index, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, kernel_init=HIDDEN_INIT, name=f'layer_{index}')(x))
        return x.mean((1, 2))


class Regressor(nn.Module):
    """Shared hidden layers (Dense, ReLU, batch norm, dropout), then one linear output per target.

    norm: 'batch' normalises after the activation, as the heads of AVA-MLSP and KonCept512 do;
    'none' leaves it out.
    """

    outputs: int
    hidden: Sequence[int] = ()
    dropout: Sequence[float] = ()
    norm: str = 'none'
    momentum: float = 0.9
    axis_name: str | None = None

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        """[N,F] -> [N,outputs] float32."""
        x = features
        for index, (width, rate) in enumerate(zip(self.hidden, self.dropout, strict=True)):
            x = nn.relu(nn.Dense(width, kernel_init=HIDDEN_INIT, name=f'hidden_{index}')(x))
            if self.norm == 'batch':
                norm = layers.BatchNorm(
                    1e-3, self.momentum, self.axis_name, name=f'hidden_{index}_bn'
                )
                x = norm(x, train)
            x = layers.Dropout(rate)(x, train)
        return nn.Dense(self.outputs, name='output')(x)


class MultitaskRegressor(nn.Module):
    """A sub-head per target, as in DeepFL-IQA (512, 256, 1), all in one product per layer."""

    outputs: int
    hidden: Sequence[int] = ()
    dropout: Sequence[float] = ()

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        """[N,F] -> [N,outputs] float32; sub-head k reads only its own weights [k,...]."""
        per_task = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal', batch_axis=(0,))
        x, widths = features, (*self.hidden, 1)
        for index, width in enumerate(widths):
            kernel = self.param(f'kernel_{index}', per_task, (self.outputs, x.shape[-1], width))
            bias = self.param(f'bias_{index}', nn.initializers.zeros, (self.outputs, width))
            # All sub-heads read the same pooled vector; from there on each has its own.
            product = 'nf,kfh->nkh' if index == 0 else 'nkf,kfh->nkh'
            x = jnp.einsum(product, x, kernel) + bias
            if index < len(self.hidden):
                x = layers.Dropout(self.dropout[index])(nn.relu(x), train)
        return x[..., 0]
