"""The gallery: the pictures of the data set, where they belong, and bad input."""

import numpy as np
import pytest
from PIL import Image

from iqa_jax.data import kadis
from iqa_jax.distortions import distort_batch
from iqa_jax.images import io
from iqa_jax.tasks import gallery

CONFIG = {
    'task': 'gallery',
    'root': '',
    'photo': '',
    'size': (96, 128),
    'crop': (48, 64),
    'types': ('white_noise', 1),
    'levels': (1, 4, 5),
    'seed': 3,
}


@pytest.fixture
def photo(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'mine.png')
    return tmp_path / 'mine.png', noise


def places(page: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """Every (row, column) at which a picture lies on the page."""
    height, width, _ = picture.shape
    corners = np.argwhere((page[:-height, :-width] == picture[0, 0]).all(axis=-1))
    return [
        (y, x) for y, x in corners.tolist()
        if (page[y : y + height, x : x + width] == picture).all()
    ]  # fmt: skip


def test_rows_are_types_and_columns_levels_of_the_seeded_data_set(photo, tmp_path):
    path, pixels = photo
    summary = gallery.run(CONFIG | {'photo': str(path)}, tmp_path / 'out')
    assert (summary['types'], summary['images'], summary['quarantined']) == (2, 6, 0)
    page = io.decode(tmp_path / 'out/gallery.png')
    middle = np.s_[24:72, 32:96]
    (top, left), *_ = places(page, pixels[middle])
    corners = []
    for number in (1, 11):
        for level in (1, 4, 5):
            seed = kadis.image_seed(3, 'mine', number, level)
            distorted = distort_batch(pixels[None], number, [level], [seed])[0]
            found = places(page, distorted[middle])
            # Blurring by a tenth of a pixel changes nothing: this one is the reference once more.
            corners += [place for place in found if place != (top, left)]
    rows, columns = (sorted({place[axis] for place in corners}) for axis in (0, 1))
    assert corners == [(row, column) for row in rows for column in columns]
    assert len(rows) == 2 and len(columns) == 3 and columns[0] == left and rows[0] > top + 48
    # The S in red stands before the row of noise only.
    red = (page[:, :left] == (176, 42, 32)).all(axis=-1).any(axis=1).nonzero()[0]
    assert rows[1] < red.min() and red.max() < rows[1] + 48


def test_the_same_command_does_nothing_and_another_photograph_begins_anew(photo, tmp_path, capsys):
    path, pixels = photo
    config = CONFIG | {'photo': str(path), 'types': (1,)}
    first = gallery.run(config, tmp_path / 'out')
    assert gallery.run(config, tmp_path / 'out') == first
    assert 'gallery: up to date' in capsys.readouterr().err
    Image.fromarray(255 - pixels).save(path)
    gallery.run(config, tmp_path / 'out')
    assert 'up to date' not in capsys.readouterr().err
    page = io.decode(tmp_path / 'out/gallery.png')
    assert places(page, 255 - pixels[24:72, 32:96])


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'crop': (97, 64)}, 'config.crop has height 97; it must be from 1 to 96'),
        ({'crop': (48, 0)}, 'config.crop has width 0; it must be from 1 to 128'),
        ({'types': ('sepia',)}, "distortion 'sepia' is unknown"),
        ({'levels': (0,)}, 'level must be a whole number from 1 to 5'),
        ({'levels': ()}, 'config.levels is empty'),
        ({'photo': 'nowhere.png'}, 'config.photo=nowhere.png cannot be shown: .* is not a file'),
        ({'size': (192, 256)}, 'config.photo=.*mine.png cannot be shown: it is 128x96 pixels'),
    ],
)
def test_bad_input_is_one_clear_sentence(photo, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        gallery.run(CONFIG | {'photo': str(photo[0])} | change, tmp_path / 'out')
