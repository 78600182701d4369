"""Score tables read in chunks: the same rows whatever the file, chunk and share of a reader."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from iqa_jax.data import parquet_statistics, score_stream, tables
from iqa_jax.runtime import artifacts


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pa.table({
        'image_id': [f'{i:04d}' for i in range(1000)],
        'ref': [f'r{i % 7}' for i in range(1000)],
        'a': rng.standard_normal(1000).astype(np.float32),
        'b': rng.integers(0, 9, 1000),
    })  # fmt: skip


@pytest.fixture(params=['parquet', 'csv', 'memory'])
def stored(request, table, tmp_path):
    path = tmp_path / f'scores.{request.param}'
    if request.param == 'parquet':
        pq.write_table(table, path, row_group_size=130)
    elif request.param == 'csv':
        pyarrow.csv.write_csv(table, path)
    return score_stream.Table(table if request.param == 'memory' else path, 'image_id', 'ref')


@pytest.mark.parametrize(('size', 'parts'), [(64, 1), (300, 3), (5000, 2)])
def test_every_row_is_read_once_with_its_number(stored, table, size, parts):
    shares = [list(stored.batches(['b', 'a'], size, (part, parts))) for part in range(parts)]
    assert all((np.diff(np.concatenate([b.index for b in s])) > 0).all() for s in shares if s)
    batches = [batch for share in shares for batch in share]
    assert all(len(batch.index) <= size for batch in batches)
    index = np.concatenate([batch.index for batch in batches])
    order = np.argsort(index)
    np.testing.assert_array_equal(index[order], np.arange(1000))
    scores = np.concatenate([batch.scores for batch in batches], 1)[:, order]
    np.testing.assert_array_equal(scores[0], table['b'].to_numpy().astype(np.float32))
    np.testing.assert_array_equal(scores[1], table['a'].to_numpy())
    for name, column in (('image_id', 'ids'), ('ref', 'contents')):
        found = pa.concat_arrays([getattr(batch, column) for batch in batches]).to_pylist()
        assert [found[i] for i in order] == table[name].to_pylist()


def test_columns_are_those_of_numbers_and_load_orders_by_id(stored, table):
    assert stored.columns() == ['a', 'b']
    held = stored.load(['a'])
    assert held.in_memory and next(held.batches(['a'], 10)).ids.to_pylist()[:2] == ['0000', '0001']


def test_a_file_of_ours_is_verified_and_describes_its_columns(tmp_path):
    path = tmp_path / 'scores.parquet'
    columns = {'image_id': np.array(['x', 'y'], object), 'a': np.float32([1, 2])}
    tables.write(path, columns, meta={'columns': {'a': {'higher_is_better': False}}})
    assert score_stream.Table(path).described() == {'a': {'higher_is_better': False}}
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b'x')
    with pytest.raises((artifacts.DamagedArtifact, ValueError)):
        score_stream.Table(path).described()


@pytest.mark.parametrize('ours', [True, False])
def test_statistics_of_a_file_are_its_columns_extremes(table, tmp_path, ours):
    path = tmp_path / 'scores.parquet'
    a = table['a'].to_numpy()
    for options, expected in (
        ({'row_group_size': 130}, (a.min(), a.max())),
        ({'write_statistics': False}, None),
    ):
        pq.write_table(table, path, **options)
        if ours:
            artifacts.commit(path, path.read_bytes())
        found = score_stream.Table(path).extremes(['a'])
        assert (found and found['a']) == expected


def test_statistics_that_end_the_process_that_asks_are_none(table, tmp_path, monkeypatch):
    """As Arrow does for some damaged footers; the reading of the file itself is safe."""
    path = tmp_path / 'scores.parquet'
    pq.write_table(table, path)
    assert score_stream.Table(path).extremes(['a']) is not None
    monkeypatch.setattr(parquet_statistics, 'CODE', 'import os; os.abort()')
    assert score_stream.Table(path).extremes(['a']) is None


def test_statistics_that_never_come_are_none(table, tmp_path, monkeypatch):
    path = tmp_path / 'scores.parquet'
    pq.write_table(table, path)
    monkeypatch.setattr(parquet_statistics, 'CODE', 'import time; time.sleep(600)')
    monkeypatch.setattr(parquet_statistics, 'SECONDS', 0.2)
    start = time.monotonic()
    assert score_stream.Table(path).extremes(['a']) is None
    assert time.monotonic() - start < 60


def test_statistics_of_a_file_of_ours_need_its_digest(tmp_path):
    path = tmp_path / 'scores.parquet'
    tables.write(path, {'image_id': np.array(['x', 'y'], object), 'a': np.float32([1, 2])})
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(artifacts.DamagedArtifact):
        score_stream.Table(path).extremes(['a'])


def test_bad_tables_get_one_sentence(table, tmp_path):
    path = tmp_path / 'scores.csv'
    with pytest.raises(ValueError, match=r'There is no file .*scores\.csv'):
        score_stream.Table(path)
    path.write_text('name,a\nx,1\n')
    with pytest.raises(ValueError, match=r'scores\.csv has no column image_id; it has name, a'):
        score_stream.Table(path)
    path.write_text('image_id,a\nx,1\n,2\n')
    assert [batch.nameless for batch in score_stream.Table(path).batches(['a'], 10)] == [1]
    path.write_text('image_id,a\nx,1\ny,good\n')
    with pytest.raises(ValueError, match=r'scores\.csv is not a readable table: .*good'):
        list(score_stream.Table(path).batches(['a'], 10))
    with pytest.raises(ValueError, match=r'scores\.csv has no column b'):
        list(score_stream.Table(path).batches(['b'], 10))
    with pytest.raises(ValueError, match=r'use the suffix \.parquet or \.csv'):
        score_stream.Table(tmp_path / 'scores.xlsx')
    (tmp_path / 'scores.parquet').write_bytes(b'PAR1 and nothing else')
    with pytest.raises(ValueError, match=r'scores\.parquet is not a readable table'):
        score_stream.Table(tmp_path / 'scores.parquet')
    with pytest.raises(ValueError, match="image_ids must be unique, but 'x' is not"):
        score_stream.of_columns({'a': [1, 2]}, ['x', 'x'], None)
    with pytest.raises(ValueError, match=r'image ids has shape \(3,\) for 2 images'):
        score_stream.of_columns({'a': [1, 2]}, ['x', 'y', 'z'], None)


def test_ids_that_read_like_missing_values_are_ids(tmp_path):
    path = tmp_path / 'scores.csv'
    path.write_text('image_id,a\nNA,1\nnull,2\n007,\n')
    batch = next(score_stream.Table(path).batches(['a'], 10))
    assert batch.ids.to_pylist() == ['NA', 'null', '007']
    np.testing.assert_array_equal(batch.scores, [[1, 2, np.nan]])
