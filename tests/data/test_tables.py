"""Tables: round trips, foreign CSV, joins, damage."""

import datetime
import itertools
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iqa_jax.data import manifest, score_columns, score_stream, tables
from iqa_jax.runtime import artifacts, stages

COLUMNS = {
    'image_id': np.array(['a', 'b', 'c'], object),
    'ssim': np.array([0.5, 0.25, 1.0], np.float32),
}


@pytest.mark.parametrize('suffix', ['parquet', 'csv'])
def test_round_trip_keeps_values_and_meta(tmp_path, suffix):
    path = tmp_path / f'scores.{suffix}'
    tables.write(path, COLUMNS, {'columns': {'ssim': {'higher_is_better': True}}}, 'mark')
    columns, meta = tables.read(path)
    assert columns['image_id'].tolist() == ['a', 'b', 'c']
    np.testing.assert_array_equal(columns['ssim'], COLUMNS['ssim'])
    assert meta['columns']['ssim']['higher_is_better'] is True
    assert artifacts.is_current(path, 'mark')


def test_same_content_gives_same_bytes(tmp_path):
    for name in ('one.parquet', 'two.parquet'):
        tables.write(tmp_path / name, COLUMNS, {'x': 1})
    assert (tmp_path / 'one.parquet').read_bytes() == (tmp_path / 'two.parquet').read_bytes()


def test_foreign_csv_without_sidecar_is_read(tmp_path):
    path = tmp_path / 'foreign.csv'
    path.write_text('image_id,mos,note\n007,3.5,x\n008,4,y\n')
    columns, meta = tables.read(path)
    assert columns['image_id'].tolist() == ['007', '008']
    assert columns['mos'].tolist() == [3.5, 4.0]
    assert meta == {}


def test_csv_of_excel_with_a_byte_order_mark_and_blank_last_lines(tmp_path):
    path = tmp_path / 'excel.csv'
    path.write_bytes('image_id,mos\r\nä,3.5\r\n\r\n\r\n'.encode('utf-8-sig'))
    columns, _ = tables.read(path)
    assert columns['image_id'].tolist() == ['ä'] and columns['mos'].tolist() == [3.5]
    path.write_text('image_id,mos\na,1\n\nb,2\n')
    with pytest.raises(ValueError, match='line 3 has 0 fields'):
        tables.read(path)
    one = {'note': np.array(['x', ''], object)}
    tables.write(tmp_path / 'one.csv', one)
    assert tables.read(tmp_path / 'one.csv')[0]['note'].tolist() == ['x', '']


def test_ragged_csv_names_the_line(tmp_path):
    path = tmp_path / 'bad.csv'
    path.write_text('image_id,mos\na,1\nb\n')
    with pytest.raises(ValueError, match='line 3 has 1 fields'):
        tables.read(path)


def test_a_flipped_byte_is_seen(tmp_path):
    path = tmp_path / 'scores.parquet'
    tables.write(path, COLUMNS)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(artifacts.DamagedArtifact):
        tables.read(path)


def test_reading_leaves_no_thread_that_could_abort_the_end_of_the_process(tmp_path):
    path = tmp_path / 'scores.parquet'
    tables.write(path, COLUMNS)
    code = (
        'import os, sys\n'
        'from iqa_jax.data import tables\n'
        'count = lambda: len(os.listdir("/proc/self/task"))\n'
        'before = count()\n'
        'tables.read(sys.argv[1])\n'
        'print(before - count())\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == '0\n'


def test_a_foreign_parquet_with_a_damaged_page_is_a_sentence(tmp_path):
    path = tmp_path / 'theirs.parquet'
    pq.write_table(pa.table({'image_id': [str(n) for n in range(100)]}), path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(40) + data[44:])
    one_line = r'theirs\.parquet is not a readable table: .*[^.\n]\.$'
    with pytest.raises(ValueError, match=one_line):
        tables.read(path)
    with pytest.raises(ValueError, match=one_line):
        list(score_stream.Table(path).batches([], 10))


def test_a_footer_that_contradicts_itself_is_refused_before_memory_is_reserved(tmp_path):
    path = tmp_path / 'theirs.parquet'
    pq.write_table(pa.table({'image_id': ['a', 'b', 'c'], 'mos': [1.0, 2.0, 3.0]}), path)
    data, refused = path.read_bytes(), 0
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], 'little')
    for at, bit in itertools.product(range(begin, len(data) - 8), range(8)):
        changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        try:
            footer = pq.read_metadata(pa.BufferReader(changed))
            rows = footer.num_rows, footer.row_group(0).num_rows
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            continue
        if rows[0] != rows[1]:
            path.write_bytes(changed)
            for read in (tables.read, lambda path: score_stream.Table(path).load(['mos'])):
                with pytest.raises(ValueError, match=r'theirs\.parquet .* it declares .* rows\.'):
                    read(path)
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    'values',
    [
        pa.array([b'1', b'2']),
        pa.array([b'1', b'2'], pa.binary(1)),
        pa.array(['1', '2'], pa.large_string()),
        pa.array([b'1', b'2'], pa.large_binary()),
        pa.array(['1', '2']).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_text_of_a_foreign_parquet_is_text_whatever_its_type(tmp_path, values):
    path = tmp_path / 'theirs.parquet'
    pq.write_table(pa.table({'image_id': values, 'file': values}), path)
    columns = manifest.read(path)
    assert columns['image_id'].tolist() == ['1', '2']
    assert columns['file'].tolist() == [str(tmp_path / '1'), str(tmp_path / '2')]


@pytest.mark.parametrize(
    'value', [['1'], {'a': 1}, b'\xff', datetime.time(1)], ids=('list', 'struct', 'bytes', 'time')
)
def test_what_is_no_text_and_no_number_is_a_sentence(tmp_path, value):
    path, values = tmp_path / 'theirs.parquet', pa.array([value])
    pq.write_table(pa.table({'image_id': ['1'], 'file': values, 'mos': values}), path)
    assert tables.read(path)[0]['image_id'].tolist() == ['1']
    asked = {'mine': {'scores': str(path), 'column': 'mos', 'higher_is_better': True}}
    with pytest.raises(ValueError, match=r'Column mos of .*theirs\.parquet is not of numbers'):
        score_columns.oriented(np.array(['1'], object), asked, score_columns.opened(asked))
    pq.write_table(pa.table({'image_id': ['1'], 'file': values}), path)
    with pytest.raises(ValueError, match=r'theirs\.parquet: column file has .* is no text'):
        manifest.read(path)
    if isinstance(value, list | dict):
        pq.write_table(pa.table({'image_id': values}), path)
        with pytest.raises(ValueError, match=r'theirs\.parquet .*: column image_id holds'):
            manifest.read(path)


def test_numbers_stay_what_they_are_and_times_are_none():
    for column in (np.array([1, 2]), np.array([0.5], np.float32), np.array([True])):
        assert tables.numbers(column, 'mos', 'x.csv') is column
    assert tables.numbers(np.array(['1', 2.5], object), 'mos', 'x.csv').tolist() == [1, 2.5]
    with pytest.raises(ValueError, match=r'Column mos of x\.csv is not of numbers'):
        tables.numbers(np.array(['2020-01-01'], 'M8[s]'), 'mos', 'x.csv')


def test_columns_without_a_name_are_left_alone(tmp_path):
    path = tmp_path / 'excel.csv'
    path.write_text('image_id,mos,,\na,1,,\n')
    assert tables.read(path)[0]['mos'].tolist() == [1]


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_two_columns_of_one_name_are_a_sentence(tmp_path, suffix):
    path = tmp_path / f'theirs.{suffix}'
    if suffix == 'csv':
        path.write_text('image_id,mos,mos\na,1,2\n')
    else:
        pq.write_table(pa.table([['a'], [1.0], [2.0]], names=['image_id', 'mos', 'mos']), path)
    for read in (tables.read, score_stream.Table):
        with pytest.raises(ValueError, match=r"theirs\..*: 2 of its columns are called 'mos'; "):
            read(path)


def test_no_flipped_bit_of_a_parquet_table_without_its_sidecar_is_used(tmp_path):
    written, path = tmp_path / 'written.parquet', tmp_path / 'copy.parquet'
    tables.write(written, COLUMNS, {'simulated': True})
    data = written.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(ValueError, match=r'copy\.parquet'):
            tables.read(path)
    path.write_bytes(data)
    sentence = r'copy\.parquet was written by this program, but its record copy\.\w+\.meta\.json'
    for read in (tables.read, score_stream.Table):
        with pytest.raises(artifacts.DamagedArtifact, match=sentence):
            read(path)
    sidecar = artifacts.sidecar_path(written).read_bytes()
    artifacts.sidecar_path(path).write_bytes(sidecar)
    assert tables.read(path)[1] == {'simulated': True}


def test_a_parquet_table_of_another_program_is_read_without_metadata(tmp_path):
    path = tmp_path / 'scores.parquet'
    table = pa.table({'image_id': ['a'], 'note': ['written by iqa_jax']})
    pq.write_table(table.replace_schema_metadata({'meta': 'theirs'}), path)
    columns, meta = tables.read(path)
    assert columns['image_id'].tolist() == ['a'] and meta == {}
    assert score_stream.Table(path).described() == {}
    tables.write(tmp_path / 'ours.parquet', COLUMNS)
    changed = pq.read_table(tmp_path / 'ours.parquet').replace_schema_metadata(None)
    pq.write_table(changed, path)
    assert tables.read(path)[0]['ssim'].tolist() == [0.5, 0.25, 1.0]


@pytest.mark.parametrize('name', ['scores.csv', 'split_00/scores.csv', 'scores.parquet'])
@pytest.mark.parametrize('stage_record', ['intact', 'gone', 'damaged'])
def test_an_output_of_a_stage_without_its_sidecar_is_refused(tmp_path, name, stage_record):
    path = tmp_path / 'run' / name
    tables.write(path, COLUMNS, {'simulated': True})
    summary = {'quarantined': 0, 'seconds': 1.0, 'headline': 'done', 'artifact': name}
    stages.Stage('score', tmp_path / 'run', {}).finish(summary, [path])
    record = artifacts.sidecar_path(tmp_path / 'run/stage.json')
    if stage_record == 'gone':
        record.unlink()
    elif stage_record == 'damaged':
        record.write_bytes(record.read_bytes()[:-9])
    artifacts.sidecar_path(path).unlink()
    if path.suffix == '.csv':
        path.write_text(path.read_text().replace('0.25', '0.75'))
    readers = (
        tables.read,
        score_stream.Table,
        lambda path: score_columns.opened({'ssim': {'scores': str(path)}}),
    )
    for read in readers:
        with pytest.raises(artifacts.DamagedArtifact, match=r'scores\.\w+\.meta\.json is gone'):
            read(path)
    if path.suffix == '.csv':
        with pytest.raises(artifacts.DamagedArtifact, match='run the stage again'):
            stages.Stage('evaluate', tmp_path / 'next', {}, inputs=[path])
    if stage_record == 'intact':
        own = tmp_path / 'run' / 'own.csv'
        own.write_text('image_id,mos\na,1\n')
        assert tables.read(own)[0]['mos'].tolist() == [1]


def test_quarantine_entries_come_back_from_their_csv(tmp_path):
    assert tables.quarantine_csv([]) == b'file,reason\n'
    path = tmp_path / 'quarantine.csv'
    path.write_bytes(tables.quarantine_csv([{'file': 'a,b.png', 'reason': 'is "empty"\nindeed'}]))
    columns = tables.read(path)[0]
    assert columns['file'].tolist() == ['a,b.png']
    assert columns['reason'].tolist() == ['is "empty"\nindeed']


def test_join_orders_by_id_and_counts_missing():
    ids = np.array(['c', 'a'], object)
    assert tables.join(ids, COLUMNS, ['ssim'], 'scores')['ssim'].tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match='no row for 1 of 2 images, z the first'):
        tables.join(np.array(['a', 'z'], object), COLUMNS, ['ssim'], 'scores')
    with pytest.raises(ValueError, match='no column gmsd; it has image_id, ssim'):
        tables.join(ids, COLUMNS, ['gmsd'], 'scores')


@pytest.mark.parametrize('suffix', ['parquet', 'csv'])
def test_manifest_completes_columns_and_resolves_files(tmp_path, suffix):
    path = tmp_path / f'manifest.{suffix}'
    (tmp_path / 'images').mkdir()
    columns = {
        'image_id': np.array(['a', 'b'], object),
        'file': np.array([str(tmp_path / 'images/a.png'), ''], object),
        'ref_file': np.array(['', str(tmp_path / 'images/a.png')], object),
        'ref_sha256': np.array(['', '12'], object),
    }
    manifest.write(path, columns, {})
    stored = tables.read(path)[0]
    assert stored['file'].tolist() == ['images/a.png', '']
    assert stored['ref_file'].tolist() == ['', 'images/a.png']
    read = manifest.read(path)
    assert read['file'].tolist() == [str(tmp_path / 'images/a.png'), '']
    assert read['ref_file'].tolist() == ['', str(tmp_path / 'images/a.png')]
    assert read['ref_sha256'].tolist() == ['', '12']
    assert read['ref_id'].tolist() == ['a', 'b']
    assert np.isnan(read['mos']).all() and read['split'].tolist() == ['pool', 'pool']


def test_manifest_refuses_double_ids_unknown_splits_and_text_for_numbers():
    twice = {'image_id': np.array(['a', 'a'], object)}
    with pytest.raises(ValueError, match='image_id a more than once'):
        manifest.complete(twice, 'm.csv')
    odd = {'image_id': np.array(['a'], object), 'split': np.array(['dev'], object)}
    with pytest.raises(ValueError, match="split 'dev'; use train, val, test or pool"):
        manifest.complete(odd, 'm.csv')
    empty = {'image_id': np.array(['a', 'b'], object), 'mos': np.array(['3', ''], object)}
    with pytest.raises(ValueError, match=r'm\.csv: column mos has something that is no number'):
        manifest.complete(empty, 'm.csv')


def test_numbers_too_large_for_64_bits_are_read_and_names_with_returns_are_quoted(tmp_path):
    path = tmp_path / 'scores.csv'
    path.write_text(f'image_id,mine\na,{2**70}\nb,-1\n')
    assert tables.read(path)[0]['mine'].tolist() == [float(2**70), -1.0]
    ids = np.array(['line\nfeed', 'carriage\rreturn', 'both\r\n', 'plain'], object)
    tables.write(tmp_path / 'names.csv', {'image_id': ids})
    assert tables.read(tmp_path / 'names.csv')[0]['image_id'].tolist() == ids.tolist()
    entries = [{'file': name, 'reason': f'{name} is odd'} for name in ids]
    (tmp_path / 'quarantine.csv').write_bytes(tables.quarantine_csv(entries))
    assert tables.read(tmp_path / 'quarantine.csv')[0]['file'].tolist() == ids.tolist()


@pytest.mark.parametrize('value', [np.nan, 2**40, 1.5, -np.inf])
@pytest.mark.parametrize('name', ['type', 'level', 'votes'])
def test_numbers_that_a_column_of_the_manifest_cannot_hold_are_refused(name, value):
    columns = {'image_id': np.array(['a', 'b'], object), name: np.array([1, value])}
    with pytest.raises(ValueError, match=f'm.csv: column {name} has .* no whole number of 4 bytes'):
        manifest.complete(columns, 'm.csv')
