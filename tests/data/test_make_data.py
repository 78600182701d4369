"""make_data: what makes it run again, and manifests whose parts still have their pictures."""

from pathlib import Path

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
    'types_per_photo': 0,
    'split_shares': (1, 1, 0, 0),
    'metrics': ('gmsd',),
    'equalisation': 'histogram',
    'knots': 16,
    'images': 'png',
    'photos_per_shard': 1,
    'shard': '',
    'estimate_images': 0,
    'seed': 0,
}


@pytest.fixture
def run(photos, tmp_path):
    """Runs the stage on two photographs in a folder of the given name."""
    for name in ('photo2.png', 'photo3.png'):
        (photos / name).unlink()

    def run(name: str = 'data', **changes) -> tuple[dict, tables.Table]:
        summary = make_data.run(CONFIG | {'photos': str(photos)} | changes, tmp_path / name)
        return summary, manifest.read(tmp_path / name / 'manifest.parquet')

    return run


def test_a_renamed_photo_runs_again_and_a_moved_folder_does_not(run, photos, capfd):
    run()
    moved = photos.rename(photos.with_name('moved'))
    run(photos=str(moved))
    assert 'up to date' in capfd.readouterr().err
    (moved / 'photo1.png').rename(moved / 'another.png')
    _, columns = run(photos=str(moved))
    assert set(columns['ref_id']) == {'photo0', 'another'}


def test_a_file_that_becomes_unreadable_runs_again_and_is_quarantined(run, photos):
    (photos / 'third.png').symlink_to(photos / 'nowhere')
    summary, _ = run()
    assert summary['quarantined'] == 1
    (photos / 'third.png').unlink()
    assert run()[0]['quarantined'] == 0


@pytest.mark.parametrize(('images', 'distorted'), [('png', True), ('png', False), ('webp', True)])
def test_a_missing_image_is_made_again(run, images, distorted, capfd):
    _, columns = run(images=images)
    files = [Path(file) for file in columns['file'][(columns['type'] > 0) == distorted]]
    before = files[0].read_bytes()
    untouched = files[-1].stat().st_mtime_ns
    files[0].unlink()
    _, again = run(images=images)
    assert files[0].read_bytes() == before
    assert files[-1].stat().st_mtime_ns == untouched  # of the other photograph
    np.testing.assert_array_equal(again['sha256'], columns['sha256'])
    capfd.readouterr()
    run(images=images)
    assert 'up to date' in capfd.readouterr().err


def test_a_changed_image_of_a_photograph_that_is_made_again_is_mended(run):
    _, columns = run()
    first, second = (Path(file) for file in columns['file'][:2])
    before = second.read_bytes()
    first.unlink()
    second.write_bytes(io.encode_png(np.zeros((96, 128, 3), np.uint8)))
    run()
    assert second.read_bytes() == before


def test_recipes_and_stored_images_are_equal_without_the_pristine_rows(run, tmp_path):
    _, stored = run('stored')
    _, recipes = run('recipes', images='recipe')
    assert not any(stored['ref_file']) and not any(stored['ref_sha256'])
    pristine = recipes['type'] == 0
    assert not any(recipes['ref_file'][pristine]) and not any(recipes['file'][~pristine])
    part = tables.select(recipes, np.flatnonzero(~pristine)[::2])
    (tmp_path / 'study').mkdir()
    manifest.write(tmp_path / 'study/part.parquet', part, {})  # as a later stage does
    part = manifest.read(tmp_path / 'study/part.parquet')
    got = store.ImageStore(part).load(np.arange(len(part['image_id'])))
    rows = {image_id: row for row, image_id in enumerate(stored['image_id'].tolist())}
    want = store.ImageStore(stored).load([rows[image_id] for image_id in part['image_id'].tolist()])
    for image_id, a, b in zip(part['image_id'], got, want, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=image_id)
