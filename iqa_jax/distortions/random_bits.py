"""Random samples by the million: a hash of each sample's place under a 64-bit key.

A generator of statistical quality is enough for noise in pictures, and threefry, made for worse,
took most of the time of a noise type on CPU. Like threefry the hash is made of 32-bit integer
operations alone, so that every backend draws the same bits.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

# Odd, as a product with an odd number loses nothing, and with bits set all over: the leading digits
# of the golden ratio and of the square roots of 3, 5 and 7.
_MULTIPLIERS = tuple(
    int(root % 1 * 2**32) | 1 for root in (math.sqrt(1.25) + 0.5, *map(math.sqrt, (3, 5, 7)))
)


def bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint32 of `shape` from a `jax.random.key`; up to 2**32 samples, all of them unequal.

    Each round mixes its word of the key into the sample's place and then lets high bits reach low
    ones by shifts and low bits high ones by products.
    """
    words = jax.random.bits(key, (2,))
    x = jax.lax.iota(jnp.uint32, math.prod(shape))
    for i, word in enumerate(words):
        x = x ^ word
        x = (x ^ (x >> 16)) * np.uint32(_MULTIPLIERS[2 * i])
        x = (x ^ (x >> 15)) * np.uint32(_MULTIPLIERS[2 * i + 1])
        x = x ^ (x >> 16)
    return x.reshape(shape)


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform float32 of `shape` in (-1, 1): the 2**23 odd multiples of 2**-23, none rounded."""
    steps = (bits(key, shape) >> 9).astype(jnp.float32)
    return (steps + 0.5) * 2**-22 - 1


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal float32 of `shape`, which ends at 5.3 standard deviations."""
    return math.sqrt(2) * jax.lax.erf_inv(uniform(key, shape))
