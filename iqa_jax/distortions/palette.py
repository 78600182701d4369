"""Color quantization (KADID type 6): a small palette of the image's own colours, dithered.

The palette is Wu's (Graphics Gems II, 1991), the dithering Floyd and Steinberg's (1976). Both are
done in whole numbers, so that a rounding never tips a choice that all later pixels hang on.
"""

import jax
import jax.numpy as jnp
import numpy as np

COLOR_COUNTS = (64, 48, 32, 16, 8)
CELLS = 32  # per axis, of the histogram and of the inverse map
CELL_BITS = 3  # a cell holds 8 grey levels
# Dithering counts in units of 2^-18 grey levels and, below them, of 2^-42.
HIGH_BITS, LOW_BITS = 18, 24
# Sums of grey levels over the image must fit 32 bits.
MOST_PIXELS = 2**32 // 255


def color_quantization(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 6 of float32 [H, W, 3] that spans [0, 1]; deterministic, key unused.

    Every pixel becomes one of 64, 48, 32, 16 or 8 colours, or of fewer where a box of one colour
    is all that is left to cut. Raises ValueError for images of more than 16.8 million pixels.
    """
    pixels = _eight_bits(image)
    palette, used = minimum_variance_palette(pixels, jnp.asarray(COLOR_COUNTS)[level - 1])
    return _paint(palette, dither(pixels, palette, inverse_map(palette, used)))


def color_quantization_without_dither(
    image: jax.Array, level: jax.Array, key: jax.Array
) -> jax.Array:
    """As `color_quantization`, but quicker and with false contours: errors are not passed on.

    No KADID type: the original dithers.
    """
    pixels = _eight_bits(image)
    palette, used = minimum_variance_palette(pixels, jnp.asarray(COLOR_COUNTS)[level - 1])
    red, green, blue = jnp.moveaxis(pixels >> CELL_BITS, -1, 0)
    return _paint(palette, inverse_map(palette, used)[_flat_cell(red, green, blue)])


def minimum_variance_palette(pixels: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Wu's palette of int32 [H, W, 3] in 0..255: boxes of the colour cube, cut where it pays most.

    Each of `count` - 1 cuts halves the box with the largest sum of squared deviations where the
    two halves' sum is least: red before green before blue and dark before bright among equals.

    Returns:
      int32 [2, 64, 3], the mean of each box in units of 2^-18 grey levels and the rest of it in
      units of 2^-42, and how many of the 64 there are, at most `count`.
    """
    tables = _cumulative_moments(pixels)
    most = max(COLOR_COUNTS)
    whole_cube = jnp.array([[0, CELLS]] * 3, jnp.int32)
    boxes = jnp.zeros((most, 3, 2), jnp.int32).at[0].set(whole_cube)
    # Any positive number: the whole cube is the only box to begin with.
    scatter = jnp.zeros(most).at[0].set(1.0)

    def unfinished(state: tuple) -> jax.Array:
        _, scatter, used = state
        return (used < count) & (scatter.max() > 0)

    def cut(state: tuple) -> tuple:
        boxes, scatter, used = state
        chosen = scatter.argmax()
        found, halves = _best_cut(tables, boxes[chosen])
        # A box whose pixels share one cell cannot be cut and is not tried again.
        places = jnp.array([chosen, jnp.where(found, used, most)])
        boxes = boxes.at[places].set(jnp.where(found, halves, boxes[chosen]), mode='drop')
        pieces = jnp.stack([_scatter(tables, half) for half in halves])
        scatter = scatter.at[places].set(jnp.where(found, pieces, 0.0), mode='drop')
        return boxes, scatter, used + found

    boxes, _, used = jax.lax.while_loop(unfinished, cut, (boxes, scatter, jnp.int32(1)))
    sums = jax.vmap(lambda box: _sums_below(tables, box, 0)[:, box[0, 1]])(boxes)
    return _fixed_point(sums[:, 1:4], jnp.maximum(sums[:, :1], 1)), used


def inverse_map(palette: jax.Array, used: jax.Array) -> jax.Array:
    """The nearest of the first `used` colours to the middle of each of 32^3 cells, int32 [32768].

    Cells run blue first; the middle of a cell is 3.5 above its lowest level; the first colour wins
    a tie.
    """
    middles = (16 * jnp.arange(CELLS) + 7) << (HIGH_BITS - 1)
    low = palette[1].astype(jnp.float32) * 2.0**-LOW_BITS

    def compare(i: jax.Array, best: tuple) -> tuple:
        nearest, least = best
        away = (middles[:, None] - palette[0, i]).astype(jnp.float32) - low[i]
        red, green, blue = (away * away).T
        distance = red[:, None, None] + green[:, None] + blue
        closer = distance < least
        return jnp.where(closer, i, nearest), jnp.where(closer, distance, least)

    cube = (CELLS,) * 3
    start = jnp.zeros(cube, jnp.int32), jnp.full(cube, jnp.inf)
    return jax.lax.fori_loop(0, used, compare, start)[0].ravel()


def dither(pixels: jax.Array, palette: jax.Array, nearest: jax.Array) -> jax.Array:
    """Floyd-Steinberg error diffusion of int32 [H, W, 3] in 0..255; colour index int32 [H, W].

    Rows from the top, each from the left. A pixel plus the errors passed to it is clipped to
    0..255, looked up in the inverse map `nearest`, and its error against the colour passed on;
    what falls off the border is lost.
    """
    height, width, _ = pixels.shape
    # Pixel (y, x) needs its left neighbour and three of the row above, so all pixels of one
    # x + 2y are independent: one step each, on a skewed image whose rows are those steps.
    steps = width + 2 * (height - 1)
    inside = 1 << 24
    packed = (pixels * jnp.array([1, 1 << 8, 1 << 16])).sum(axis=-1) + inside
    padded = jnp.pad(packed, ((0, 0), (0, 2 * height)))
    skewed = padded.ravel()[: height * steps].reshape(height, steps).T
    high, low = palette[0].T, palette[1].T
    mask = (1 << LOW_BITS) - 1

    def step(errors: tuple, row: jax.Array) -> tuple[tuple, jax.Array]:
        left, right_above, above, left_above = errors
        # Weights in sixteenths; the high part's remainder goes down to the low part.
        total_high, total_low = (
            7 * left[i] + 3 * right_above[i] + 5 * above[i] + left_above[i] for i in (0, 1)
        )
        passed = (((total_high & 15) << LOW_BITS) + total_low) >> 4
        level = jnp.stack([(row >> shift) & 255 for shift in (0, 8, 16)]) << HIGH_BITS
        value = level + (total_high >> 4) + (passed >> LOW_BITS)
        clipped = jnp.clip(value, 0, 255 << HIGH_BITS)
        rest = jnp.where(value == clipped, passed & mask, 0)
        rest = jnp.where(clipped == 255 << HIGH_BITS, 0, rest)
        index = nearest[_flat_cell(*(clipped >> (HIGH_BITS + CELL_BITS)))]
        rest = rest - low[:, index]
        error = jnp.stack([clipped - high[:, index] + (rest >> LOW_BITS), rest & mask])
        error = jnp.where(row >= inside, error, 0)
        below = jnp.pad(error, ((0, 0), (0, 0), (1, 0)))[..., :-1]
        return (error, below, right_above, above), index

    nothing = jnp.zeros((2, 3, height), jnp.int32)
    _, skewed = jax.lax.scan(step, (nothing,) * 4, skewed)
    padded = jnp.pad(skewed.T.ravel(), (0, 2 * height)).reshape(height, steps + 2)
    return padded[:, :width]


def _eight_bits(image: jax.Array) -> jax.Array:
    """Grey levels int32 of [0, 1], halves up, as the original makes its palette from 8 bits."""
    if image.shape[0] * image.shape[1] > MOST_PIXELS:
        raise ValueError(
            f'color quantization takes images of at most {MOST_PIXELS} pixels, not '
            f'{image.shape[0]}x{image.shape[1]}; shrink or leave out the image.'
        )
    # XLA may divide through a reciprocal, which puts 107/214 just below a half; a level of an 8-bit
    # image is a half exactly or 0.002 away from one.
    return jnp.floor(255 * image + 0.5001).astype(jnp.int32)


def _paint(palette: jax.Array, index: jax.Array) -> jax.Array:
    """Colours float32 [H, W, 3] in [0, 1] of an index [H, W]."""
    return (palette[0].astype(jnp.float32) * (2.0**-HIGH_BITS / 255))[index]


def _flat_cell(red: jax.Array, green: jax.Array, blue: jax.Array) -> jax.Array:
    return (red * CELLS + green) * CELLS + blue


def _cumulative_moments(pixels: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """Sums over all pixels in cells below (r, g, b), each 0..32, modulo 2^32.

    Returns:
      Three arrays uint32 [33, 33, 5, 33] of the same sums, red, green or blue being the last axis
      and the other two the first: count, red, green, blue, squares of all three. And the squares
      in float32 [33, 33, 33], right to 37 per pixel: enough for the digits above 2^32.
    """
    flat = pixels.reshape(-1, 3)
    squares = (flat * flat).sum(axis=-1, keepdims=True)
    rows = jnp.concatenate([jnp.ones_like(squares), flat, squares], axis=-1)
    cell = _flat_cell(*(flat >> CELL_BITS).T)
    histogram = jnp.zeros((CELLS**3, 5), jnp.uint32).at[cell].add(rows.astype(jnp.uint32))
    cube = histogram.T.reshape(5, CELLS, CELLS, CELLS)

    def accumulate(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 0)] * 3)
        for axis in (-3, -2, -1):
            x = jnp.cumsum(x, axis)
        return x

    table = accumulate(cube)
    orders = ((2, 3, 0, 1), (1, 3, 0, 2), (1, 2, 0, 3))
    # A cell's squares may themselves exceed 32 bits; those of its mean differ by its scatter.
    levels = cube[:4].astype(jnp.float32)
    squares = (levels[1:] ** 2).sum(axis=0) / jnp.maximum(levels[0], 1)
    return [table.transpose(order) for order in orders], accumulate(squares)


def _sums_below(tables: tuple, box: jax.Array, axis: int) -> jax.Array:
    """The part of a box below each border i of one axis, uint32 [5, 33]; right for i inside it."""
    table = tables[0][axis]
    (a, b), (c, d) = box[np.delete(np.arange(3), axis)]
    sums = table[b, d] - table[a, d] - table[b, c] + table[a, c]
    return sums - sums[:, box[axis, :1]]


def _best_cut(tables: tuple, box: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether a box [3, 2] can be cut, and the two halves [2, 3, 2] of its best cut."""
    lower = jnp.stack([_sums_below(tables, box, axis)[:4] for axis in range(3)], axis=1)
    whole = lower[:, 0, box[0, 1], None, None]
    upper = whole - lower
    # Squares of sums about 0 would drown the differences between cuts in float32.
    mean = _whole_mean(whole)
    gain = sum((_about(mean, half) ** 2).sum(axis=0) / half[0] for half in (lower, upper))
    place = jnp.arange(CELLS + 1)
    legal = (place > box[:, :1]) & (place < box[:, 1:]) & (lower[0] > 0) & (upper[0] > 0)
    axis, border = jnp.divmod(jnp.where(legal, gain, -1.0).argmax(), CELLS + 1)
    halves = jnp.stack([box.at[axis, 1].set(border), box.at[axis, 0].set(border)])
    return legal.any(), halves


def _scatter(tables: tuple, box: jax.Array) -> jax.Array:
    """The sum of squared deviations from the mean colour of the pixels in a box, float32."""
    sums = _sums_below(tables, box, 0)[:, box[0, 1]]
    mean = _whole_mean(sums)
    about_mean = sums[4] + (mean * (sums[0] * mean - 2 * sums[1:4])).sum()
    # The same in floats, to less than 2^31, says how often 2^32 was passed.
    (a, b), (c, d), (e, f) = box
    table = tables[1]
    squares = (table[b, d, f] - table[a, d, f] - table[b, c, f] + table[a, c, f]) - (
        table[b, d, e] - table[a, d, e] - table[b, c, e] + table[a, c, e]
    )
    m, s = mean.astype(jnp.float32), sums.astype(jnp.float32)
    estimate = squares + (m * (s[0] * m - 2 * s[1:4])).sum()
    low = about_mean.astype(jnp.float32)
    total = low + 2.0**32 * jnp.round((estimate - low) / 2.0**32)
    return total - (_about(mean, sums[:4]) ** 2).sum() / jnp.maximum(s[0], 1)


def _whole_mean(sums: jax.Array) -> jax.Array:
    """Means uint32 [3, ...] to the nearest grey level or so of sums [4 or 5, ...]."""
    return jnp.round(sums[1:4] / jnp.maximum(sums[0], 1)).astype(jnp.uint32)


def _about(mean: jax.Array, sums: jax.Array) -> jax.Array:
    """Sums of levels as sums of deviations from whole means, exact until the last conversion."""
    return (sums[1:4] - sums[0] * mean).astype(jnp.int32).astype(jnp.float32)


def _fixed_point(sums: jax.Array, weights: jax.Array) -> jax.Array:
    """sums / weights of uint32 [64, 3] and [64, 1], cut off, as int32 [2, 64, 3]."""

    def more(digits: jax.Array, rest: jax.Array, bits: int) -> tuple[jax.Array, jax.Array]:
        def one(_: int, state: tuple) -> tuple:
            digits, rest = state
            goes = 2 * rest >= weights
            return 2 * digits + goes, 2 * rest - jnp.where(goes, weights, 0)

        return jax.lax.fori_loop(0, bits, one, (digits, rest))

    high, rest = more(sums // weights, sums % weights, HIGH_BITS)
    low, _ = more(jnp.zeros_like(high), rest, LOW_BITS)
    return jnp.stack([high, low]).astype(jnp.int32)
