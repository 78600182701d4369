"""Stored features: float16 rows found by id, and batches of them in the order of the images'."""

import numpy as np
import pytest

from iqa_jax.data import features, tables
from iqa_jax.data.pipeline import Pipeline, Source, feature_store
from iqa_jax.runtime import artifacts

WIDTH = 7


def write_set(folder, ids: list[str], seed: int, shape=(WIDTH,)) -> tuple[str, np.ndarray]:
    """A set of two shards; (its features.parquet, what float16 makes of its rows)."""
    vectors = np.random.default_rng(seed).normal(size=(len(ids), *shape))
    shards, half = [], len(ids) // 2
    for part in (slice(0, half), slice(half, None)):
        shards.append(folder / f'shards/{part.start:03d}.npy')
        features.write_shard(shards[-1], ids[part], vectors[part], [], '')
    about = {'backbone': 'tiny', 'pooling': 'gap', 'extractor': 'x', 'shape': list(shape)}
    features.write_index(folder, shards, about, '')
    return str(folder / features.INDEX), vectors.astype(np.float16).astype(np.float32)


@pytest.fixture
def sources(tmp_path):
    """Two databases of 9 and 5 images, the second in another order than its set."""
    found, stored = [], []
    for k, n in enumerate((9, 5)):
        ids = [f'{k}_{i}' for i in range(n)]
        path, vectors = write_set(tmp_path / str(k), ids, k)
        order = np.arange(n) if k == 0 else np.arange(n)[::-1]
        rows = {'image_id': np.array(ids, object)[order]}
        targets = np.arange(n, dtype=np.float32)[:, None] + 100 * k
        found.append(Source(rows, targets, np.full(n, k, np.float32), 2.0 - k, path))
        stored.append(vectors[order])
    return found, np.concatenate(stored)


def test_rows_are_found_by_id(sources):
    parts, stored = sources
    store = feature_store(parts)
    rows = np.array([13, 0, 8, 9, 0])
    assert len(store) == 14 and store.load(rows).dtype == np.float32
    np.testing.assert_array_equal(store.load(rows), stored[rows])


def test_batches_hold_the_rows_of_their_indices(sources):
    parts, stored = sources
    pipeline = Pipeline(parts, 6, (32, 32), seed=3)
    batches = list(pipeline.batches(0, 5))
    for step, batch in enumerate(batches):
        index = pipeline.indices(step)
        assert 'image' not in batch
        np.testing.assert_array_equal(batch['index'], index)
        np.testing.assert_array_equal(batch['features'], stored[index])
        np.testing.assert_array_equal(batch['database'], (index >= 9).astype(int))
        part = pipeline.batch(step, slice(2, 4))['features']
        np.testing.assert_array_equal(part, batch['features'][2:4])
    first = np.concatenate([b['index'][b['database'] == 0] for b in batches])
    assert sorted(first[:9]) == list(range(9))


def test_the_order_is_that_of_images(sources):
    parts, _ = sources
    images = [
        Source({'image_id': s.columns['image_id']}, s.targets, s.target_std, s.weight)
        for s in parts
    ]
    for step in range(4):
        np.testing.assert_array_equal(
            Pipeline(parts, 6, (32, 32), seed=1).indices(step),
            Pipeline(images, 6, (32, 32), seed=1).indices(step),
        )


def test_missing_images_and_mixed_shapes_are_sentences(sources, tmp_path):
    path = sources[0][0].features
    with pytest.raises(ValueError, match='has no row for 1 of 2 images, new the first'):
        features.FeatureStore([(path, np.array(['0_1', 'new'], object))])
    other, _ = write_set(tmp_path / 'other', ['a', 'b'], 5, (3,))
    parts = [(path, np.array(['0_1'], object)), (other, np.array(['a'], object))]
    with pytest.raises(ValueError, match='hold features of shapes'):
        features.FeatureStore(parts)


def test_a_shard_of_another_run_is_refused(sources, tmp_path):
    path = sources[0][0].features
    features.write_shard(tmp_path / '0/shards/000.npy', ['0_0'], np.ones((1, WIDTH)), [], '')
    with pytest.raises(artifacts.DamagedArtifact, match='is not the shard that'):
        features.FeatureStore([(path, np.array(['0_0'], object))])


def test_the_index_says_what_it_was_told(sources):
    about = features.describe(sources[0][1].features)
    assert about['shape'] == [WIDTH] and len(about['shards']) == 2
    assert len(tables.read(sources[0][1].features)[0]['image_id']) == 5
