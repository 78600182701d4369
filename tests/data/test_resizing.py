"""The papers' rule of resizing training images, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from iqa_jax.data import manifest, resizing, store
from iqa_jax.images import io


@pytest.mark.parametrize(
    ('shape', 'want', 'method'),
    [
        ((300, 401), (384, 513), Image.Resampling.BICUBIC),
        ((401, 300), (513, 384), Image.Resampling.BICUBIC),
        ((384, 512), (384, 512), None),
        ((512, 700), (512, 700), None),
        ((383, 900), (384, 902), Image.Resampling.BICUBIC),
        ((768, 1024), (512, 682), Image.Resampling.BILINEAR),
        ((1024, 513), (1022, 512), Image.Resampling.BILINEAR),
    ],
)
def test_short_sides_end_between_384_and_512(shape, want, method):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    got = resizing.unique(image)
    assert got.shape == (*want, 3) and got.dtype == np.uint8
    if method is None:
        assert got is image
    else:
        np.testing.assert_array_equal(got, Image.fromarray(image).resize(want[::-1], method))


def test_without_a_rule_nothing_changes():
    image = np.zeros((20, 30, 3), np.uint8)
    assert resizing.RULES[''].train(image) is image
    assert resizing.RULES[''].score(image) is image


def test_short_sides_above_768_shrink_before_scoring(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((768, 900), (800, 1000))]
    names = [tmp_path / f'{i}.png' for i in range(2)]
    for name, image in zip(names, images, strict=True):
        name.write_bytes(io.encode_png(image))
    columns = {
        'image_id': np.array(['a', 'b'], object),
        'file': np.array(list(map(str, names)), object),
    }
    columns = manifest.complete(columns, tmp_path)
    same, shrunk = store.ImageStore(columns, resize='unique').load([0, 1])
    np.testing.assert_array_equal(same, images[0])
    small = Image.fromarray(images[1]).resize((960, 768), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(shrunk, small)
    np.testing.assert_array_equal(store.ImageStore(columns).load([1])[0], images[1])
