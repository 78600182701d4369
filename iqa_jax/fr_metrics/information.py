"""What VIF and VIFp share: the gray pair as reference and change, and the ratio at the end."""

import jax
import jax.numpy as jnp

from iqa_jax.fr_metrics import maps


def visible(
    reference: jax.Array, distorted: jax.Array, rounded: bool
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Gray planes x around 0 and z = y - x [N,H,W]; whether x is flat [N], whether z is 0 [N].

    A flat x comes as zeros, so that everything computed from it is exactly 0.
    """
    x, y = maps.luma(reference, rounded), maps.luma(distorted, rounded)
    flat = x.max((-1, -2)) == x.min((-1, -2))
    same = (x == y).all((-1, -2))
    # Variances do not see an offset; around 0 they lose fewer digits to cancellation. A whole level
    # keeps whole gray levels exact.
    level = jnp.round(jax.lax.stop_gradient(maps.mean(x)))[:, None, None]
    return jnp.where(flat[:, None, None], 0.0, x - level), y - x, flat, same


def fidelity(
    lost: jax.Array, total: jax.Array, flat: jax.Array, same: jax.Array, parity: bool
) -> jax.Array:
    """1 - lost / total [N], the information kept; without any, NaN, or 1 and 0 without parity."""
    empty = flat | (total <= 0)
    score = jnp.maximum(1 - lost / jnp.where(empty, 1.0, total), 0.0)
    without = jnp.where(parity, jnp.nan, jnp.where(same, 1.0, 0.0))
    return jnp.where(empty, without, score)
