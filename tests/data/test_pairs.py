"""Pairs: which files belong together, and their pixels in batches of one shape."""

import threading
from pathlib import Path

import numpy as np
import pytest

from iqa_jax.data import pairs, tables
from iqa_jax.images import io


@pytest.fixture
def picture(tmp_path):
    """Writes a picture of the given height and width and returns its path."""

    def write(name: str, height: int = 8, width: int = 8, value: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(io.encode_png(np.full((height, width, 3), value, np.uint8)))
        return path

    return write


def match(tmp_path, references='ref', distorted='dist'):
    """{image_id: reference below its folder} and {file: reason} of match_folders."""
    folders = tmp_path / references, tmp_path / distorted
    columns, refused = pairs.match_folders(*folders)
    for image_id, file in zip(columns['image_id'], columns['distorted'], strict=True):
        assert Path(file).with_suffix('') == folders[1] / image_id
    names = [Path(file).relative_to(folders[0]).as_posix() for file in columns['reference']]
    found = dict(zip(columns['image_id'].tolist(), names, strict=True))
    return found, {entry['file']: entry['reason'] for entry in refused}


def test_a_picture_belongs_to_the_longest_name_that_its_own_begins_with(picture, tmp_path):
    for name in ('I01.png', 'i02.BMP', '1600.png', 'lake.png', 'lake_2.png'):
        picture(f'ref/{name}')
    names = ('I01_10_05.png', 'I01.bmp', 'i01-a.png', 'I02_1.png', '1600.AWGN.1.png', 'lake_3.png')
    for name in (*names, 'lake_2_blur.png', 'deep/er/I01_1.png', 'I011.png', 'none_1.png'):
        picture(f'dist/{name}')
    found, refused = match(tmp_path)
    assert found == {
        '1600.AWGN.1': '1600.png',
        'I01': 'I01.png',
        'I01_10_05': 'I01.png',
        'I02_1': 'i02.BMP',
        'deep/er/I01_1': 'I01.png',
        'i01-a': 'I01.png',
        'lake_2_blur': 'lake_2.png',
        'lake_3': 'lake.png',
    }
    assert list(found) == sorted(found)
    assert {*refused} == {'I011.png', 'none_1.png'}
    assert refused['I011.png'] == f'{tmp_path / "ref"} holds no reference for it'


def test_of_equal_names_in_subfolders_the_own_subfolder_counts(picture, tmp_path):
    for name in ('a/001.png', 'b/001.png'):
        picture(f'ref/{name}')
    for name in ('a/001.png', 'b/001_2.png', 'c/001.png'):
        picture(f'dist/{name}')
    found, refused = match(tmp_path)
    assert found == {'a/001': 'a/001.png', 'b/001_2': 'b/001.png'}
    assert 'ref/a/001.png and ' in refused['c/001.png']
    assert refused['c/001.png'].endswith('ref/b/001.png may both be its reference')


def test_one_folder_may_hold_both(picture, tmp_path):
    for name in ('I01', 'I01_01_1', 'I01_01_2', 'I02', 'I02_x', 'I02_x_1', 'I03', 'I04_1'):
        picture(f'all/{name}.png')
    picture('all/I04_1.bmp')
    found, refused = match(tmp_path, 'all', 'all')
    assert found == {
        'I01_01_1': 'I01.png',
        'I01_01_2': 'I01.png',
        'I02_x': 'I02.png',
        'I02_x_1': 'I02.png',
    }
    # What is neither compared nor a reference is named.
    assert {*refused} == {'I03.png', 'I04_1.png', 'I04_1.bmp'}
    picture('top/refs/I01.png')
    picture('top/I01_1.png')
    assert match(tmp_path, 'top/refs', 'top') == ({'I01_1': 'I01.png'}, {})


def test_folders_without_pairs_are_sentences(picture, tmp_path):
    picture('ref/I01.png')
    with pytest.raises(ValueError, match=r'config\.distorted=.*dist is not a folder'):
        match(tmp_path)
    (tmp_path / 'dist').mkdir()
    with pytest.raises(ValueError, match=r'config\.distorted=.*dist holds no picture'):
        match(tmp_path)
    with pytest.raises(ValueError, match=r'config\.references=.*none is not a folder'):
        match(tmp_path, 'none')
    picture('dist/I02_1.png')
    with pytest.raises(ValueError, match='has exactly one reference in .*I01_10_05.png after'):
        match(tmp_path)
    picture('dist/I01_1.png')
    picture('dist/I01_1.bmp')
    with pytest.raises(ValueError, match='holds I01_1 in two formats'):
        match(tmp_path)


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_files_of_a_table_lie_relative_to_it(tmp_path, suffix):
    columns = {'reference': ['r/a.png', '/x/b.png'], 'distorted': ['d/1.png', 'd/2.png']}
    columns = {name: np.array(files, object) for name, files in columns.items()}
    path = tmp_path / f'pairs.{suffix}'
    tables.write(path, {'image_id': np.array([7, 8]), 'mos': np.zeros(2)} | columns)
    found = pairs.read_table(path)
    assert [*found] == ['image_id', 'reference', 'distorted']
    assert found['image_id'].tolist() == ['7', '8']
    assert found['reference'].tolist() == [f'{tmp_path}/r/a.png', '/x/b.png']
    assert found['distorted'].tolist() == [f'{tmp_path}/d/1.png', f'{tmp_path}/d/2.png']


def test_unusable_tables_are_sentences(tmp_path):
    path = tmp_path / 'pairs.csv'
    for text, sentence in (
        ('image_id,ref,distorted\na,b,c\n', 'no column reference; it has image_id, ref'),
        ('image_id,reference,distorted\n', 'has no row'),
        ('image_id,reference,distorted\na,r,d\na,r,e\n', 'lists image_id a more than once'),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=sentence):
            pairs.read_table(path)
    with pytest.raises(ValueError, match=r'There is no file .*none\.csv'):
        pairs.read_table(tmp_path / 'none.csv')


def columns_of(files: list[tuple[Path, Path]]) -> tables.Table:
    references, distorted = zip(*files, strict=True)
    columns = {'image_id': range(len(files)), 'reference': references, 'distorted': distorted}
    return {name: np.array([str(x) for x in column], object) for name, column in columns.items()}


def test_batches_have_one_shape_and_every_pair_once(picture):
    shapes = [(8, 9), (9, 8), (8, 9), (8, 9), (9, 8), (7, 7), (8, 9)]
    files = [
        (picture(f'r{i}.png', *shape, i), picture(f'd{i}.png', *shape, 100 + i))
        for i, shape in enumerate(shapes)
    ]
    found = list(pairs.batches(columns_of(files), 3, 2, 1024, bad := {}))
    assert [rows for rows, _, _ in found] == [[0, 2, 3], [1, 4], [5], [6]] and not bad
    for rows, references, distorted in found:
        for row, reference, image in zip(rows, references, distorted, strict=True):
            assert reference.dtype == image.dtype == np.uint8
            assert reference.shape == image.shape == (*shapes[row], 3)
            assert (reference == row).all() and (image == 100 + row).all()


def test_pairs_that_wait_are_bounded(picture):
    """2400 bytes are four pairs of 10x10; beyond it the shape that holds most leaves first."""
    sizes = [(10, 10), (10, 11), (10, 10), (10, 12), (10, 13), (10, 14)]
    files = [(picture(f'{i}.png', *size),) * 2 for i, size in enumerate(sizes)]
    found = pairs.batches(columns_of(files), 8, 1, 2400 / 2**20, {})
    assert [rows for rows, _, _ in found] == [[0, 2], [5], [1], [3], [4]]
    found = pairs.batches(columns_of(files), 8, 1, 0, {})
    assert [rows for rows, _, _ in found] == [[i] for i in range(len(files))]


def test_a_reference_of_consecutive_pairs_is_decoded_once(picture):
    decoded, lock = [], threading.Lock()

    def counting(file):
        with lock:
            decoded.append(Path(file).name)
        return io.decode(file)

    files = [(picture(f'r{i}.png'), picture(f'd{i}_{j}.png')) for i in range(20) for j in range(5)]
    found = pairs.batches(columns_of(files), 4, 3, 1, {}, counting)
    assert sum(len(rows) for rows, _, _ in found) == 100
    assert len(decoded) == 120 and len({*decoded}) == 120


def test_pairs_that_cannot_be_used_are_named_and_the_rest_goes_on(picture, tmp_path):
    good, other = picture('good.png'), picture('other.png', 8, 9)
    cut = picture('cut.png', 50, 50)
    cut.write_bytes(cut.read_bytes()[:80])
    files = [(good, cut), (tmp_path / 'gone.png', good), (good, other), (good, good)]
    found = list(pairs.batches(columns_of(files), 2, 2, 1024, bad := {}))
    assert [rows for rows, _, _ in found] == [[3]]
    assert [*bad] == [0, 1, 2]
    assert 'cut.png is damaged or truncated' in bad[0] and 'gone.png is not a file' in bad[1]
    assert bad[2] == 'it is 9x8 pixels, its reference 8x8'
