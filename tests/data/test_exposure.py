"""What a model knows of an image: bytes, recipe, reference or content, trained on or validated."""

import numpy as np
import pytest

from iqa_jax.data import exposure, manifest
from iqa_jax.images import io


def rows(*images: dict):
    """Manifest rows of the given values; the rest is the manifest's defaults."""
    names = {name for image in images for name in image}
    defaults = {'ref_id': 'none', 'type': -1, 'level': 0, 'seed': 0}
    columns = {
        name: np.array([image.get(name, defaults.get(name, '')) for image in images], object)
        for name in names
    }
    return manifest.complete(columns, 'rows')


JPEG = {'image_id': 'a_10_03', 'ref_id': 'a', 'type': 10, 'level': 3, 'seed': 7, 'ref_sha256': 'aa'}
TRAINED = rows(
    JPEG,
    {'image_id': 'b', 'ref_id': 'b', 'sha256': 'bb', 'content': 'harbour'},
    {'image_id': 'c_1', 'ref_id': 'c', 'sha256': 'c1', 'database': 'live'},
)
KNOWN = exposure.record([TRAINED], [], [])


HARBOUR = {'sha256': 'yy', 'content': 'harbour'}
LIVE = {'image_id': 'c_2', 'ref_id': 'c', 'sha256': 'c2', 'database': 'live'}


@pytest.mark.parametrize(
    ('image', 'want'),
    [
        (JPEG | {'image_id': 'another_name'}, exposure.IMAGE),
        (JPEG | {'sha256': 'stored by now', 'file': ''}, exposure.IMAGE),
        (JPEG | {'level': 4}, exposure.REFERENCE),
        (JPEG | {'ref_sha256': 'other'}, exposure.UNSEEN),
        ({'image_id': 'a', 'ref_id': 'a', 'type': 0, 'sha256': 'aa'}, exposure.REFERENCE),
        ({'image_id': 'x', 'ref_id': 'x', 'sha256': 'bb'}, exposure.IMAGE),
        ({'image_id': 'b_1', 'ref_id': 'b', 'ref_sha256': 'bb'}, exposure.REFERENCE),
        ({'image_id': 'y', 'ref_id': 'y'} | HARBOUR, exposure.REFERENCE),
        ({'image_id': 'b', 'ref_id': 'b', 'sha256': 'b2'}, exposure.UNSEEN),
        (LIVE, exposure.REFERENCE),
        (LIVE | {'database': 'csiq'}, exposure.UNSEEN),
        ({'image_id': 'c_1', 'ref_id': 'c'}, exposure.UNSEEN),
    ],
)  # fmt: skip
def test_an_image_is_known_by_bytes_recipe_reference_or_content(image, want):
    found = exposure.seen(rows(image), KNOWN)
    assert found.dtype == np.int8 and found.tolist() == [want]


def test_the_pristine_row_of_the_same_manifest_tells_the_reference():
    pristine = {'image_id': 'a', 'ref_id': 'a', 'type': 0, 'sha256': 'aa'}
    stored = {k: v for k, v in JPEG.items() if k != 'ref_sha256'} | {'sha256': 'a3'}
    assert exposure.seen(rows(pristine, stored), KNOWN).tolist() == [2, 3]
    assert exposure.seen(rows(stored), KNOWN).tolist() == [0]


@pytest.mark.parametrize('trained', [('train',), ('pool', 'train')])
@pytest.mark.parametrize('scored', [('test',), ('pool', 'test')])
def test_a_reference_is_known_whichever_splits_are_trained_and_scored(trained, scored):
    common = {'ref_id': 'I01', 'database': 'kadid10k'}
    database = rows(
        common | {'image_id': 'I01', 'sha256': 'aa', 'type': 0, 'split': 'pool'},
        common | {'image_id': 'I01_1', 'sha256': 'a1', 'split': 'train'},
        common | {'image_id': 'I01_2', 'sha256': 'a2', 'split': 'test'},
    )
    known, tested = (manifest.in_splits(database, names, 'x') for names in (trained, scored))
    found = exposure.seen(tested, exposure.record([known], [], []))
    assert found[tested['image_id'] == 'I01_2'].tolist() == [exposure.REFERENCE]


def test_stored_images_of_equal_type_and_level_are_not_the_same_image():
    """LIVE has no levels, other databases may have several images of one; neither has seeds."""
    stored = {'ref_id': 'lena', 'ref_sha256': 'aa', 'type': 10, 'file': 'x'}
    for level in (0, 2):
        first, other = (
            rows(stored | {'image_id': n, 'level': level, 'sha256': n}) for n in ('i1', 'i2')
        )
        known = exposure.record([first], [], [])
        assert exposure.seen(other, known).tolist() == [exposure.REFERENCE]
        assert exposure.seen(first, known).tolist() == [exposure.IMAGE]
    recipe = rows(stored | {'image_id': 'r', 'file': '', 'level': 2})
    again = rows(stored | {'image_id': 's', 'file': '', 'level': 2})
    known = exposure.record([recipe], [], [])
    assert exposure.seen(again, known).tolist() == [exposure.IMAGE]


def test_the_same_image_has_the_same_bytes_or_recipe_under_any_id():
    other = {'image_id': 'z', 'database': 'live', 'content': 'harbour'}
    tested = rows(
        JPEG | {'image_id': 'renamed'}, JPEG | {'image_id': 'next', 'level': 4},
        other | {'image_id': 'copy', 'ref_id': 'c', 'sha256': 'c1'},
        other | {'image_id': 'new', 'ref_id': 'c', 'sha256': 'c2'},
        other | {'image_id': 'c_1', 'ref_id': 'c'},
    )  # fmt: skip
    assert exposure.same_image(tested, TRAINED).tolist() == [True, False, True, False, False]
    assert not exposure.same_image(rows({'image_id': 'a', 'ref_id': 'a'}), TRAINED).any()


def test_a_content_is_known_after_other_pictures_joined_or_left_it():
    def named(*contents: str):
        return rows(*({'image_id': c, 'ref_id': c, 'content': c} for c in contents))

    known = exposure.record([named('b+c', 'x')], [], [])
    tested = named('a+b+c', 'c', 'b', 'a+d', 'd')
    assert exposure.seen(tested, known).tolist() == [2, 2, 2, 0, 0]


def test_files_without_a_digest_are_read(tmp_path):
    for name, level in (('a', 1), ('b', 2), ('copy_of_a', 1)):
        image = io.encode_png(np.full((8, 8, 3), level, np.uint8))
        (tmp_path / f'{name}.png').write_bytes(image)
    known, tested = (
        rows(*({'image_id': n, 'ref_id': n, 'file': str(tmp_path / f'{n}.png')} for n in names))
        for names in (('a',), ('copy_of_a', 'b', 'missing'))
    )
    assert exposure.seen(tested, exposure.record([known], [], [])).tolist() == [3, 0, 0]


def test_validation_is_told_apart_and_earlier_trainings_count():
    parts = [rows({'image_id': n, 'ref_id': n, 'sha256': n}) for n in 'abcd']
    first = exposure.record([parts[0]], [parts[1]], [])
    second = exposure.record([parts[1]], [parts[2]], [first])
    tested = rows(*({'image_id': n, 'ref_id': n, 'sha256': n} for n in 'abcd'))
    assert exposure.seen(tested, first).tolist() == [3, 1, 0, 0]
    assert exposure.seen(tested, second).tolist() == [3, 3, 1, 0]
    again = exposure.record([], [parts[0]], [second])  # trained on before, only watched now
    assert exposure.seen(tested, again).tolist() == [3, 3, 1, 0]
    assert (np.diff(second['key'].astype(object)) > 0).all()
    assert second['key'].dtype == np.uint64 and len(second['key']) == 6


def test_a_model_that_saw_nothing_knows_nothing():
    nameless = rows({'image_id': 'a', 'ref_id': 'a'})
    nothing = exposure.record([nameless], [], [])
    assert len(nothing['key']) == 0
    assert exposure.seen(TRAINED, nothing).tolist() == [0, 0, 0]
    assert exposure.seen(nameless, KNOWN).tolist() == [0]
