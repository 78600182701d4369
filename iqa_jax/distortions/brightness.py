"""Brighten, darken and mean shift (KADID types 16, 17, 18)."""

import jax
import jax.numpy as jnp

from iqa_jax.images import colour

BRIGHTEN_AMOUNTS = (0.1, 0.2, 0.4, 0.7, 1.1)
DARKEN_AMOUNTS = (0.05, 0.1, 0.2, 0.4, 0.8)
# In KADID's order, in which level 3 is the mildest.
MEAN_SHIFTS = (0.15, 0.08, 0.0, -0.08, -0.15)


def brighten(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 16: a tone curve on RGB and on the L of Lab, mixed 2 to 1; key unused."""
    amount = jnp.asarray(BRIGHTEN_AMOUNTS)[level - 1]
    rgb = colour.to_planes(image)
    lightness, a, b = colour.rgb_to_lab(rgb)
    brighter = jnp.stack([100 * _parabola(lightness / 100, amount), a, b])
    from_lab = jnp.clip(colour.lab_to_rgb(brighter), 0, 1)
    return colour.to_pixels((2 * _parabola(rgb, amount) + from_lab) / 3)


def darken(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 17: a tone curve on RGB of float32 [H, W, 3] in [0, 1]; key unused."""
    return _parabola(image, -jnp.asarray(DARKEN_AMOUNTS)[level - 1])


def mean_shift(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 18: float32 [H, W, 3] plus a constant, clipped to [0, 1]; key unused.

    The stretch that follows undoes most of the shift: what remains is the clipped tail.
    """
    return jnp.clip(image + jnp.asarray(MEAN_SHIFTS)[level - 1], 0, 1)


def _parabola(x: jax.Array, amount: jax.Array) -> jax.Array:
    # The parabola through (0, 0), (1/2, 1/2 + amount/2), (1, 1), which may leave [0, 1] inside.
    return jnp.clip(x + 2 * amount * x * (1 - x), 0, 1)
