"""Jitter (KADID type 19): five rounds of random sub-pixel displacement."""

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.distortions import random_bits
from iqa_jax.images import filters

JITTER_AMOUNTS = (0.05, 0.1, 0.2, 0.5, 1.0)  # standard deviation of a shift in pixels
ROUNDS = 5


def jitter(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 19 of float32 [H, W, 3] in [0, 1] at level 1..5; overshoots [0, 1] slightly."""
    amount = jnp.asarray(JITTER_AMOUNTS)[level - 1]
    normals = random_bits.normal(key, (ROUNDS, 2, *image.shape[:2]))
    # Else XLA's CPU backend would compute the shifts again for each of the 16 taps.
    for round_shifts in filters.materialize(amount * normals):
        image = displace(image, *round_shifts)
    return image


def displace(image: jax.Array, rows: jax.Array, cols: jax.Array) -> jax.Array:
    """Samples [H, W, 3] at every pixel plus (rows, cols) [H, W], by cubic convolution (a = -1/2).

    Borders repeat the edge sample.
    """
    height, width, _ = image.shape
    row_taps, row_weights = _cubic_taps(rows, np.arange(height, dtype=np.int32)[:, None], height)
    col_taps, col_weights = _cubic_taps(cols, np.arange(width, dtype=np.int32), width)
    pixels = image.reshape(-1, 3)

    def blend_row(row: jax.Array) -> jax.Array:
        taps = [pixels.at[row * width + col].get(mode='promise_in_bounds') for col in col_taps]
        return sum(w[..., None] * tap for w, tap in zip(col_weights, taps, strict=True))

    blended = [blend_row(row) for row in row_taps]
    return sum(w[..., None] * row for w, row in zip(row_weights, blended, strict=True))


def _cubic_taps(shift: jax.Array, place: np.ndarray, side: int) -> tuple[list, list]:
    """The four clamped indices and their weights for `place` + `shift` along one axis."""
    whole = jnp.floor(shift)
    f = shift - whole
    first = place + whole.astype(jnp.int32)
    weights = [
        f * (-0.5 + f * (1 - 0.5 * f)),
        1 + f * f * (1.5 * f - 2.5),
        f * (0.5 + f * (2 - 1.5 * f)),
        f * f * (0.5 * f - 0.5),
    ]
    return [jnp.clip(first + k, 0, side - 1) for k in (-1, 0, 1, 2)], weights
