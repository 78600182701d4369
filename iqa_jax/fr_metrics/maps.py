"""Pieces that several metrics share: luma, dissimilarity maps, means and powers.

Metrics add up dissimilarities (1 - similarity) instead of similarities: equal pixels then give an
exact 0, whatever the compiler fuses, and float32 keeps its precision where images are nearly equal.
"""

import jax
import jax.numpy as jnp

from iqa_jax.images import colour, filters


def luma(x255: jax.Array, rounded: bool) -> jax.Array:
    """MATLAB's rgb2gray float32 [N,H,W] of RGB float32 [N,H,W,3] in 0..255.

    Rounding has no slope, so gradients pass it as if it were not there.
    """
    gray = colour.rgb_to_gray(x255, rounded=False)
    if rounded:
        gray = gray + jax.lax.stop_gradient(jnp.floor(gray + 0.5) - gray)
    return filters.materialize(gray)


def dissimilarity(a: jax.Array, b: jax.Array, constant: float) -> jax.Array:
    """1 - (2ab + c) / (a^2 + b^2 + c), exactly 0 where a equals b."""
    return (a - b) ** 2 / (a * a + b * b + constant)


def mean(x: jax.Array) -> jax.Array:
    """Mean [...] over the last two axes of float32 [..., H, W]."""
    height, width = x.shape[-2:]
    # A product with ones: its many short sums lose fewer digits than one long float32 sum.
    ones = jnp.ones(height, x.dtype)
    columns = jnp.einsum('h,...hw->...w', ones, x, precision=jax.lax.Precision.HIGHEST)
    return columns.sum(-1) / (height * width)


def power(x: jax.Array, exponent: float) -> jax.Array:
    """x ** exponent with x clamped at 0; the gradient at 0 is 0, not infinite."""
    positive = ~(x <= 0)  # NaN counts as positive, so that it stays visible
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** exponent, 0.0)
