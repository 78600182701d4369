"""The papers' rule of resizing training images, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from iqa_jax.data import resizing


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
    assert resizing.RULES[None](image) is image
