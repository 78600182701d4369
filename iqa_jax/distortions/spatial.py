"""Non-eccentricity patch, pixelate and colour block (KADID types 20, 21, 23)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

PATCH_COUNTS = (20, 40, 60, 80, 100)
PATCH_SIDE = 16
PIXELATE_STRENGTHS = (0.01, 0.05, 0.1, 0.2, 0.5)
BLOCK_COUNTS = (2, 4, 6, 8, 10)
BLOCK_SIDE = 32


def draw_non_eccentricity_patch(key: jax.Array) -> jax.Array:
    """Uniform float32 [100, 4] in [0, 1): column, row, column offset, row offset per patch."""
    return jax.random.uniform(key, (PATCH_COUNTS[-1], 4))


def apply_non_eccentricity_patch(image: jax.Array, level: jax.Array, draws: jax.Array) -> jax.Array:
    """KADID type 20 of float32 [H, W, 3] in [0, 1]: small patches copied to nearby places.

    Raises ValueError for sides under 48.
    """
    margin = 3 * PATCH_SIDE
    height, width, _ = image.shape
    _require_side(image, margin)
    span = jnp.asarray([height - margin, width - margin])
    size = (PATCH_SIDE, PATCH_SIDE, 3)

    def copy_patch(i: jax.Array, current: jax.Array) -> jax.Array:
        place, offset = draws[i, 1::-1], draws[i, :1:-1]
        source = _round(place * span) + PATCH_SIDE
        target = _round(source + (offset - 0.5) * PATCH_SIDE)
        # Draws give 1-based positions.
        patch = jax.lax.dynamic_slice(current, (source[0] - 1, source[1] - 1, 0), size)
        return jax.lax.dynamic_update_slice(current, patch, (target[0] - 1, target[1] - 1, 0))

    return jax.lax.fori_loop(0, jnp.asarray(PATCH_COUNTS)[level - 1], copy_patch, image)


def non_eccentricity_patch(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 20 of float32 [H, W, 3] in [0, 1] at level 1..5 at random places."""
    return apply_non_eccentricity_patch(image, level, draw_non_eccentricity_patch(key))


def pixelate(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 21 of float32 [H, W, 3]: nearest-neighbour down and up again; key unused."""
    rows, cols = (
        jnp.asarray(np.stack([_pixelate_index(side, s) for s in PIXELATE_STRENGTHS]))[level - 1]
        for side in image.shape[:2]
    )
    # Said to be in bounds, the indices are not looked at again for every sample.
    down = image.at[rows].get(mode='promise_in_bounds')
    return down.at[:, cols].get(mode='promise_in_bounds')


def draw_color_block(key: jax.Array) -> jax.Array:
    """Uniform float32 [10, 5] in [0, 1): red, green, blue, column, row per block."""
    return jax.random.uniform(key, (BLOCK_COUNTS[-1], 5))


def apply_color_block(image: jax.Array, level: jax.Array, draws: jax.Array) -> jax.Array:
    """KADID type 23 of float32 [H, W, 3] in [0, 1]: opaque blocks of one colour, later ones on top.

    Raises ValueError for sides under 32.
    """
    height, width, _ = image.shape
    _require_side(image, BLOCK_SIDE)
    span = jnp.asarray([height - BLOCK_SIDE, width - BLOCK_SIDE])

    def paint(i: jax.Array, canvas: jax.Array) -> jax.Array:
        # Positions are 1-based and may be 0, where the block's first row or column is cut off.
        place = _round(draws[i, :2:-1] * span) - 1
        row, col = jnp.maximum(place, 0)
        below = jax.lax.dynamic_slice(canvas, (row, col, 0), (BLOCK_SIDE, BLOCK_SIDE, 3))
        inside = np.arange(BLOCK_SIDE) < BLOCK_SIDE + jnp.minimum(place, 0)[:, None]
        covered = inside[0][:, None] & inside[1]
        block = jnp.where(covered[..., None], draws[i, :3], below)
        return jax.lax.dynamic_update_slice(canvas, block, (row, col, 0))

    return jax.lax.fori_loop(0, jnp.asarray(BLOCK_COUNTS)[level - 1], paint, image)


def color_block(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 23 of float32 [H, W, 3] in [0, 1] at level 1..5 with random places and colours."""
    return apply_color_block(image, level, draw_color_block(key))


def _round(x: jax.Array) -> jax.Array:
    return jnp.floor(x + 0.5).astype(jnp.int32)


def _require_side(image: jax.Array, side: int) -> None:
    if min(image.shape[:2]) < side:
        raise ValueError(
            f'this distortion needs images of at least {side}x{side} pixels, not '
            f'{image.shape[0]}x{image.shape[1]}; enlarge or leave out the image.'
        )


def _pixelate_index(side: int, strength: float) -> np.ndarray:
    """Source index int32 [side] of each sample after nearest down- and upscaling."""
    scale = 0.95 - strength**0.6
    small = math.ceil(side * scale)
    return _nearest_index(side, small, scale)[_nearest_index(small, side, side / small)]


def _nearest_index(side: int, out: int, scale: float) -> np.ndarray:
    position = np.arange(1, out + 1) / scale + 0.5 * (1 - 1 / scale)
    return np.clip(np.floor(position + 0.5).astype(np.int32) - 1, 0, side - 1)
