"""The blind quality network that learned from several noisy annotators (ICIP 2019), called LFC.

Four convolutions with divisive normalisation and one pyramid of maxima: 159,506 parameters with its
regressor, which is `build('lfc', head='gap', outputs=1, hidden=(128,), uncertainty='exp')`.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import layers
from iqa_jax.models.preprocess import preprocess

WIDTHS = (48, 48, 48, 48)
LEVELS = (1, 2, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def at_least(x: jax.Array, bound: float) -> jax.Array:
    """max(x, bound), but values below the bound keep a slope that leads back above it.

    With the slope of max, a weight that one step takes below zero would never come back.
    """
    return jnp.maximum(x, bound)


def _at_least_forward(x, bound):
    return at_least(x, bound), x


def _at_least_backward(bound, x, slope):
    return (jnp.where((x >= bound) | (slope < 0), slope, 0),)


at_least.defvjp(_at_least_forward, _at_least_backward)


class GDN(nn.Module):
    """Generalised divisive normalisation: y_c = x_c / sqrt(sum_k x_k^2 gamma[k,c] + beta_c).

    Ballé et al. (ICLR 2016). The published network bounds neither parameter; here gamma counts as
    at least 0 and beta as at least 1e-6, so that the root stays real.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N,H,W,C] -> [N,H,W,C] in the dtype of x; the sum over channels is float32."""
        width = x.shape[-1]
        gamma = self.param('gamma', lambda key: jnp.eye(width))
        beta = self.param('beta', nn.initializers.constant(1e-4), (width,))
        squares = jnp.square(x.astype(jnp.float32))
        energy = jnp.matmul(squares, at_least(gamma, 0.0), precision=jax.lax.Precision.HIGHEST)
        return x * jax.lax.rsqrt(energy + at_least(beta, 1e-6)).astype(x.dtype)


def pyramid_max(x: jax.Array, inside: jax.Array | None = None) -> jax.Array:
    """Maxima of each channel in 1x1, 2x2 and 3x3 bins: [N,H,W,C] -> [N,14C] float32, channel first.

    The bins of a level are the published network's, which are not torch's adaptive ones: all
    ceil(length / level) long, and what they are too long together hangs over both ends, over the
    first one by the larger half. Sides are at least 4. inside: bool [N,H,W,1], the rectangle of
    positions that counts, from the top left corner; None counts all.
    """
    x = x.astype(jnp.float32)
    if inside is None:
        rows, columns = (jnp.full(1, length) for length in x.shape[1:3])
    else:
        rows, columns = inside.any(2).sum((1, 2)), inside.any(1).sum((1, 2))
    pooled = []
    for level in LEVELS:
        bands = _bin_maxima(x, rows, level)
        cells = _bin_maxima(bands.swapaxes(1, 2), columns, level)  # [N, columns, rows, C]
        pooled.append(cells.transpose(0, 3, 2, 1).reshape(len(x), -1))
    return jnp.concatenate(pooled, axis=-1)


def _bin_maxima(x: jax.Array, counts: jax.Array, level: int) -> jax.Array:
    """Maxima over `level` bins of the first `counts` [N] positions of axis 1: [N,level,W,C]."""
    length = -(-counts // level)
    overhang = (length * level - counts + 1) // 2
    position = jnp.arange(x.shape[1])
    index = (position + overhang[:, None]) // length[:, None]
    index = jnp.where(position < counts[:, None], index, level)[..., None, None]
    bins = [jnp.where(index == i, x, -jnp.inf).max(1) for i in range(level)]
    return jnp.stack(bins, 1)


class LFC(nn.Module):
    """Backbone [N,H,W,3] float32 in [0,1] -> (last map [N,H//8,W//8,48], all normalised maps).

    It has no batch statistics, so momentum and axis_name change nothing.
    """

    preprocess: str = 'none'
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    # An odd last row leaves a pooling without padding only where the picture ends there.
    exact_when_padded = False

    def taps(self) -> tuple[str, ...]:
        """Names of the maps that make the MLSP vector: every normalised one."""
        return tuple(f'gdn_{index}' for index in range(1, len(WIDTHS) + 1))

    def pool(self, last: jax.Array, inside: jax.Array | None = None) -> jax.Array:
        """What the regressor reads in place of the global average: [N,H,W,48] -> [N,672]."""
        return pyramid_max(last, inside)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Normalise by `preprocess`, which is not at all by default, then run all blocks."""
        x, out = preprocess(images, self.preprocess), {}
        for index, width in enumerate(WIDTHS, 1):
            if index > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
            init = nn.initializers.xavier_uniform()
            x = layers.Conv(width, bias=True, init=init, dtype=self.dtype, name=f'conv_{index}')(x)
            x = out[f'gdn_{index}'] = GDN(name=f'gdn_{index}')(x)
        return x, out
