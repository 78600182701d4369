"""The streaming kernel of gMAD: attackers' extremes in every stretch of the defenders' axes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

NOBODY = -1  # index of an empty slot
EMPTY = jnp.iinfo(jnp.int32).min  # below the key of every score
_LAST = jnp.iinfo(jnp.int32).max
_NEIGHBOURS, _BLOCKS = 8, 128  # images are merged in so many blocks of neighbours at a time
MULTIPLE = _NEIGHBOURS  # of which chunks must be


class Axes(NamedTuple):
    """G defenders that meet M attackers each, and how each defender's axis is divided.

    `defender` int32 [G] and `attackers` int32 [G, M] are rows of the score array. `cuts` int32
    [G, C] are ascending keys: cuts[k - 1] <= key < cuts[k] is cell cell_of[k], `cell_of` int32
    [G, C + 1]; images of cell 0 are in no level.
    """

    defender: jax.Array
    attackers: jax.Array
    cuts: jax.Array
    cell_of: jax.Array


class Extremes(NamedTuple):
    """Candidate lists, best first: `keys` and `index` int32 [G, cells, 2 * M, K].

    The first half of the third axis lists each attacker's largest scores by key, the second half
    its smallest ones by complemented key; equal scores stand by ascending index. `dropped` int32
    [G, cells, 2 * M] is the largest key that found no place: where it equals the last key of the
    list, images with the very same score were left out. `images` int32 [G, cells] counts the images
    of every cell, those that may not be shown too.
    """

    keys: jax.Array
    index: jax.Array
    dropped: jax.Array
    images: jax.Array


def keys(scores: jax.Array) -> jax.Array:
    """Int32 numbers in the order of the finite float32 `scores`; ~key is that of the negated score.

    Integers, since XLA may flush what lies next to 0; -0.0 and 0.0 get one key.
    """
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    bits = jnp.where(bits == EMPTY, 0, bits)
    return jnp.where(bits < 0, bits ^ _LAST, bits)


def empty(defenders: int, cells: int, attackers: int, candidates: int) -> Extremes:
    """Lists without a candidate; cell 0 will never take one."""
    shape = (defenders, cells, 2 * attackers, candidates)
    # Nothing beats the largest number, so the images of cell 0 drop out at the first comparison.
    filled = jnp.full(shape, EMPTY, jnp.int32).at[:, 0].set(_LAST)
    nobody = jnp.zeros((defenders, cells), jnp.int32)
    return Extremes(filled, jnp.full(shape, NOBODY, jnp.int32), filled[..., 0], nobody)


def _bounds(state: Extremes) -> jax.Array:
    """What a key must exceed to matter to its list, int32 [cells, 2 * M].

    A key equal to the last one matters once, to be noted in `dropped`.
    """
    last = state.keys[..., -1]
    return last - ((state.dropped != last) & (last != EMPTY))


def _insert(state: Extremes, cell: jax.Array, x: jax.Array, index: jax.Array) -> Extremes:
    """Merge keys `x` [R, S] of images `index` [R] into the lists of their `cell` [R].

    One round moves the best waiting image of every list; EMPTY marks what does not wait.
    """
    cells, _, candidates = state.keys.shape
    slots = jnp.arange(candidates)

    def one_per_list(carry):
        state, x = carry
        top = jax.ops.segment_max(x, cell, num_segments=cells)
        first = jnp.where(x == top[cell], index[:, None], _LAST)
        first = jax.ops.segment_min(first, cell, num_segments=cells)
        # An equal score already listed came earlier, so it keeps its place in front.
        place = (state.keys >= top[..., None]).sum(-1, keepdims=True)
        enters = (place < candidates)[..., 0]
        left_out = jnp.where(enters, state.keys[..., -1], top)

        def put(old, new):
            moved = jnp.concatenate([old[..., :1], old[..., :-1]], -1)
            return jnp.where(slots < place, old, jnp.where(slots == place, new[..., None], moved))

        state = Extremes(
            put(state.keys, top),
            put(state.index, first),
            jnp.maximum(state.dropped, left_out),
            state.images,
        )
        waits = (index[:, None] != first[cell]) & (x > _bounds(state)[cell])
        return state, jnp.where(waits, x, EMPTY)

    return jax.lax.while_loop(lambda carry: (carry[1] != EMPTY).any(), one_per_list, (state, x))[0]


def _update(state: Extremes, axes: Axes, chunk: jax.Array, out: jax.Array, index) -> Extremes:
    """One defender's lists after one more chunk of keys [C, B]."""
    cell = jnp.searchsorted(axes.cuts, chunk[axes.defender], side='right', method='scan_unrolled')
    cell = axes.cell_of[cell]
    counted = jnp.zeros_like(state.images).at[cell].add(index != NOBODY)
    state = state._replace(images=state.images + counted)
    cell = jnp.where(out, 0, cell)
    x = chunk[axes.attackers]
    rivals, size = x.shape
    bounds = _bounds(state).T  # [2 * M, cells]
    waiting = jnp.zeros(size, bool)
    for rival in range(rivals):  # one loop over the images, where a [M, B] mask takes several
        high, low = bounds[rival][cell], bounds[rivals + rival][cell]
        waiting |= (x[rival] > high) | (~x[rival] > low)
    # Finding single images among so many costs more than carrying their neighbours along.
    blocks = waiting.reshape(-1, _NEIGHBOURS).any(1)
    where = jnp.nonzero(blocks, size=blocks.size + _BLOCKS, fill_value=blocks.size)[0]

    def merge_some(carry):
        state, done = carry
        chosen = jax.lax.dynamic_slice(where, (done,), (_BLOCKS,))
        chosen = (chosen[:, None] * _NEIGHBOURS + jnp.arange(_NEIGHBOURS)).reshape(-1)
        some = x.at[:, chosen].get(mode='fill', fill_value=EMPTY).T
        some = jnp.concatenate([some, jnp.where(chosen[:, None] < size, ~some, EMPTY)], -1)
        place = cell.at[chosen].get(mode='fill', fill_value=0)
        some = jnp.where(some > _bounds(state)[place], some, EMPTY)
        return _insert(state, place, some, index[chosen]), done + _BLOCKS

    count = blocks.sum()
    return jax.lax.while_loop(lambda carry: carry[1] < count, merge_some, (state, 0))[0]


def update(
    states: tuple[Extremes, ...],
    axes: tuple[Axes, ...],
    scores: jax.Array,
    out: jax.Array,
    index: jax.Array,
) -> tuple[Extremes, ...]:
    """States after one more chunk: `scores` float32 [C, B], finite; `out` bool [B]: not to be seen;
    `index` int32 [B]: numbers of the images, ascending, NOBODY where there is none.

    There is one state for each of `axes`, which differ in their numbers of attackers. O(B * M) per
    defender: the whole chunk is only compared with the last entries of its lists, and the
    survivors, few after the first chunks, are merged. Chunks of one state come in ascending order,
    of any size: then lists keep the smallest index among equal scores.
    """
    chunk = keys(scores)

    def one(carry, defender):
        return carry, _update(*defender, chunk, out, index)

    return tuple(jax.lax.scan(one, None, pair)[1] for pair in zip(states, axes, strict=True))
