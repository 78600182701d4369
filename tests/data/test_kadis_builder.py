"""The tfds data set of a KADIS-like run: the same rows, without TensorFlow, also through Beam."""

import subprocess
import sys

import numpy as np
import pytest

from iqa_jax.data import tables
from iqa_jax.images import io
from iqa_jax.tasks import make_data

CONFIG = {
    'task': 'make_data',
    'root': '',
    'database': 'mine',
    'size': (96, 128),
    'types': ('gaussian_blur', 'jpeg'),
    'levels': (1, 5),
    'types_per_photo': 1,
    'split_shares': (1, 0, 0, 0),
    'metrics': ('gmsd',),
    'equalisation': 'histogram',
    'knots': 16,
    'images': 'array_record',
    'photos_per_shard': 3,
    'shard': '',
    'estimate_images': 0,
    'tfds_runner': 'local',
    'beam_options': (),
    'seed': 0,
}
READ = """
import sys
import tensorflow_datasets as tfds
folder = next(__import__('pathlib').Path(sys.argv[1]).glob('tfds/*/*/1.0.0'))
source = tfds.builder_from_directory(str(folder)).as_data_source('images')
for i in range(len(source)):
    row = source[i]
    print(row['image_id'].decode(), int(row['level']), float(row['gmsd']), row['image'].sum())
assert 'tensorflow' not in sys.modules
"""


def rows_of(folder) -> dict[str, tuple]:
    """image_id -> (level, gmsd, sum of pixels), read in a process that may not load TensorFlow."""
    done = subprocess.run(
        [sys.executable, '-c', READ, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {name: (int(level), float(g), int(total)) for name, level, g, total in lines}


def expected(folder) -> dict[str, tuple]:
    """The same from the tables of the stage."""
    from iqa_jax.data import manifest, store

    columns = manifest.read(folder / 'manifest.parquet')
    scores = tables.read(folder / 'scores.parquet')[0]['gmsd']
    images = store.ImageStore(columns).load(np.arange(len(scores)))
    return {
        name: (int(level), float(score), int(image.sum()))
        for name, level, score, image in zip(
            columns['image_id'], columns['level'], scores, images, strict=True
        )
    }


@pytest.mark.parametrize('runner', ['local', 'DirectRunner'])
def test_the_tfds_data_set_holds_the_rows_of_the_tables(photos, tmp_path, runner):
    if runner != 'local':
        pytest.importorskip('apache_beam', reason="the extra 'beam' is not installed")
    folder = tmp_path / 'data'
    summary = make_data.run(CONFIG | {'photos': str(photos), 'tfds_runner': runner}, folder)
    assert summary['images'] == 12
    assert rows_of(folder) == expected(folder)
    # Who does the work changes no byte of what later stages read.
    make_data.run(CONFIG | {'photos': str(photos), 'tfds_runner': ''}, tmp_path / 'plain')
    for name in ('scores.parquet', 'proxies.parquet'):
        assert (folder / name).read_bytes() == (tmp_path / 'plain' / name).read_bytes()


def test_an_unreadable_photograph_is_quarantined_here_too(photos, tmp_path):
    (photos / 'photo1.png').write_bytes(io.encode_png(np.zeros((9, 9, 3), np.uint8)))
    summary = make_data.run(CONFIG | {'photos': str(photos)}, tmp_path / 'data')
    assert summary['quarantined'] == 1 and len(rows_of(tmp_path / 'data')) == 9


def test_a_part_cannot_be_built(photos, tmp_path):
    with pytest.raises(ValueError, match='config.tfds_runner builds the whole data set'):
        make_data.run(CONFIG | {'photos': str(photos), 'shard': '0/2'}, tmp_path / 'data')
