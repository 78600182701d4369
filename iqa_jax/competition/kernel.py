"""The streaming kernel of gMAD: attackers' extremes in every stretch of a defender's axis."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

NOBODY = -1  # index of an empty slot
_LAST = jnp.iinfo(jnp.int32).max


class Extremes(NamedTuple):
    """Candidate lists, best first: `values` float32 and `index` int32, [cells, 2 * attackers, K].

    The first half of the middle axis lists each attacker's largest scores, the second half its
    smallest ones (as largest of the negated score); equal scores stand by ascending index.
    """

    values: jax.Array
    index: jax.Array


def empty(cells: int, attackers: int, candidates: int) -> Extremes:
    """Lists without a candidate; cell 0, for images outside every window, will never take one."""
    shape = (cells, 2 * attackers, candidates)
    # Nothing beats +inf, so the images of cell 0 drop out at the first comparison.
    values = jnp.full(shape, -jnp.inf, jnp.float32).at[0].set(jnp.inf)
    return Extremes(values, jnp.full(shape, NOBODY, jnp.int32))


def _insert(state: Extremes, cell: jax.Array, x: jax.Array, index: jax.Array) -> Extremes:
    """Merge rows `x` [R, S] of images `index` [R] into the lists of their `cell` [R].

    One round moves the best waiting image of every list; -inf marks what no longer waits.
    """
    cells, _, candidates = state.values.shape
    slots = jnp.arange(candidates)

    def one_per_list(carry):
        state, x = carry
        top = jax.ops.segment_max(x, cell, num_segments=cells)
        first = jnp.where(x == top[cell], index[:, None], _LAST)
        first = jax.ops.segment_min(first, cell, num_segments=cells)
        # An equal score already listed came earlier, so it keeps its place in front.
        place = (state.values >= top[..., None]).sum(-1, keepdims=True)

        def put(old, new):
            moved = jnp.concatenate([old[..., :1], old[..., :-1]], -1)
            return jnp.where(slots < place, old, jnp.where(slots == place, new[..., None], moved))

        state = Extremes(put(state.values, top), put(state.index, first))
        waits = (index[:, None] != first[cell]) & (x > state.values[..., -1][cell])
        return state, jnp.where(waits, x, -jnp.inf)

    return jax.lax.while_loop(lambda carry: (carry[1] > -jnp.inf).any(), one_per_list, (state, x))[
        0
    ]


@functools.partial(jax.jit, static_argnames='rows', donate_argnums=0)
def update(
    state: Extremes,
    cuts: jax.Array,
    cell_of: jax.Array,
    place: jax.Array,
    attackers: jax.Array,
    start: jax.Array,
    *,
    rows: int = 1024,
) -> Extremes:
    """State after one more chunk: `place` int32 [B] on the defender's axis, `attackers` [B, M].

    `cuts` int32 [K] ascending divide the axis: cuts[k - 1] <= place < cuts[k] is cell cell_of[k],
    `cell_of` int32 [K + 1]. The chunk's images are numbered from `start`, above all earlier ones.
    Scores are finite. O(B * M): the whole chunk is only compared with the last entry of its list,
    and `rows` survivors at a time, few after the first chunks, are merged; the result does not
    depend on chunks or `rows`.
    """
    cell = cell_of[jnp.searchsorted(cuts, place, side='right', method='scan_unrolled')]
    x = jnp.concatenate([attackers, -attackers], -1)
    size = x.shape[0]

    def survivors(state, after):
        return (x > state.values[..., -1][cell]).any(-1) & (jnp.arange(size) > after)

    def merge_some(carry):
        state, waiting = carry
        chosen = jnp.nonzero(waiting, size=rows, fill_value=size)[0]
        some = x.at[chosen].get(mode='fill', fill_value=-jnp.inf)
        place = cell.at[chosen].get(mode='fill', fill_value=0)
        some = jnp.where(some > state.values[..., -1][place], some, -jnp.inf)
        state = _insert(state, place, some, start + chosen)
        return state, survivors(state, chosen[-1])

    return jax.lax.while_loop(
        lambda carry: carry[1].any(), merge_some, (state, survivors(state, -1))
    )[0]
