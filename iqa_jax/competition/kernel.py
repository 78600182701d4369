"""The streaming part of gMAD: who, in each stretch of the defender's axis, excites each attacker."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

NOBODY = -1  # index of an empty slot
_LAST = jnp.iinfo(jnp.int32).max


class Extremes(NamedTuple):
    """Sorted candidate lists: `values` float32 and `index` int32, both [cells, 2 * attackers, K].

    The first half of the middle axis lists the attackers' largest scores, the second half their
    smallest ones (as largest of the negated score); equal scores are listed by ascending index.
    """

    values: jax.Array
    index: jax.Array


def empty(covered: jax.Array, attackers: int, candidates: int) -> Extremes:
    """Lists without a candidate for `covered` bool [cells]; cells not covered never take one."""
    shape = (covered.shape[0], 2 * attackers, candidates)
    # A list full of +inf cannot be beaten: images outside all windows drop out at the first compare.
    values = jnp.where(covered[:, None, None], -jnp.inf, jnp.inf).astype(jnp.float32)
    return Extremes(jnp.broadcast_to(values, shape) + 0, jnp.full(shape, NOBODY, jnp.int32))


def _insert(state: Extremes, cell: jax.Array, x: jax.Array, index: jax.Array) -> Extremes:
    """Put rows `x` [R, S] of images `index` [R] into the lists of their `cell` [R]."""
    cells, _, candidates = state.values.shape
    slots = jnp.arange(candidates)

    def one_per_list(carry):
        state, x = carry
        top = jax.ops.segment_max(x, cell, num_segments=cells)
        first = jnp.where(x == top[cell], index[:, None], _LAST)
        first = jax.ops.segment_min(first, cell, num_segments=cells)
        # An equal score already listed has the smaller index, so it stays in front.
        place = (state.values >= top[..., None]).sum(-1, keepdims=True)

        def put(old, new):
            moved = jnp.concatenate([old[..., :1], old[..., :-1]], -1)
            return jnp.where(slots < place, old, jnp.where(slots == place, new[..., None], moved))

        state = Extremes(put(state.values, top), put(state.index, first))
        open_ = (index[:, None] != first[cell]) & (x > state.values[..., -1][cell])
        return state, jnp.where(open_, x, -jnp.inf)

    return jax.lax.while_loop(lambda carry: (carry[1] > -jnp.inf).any(), one_per_list, (state, x))[0]


@functools.partial(jax.jit, static_argnames='rows', donate_argnums=0)
def update(state, cuts, defender, attackers, start, *, rows=1024):
    cell = jnp.searchsorted(cuts, defender, side='right', method='scan_unrolled')
    x = jnp.concatenate([attackers, -attackers], -1)
    size = x.shape[0]
    position = jnp.arange(size)

    def better(state, after):
        return (x > state.values[..., -1][cell]).any(-1) & (position > after)

    def some(carry):
        state, wanted = carry
        chosen = jnp.nonzero(wanted, size=rows, fill_value=size)[0]
        some_x = x.at[chosen].get(mode='fill', fill_value=-jnp.inf)
        some_cell = cell.at[chosen].get(mode='fill', fill_value=0)
        some_x = jnp.where(some_x > state.values[..., -1][some_cell], some_x, -jnp.inf)
        state = _insert(state, some_cell, some_x, start + chosen)
        return state, better(state, chosen[-1])

    return jax.lax.while_loop(lambda carry: carry[1].any(), some, (state, better(state, -1)))[0]
