"""The min-max stretch that KADIS puts before and after every distortion."""

import jax
import jax.numpy as jnp

# Less than a hundredth of a grey level is rounding, which must not be stretched into colours.
FLAT_RANGE = 1e-5


def stretch(x: jax.Array, white: float = 1.0) -> jax.Array:
    """Maps uint8 or float32 of any shape onto float32 [0, 1] by its global minimum and maximum.

    A flat image has no contrast to stretch and is divided by `white` only.
    """
    low, high = x.min().astype(jnp.float32), x.max().astype(jnp.float32)
    x = x.astype(jnp.float32)
    flat = high - low < FLAT_RANGE
    stretched = jnp.where(flat, x / white, (x - low) / jnp.where(flat, 1, high - low))
    # XLA may compute x again for its extremes and round otherwise; nothing else is clipped.
    return jnp.clip(stretched, 0, 1)
