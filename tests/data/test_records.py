"""Image bytes by name: files of their own and records of ArrayRecord files."""

import errno
import os

import pytest
from array_record.python import array_record_module

from iqa_jax.data import records
from iqa_jax.images import io

ITEMS = [b'first', b'', b'x' * 100_000]


def write(path, items):
    with records.writer(path) as append:
        assert [append(item) for item in items] == list(range(len(items)))


def test_records_come_back_by_name(tmp_path):
    path = tmp_path / 'folder/many.array_record'
    write(path, ITEMS)
    assert [records.read(records.name(path, i)) for i in range(3)] == ITEMS
    assert records.exists(records.name(path, 1))
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no draft is left


def test_a_plain_file_is_read_as_it_is(tmp_path):
    # A mark of a record needs the suffix before it.
    for name in ('a.png', 'odd#3', 'x.array_record#y.png'):
        (tmp_path / name).write_bytes(b'bytes')
        assert records.read(tmp_path / name) == b'bytes' and records.exists(tmp_path / name)


def test_what_is_not_there_is_named(tmp_path):
    path = tmp_path / 'many.array_record'
    with pytest.raises(io.ImageError, match=r'many.array_record is not a file'):
        records.read(records.name(path, 0))
    assert not records.exists(records.name(path, 0))
    write(path, ITEMS)
    with pytest.raises(io.ImageError, match='has no record 3'):
        records.read(records.name(path, 3))
    path.write_bytes(b'not an ArrayRecord file at all')
    with pytest.raises(io.ImageError, match='many.array_record is not an intact ArrayRecord file'):
        records.read(records.name(path, 0))


@pytest.mark.parametrize('code', [errno.EMFILE, errno.EIO])
def test_an_error_of_the_machine_is_no_damage(tmp_path, monkeypatch, code):
    path = tmp_path / 'many.array_record'
    write(path, ITEMS)

    def fail(file):
        raise RuntimeError(f'open() failed: {os.strerror(code)}; opening {file}')

    monkeypatch.setattr(array_record_module, 'ArrayRecordReader', fail)
    with pytest.raises(OSError, match=r'many\.array_record could not be read') as error:
        records.read(records.name(path, 0))
    assert os.strerror(code) in str(error.value)


def test_a_file_that_is_not_finished_does_not_appear(tmp_path):
    path = tmp_path / 'many.array_record'
    with pytest.raises(ZeroDivisionError), records.writer(path) as append:
        append(b'first')
        append(1 // 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('method', ['write', 'close'])
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch, method):
    class Full:
        def __init__(self, *args):
            pass

        def write(self, record):
            self.fail('write')

        def close(self):
            self.fail('close')

        def fail(self, called):
            if called == method:
                raise RuntimeError('write() failed: No space left on device; writing x; at byte 0')

    monkeypatch.setattr(array_record_module, 'ArrayRecordWriter', Full)
    with (
        pytest.raises(OSError, match=r'many.* cannot be written \(No space left on device\); make'),
        records.writer(tmp_path / 'many.array_record') as append,
    ):
        append(b'first')
    assert list(tmp_path.iterdir()) == []
