"""Quality of the hash that noise is drawn with; every bound is five standard errors of chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from iqa_jax.distortions import noise, random_bits

IMAGE = (384, 512, 3)
SAMPLES = 2**20


def key_of(number: int, seed: int) -> jax.Array:
    """A key made as the pipeline makes it from type and seed."""
    key = jax.random.key(0, impl='threefry2x32')
    for word in (number, seed, 0):
        key = jax.random.fold_in(key, word)
    return key


@pytest.fixture(scope='module')
def words() -> np.ndarray:
    """uint32 [2**20] of one key."""
    return np.asarray(random_bits.bits(key_of(11, 3), (SAMPLES,)))


@pytest.fixture(scope='module')
def normals() -> np.ndarray:
    """Normal float64 [8, 384, 512, 3] of eight neighbouring seeds."""
    draw = jax.jit(lambda key: random_bits.normal(key, IMAGE))
    return np.stack([draw(key_of(11, seed)) for seed in range(8)]).astype(np.float64)


def test_bits_are_the_documented_hash(words):
    first, second = np.asarray(jax.random.bits(key_of(11, 3), (2,)))
    multipliers = np.uint32([0x9E3779B9, 0xBB67AE85, 0x3C6EF373, 0xA54FF53B])
    x = np.arange(1000, dtype=np.uint32) ^ first
    x = (x ^ (x >> 16)) * multipliers[0]
    x = (x ^ (x >> 15)) * multipliers[1]
    x = x ^ (x >> 16) ^ second
    x = (x ^ (x >> 16)) * multipliers[2]
    x = (x ^ (x >> 15)) * multipliers[3]
    np.testing.assert_array_equal(words[:1000], x ^ (x >> 16))
    assert len(np.unique(words)) == SAMPLES


def test_every_bit_is_even_and_every_byte_uniform(words):
    ones = [((words >> bit) & 1).mean() for bit in range(32)]
    assert np.abs(np.array(ones) - 0.5).max() < 5 * 0.5 / np.sqrt(SAMPLES)
    for shift in (0, 8, 16, 24):
        counts = np.bincount((words >> shift) & 255, minlength=256)
        assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_a_changed_bit_of_the_place_changes_half_of_the_bits(words):
    place = np.arange(SAMPLES)
    pairs = SAMPLES // 2  # as both of a pair have the same difference
    for changed in range(20):
        difference = words ^ words[place ^ (1 << changed)]
        share = np.array([((difference >> bit) & 1).mean() for bit in range(32)])
        assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(pairs)


def test_uniform_is_of_odd_multiples(words):
    uniform = np.asarray(random_bits.uniform(key_of(11, 3), (SAMPLES,)))
    np.testing.assert_array_equal(uniform, (2 * (words >> 9).astype(float) + 1) / 2**23 - 1)
    # At both ends of the range the normal is still finite.
    ends = np.array([2.0**-23 - 1, 1 - 2.0**-23], np.float32)
    np.testing.assert_allclose(np.sqrt(2) * jax.lax.erf_inv(ends), [-5.295, 5.295], atol=1e-3)


def test_normal_has_the_moments_and_tails_of_the_normal(normals):
    x, n = normals.ravel(), normals.size
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((x**3).mean()) < 5 * np.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert abs((x**6).mean() - 15) < 5 * np.sqrt(10170 / n)
    for bound in (2, 3, 4, 4.5):
        expected = n * scipy.stats.norm.sf(bound)
        for side in (x > bound, x < -bound):
            assert abs(side.sum() - expected) < 5 * np.sqrt(expected)
    for image in normals[:2]:
        assert scipy.stats.kstest(image.ravel(), 'norm').pvalue > 1e-3


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_rows_columns_and_channels_are_not_correlated(normals, axis):
    for lag in (1, 2, 3, 8, 64):
        if lag >= IMAGE[axis]:
            continue
        image = np.moveaxis(normals[0], axis, 0)
        # Products of independent normals have variance 1.
        products = image[lag:] * image[:-lag]
        assert abs(products.mean()) < 5 / np.sqrt(products.size)


def test_seeds_and_types_are_independent(normals):
    draw = jax.jit(lambda key: random_bits.normal(key, IMAGE))
    others = [draw(key_of(number, 0)) for number in (10, 12, 13, 14, 19)]
    draws = np.concatenate([normals, others]).reshape(13, -1)
    correlation = draws @ draws.T / draws.shape[1]
    assert np.abs(correlation - np.diag(np.diag(correlation))).max() < 5 / np.sqrt(draws.shape[1])


def test_impulses_have_the_stated_density():
    gray = jnp.full((1024, 1024, 3), 0.5)
    strike = jax.jit(noise.impulse_noise)
    for level, density in enumerate(noise.IMPULSE_DENSITIES, start=1):
        struck = np.asarray(strike(gray, level, key_of(13, level)))
        for value in (0, 1):
            expected = gray.size * density / 2
            assert abs((struck == value).sum() - expected) < 5 * np.sqrt(expected)


def test_a_key_of_another_generator_serves_as_well():
    draws = random_bits.normal(jax.random.key(0, impl='rbg'), (100, 100))
    assert abs(float(draws.mean())) < 0.05 and abs(float(draws.std()) - 1) < 0.05
