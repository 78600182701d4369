"""The ArrayRecord data set of an imported database: written and read back without TensorFlow."""

import io as streams
import os
import subprocess
import sys
import textwrap

import database_layouts as layouts
import numpy as np
import pytest
from PIL import Image

from iqa_jax.data import manifest, store, tables
from iqa_jax.data.databases import builder, get
from iqa_jax.images import io

ORIENTATION = 0x0112  # EXIF tag


@pytest.fixture
def columns(tmp_path):
    """Two files, BMP and JPEG, and a recipe, in two splits."""
    layouts.picture(tmp_path / 'a.bmp', 1)
    layouts.picture(tmp_path / 'b.jpg', 2)
    files = [str(tmp_path / 'a.bmp'), str(tmp_path / 'b.jpg'), '']
    rows = {
        'image_id': ['x__a', 'x__b', 'x__a_10_03'],
        'ref_id': ['x__a', 'x__b', 'x__a'],
        'file': files,
        'sha256': [io.sha256(io.read_file(f)) if f else '' for f in files],
        'ref_file': ['', '', files[0]],
        'type': [-1, 0, 10],
        'level': [0, 0, 3],
        'seed': [0, 0, 7],
        'split': ['train', 'pool', 'train'],
        'mos': [25.0, np.nan, np.nan],
        'votes': [30, 0, 0],
    }
    return manifest.complete({k: np.array(v, object) for k, v in rows.items()}, 'test')


def test_examples_hold_the_files_bytes_and_recipes_as_png(columns):
    found = dict(builder.examples(columns))
    assert [*found] == columns['image_id'].tolist()
    for row in (0, 1):
        example = found[columns['image_id'][row]]
        assert io.sha256(example['image']) == columns['sha256'][row]
    made = store.ImageStore(columns).load([2])[0]
    np.testing.assert_array_equal(io.decode(found['x__a_10_03']['image']), made)


@pytest.mark.parametrize('case', ['turned', 'opaque', 'palette', 'gray'])
def test_pixels_are_those_of_this_programs_decoder(columns, tmp_path, case):
    path = tmp_path / ('a.jpg' if case == 'turned' else 'a.png')
    with Image.open(tmp_path / 'a.bmp') as image:
        if case == 'turned':
            exif = image.getexif()
            exif[ORIENTATION] = 6  # shown after a quarter turn
            image.save(path, exif=exif)
        else:
            image.convert({'opaque': 'RGBA', 'palette': 'P', 'gray': 'L'}[case]).save(path)
    row = tables.select(columns, np.array([0]))
    row |= {'file': np.array([str(path)], object)}
    row |= {'sha256': np.array([io.sha256(path.read_bytes())], object)}
    want = io.decode(path)
    assert want.shape == ((40, 32, 3) if case == 'turned' else (32, 40, 3))
    ((_, example),) = builder.examples(row)
    assert io.sha256(example['image']) != row['sha256'][0]
    np.testing.assert_array_equal(np.asarray(Image.open(streams.BytesIO(example['image']))), want)
    builder.write(get('folder'), row, 'mine', tmp_path)
    (read,) = builder.make(get('folder'), row, 'mine', tmp_path).as_data_source('train')
    np.testing.assert_array_equal(read['image'], want)


def test_a_file_that_changed_is_not_taken(columns, tmp_path):
    layouts.picture(tmp_path / 'a.bmp', 5)
    with pytest.raises(io.ImageError, match='a.bmp changed while it was imported'):
        dict(builder.examples(columns))


def test_a_damaged_file_that_no_check_found_is_named(columns, tmp_path):
    (tmp_path / 'a.bmp').write_bytes(b'<html>')
    row = tables.select(columns, np.array([0])) | {'sha256': np.array([''], object)}
    with pytest.raises(io.ImageError, match=r"a.bmp is not an image.*config.check='decode' leaves"):
        dict(builder.examples(row))


def test_round_trip(columns, tmp_path):
    folder = builder.write(get('folder'), columns, 'mine', tmp_path / 'tfds')
    assert folder == tmp_path / 'tfds/mine/1.0.0'
    made = builder.make(get('folder'), columns, 'mine', tmp_path / 'tfds')
    assert {*made.info.splits} == {'train', 'pool'}
    pixels = dict(zip(columns['image_id'], store.ImageStore(columns).load([0, 1, 2]), strict=True))
    seen = []
    for split in ('train', 'pool'):
        for example in made.as_data_source(split):
            name = example['image_id'].decode()
            row = columns['image_id'].tolist().index(name)
            seen.append(name)
            assert columns['split'][row] == split
            np.testing.assert_array_equal(example['image'], pixels[name])
            for key in ('mos', 'mos_std', 'votes', 'type', 'level'):
                np.testing.assert_equal(example[key], columns[key][row])
            assert example['ref_id'].decode() == columns['ref_id'][row]
    assert sorted(seen) == sorted(columns['image_id'])


def test_writing_again_replaces_what_was_there(columns, tmp_path):
    builder.write(get('folder'), columns, 'mine', tmp_path)
    builder.write(get('folder'), tables.select(columns, np.array([1])), 'mine', tmp_path)
    made = builder.make(get('folder'), columns, 'mine', tmp_path)
    assert {name: split.num_examples for name, split in made.info.splits.items()} == {'pool': 1}


def test_a_name_that_cannot_be_one_is_refused(columns, tmp_path):
    with pytest.raises(ValueError, match="'My set' cannot name a data set; use small letters"):
        builder.make(get('folder'), columns, 'My set', tmp_path)


def test_tensorflow_is_never_imported(tmp_path):
    """A package of that name, first on the path, records whoever imports it."""
    (tmp_path / 'tensorflow').mkdir()
    witness = tmp_path / 'imported'
    (tmp_path / 'tensorflow/__init__.py').write_text(f'open({str(witness)!r}, "w").close()\n')
    layouts.picture(tmp_path / 'a.png')
    code = f"""
        import numpy as np
        from iqa_jax.data import manifest
        from iqa_jax.data.databases import builder, get
        rows = {{'image_id': ['a'], 'file': [{str(tmp_path / 'a.png')!r}], 'split': ['train']}}
        columns = manifest.complete({{k: np.array(v, object) for k, v in rows.items()}}, 'test')
        builder.write(get('folder'), columns, 'mine', {str(tmp_path)!r})
        made = builder.make(get('folder'), columns, 'mine', {str(tmp_path)!r})
        print(len(made.as_data_source('train')), made.as_data_source('train')[0]['image'].shape)
    """
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        capture_output=True, text=True, check=False, env=os.environ | {'PYTHONPATH': path},
    )  # fmt: skip
    assert done.stdout == '1 (32, 40, 3)\n', done.stderr
    assert not witness.exists()
    check = 'import tensorflow'
    subprocess.run([sys.executable, '-c', check], env=os.environ | {'PYTHONPATH': path}, check=True)
    assert witness.exists(), 'the witness sees an import'
