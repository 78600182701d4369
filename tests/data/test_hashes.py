"""Fingerprints of the bundled photographs: equal for one picture, far apart for two."""

import io as buffers
import itertools

import numpy as np
import pytest
from PIL import Image, ImageFilter

from iqa_jax.data import crops, hashes, sources
from iqa_jax.images import io


@pytest.fixture(scope='module')
def photos() -> list[Image.Image]:
    return [Image.fromarray(io.decode(file)) for file in sources.photo_files('')]


@pytest.fixture(scope='module')
def found(photos) -> np.ndarray:
    return np.stack([hashes.perceptual(np.asarray(photo)) for photo in photos])


def saved(image: Image.Image, kind: str, **options) -> np.ndarray:
    buffer = buffers.BytesIO()
    image.save(buffer, kind, **options)
    return io.decode(buffer.getvalue())


def hamming(a: np.ndarray, b: np.ndarray) -> int:
    """Smallest number of differing bits over the views, counted one by one."""
    return min(
        sum(int(x ^ y).bit_count() for x, y in zip(u, v, strict=True))
        for u, v in zip(a, b, strict=True)
    )


def test_the_exact_hash_sees_pixels_and_shape_only(photos):
    one = photos[0].resize((64, 48))
    png, bmp = saved(one, 'PNG'), saved(one, 'BMP')
    assert hashes.exact(png) == hashes.exact(bmp) == hashes.exact(np.asarray(one)[:, :, :])
    assert hashes.exact(png.reshape(64, 48, 3)) != hashes.exact(png)
    changed = png.copy()
    changed[5, 7, 1] ^= 1
    assert hashes.exact(changed) != hashes.exact(png)
    assert hashes.exact(png[:, ::2]) == hashes.exact(png[:, ::2].copy())


ALTERED = {
    'halved': lambda x: x.resize((256, 192), Image.Resampling.BICUBIC),
    'of LIVE': lambda x: x.resize((480, 360), Image.Resampling.BILINEAR),
    'stretched': lambda x: x.resize((300, 384)),
    'JPEG': lambda x: Image.fromarray(saved(x, 'JPEG', quality=10)),
    'blurred': lambda x: x.filter(ImageFilter.GaussianBlur(3)),
    'brighter': lambda x: x.point(lambda v: min(255, v + 30)),
    'square': lambda x: x.crop((64, 0, 448, 384)),
    '3:2': lambda x: x.crop((0, 21, 512, 362)).resize((384, 256)),
    '16:9': lambda x: x.crop((0, 48, 512, 336)),
}


@pytest.mark.parametrize('name', ALTERED)
def test_an_altered_photograph_stays_near(photos, found, name):
    for photo, before in zip(photos[::2], found[::2], strict=True):
        after = hashes.perceptual(np.asarray(ALTERED[name](photo)))
        assert hamming(before, after) <= hashes.DISTANCE


def test_different_photographs_are_far_apart_also_flat_ones(found):
    assert min(hamming(a, b) for a, b in itertools.combinations(found, 2)) > hashes.DISTANCE + 20
    flat = [hashes.perceptual(np.full((40, 60, 3), level, np.uint8)) for level in (0, 200)]
    assert hamming(*flat) > hashes.DISTANCE
    assert hamming(flat[0], hashes.perceptual(np.zeros((40, 60, 3), np.uint8))) == 0


@pytest.mark.parametrize('block', [1, 40, 1 << 20])
def test_near_finds_the_pairs_of_a_search_one_by_one(monkeypatch, block):
    monkeypatch.setattr(hashes, '_BLOCK', block)
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**64, (9, hashes.VIEWS, hashes.WORDS), np.uint64)
    second = rng.integers(0, 2**64, (13, hashes.VIEWS, hashes.WORDS), np.uint64)
    second[4, 2] = first[7, 2] ^ np.uint64(0b1011)  # 3 bits in each of the 4 words of one view
    first[8] = first[1]
    for distance in (0, 12, 110):
        rows = hashes.near(first, second, distance)
        want = [
            (i, j, d)
            for i, j in itertools.product(range(9), range(13))
            if (d := hamming(first[i], second[j])) <= distance
        ]
        assert list(zip(*(x.tolist() for x in rows), strict=True)) == want
        assert ((7, 4, 12) in want) == (distance >= 12)
        rows = hashes.near(first, distance=distance)
        want = [
            (i, j, d)
            for i, j in itertools.combinations(range(9), 2)
            if (d := hamming(first[i], first[j])) <= distance
        ]
        assert list(zip(*(x.tolist() for x in rows), strict=True)) == want
        assert (1, 8, 0) in want


def test_near_of_nothing_is_nothing():
    nothing = np.zeros((0, hashes.VIEWS, hashes.WORDS), np.uint64)
    assert [len(x) for x in hashes.near(nothing)] == [0, 0, 0]


def test_cut_outs_are_found_in_their_photograph_and_in_no_other(photos):
    rng = np.random.default_rng(0)
    wholes = [crops.gray(np.asarray(photo)) for photo in photos[:8]]
    parts = []
    for photo in photos[:5]:
        left, top = int(rng.integers(0, 170)), int(rng.integers(0, 95))
        part = photo.crop((left, top, left + 342, top + 288))  # 2/3 x 3/4
        part = part.resize([round(n * rng.uniform(0.6, 1.2)) for n in (part.size[0],) * 2])
        parts.append(part.resize((300, 252)))
    small = [crops.gray(saved(part, 'JPEG', quality=30)) for part in parts]
    found = [(i, j) for i, j, value in crops.search(wholes, small) if value <= 1 + 1e-9]
    assert sorted(found) == [(i, i) for i in range(5)]
    assert not list(crops.search([np.full((96, 192), 7, np.uint8)], small))


def test_the_correlation_is_that_of_every_place_one_by_one():
    rng = np.random.default_rng(0)
    images, template = rng.normal(0, 1, (3, 13, 17)), rng.normal(0, 1, (5, 4))
    images[1, 3:8, 9:13] = 2 * template + 5
    found = crops._Images(images).correlation(template)
    for image, value in zip(images, found, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, template.shape)
        every = [np.corrcoef(w.ravel(), template.ravel())[0, 1] for w in windows.reshape(-1, 5, 4)]
        np.testing.assert_allclose(value, max(every), rtol=1e-9)
    np.testing.assert_allclose(found[1], 1, rtol=1e-9)
