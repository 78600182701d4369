"""Buckets and tiles: every pixel is covered, nothing lies outside, weights are what they say."""

import numpy as np
import pytest

from iqa_jax.models import tiling

SIZES = [(3000, 4000), (1500, 1400), (50, 9000), (2001, 1999), (1449, 1449), (32, 70000)]


@pytest.mark.parametrize(('step', 'limit'), [(64, 2**21), (1, 2**16), (128, 2**18)])
@pytest.mark.parametrize(('height', 'width'), SIZES)
def test_equal_tiles_cover_every_pixel_and_share_it(height, width, step, limit):
    found = tiling.tiles(height, width, step, limit)
    on = np.zeros((height, width), np.int32)
    for tile in found:
        assert 0 <= tile.top <= height - tile.height and 0 <= tile.left <= width - tile.width
        on[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert on.min() >= 1
    assert len({(tile.height, tile.width) for tile in found}) == 1
    tall, wide = found[0].height, found[0].width
    assert np.prod(tiling.bucket(tall, wide, step)) <= limit
    assert tall == height or tall % step == 0
    assert wide == width or wide % step == 0
    weights = [
        (1 / on[t.top : t.top + tall, t.left : t.left + wide]).sum() / on.size for t in found
    ]
    np.testing.assert_allclose([tile.weight for tile in found], weights, rtol=1e-9)
    assert sum(tile.weight for tile in found) == pytest.approx(1, abs=1e-12)


def test_small_pictures_stay_whole():
    for size in ((1080, 1920), (32, 32), (1408, 1472), (33, 32000)):
        assert tiling.tiles(*size, 64, 2**21) == [(0, 0, *size, 1.0)]
    assert len(tiling.tiles(1448, 1448, 64, 2**21)) == 4


def test_buckets_and_their_padding():
    assert tiling.bucket(384, 512, 64) == (384, 512)
    assert tiling.bucket(385, 511, 64) == (448, 512)
    image = np.arange(40 * 50 * 3, dtype=np.int32).reshape(40, 50, 3)
    assert tiling.pad(image, (40, 50)) is image
    padded = tiling.pad(image, (64, 64))
    np.testing.assert_array_equal(padded[:40, :50], image)
    np.testing.assert_array_equal(padded[40:, :50], image[38:14:-1])
    far = tiling.pad(image, (128, 64))
    np.testing.assert_array_equal(far[40:, :50], np.broadcast_to(image[39:], (88, 50, 3)))


@pytest.mark.parametrize(
    ('step', 'limit', 'sentence'),
    [
        (0, 2**21, 'bucket_step=0 is no power of two'),
        (48, 2**21, 'bucket_step=48 is no power of two'),
        (64, 1000, 'pixel_limit=1000 is too small; use at least 65536'),
        (512, 2**17, 'use at least 262144'),
    ],
)
def test_impossible_rules_are_sentences(step, limit, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiling.check(step, limit)
