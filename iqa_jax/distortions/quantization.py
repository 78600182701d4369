"""Quantization to a few grey levels (KADID type 22)."""

import jax
import jax.numpy as jnp
import numpy as np

THRESHOLD_COUNTS = (20, 16, 13, 10, 7)
BINS = 256


def quantization(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 22 of float32 [H, W, 3] that spans [0, 1]; deterministic, key unused.

    Otsu thresholds of the three channels pooled: a sample becomes the threshold above it, 0 below
    the first, 1 above the last.
    """
    count = jnp.asarray(THRESHOLD_COUNTS)[level - 1]
    bins = jnp.floor((BINS - 1) * image + 0.5).astype(jnp.int32)
    histogram = jnp.zeros(BINS, jnp.int32).at[bins.ravel()].add(1)
    last_bins = otsu_thresholds(histogram, count)
    rank = jnp.arange(len(last_bins))
    thresholds = jnp.where(rank < count, last_bins / (BINS - 1), jnp.inf)
    values = jnp.where(rank + 1 < count, jnp.roll(thresholds, -1), 1.0)
    out = jnp.zeros_like(image)
    for k in range(len(last_bins)):
        out = jnp.where(image > thresholds[k], values[k], out)
    return out


def otsu_thresholds(histogram: jax.Array, count: jax.Array) -> jax.Array:
    """The last bin below each of the `count` optimal thresholds of int32 [256]; int32 [20].

    The exact optimum, lowest thresholds first among equals; entries from `count` on mean nothing.
    """
    cost = _class_costs(histogram)
    most = max(THRESHOLD_COUNTS)
    first = jnp.arange(BINS + 1)[:, None]

    def split(best: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        total = best[:, None] + cost
        least = total.min(axis=0)
        # The first of the least, which XLA's CPU backend finds much faster than its argmin does.
        return least, jnp.where(total == least, first, BINS).min(axis=0)

    _, starts = jax.lax.scan(split, cost[0], None, length=most)

    def walk(end: jax.Array, step: tuple) -> tuple[jax.Array, jax.Array]:
        rank, start = step
        end = jnp.where(rank < count, start[end], end)
        return end, end

    _, ends = jax.lax.scan(walk, jnp.int32(BINS), (jnp.arange(most), starts), reverse=True)
    return ends - 1


def _class_costs(histogram: jax.Array) -> jax.Array:
    """Sum of squares about the mean of bins a..b-1, float32 [257, 257], infinite unless a < b.

    Updated bin by bin: differences of cumulative sums lose the optimum in float32.
    """
    first = jnp.arange(BINS + 1)

    def add_bin(state: tuple, step: tuple) -> tuple[tuple, jax.Array]:
        weight, mean, cost = state
        value, added = step
        added = jnp.where(first <= value, added, 0.0)
        total = weight + added
        share = added / jnp.maximum(total, 1)
        offset = value - mean
        cost = cost + weight * share * offset * offset
        state = (total, mean + share * offset, cost)
        return state, jnp.where(first <= value, cost, jnp.inf)

    zeros = jnp.zeros(BINS + 1)
    values = jnp.arange(BINS)
    _, columns = jax.lax.scan(
        add_bin, (zeros, zeros, zeros), (values, histogram.astype(jnp.float32))
    )
    empty = jnp.asarray(np.full((1, BINS + 1), np.inf, np.float32))
    return jnp.concatenate([empty, columns]).T
