"""The tfds data set of a KADIS-like run: the same rows, without TensorFlow, also through Beam."""

import subprocess
import sys

import numpy as np
import pytest

from iqa_jax.data import manifest, store, tables
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
    'split_shares': (1, 1, 0, 0),
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
    'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
}
READ = """
import sys
import tensorflow_datasets as tfds
folder = next(__import__('pathlib').Path(sys.argv[1]).glob('tfds/*/*/1.0.0'))
for split, source in tfds.builder_from_directory(str(folder)).as_data_source().items():
    for i in range(len(source)):
        row = source[i]
        numbers = [float(row[name]) for name in ('level', 'gmsd', 'gmsd_equalised')]
        print(row['image_id'].decode(), split, *numbers, row['image'].sum())
assert 'tensorflow' not in sys.modules
"""


def rows_of(folder) -> dict[str, list]:
    """image_id -> what else is known, read in a process that may not load TensorFlow."""
    done = subprocess.run(
        [sys.executable, '-c', READ, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return {name: [split, *map(float, numbers)] for name, split, *numbers in rows}


def expected(folder) -> dict[str, list]:
    """The same from the tables of the stage."""
    columns = manifest.read(folder / 'manifest.parquet')
    raw, equalised = (
        tables.read(folder / f'{name}.parquet')[0]['gmsd'] for name in ('scores', 'proxies')
    )
    images = store.ImageStore(columns).load(np.arange(len(raw)))
    return {
        name: [
            columns['split'][row],
            columns['level'][row],
            raw[row],
            equalised[row],
            images[row].sum(),
        ]
        for row, name in enumerate(columns['image_id'].tolist())
    }


@pytest.mark.parametrize('runner', ['local', 'DirectRunner'])
def test_the_tfds_data_set_holds_the_rows_of_the_tables(photos, tmp_path, runner):
    if runner != 'local':
        pytest.importorskip('apache_beam', reason="the extra 'beam' is not installed")
    folder = tmp_path / 'data'
    # A second copy of a picture is in neither.
    (photos / 'repeat.png').write_bytes((photos / 'photo0.png').read_bytes())
    summary = make_data.run(CONFIG | {'photos': str(photos), 'tfds_runner': runner}, folder)
    assert (summary['images'], summary['quarantined']) == (12, 1)
    assert rows_of(folder) == expected(folder)
    # Who does the work changes no byte of what later stages read.
    make_data.run(CONFIG | {'photos': str(photos), 'tfds_runner': ''}, tmp_path / 'plain')
    for name in ('scores.parquet', 'proxies.parquet'):
        assert (folder / name).read_bytes() == (tmp_path / 'plain' / name).read_bytes()


def test_an_unreadable_photograph_is_quarantined_here_too(photos, tmp_path):
    (photos / 'photo1.png').write_bytes(io.encode_png(np.zeros((9, 9, 3), np.uint8)))
    summary = make_data.run(CONFIG | {'photos': str(photos)}, tmp_path / 'data')
    assert summary['quarantined'] == 1 and len(rows_of(tmp_path / 'data')) == 9


def test_a_finished_run_can_be_built_later(photos, tmp_path, capfd):
    plain = CONFIG | {'photos': str(photos), 'tfds_runner': '', 'images': 'recipe'}
    make_data.run(plain, tmp_path / 'data')
    for said in ('make_data: 12 images', 'make_data: up to date'):
        make_data.run(plain | {'tfds_runner': 'local'}, tmp_path / 'data')
        assert said in capfd.readouterr().err
    assert rows_of(tmp_path / 'data') == expected(tmp_path / 'data')


def test_a_part_cannot_be_built(photos, tmp_path):
    with pytest.raises(ValueError, match="config.tfds_runner='local' must be '' with config.shard"):
        make_data.run(CONFIG | {'photos': str(photos), 'shard': '0/2'}, tmp_path / 'data')
