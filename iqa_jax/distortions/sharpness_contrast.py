"""High sharpen and contrast change (KADID types 24, 25)."""

import jax
import jax.numpy as jnp

from iqa_jax.distortions import blur
from iqa_jax.images import colour

SHARPEN_AMOUNTS = (1.0, 2.0, 3.0, 6.0, 12.0)
SHARPEN_SIGMA = 3.0
# In KADID's order, in which level 3 is the mildest, though not the identity.
CONTRAST_AMOUNTS = (0.3, 0.15, 0.0, -0.4, -0.6)


def high_sharpen(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 24: unsharp mask on the L of Lab of float32 [H, W, 3] in [0, 1]; key unused."""
    amount = jnp.asarray(SHARPEN_AMOUNTS)[level - 1]
    lightness, a, b = colour.rgb_to_lab(colour.to_planes(image))
    blurred = blur.gaussian_filter(lightness[..., None], SHARPEN_SIGMA)[..., 0]
    sharpened = lightness + amount * (lightness - blurred)
    return colour.to_pixels(jnp.clip(colour.lab_to_rgb(jnp.stack([sharpened, a, b])), 0, 1))


def contrast_change(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 25: a tone curve on RGB of float32 [H, W, 3] in [0, 1], clipped; key unused.

    The not-a-knot spline through (0, 0), (.3, .25 - a/4), (.5, .5), (.7, .75 + a/4), (1, 1) is
    point symmetric about its middle and so one odd cubic.
    """
    amount = jnp.asarray(CONTRAST_AMOUNTS)[level - 1]
    cubic = -(0.05 + amount / 4) / 0.042
    slope = 1 - cubic / 4
    t = image - 0.5
    return jnp.clip(0.5 + slope * t + cubic * t * t * t, 0, 1)
