"""Image store and batches: verified files, recipes, order as a function of (seed, step)."""

import contextlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from iqa_jax import distortions
from iqa_jax.data import kadis, manifest, sources, store, tables
from iqa_jax.data.pipeline import Pipeline, Source
from iqa_jax.images import io


@pytest.fixture
def columns(photos):
    """Two pristine photographs as files; blurred, coded and noisy versions as recipes."""
    files = sorted(photos.glob('*.png'))[:2]
    parts = [kadis.versions(f.stem, [1, 10, 11], (3, 5), 0, 0) for f in files]
    plan = manifest.complete(tables.concatenate(parts), 'the plan')
    plan['split'][:] = 'train'
    for row in np.flatnonzero(plan['type'] == 0):
        file = photos / f'{plan["image_id"][row]}.png'
        plan['file'][row] = str(file)
        plan['sha256'][row] = io.sha256(file.read_bytes())
    recipes = plan['type'] > 0
    refs = plan['ref_id'][recipes]
    plan['ref_file'][recipes] = [str(photos / f'{ref_id}.png') for ref_id in refs]
    plan['ref_sha256'][recipes] = [
        io.sha256(Path(f).read_bytes()) for f in plan['ref_file'][recipes]
    ]
    return plan


def test_recipes_equal_the_distortion_of_the_pristine_file(columns):
    images = store.ImageStore(columns)
    row = int(np.flatnonzero((columns['type'] == 11) & (columns['level'] == 5))[0])
    reference = io.decode(images.columns['file'][columns['image_id'] == columns['ref_id'][row]][0])
    want = distortions.distort_batch(
        reference[None], 11, columns['level'][row : row + 1], columns['seed'][row : row + 1]
    )[0]
    together = images.load(np.arange(len(images)))
    np.testing.assert_array_equal(together[row], want)
    np.testing.assert_array_equal(images.load([row])[0], want)


def test_a_batch_decodes_each_photograph_once_and_distorts_each_type_once(columns, monkeypatch):
    decoded, distorted = [], []
    distort = distortions.distort_batch

    def counted(images, number, levels, seeds):
        distorted.append((number, len(images)))
        return distort(images, number, levels, seeds)

    monkeypatch.setattr(distortions, 'distort_batch', counted)
    images = store.ImageStore(columns, decode=lambda x: decoded.append(x) or io.decode(x))
    images.load(np.flatnonzero(columns['type'] != 11))
    assert len(decoded) == 2
    assert sorted(distorted) == [(1, 4), (10, 4)]


def test_codecs_run_beside_the_other_types(columns, monkeypatch):
    others = threading.Event()

    def distort(images, number, levels, seeds):
        if number == 10:  # JPEG, begun first, waits here for the types that are made meanwhile
            assert others.wait(10)
        else:
            others.set()
        return images

    monkeypatch.setattr(distortions, 'distort_batch', distort)
    types = columns['type']
    rows = np.concatenate([np.flatnonzero(types == 10), np.flatnonzero(types == 1)])
    assert len(store.ImageStore(columns).load(rows)) == 8


def test_recipes_need_no_row_of_their_reference(columns):
    recipes = np.flatnonzero(columns['type'] > 0)
    want = [store.ImageStore(columns).load([row])[0] for row in recipes]
    part = store.ImageStore(tables.select(columns, recipes), cache_bytes=1 << 24)
    for _ in range(2):  # read from the files, then from the cache
        for got, image in zip(part.load(np.arange(len(part))), want, strict=True):
            np.testing.assert_array_equal(got, image)


def test_a_row_without_any_file_is_refused_by_name(columns):
    columns['ref_file'][1] = ''
    with pytest.raises(io.ImageError, match=f'{columns["image_id"][1]} has neither file nor'):
        store.ImageStore(columns).load([1])


def test_a_pipe_in_a_manifest_is_refused_without_waiting(columns, tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    columns['file'][0] = str(tmp_path / 'pipe.png')
    with pytest.raises(io.ImageError, match=r'pipe\.png is not a file'):
        store.ImageStore(columns).load([0])


def test_a_changed_file_is_refused_by_name_with_the_mend(columns):
    file = columns['file'][columns['type'] == 0][0]
    other = np.zeros((96, 128, 3), np.uint8)
    Path(file).write_bytes(io.encode_png(other))
    pristine, recipe = (int(np.flatnonzero(columns['type'] == t)[0]) for t in (0, 11))
    for row in (pristine, recipe):
        with pytest.raises(io.ImageError, match='SHA-256 differs.*delete it and run make_data'):
            store.ImageStore(columns).load([row])


def make(columns, **kwargs):
    n = len(columns['image_id'])
    targets = np.arange(n, dtype=np.float32)[:, None]
    return Pipeline([Source(columns, targets, np.ones(n))], 4, (48, 64), seed=3, **kwargs)


@pytest.mark.parametrize(('threads', 'ahead'), [(1, 1), (2, 4), (5, 2)])
def test_batches_are_a_function_of_seed_and_step(columns, threads, ahead):
    one = make(columns)
    two = make(columns, cache_bytes=1 << 24, threads=threads, ahead=ahead)
    found = list(two.batches(2, 8))
    assert len(found) == 6
    assert list(two.batches(8, 8)) == []
    for step in range(2, 8):
        want, got = one.batch(step), found[step - 2]
        assert want.keys() == got.keys()
        for name in want:
            np.testing.assert_array_equal(want[name], got[name])
    assert not np.array_equal(one.batch(0)['image'], one.batch(1)['image'])


def test_the_rows_of_processes_are_parts_of_the_whole_batch_and_are_placed(columns):
    pipeline = make(columns)
    first, second = (
        list(pipeline.batches(3, 5, slice(i, i + 2), place=lambda batch: batch['image']))
        for i in (0, 2)
    )
    for step, halves in enumerate(zip(first, second, strict=True), 3):
        np.testing.assert_array_equal(np.concatenate(halves), pipeline.batch(step)['image'])


def test_no_thread_outlives_an_iterator_that_is_left_early(columns):
    before = set(threading.enumerate())
    pipeline = make(columns, threads=3, ahead=6)
    with pytest.raises(ZeroDivisionError), contextlib.closing(pipeline.batches(0, 50)) as batches:
        for batch in batches:
            assert any('grain' in t.name for t in set(threading.enumerate()) - before)
            _ = 1 / (len(batch['image']) - 4)
    assert not [t for t in set(threading.enumerate()) - before if 'grain' in t.name]
    del pipeline, batches
    for thread in set(threading.enumerate()) - before:  # of the store, which ends with the pipeline
        thread.join(10)
        assert not thread.is_alive()


def test_an_unreadable_image_is_an_error_of_its_own_batch(columns):
    Path(columns['file'][columns['type'] == 0][0]).unlink()
    pipeline = make(columns, cache_bytes=0)
    with pytest.raises(io.ImageError) as alone:
        pipeline.batch(0)
    with pytest.raises(io.ImageError) as ahead:
        next(pipeline.batches(0, 50))
    assert str(ahead.value) == str(alone.value)
    assert not [t for t in threading.enumerate() if 'grain' in t.name]


def test_an_epoch_sees_every_image_once(columns):
    pipeline = make(columns)
    n = len(pipeline)
    seen = np.concatenate([pipeline.indices(s) for s in range(n)])
    epochs = seen.reshape(-1, n)
    assert len(epochs) == 4
    for epoch in epochs:
        assert sorted(epoch) == list(range(n))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_mixture_counts_follow_weights_and_targets_stay_with_their_images(columns):
    n = len(columns['image_id'])
    parts = [
        Source(columns, np.full((n, 1), 1.0), np.ones(n), 3.0),
        Source(columns, np.full((n, 1), 2.0), np.ones(n), 1.0),
    ]
    batch = Pipeline(parts, 8, (32, 32), different_crops=True).batch(5)
    assert np.bincount(batch['database']).tolist() == [6, 2]
    np.testing.assert_array_equal(batch['target'][:, 0], batch['database'] + 1)
    assert batch['image'].dtype == np.uint8
    assert not np.array_equal(batch['image'], batch['image_twin'])


def paired(columns, **kwargs):
    n = len(columns['image_id'])
    targets = [np.full((n, 1), i, np.float32) for i in range(2)]
    parts = [Source(columns, target, np.ones(n)) for target in targets]
    return Pipeline(parts, 4, (32, 32), pairs=[6, 5], seed=2, **kwargs)


def test_pairs_lie_side_by_side_each_image_with_its_own_crop(columns):
    pipeline = paired(columns)
    n = len(columns['image_id'])
    assert pipeline.images == 8 and pipeline.steps_per_epoch == 2 and len(pipeline) == 2 * n
    batches = [pipeline.batch(step) for step in range(11)]
    for step, batch in enumerate(batches):
        assert batch['image'].shape == (8, 32, 32, 3)
        sides = batch['index'].reshape(4, 2)
        assert (sides[:, 0] < sides[:, 1]).all()
        np.testing.assert_array_equal(sides[:, 0] // n, sides[:, 1] // n)
        np.testing.assert_array_equal(batch['target'][:, 0], batch['index'] // n)
        np.testing.assert_array_equal(batch['pair'][::2], batch['pair'][1::2])
        halves = [pipeline.batch(step, slice(i, i + 4)) for i in (0, 4)]
        for name, want in batch.items():
            np.testing.assert_array_equal(np.concatenate([h[name] for h in halves]), want)
    seen = np.concatenate([batch['pair'][::2] for batch in batches])
    epochs = seen.reshape(4, 11)  # 44 pairs of 11
    for epoch in epochs:
        assert sorted(epoch) == list(range(11))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    # An image that occurs twice in a batch is cut twice.
    twice = [
        [batch['image'][k] for k in np.flatnonzero(batch['index'] == i)[:2]]
        for batch in batches
        for i in np.flatnonzero(np.bincount(batch['index']) > 1)
    ]
    assert twice and any(not np.array_equal(a, b) for a, b in twice)


@pytest.mark.parametrize(
    'build',
    [make, paired, lambda columns: make(columns, different_crops=True)],
    ids=['images', 'pairs', 'twin'],
)
def test_shapes_are_those_of_a_batch(columns, build):
    pipeline = build(columns)
    found = {name: (x.shape, x.dtype) for name, x in pipeline.shapes().items()}
    assert found == {name: (x.shape, x.dtype) for name, x in pipeline.batch(0).items()}


def test_the_papers_resizing_comes_before_the_crop(columns, monkeypatch):
    with pytest.raises(ValueError, match='smaller than config.crop'):
        make(columns)._crops([np.zeros((40, 64, 3), np.uint8)], np.array([0]), np.zeros((1, 3)))
    n = len(columns['image_id'])
    source = Source(columns, np.zeros((n, 1)), np.ones(n))
    pipeline = Pipeline([source], 2, (384, 500), resize='unique')  # of images of 96x128
    assert pipeline.batch(0)['image'].shape == (2, 384, 500, 3)


def test_a_crop_larger_than_an_image_names_both(columns):
    n = len(columns['image_id'])
    pipeline = Pipeline([Source(columns, np.zeros((n, 1)), np.ones(n))], 4, (500, 64))
    with pytest.raises(ValueError, match=r'smaller than config\.crop=64x500'):
        pipeline.batch(0)


def test_a_database_without_a_share_is_refused(columns):
    n = len(columns['image_id'])
    part = lambda weight: Source(columns, np.zeros((n, 1)), np.ones(n), weight)  # noqa: E731
    with pytest.raises(ValueError, match='raise the batch size or the weight'):
        Pipeline([part(1.0), part(0.01)], 4, (32, 32))


def test_photos_are_cropped_to_the_aspect_and_small_ones_refused(tmp_path):
    wide = np.random.default_rng(0).integers(0, 255, (120, 400, 3), np.uint8)
    (tmp_path / 'wide.png').write_bytes(io.encode_png(wide))
    assert sources.load_photo(tmp_path / 'wide.png', (60, 80)).shape == (60, 80, 3)
    exact = sources.load_photo(tmp_path / 'wide.png', (120, 400))
    np.testing.assert_array_equal(exact, wide)
    with pytest.raises(io.ImageError, match='400x120 pixels, smaller than 80x200'):
        sources.load_photo(tmp_path / 'wide.png', (200, 80))


def test_bundled_photos_are_there_with_their_licences():
    files = sources.photo_files('')
    assert 16 <= len(files) <= 24
    assert sum(f.stat().st_size for f in files) < 8_000_000
    text = (files[0].parent / 'LICENSES.md').read_text()
    for file in files:
        assert file.name in text and io.sha256(file.read_bytes()) in text
        assert io.decode(file).shape == (384, 512, 3)


def test_two_photos_with_the_same_id_are_refused(tmp_path):
    with pytest.raises(ValueError, match='have the same name'):
        sources.photo_ids(
            [tmp_path / f for f in ('a b.png', 'a_b.png', 'a-b.png', 'a:b.png')], tmp_path
        )


def test_empty_and_missing_folders_are_sentences(tmp_path):
    with pytest.raises(ValueError, match='holds no picture'):
        sources.photo_files(tmp_path)
    with pytest.raises(ValueError, match='is not a folder'):
        sources.photo_files(tmp_path / 'none')


def test_ids_are_unique_across_folders_and_suffixes(tmp_path):
    files = [tmp_path / 'a/x y.png', tmp_path / 'x y.jpg', tmp_path / 'x y.png']
    ids = sources.photo_ids(files, tmp_path)
    assert ids == ['a__x_y', 'x_y', 'x_y_png']
    assert manifest.complete({'image_id': np.array(ids, object)}, 'm')['image_id'].tolist() == ids
    assert tables.select({'a': np.arange(3)}, np.array([2]))['a'].tolist() == [2]
