"""commit: the old or the new content is intact after a kill anywhere; damage is never silent."""

import contextlib
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from iqa_jax.runtime import artifacts, crash_points, disk_errors

OLD, NEW = b'old' * 1000, b'new content' * 1000
OVERWRITE = """
import sys
from iqa_jax.runtime import artifacts, crash_points, disk_errors
artifacts.commit(sys.argv[1], b'new content' * 1000, fingerprint='new', meta={'n': 2})
"""


def test_round_trip(tmp_path):
    path = tmp_path / 'deep' / 'er' / 'file.bin'
    artifacts.commit(path, NEW, fingerprint='f', meta={'a': np.float32(0.5), 'b': (1, 2)})
    assert artifacts.read(path) == NEW
    found = artifacts.meta(path)
    assert found['meta'] == {'a': 0.5, 'b': [1, 2]}
    assert found['size'] == len(NEW)
    assert artifacts.is_current(path, 'f')
    assert not artifacts.is_current(path, 'g')
    assert sorted(os.listdir(path.parent)) == ['file.bin', 'file.bin.meta.json']


def test_empty_and_equal_commits(tmp_path):
    artifacts.commit(tmp_path / 'a', b'')
    assert artifacts.read(tmp_path / 'a') == b''
    artifacts.commit(tmp_path / 'b', b'x')
    once = artifacts.sidecar_path(tmp_path / 'b').read_bytes()
    artifacts.commit(tmp_path / 'b', b'x')
    assert artifacts.sidecar_path(tmp_path / 'b').read_bytes() == once


def test_missing(tmp_path):
    with pytest.raises(artifacts.MissingArtifact, match=r'There is no file .*a; run the stage'):
        artifacts.read(tmp_path / 'a')
    (tmp_path / 'a').write_bytes(b'not committed')
    with pytest.raises(artifacts.MissingArtifact, match='does not count as written'):
        artifacts.meta(tmp_path / 'a')
    assert not artifacts.is_current(tmp_path / 'a', '')


@pytest.mark.parametrize('damage', ['flip', 'truncate', 'empty', 'zero', 'append'])
@pytest.mark.parametrize('suffix', ['', '.meta.json'])
def test_damage_is_named(tmp_path, damage, suffix):
    path = tmp_path / 'file.bin'
    artifacts.commit(path, NEW, fingerprint='f', meta={'quarantined': 12})
    victim = pathlib.Path(f'{path}{suffix}')
    victim.write_bytes(damaged(victim.read_bytes(), damage))
    with pytest.raises(artifacts.DamagedArtifact, match=victim.name + ' is damaged'):
        artifacts.read(path)
    assert not artifacts.is_current(path, 'f')
    artifacts.commit(path, OLD)
    assert artifacts.read(path) == OLD


def damaged(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    return {
        'flip': data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        'truncate': data[:middle],
        'empty': b'',
        'zero': bytes(len(data)),
        'append': data + b'}',
    }[how]


def test_every_flipped_byte_of_a_sidecar_is_seen(tmp_path):
    path = tmp_path / 'file.bin'
    artifacts.commit(path, b'abc', fingerprint='f', meta={'k': 'v', 'n': 1.5})
    sidecar = artifacts.sidecar_path(path)
    intact, before = sidecar.read_bytes(), artifacts.meta(path)
    for i in range(len(intact) - 1):  # the last byte is the line end
        sidecar.write_bytes(intact[:i] + bytes([intact[i] ^ 4]) + intact[i + 1 :])
        with contextlib.suppress(artifacts.DamagedArtifact):
            assert artifacts.meta(path) == before, f'byte {i} changed the record silently'


def test_the_first_error_of_a_failing_disk_is_told(tmp_path, monkeypatch):
    def fail(number):
        def refuse(*args, **options):
            raise OSError(number, os.strerror(number))

        return refuse

    monkeypatch.setattr(os, 'fsync', fail(errno.ENOSPC))
    monkeypatch.setattr(pathlib.Path, 'unlink', fail(errno.EROFS))
    with pytest.raises(OSError, match='No space left') as caught:
        artifacts.write(tmp_path / 'file.bin', NEW)
    assert caught.value.errno == errno.ENOSPC and 'file.bin' in str(caught.value)


@pytest.mark.parametrize('overwrite', [False, True])
def test_kill_at_every_point(tmp_path, overwrite):
    """12 kills each: the file is absent, intact old or intact new; a second run succeeds."""
    started = []
    for point in crash_points.COMMIT:
        path = tmp_path / point / 'file.bin'
        path.parent.mkdir()
        if overwrite:
            artifacts.commit(path, OLD, fingerprint='old', meta={'n': 1})
        started.append((point, path, _overwrite(path, f'{point}:1')))
        if len(started) % 4 == 0:  # four interpreters at a time
            started[-4][2].wait()
    for point, path, process in started:
        assert process.wait() == -signal.SIGKILL, point
        renamed = point in ('artifacts.data.renamed', 'artifacts.data.folder_synced')
        if renamed:
            assert artifacts.read(path) == NEW
            assert artifacts.meta(path)['meta'] == {'n': 2}
        elif overwrite:
            assert artifacts.read(path) == OLD, point
            assert artifacts.is_current(path, 'old'), point
            assert artifacts.meta(path)['meta'] == {'n': 1}, point
        else:
            assert not path.exists(), point
        artifacts.commit(path, NEW, fingerprint='new', meta={'n': 2})
        assert artifacts.read(path) == NEW
        assert sorted(os.listdir(path.parent)) == ['file.bin', 'file.bin.meta.json']


def _overwrite(path, crash_at: str) -> subprocess.Popen:
    environment = os.environ | {artifacts.CRASH_VARIABLE: crash_at}
    return subprocess.Popen([sys.executable, '-c', OVERWRITE, str(path)], env=environment)


def test_twice_killed_between_renames_keeps_the_old(tmp_path):
    path = tmp_path / 'file.bin'
    artifacts.commit(path, OLD, fingerprint='old')
    for _ in range(2):
        assert _overwrite(path, 'artifacts.meta.renamed:1').wait() == -signal.SIGKILL
        assert artifacts.read(path) == OLD
        assert artifacts.is_current(path, 'old')


def test_crash_point_counts_passes():
    code = (
        'from iqa_jax.runtime import artifacts\n'
        'for i in range(5):\n    print(i, flush=True)\n    artifacts.crash_point("p")'
    )
    environment = os.environ | {artifacts.CRASH_VARIABLE: 'p:3'}
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ['0', '1', '2']


def test_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / 'file.bin'
    artifacts.commit(path, OLD)

    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        artifacts.commit(path, NEW)
    monkeypatch.undo()
    assert artifacts.read(path) == OLD
    assert sorted(os.listdir(tmp_path)) == ['file.bin', 'file.bin.meta.json']


def test_write_has_no_sidecar(tmp_path):
    artifacts.write(tmp_path / 'images' / 'a.png', b'bytes')
    assert os.listdir(tmp_path / 'images') == ['a.png']
    assert (tmp_path / 'images' / 'a.png').read_bytes() == b'bytes'


def test_fingerprint():
    assert artifacts.fingerprint({'b': 1, 'a': (1, 2)}) == artifacts.fingerprint(
        {'a': [1, 2], 'b': np.int64(1)}
    )
    assert artifacts.fingerprint({'a': 1}) != artifacts.fingerprint({'a': 1.5})
    with pytest.raises(ValueError, match='cannot be written as JSON'):
        artifacts.fingerprint({'a': object()})


def test_versions():
    found = artifacts.versions()
    assert found['jax'].count('.') >= 2
    assert json.dumps(found)


@pytest.mark.parametrize('write', [artifacts.commit, artifacts.write])
def test_what_the_disk_does_not_take_names_the_file(tmp_path, monkeypatch, write):
    def fail(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(artifacts.os, 'fsync', fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*file\.bin'") as caught:
        write(tmp_path / 'file.bin', NEW)
    said = disk_errors.sentence(caught.value)
    assert said.startswith(f'{tmp_path / "file.bin"} cannot be used (No space left')
    assert list(tmp_path.iterdir()) == []
