"""Color quantization against a sequential float64 reference: palette, inverse map, dithering."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.distortions import distort, palette


def reference_palette(pixels: np.ndarray, count: int) -> np.ndarray:
    """Colours float64 [at most count, 3]: every cut tried, every deviation summed over pixels."""
    pixels = pixels.reshape(-1, 3)
    cells = pixels // 8
    boxes = [np.arange(len(pixels))]
    scatters = [_scatter(pixels)]
    while len(boxes) < count and max(scatters) > 0:
        chosen = int(np.argmax(scatters))
        members, best, halves = boxes[chosen], np.inf, None
        for axis, border in itertools.product(range(3), range(1, 32)):
            below = cells[members, axis] < border
            if below.all() or not below.any():
                continue
            parts = members[below], members[~below]
            total = sum(_scatter(pixels[part]) for part in parts)
            # The same pixels sum up in the same order, so that equal cuts are equal here too.
            if total < best:
                best, halves = total, parts
        if halves is None:
            scatters[chosen] = 0
        else:
            boxes[chosen], added = halves
            scatters[chosen] = _scatter(pixels[boxes[chosen]])
            boxes.append(added)
            scatters.append(_scatter(pixels[added]))
    return np.stack([pixels[box].mean(axis=0) for box in boxes])


def _scatter(colors: np.ndarray) -> float:
    return float(((colors - colors.mean(axis=0)) ** 2).sum())


def reference_map(colors: np.ndarray) -> np.ndarray:
    """Nearest colour to the middle of each cell, int [32, 32, 32]."""
    middle = np.arange(32) * 8 + 3.5
    grid = np.stack(np.meshgrid(middle, middle, middle, indexing='ij'), axis=-1)
    return ((grid[..., None, :] - colors) ** 2).sum(axis=-1).argmin(axis=-1)


def reference_dither(pixels: np.ndarray, colors: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Floyd-Steinberg, one pixel after another; index int [H, W]."""
    height, width, _ = pixels.shape
    values = pixels.astype(np.float64)
    index = np.zeros((height, width), int)
    for y, x in np.ndindex(height, width):
        value = np.clip(values[y, x], 0, 255)
        index[y, x] = nearest[tuple(value.astype(int) // 8)]
        error = value - colors[index[y, x]]
        for dy, dx, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
            if y + dy < height and 0 <= x + dx < width:
                values[y + dy, x + dx] += error * share / 16
    return index


def to_float(fixed: np.ndarray) -> np.ndarray:
    """Colours float64 [64, 3] of the two whole numbers that hold them."""
    high, low = np.asarray(fixed, np.float64)
    return high / 2**18 + low / 2**42


def to_fixed(colors: np.ndarray) -> jax.Array:
    """The inverse of `to_float`, cut off."""
    whole = np.floor(colors * 2.0**42).astype(np.int64)
    return jnp.asarray(np.stack([whole >> 24, whole & (1 << 24) - 1]), jnp.int32)


@pytest.fixture
def shades() -> np.ndarray:
    """int32 [48, 64, 3]: shaded noise over the whole range."""
    rng = np.random.default_rng(1)
    shade = np.linspace(0, 200, 64)[:, None] + np.linspace(0, 40, 48)[:, None, None]
    noisy = shade * [1, 0.8, 0.5] + rng.uniform(-30, 90, (48, 64, 3))
    return np.clip(noisy, 0, 255).astype(np.int32)


@pytest.mark.parametrize('count', palette.COLOR_COUNTS)
def test_the_palette_is_the_best_of_all_cuts(shades, count):
    expected = reference_palette(shades, count)
    fixed, used = jax.jit(palette.minimum_variance_palette)(shades, count)
    assert used == count == len(expected)
    np.testing.assert_allclose(to_float(fixed)[:count], expected, rtol=0, atol=1e-9)


def test_sums_of_squares_beyond_32_bits_choose_the_right_box():
    colors = np.array([[0, 0, 0], [0, 255, 0], [255, 70, 0], [255, 190, 0]], np.int32)
    pixels = colors.repeat(150_000, axis=0).reshape(600, 1000, 3)
    # The box without red is the wider one, but not modulo 2^32.
    dark, bright = 300_000 * 127.5**2, 300_000 * 60.0**2
    assert dark % 2**32 < bright < 2**32 < dark
    fixed, used = jax.jit(palette.minimum_variance_palette)(pixels, 3)
    assert used == 3
    np.testing.assert_array_equal(to_float(fixed)[:3], [[0, 0, 0], [255, 130, 0], [0, 255, 0]])


@pytest.mark.parametrize('count', [8, 64])
def test_the_inverse_map_holds_the_nearest_colours(count):
    colors = np.random.default_rng(count).uniform(0, 255, (count, 3))
    # Equal colours: the first is taken.
    colors[-1] = colors[0]
    fixed = jnp.pad(to_fixed(colors), ((0, 0), (0, 64 - count), (0, 0)))
    ours = jax.jit(palette.inverse_map)(fixed, count)
    np.testing.assert_array_equal(ours, reference_map(colors).ravel())


@pytest.mark.parametrize('shape', [(48, 64), (40, 7), (1, 50), (50, 1), (2, 2)])
def test_the_wavefront_is_sequential_dithering_sample_for_sample(shape):
    rng = np.random.default_rng(shape)
    pixels = rng.integers(0, 256, (*shape, 3)).astype(np.int32)
    # Far from the borders of the cube, so that errors are large and clipped often.
    colors = rng.uniform(60, 190, (16, 3))
    nearest = reference_map(colors)
    ours = jax.jit(palette.dither)(pixels, to_fixed(colors), jnp.asarray(nearest.ravel()))
    np.testing.assert_array_equal(ours, reference_dither(pixels, colors, nearest))


def test_a_millionth_of_a_grey_level_is_passed_on():
    pixels = np.array([[[116] * 3, [97] * 3]], np.int32)
    # The error of 16 less a millionth brings 97 to 104 less half of one, a cell below 104.
    colors = np.repeat(np.arange(32.0)[:, None] * 8, 3, axis=1)
    colors[116 // 8] = 100 + 2**-20
    nearest = np.repeat(np.arange(32), 32 * 32).reshape(32, 32, 32)
    ours = jax.jit(palette.dither)(pixels, to_fixed(colors), jnp.asarray(nearest.ravel()))
    np.testing.assert_array_equal(ours, [[14, 12]])
    np.testing.assert_array_equal(ours, reference_dither(pixels, colors, nearest))


@pytest.mark.parametrize('level', [1, 5])
def test_the_whole_distortion_is_the_reference(small_images, level):
    # Half of the range 27..241 is exactly a half of a grey level once stretched, and goes up.
    image = np.clip(small_images[0], 27, 241)
    image[0, 0], image[1, 1], image[::5, ::3] = 27, 241, 134
    pixels = (510 * (image.astype(int) - 27) + 214) // 428
    colors = reference_palette(pixels, palette.COLOR_COUNTS[level - 1])
    dithered = colors[reference_dither(pixels, colors, reference_map(colors))]
    low, high = dithered.min(), dithered.max()
    expected = np.floor(255 * (dithered - low) / (high - low) + 0.5)
    np.testing.assert_array_equal(distort(image, 6, level), expected)


def test_few_colours_are_kept_as_they_are():
    colors = np.array([[0, 0, 0], [255, 40, 9], [120, 200, 250]], np.uint8)
    image = colors[np.random.default_rng(0).integers(0, 3, (20, 30))]
    np.testing.assert_array_equal(distort(image, 'color_quantization', 5), image)
    # In one cell nothing is left to cut: the mean stands for all.
    close = np.where(image == image[0, 0], 16, 18).astype(np.int32)
    fixed, used = jax.jit(palette.minimum_variance_palette)(close, 8)
    assert used == 1
    np.testing.assert_allclose(to_float(fixed)[0], close.mean(axis=(0, 1)), atol=1e-9)


def test_without_dither_every_pixel_takes_the_nearest_colour_of_the_same_palette(shades):
    image, key = jnp.float32(shades) / 255, jax.random.key(0)
    plain = jax.jit(palette.color_quantization_without_dither)(image, 4, key)
    dithered = jax.jit(palette.color_quantization)(image, 4, key)
    colors = reference_palette(shades, 16)
    expected = colors[reference_map(colors)[tuple(np.moveaxis(shades // 8, -1, 0))]]
    np.testing.assert_allclose(plain, expected / 255, atol=1e-6)
    assert {*map(tuple, np.asarray(dithered).reshape(-1, 3).tolist())} == {
        *map(tuple, np.asarray(plain).reshape(-1, 3).tolist())
    }
    # What dithering is for: the mean over a neighbourhood comes nearer to the image.
    means = [np.reshape(x, (6, 8, 8, 8, 3)).mean(axis=(1, 3)) for x in (image, plain, dithered)]
    assert np.abs(means[2] - means[0]).mean() < 0.7 * np.abs(means[1] - means[0]).mean()


def test_images_too_large_to_sum_up_are_refused():
    wide = jax.ShapeDtypeStruct((1, palette.MOST_PIXELS + 1, 3), jnp.float32)
    with pytest.raises(ValueError, match='at most 16843009 pixels'):
        jax.eval_shape(lambda image: palette.color_quantization(image, 1, None), wide)
