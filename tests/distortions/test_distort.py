"""The registry, and the laws of `distort` and `distort_batch`."""

import concurrent.futures
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import distortions
from iqa_jax.distortions import DISTORTIONS, distort, distort_batch

PURE = [name for name, entry in DISTORTIONS.items() if not entry.host]
NAMES = {
    1: 'gaussian_blur',
    2: 'lens_blur',
    3: 'motion_blur',
    4: 'color_diffusion',
    5: 'color_shift',
    6: 'color_quantization',
    7: 'saturation_hsv',
    8: 'saturation_lab',
    9: 'jpeg2000',
    10: 'jpeg',
    11: 'white_noise',
    12: 'color_noise',
    13: 'impulse_noise',
    14: 'multiplicative_noise',
    15: 'denoise',
    16: 'brighten',
    17: 'darken',
    18: 'mean_shift',
    19: 'jitter',
    20: 'non_eccentricity_patch',
    21: 'pixelate',
    22: 'quantization',
    23: 'color_block',
    24: 'high_sharpen',
    25: 'contrast_change',
}
RANDOM = {3, 5, 11, 12, 13, 14, 15, 19, 20, 23}


def test_registry_has_kadids_numbers_and_names():
    assert {entry.number: entry.name for entry in DISTORTIONS.values()} == NAMES
    assert {entry.number for entry in DISTORTIONS.values() if entry.stochastic} == RANDOM
    for name, entry in DISTORTIONS.items():
        assert len(entry.levels) == 5 and entry.function.__name__ == name
        assert distortions.get(name) is distortions.get(entry.number) is entry


@pytest.mark.parametrize('unknown', ['sepia', 26, 0])
def test_unknown_type_is_named_with_those_there_are(unknown):
    with pytest.raises(ValueError, match=rf'{unknown}.* is unknown.*1 gaussian_blur.*25'):
        distort(np.zeros((48, 64, 3), np.uint8), unknown, 1)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_bytes_depend_on_image_level_and_seed_only(small_images, name):
    number = DISTORTIONS[name].number
    levels, seeds = np.array([1, 3, 5, 2]), np.array([7, 2**40 + 1, 3, -5])
    batch = distort_batch(small_images, number, levels, seeds)
    assert batch.dtype == np.uint8 and batch.shape == small_images.shape
    order = np.array([2, 0, 3])
    again = distort_batch(small_images[order], number, levels[order], seeds[order])
    np.testing.assert_array_equal(again, batch[order])
    alone = distort_batch(small_images[1:2], number, levels[1:2], seeds[1:2])
    np.testing.assert_array_equal(alone[0], batch[1])


@pytest.mark.parametrize('number', sorted(RANDOM))
def test_another_seed_is_another_image(small_images, number):
    seeds = [0, 1, 2**32, 2**63 - 1]
    same_image = np.stack([small_images[0]] * 4)
    distorted = distort_batch(same_image, number, np.full(4, 5), seeds)
    assert len({image.tobytes() for image in distorted}) == 4


@pytest.mark.parametrize('name', PURE)
def test_pure_functions_map_over_a_batch_with_traced_levels(small_images, name):
    function = DISTORTIONS[name].function
    images = jnp.float32(small_images) / 255
    levels, keys = jnp.array([1, 3, 4, 5]), jax.random.split(jax.random.key(0), 4)
    mapped = jax.jit(jax.vmap(function))(images, levels, keys)
    single = jax.jit(function)
    one_by_one = np.stack([single(*each) for each in zip(images, levels, keys, strict=True)])
    # Quantization jumps, so that a sample on a threshold may fall to either side.
    wrong = np.abs(mapped - one_by_one) > 1e-4
    assert wrong.mean() < (1e-3 if name == 'quantization' else 1e-9)


@pytest.mark.parametrize('name', ['brighten', 'jpeg', 'white_noise'])
def test_floats_in_floats_out_and_bytes_in_bytes_out(small_images, name):
    in_bytes = distort(small_images[0], name, 3, key=4)
    assert in_bytes.dtype == np.uint8
    in_floats = distort(small_images[0] / 255, name, 3, key=4)
    assert in_floats.dtype == np.float32
    assert in_floats.min() == 0 and in_floats.max() == 1
    assert np.abs(255 * in_floats - in_bytes).max() <= 1


def test_one_image_is_a_batch_of_one_and_seeds_count_up(small_images):
    batch = distort(small_images, 'impulse_noise', [5, 5, 5, 1], key=3)
    expected = distort_batch(small_images, 13, np.array([5, 5, 5, 1]), np.arange(3, 7))
    np.testing.assert_array_equal(batch, expected)
    np.testing.assert_array_equal(distort(small_images[1], 'impulse_noise', 5, key=4), batch[1])
    np.testing.assert_array_equal(
        distort(small_images[0], 13, 2), distort(small_images[0], 13, 2, key=0)
    )


def test_a_jax_key_draws_one_seed_per_image(small_images):
    same = np.stack([small_images[0]] * 2)
    first, second = distort(same, 11, 1, key=jax.random.key(1))
    again = distort(same, 11, 1, key=jax.random.key(1))
    assert (first != second).any()
    np.testing.assert_array_equal(again, [first, second])
    assert (distort(same, 11, 1, key=jax.random.key(2)) != again).any()


@pytest.mark.parametrize('name', DISTORTIONS)
def test_flat_images_stay_flat_unless_chance_is_at_work(name):
    flat = np.full((48, 64, 3), 77, np.uint8)
    distorted = distort(flat, name, 4)
    # Lab's six-digit white leaves grey a trace of colour, which these two amplify.
    amplifies = name in ('color_diffusion', 'saturation_lab')
    if not (DISTORTIONS[name].stochastic or amplifies):
        assert np.ptp(distorted) == 0
    if name in ('gaussian_blur', 'lens_blur', 'motion_blur', 'high_sharpen', 'pixelate'):
        np.testing.assert_array_equal(distorted, flat)


@pytest.mark.parametrize('level', [0, 6, -1, 2.5, [1, 2, 6, 1]])
def test_levels_outside_1_to_5_are_refused(small_images, level):
    with pytest.raises(ValueError, match='level must be a whole number from 1 to 5'):
        distort(small_images, 'darken', level)


@pytest.mark.parametrize('value', [1.5, -0.1, np.nan, np.inf])
def test_floats_out_of_range_are_refused(value):
    image = np.full((48, 64, 3), 0.5)
    image[0, 0, 0] = value
    with pytest.raises(ValueError, match=r'must lie in \[0, 1\]'):
        distort(image, 'darken', 1)


@pytest.mark.parametrize(
    'shape', [(48, 64), (48, 64, 1), (48, 64, 4), (1, 2, 48, 64, 3), (0, 4, 3)]
)
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r'must have shape \[H, W, 3\]'):
        distort(np.zeros(shape, np.uint8), 'darken', 1)


def test_other_types_and_lengths_are_refused(small_images):
    with pytest.raises(ValueError, match='must be uint8 or float'):
        distort(small_images.astype(np.int32), 'darken', 1)
    with pytest.raises(ValueError, match='images must be uint8'):
        distort_batch(small_images / 255, 17, np.ones(4, int), np.arange(4))
    with pytest.raises(ValueError, match='levels must be one per image'):
        distort_batch(small_images, 17, np.ones(3, int), np.arange(4))
    with pytest.raises(ValueError, match='seeds must be one per image'):
        distort_batch(small_images, 17, np.ones(4, int), np.arange(3))


@pytest.mark.parametrize(
    ('name', 'side'),
    [('non_eccentricity_patch', 48), ('color_block', 32), ('jpeg2000', 32), ('color_shift', 2)],
)
def test_images_too_small_for_a_type_are_refused(name, side):
    for height, width in ((side - 1, 64), (64, side - 1)):
        said = f'{width}x{height} pixels, and {name} needs {side} per side'
        with pytest.raises(ValueError, match=said):
            distort(np.zeros((height, width, 3), np.uint8), name, 1)
    image = np.random.default_rng(0).integers(0, 256, (side, 64, 3), np.uint8)
    assert distort(image, name, 5).shape == image.shape


def test_images_too_large_for_color_quantization_are_refused():
    with pytest.raises(ValueError, match='color_quantization takes at most 16,843,009 pixels'):
        distort(np.zeros((4105, 4105, 3), np.uint8), 6, 1)


@pytest.mark.parametrize('name', ['lens_blur', 'motion_blur', 'color_diffusion'])
def test_filters_by_fft_give_the_same_bytes_every_time(name):
    image = np.random.default_rng(0).integers(0, 256, (384, 512, 3), np.uint8) / np.float32(255)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: distort(image, name, 3), range(40))
    assert all(np.array_equal(first, other) for other in others)


def test_jpeg2000_does_not_depend_on_the_number_of_threads(small_images, monkeypatch):
    assert os.environ['OPJ_NUM_THREADS']
    results = []
    for threads in ('1', '3', 'ALL_CPUS'):
        monkeypatch.setenv('OPJ_NUM_THREADS', threads)
        results.append(distort(small_images, 'jpeg2000', 2))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
