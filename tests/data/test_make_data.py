"""make_data: what makes it run again, and manifests whose parts still have their pictures."""

import os
from pathlib import Path

import numpy as np
import pytest

from iqa_jax import distortions
from iqa_jax.data import manifest, records, shards, store, tables
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
    'tfds_runner': '',
    'beam_options': (),
    'seed': 0,
    'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
}


@pytest.fixture
def stage(photos, tmp_path):
    """Runs the stage on two photographs in a folder of the given name; returns its summary."""
    for name in ('photo2.png', 'photo3.png'):
        (photos / name).unlink()

    def stage(name: str = 'data', **changes) -> dict:
        return make_data.run(CONFIG | {'photos': str(photos)} | changes, tmp_path / name)

    return stage


@pytest.fixture
def run(stage, tmp_path):
    """The same, with the manifest that the stage wrote."""

    def run(name: str = 'data', **changes) -> tuple[dict, tables.Table]:
        return stage(name, **changes), manifest.read(tmp_path / name / 'manifest.parquet')

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


@pytest.mark.parametrize(('images', 'folder'), [('png', 'images'), ('array_record', 'records')])
def test_what_a_killed_process_has_half_written_goes(stage, tmp_path, images, folder):
    drafts = []
    for place in ('shards', folder):  # the process of this number is not there any more
        (tmp_path / 'data' / place).mkdir(parents=True)
        drafts.append(tmp_path / 'data' / place / '.000001.3.tmp')
        drafts[-1].write_bytes(b'half')
    stage(images=images)
    assert not any(draft.exists() for draft in drafts)


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


@pytest.mark.parametrize('images', ['png', 'webp', 'array_record', 'recipe'])
def test_every_way_to_keep_pictures_gives_the_same_pixels_and_scores(run, images):
    _, stored = run('png')
    summary, columns = run(images, images=images, photos_per_shard=2)
    assert summary['images'] == len(stored['image_id'])
    rows = np.arange(len(columns['image_id']))
    got, want = store.ImageStore(columns).load(rows), store.ImageStore(stored).load(rows)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_photographs_of_recipes_stay_where_they_lie(run, photos):
    _, columns = run(images='recipe')
    assert {Path(file).parent for file in columns['file'] if file} == {photos}
    _, columns = run('smaller', images='recipe', size=(48, 64))
    assert {Path(file).parent.name for file in columns['file'] if file} == {'images'}


def test_sizes_may_differ(run, photos):
    other = io.decode(photos / 'photo0.png')[:80, :100]
    (photos / 'photo5.png').write_bytes(io.encode_png(other))
    _, columns = run(size=(), split_shares=(1, 0, 0, 0))
    shapes = {
        image.shape for image in store.ImageStore(columns).load([0, len(columns['type']) - 1])
    }
    assert shapes == {(96, 128, 3), (80, 100, 3)}


def test_parts_made_apart_are_joined_without_being_made_again(run, stage, tmp_path):
    whole, _ = run('whole')
    for part in ('1/2', '0/2'):
        summary = stage('parts', shard=part)
        assert summary['photos'] == 1 and summary['images'] == 5
        assert not (tmp_path / 'parts/manifest.parquet').exists()
    made = sorted((tmp_path / 'parts/shards').glob('*.parquet'))
    before = [file.stat().st_mtime_ns for file in made]
    joined, _ = run('parts')
    assert [file.stat().st_mtime_ns for file in made] == before and len(before) == 2
    assert joined['images'] == whole['images']
    for name in ('manifest.parquet', 'scores.parquet', 'proxies.parquet'):
        a, b = (tables.read(tmp_path / folder / name)[0] for folder in ('whole', 'parts'))
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=f'{name} {key}')


@pytest.mark.parametrize('shard', ['2/2', '1', 'a/b', '-1/3'])
def test_a_part_that_is_none_is_refused(stage, shard):
    with pytest.raises(ValueError, match='config.shard=.*0/4'):
        stage(shard=shard)


def test_a_damaged_record_is_an_error_that_names_the_file(run):
    _, columns = run(images='array_record')
    file = columns['file'][0].partition('#')[0]
    content = bytearray(Path(file).read_bytes())
    content[content.index(b'WEBP') + 40] ^= 255  # inside the first record
    Path(file).write_bytes(content)
    with pytest.raises(io.ImageError, match='array_record'):
        store.ImageStore(columns).load(np.arange(len(columns['image_id'])))
    with pytest.raises(io.ImageError, match='has no record 99'):
        records.read(f'{file}#99')


def test_pixels_and_scores_do_not_depend_on_the_other_photographs(run, photos):
    _, both = run('both', split_shares=(1, 0, 0, 0))
    (photos / 'photo0.png').unlink()
    _, alone = run('alone', split_shares=(1, 0, 0, 0))
    rows = np.isin(both['image_id'].astype(str), alone['image_id'].astype(str))
    np.testing.assert_array_equal(both['sha256'][rows], alone['sha256'])


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'types': ('jpeg', 10)}, 'config.types=.* must be each type once'),
        ({'levels': (1, 1)}, 'config.levels=.* must be one or more of 1 to 5'),
        ({'levels': ()}, 'config.levels=.* must be one or more of 1 to 5'),
        ({'levels': (1, 6)}, 'config.levels=.* must be one or more of 1 to 5'),
        ({'size': (96,)}, r'config.size=.* must be \(height, width\)'),
        ({'images': 'jpeg'}, "config.images='jpeg' must be one of png, webp"),
        ({'equalisation': 'rank'}, "config.equalisation='rank' must be one of histogram"),
        ({'types_per_photo': -1}, 'config.types_per_photo=-1 must be 0 or more'),
        ({'photos_per_shard': 0}, 'config.photos_per_shard=0 must be 1 or more'),
        ({'knots': 0}, 'config.knots=0 must be 2 or more'),
        ({'estimate_images': -5}, 'config.estimate_images=-5 must be 0 or more'),
        ({'metrics': ('gsmd',)}, 'gsmd'),
        ({'levels': 3}, 'config.levels=3 must be a list or a tuple'),
        ({'types': ({},)}, 'config.types=.* must be a list or a tuple'),
        ({'knots': None}, 'config.knots=None must be a whole number'),
        ({'photos': 7}, 'config.photos=7 must be text'),
        ({'root': 7}, 'config.root=7 must be a folder'),
        ({'decode': {'processes': 1}}, 'config.decode needs the keys'),
        (
            {'decode': {'processes': 1, 'seconds': 1, 'memory_mib': 99}, 'tfds_runner': 'Direct'},
            'as the processes of Beam decode for themselves',
        ),
    ],
)
def test_a_config_that_cannot_be_is_refused_before_any_work(stage, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        stage(**changes)
    assert not (tmp_path / 'data').exists()


def test_a_workdir_among_the_photographs_is_refused(stage, photos):
    with pytest.raises(ValueError, match='must be a folder that does not hold the workdir'):
        stage('photos/out')


def test_a_photograph_named_like_a_distorted_one_is_refused_by_name(stage, photos):
    (photos / 'photo0_10_01.png').write_bytes((photos / 'photo1.png').read_bytes())
    with pytest.raises(ValueError, match='photo0_10_01.png has the name of a distorted version of'):
        stage()


@pytest.mark.parametrize(
    ('height', 'width', 'types', 'images', 'reason'),
    [
        (31, 200, (9,), 'recipe', '200x31 pixels, and jpeg2000 needs 32 per side'),
        (40, 200, (20,), 'recipe', '200x40 pixels, and non_eccentricity_patch needs 48 per side'),
        (32, 17000, (10,), 'webp', '17000x32 pixels, and WebP takes 16383 per side; store PNG'),
        (4000, 4300, (6,), 'recipe', '4300x4000 pixels, and color_quantization takes at most'),
    ],
)
def test_a_size_that_cannot_be_used_is_quarantined(
    stage, photos, tmp_path, height, width, types, images, reason
):
    (photos / 'odd.png').write_bytes(io.encode_png(np.zeros((height, width, 3), np.uint8)))
    summary = stage(size=(), types=types, images=images)
    assert (summary['quarantined'], summary['photos']) == (1, 2)
    [found] = tables.read(tmp_path / 'data/quarantine.csv')[0]['reason'].tolist()
    assert reason in found


def test_a_photograph_that_cannot_be_read_for_a_moment_is_not_left_out_for_good(
    stage, photos, monkeypatch
):
    read, asked = io.read_file, []

    def read_once(path, **options):
        asked.append(Path(path).name)
        if asked[-1] == 'photo1.png' and asked.count('photo1.png') == 2:
            raise io.ImageError(f'{path} cannot be read: stale file handle')
        return read(path, **options)

    monkeypatch.setattr(io, 'read_file', read_once)
    with pytest.raises(ValueError, match='photo1.png cannot be read: .*run the same command again'):
        stage()
    summary = stage()
    assert (summary['quarantined'], summary['photos']) == (0, 2)


def test_a_name_that_is_no_text_is_quarantined(stage, photos, monkeypatch):
    # The name in the captured log would break the protocol between pytest's processes.
    monkeypatch.setattr(shards.logging, 'warning', lambda *_: None)
    os.rename(photos / 'photo1.png', os.fsencode(photos) + b'/\xff.png')
    summary = stage(split_shares=(1, 0, 0, 0), images='recipe')
    assert (summary['quarantined'], summary['photos']) == (1, 1)


def test_a_missing_picture_of_a_part_is_made_again(stage, tmp_path):
    stage(shard='0/2')
    picture = next((tmp_path / 'data/images').glob('*_10_01.png'))
    before = picture.read_bytes()
    picture.unlink()
    stage(shard='0/2')
    assert picture.read_bytes() == before


def test_the_estimate_is_the_mean_over_types_without_their_first_cells():
    durations = {
        1: [(5, 99.0), (5, 1.0), (5, 2.0)],
        10: [(5, 99.0), (5, 0.5)],
        11: [(5, 99.0)],
        shards.COMMIT: [(30, 3.0)],
    }
    seconds, types = shards.seconds_per_image(durations)
    assert types == 2 and seconds == pytest.approx((0.3 + 0.1) / 2 + 0.1)
    assert shards.seconds_per_image({11: [(5, 99.0)], shards.COMMIT: [(5, 1.0)]}) is None


def test_recipes_of_other_code_are_warned_of(run, stage, tmp_path, monkeypatch, caplog):
    run('recipes', images='recipe')
    run('stored')
    assert 'may give other pixels' not in caplog.text
    monkeypatch.setattr(distortions, 'identity', lambda: {'pillow': '99', 'device': 'tpu'})
    manifest.read(tmp_path / 'stored/manifest.parquet')
    assert 'may give other pixels' not in caplog.text
    manifest.read(tmp_path / 'recipes/manifest.parquet')
    assert 'may give other pixels than those that were scored, as pillow, device' in caplog.text
