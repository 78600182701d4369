"""Four processes let one work for all, deal shards and hear the same errors."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import types

import jax
import pytest

from iqa_jax.runtime import artifacts, parallel, processes, sharing

PROGRAM = pathlib.Path(__file__).with_name('sharing_program.py')
PROCESSES = 4


@pytest.fixture(scope='module')
def reports(tmp_path_factory):
    """What each of the processes has seen."""
    folder = tmp_path_factory.mktemp('sharing')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{free.getsockname()[1]}'
    children = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), address, str(PROCESSES), str(index)],
            env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for index in range(PROCESSES)
    ]  # fmt: skip
    try:
        logs = [child.communicate(timeout=200)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0] * PROCESSES, '\n'.join(logs)
    found = [json.loads((folder / f'process{i}.json').read_text()) for i in range(PROCESSES)]
    return found


def test_values_go_to_all_in_the_order_of_the_processes(reports):
    for report in reports:
        assert report['exchanged'] == [f'I am {i}' for i in range(PROCESSES)]
        assert report['agreed'] is True
        assert report['sum'] == 6
        assert report['gathered'] == [1, 1001, 2001, 3001]


def test_process_0_works_alone_also_inside_its_work(reports):
    expected = {'here': [0, 1], 'agreed': False, 'index': 0}
    assert [report['outer'] for report in reports] == [expected] * PROCESSES


def test_fewer_shards_than_processes_are_each_made_once(reports):
    # Three shards at first; then the one that was removed, which falls to process 0.
    assert [report['counts'] for report in reports] == [[1, 1], [1, 0], [1, 0], [0, 0]]
    made = sorted(name for report in reports for name in report['made'])
    assert made == ['shard0.txt', 'shard1.txt', 'shard1.txt', 'shard2.txt']


def test_all_processes_raise_what_process_0_raises(reports):
    wrong, missing, odd, unlike, elsewhere, other = reports[0]['errors']
    assert wrong == ['ValueError', 'wrong']
    assert missing == ['FileNotFoundError', "[Errno 2] no file: 'a.txt'"]
    assert odd[1] == 'this and that'
    assert 'disagree on the number: [0, 1, 2, 3]' in unlike[1]
    assert 'different places: place 0, place 1' in elsewhere[1]
    assert 'have different configs, inputs or versions' in other[1]
    for report in reports[1:]:
        assert [sentence for _, sentence in report['errors']] == [
            sentence for _, sentence in reports[0]['errors']
        ]
        assert report['errors'][:2] == [wrong, missing]


def test_a_part_of_the_shards_is_made_by_a_run_of_its_own(tmp_path):
    marks = {tmp_path / str(i): f'mark {i}' for i in range(5)}

    def make(path: pathlib.Path, mark: str) -> None:
        artifacts.commit(path, b'', fingerprint=mark)

    part = sharing.Shards(marks, '1/2')
    assert part.part == 'parts/1_of_2'
    assert [path.name for path in part.make(make)] == ['1', '3']
    part.wait()
    assert sharing.Shards(marks, '1/2').left() == []
    whole = sharing.Shards(marks)
    assert [path.name for path in whole.left()] == ['0', '2', '4']
    damaged = sharing.Shards(marks, '1/2', ready=lambda path: path.name != '3')
    assert [path.name for path in damaged.left()] == ['3']


def test_a_shard_that_another_run_has_replaced_ends_the_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, 'SEEN_SECONDS', 0.0)
    shards = sharing.Shards({tmp_path / 'a': 'ours'})
    shards.make(lambda path, mark: artifacts.commit(path, b'', fingerprint=mark))
    shards.wait()
    artifacts.commit(tmp_path / 'a', b'', fingerprint='of another run')
    with pytest.raises(ValueError, match='/a is not what this run wrote; see that no other run'):
        shards.wait()


@pytest.mark.parametrize(
    ('shard', 'left'),
    [
        ('', ['part0of2_1', 'part1of2_0', 'part1of2_3', 'node.local-12']),
        ('1/2', ['3', 'part0of2_1', 'node.local-12']),
    ],
)
def test_drafts_of_killed_processes_go_and_those_of_live_runs_stay(tmp_path, shard, left):
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    marks = {tmp_path / f'{i}.parquet': 'ours' for i in range(2)}
    # Killed was the last run: a draft of the data, of a record and of what lies beside the shard.
    for writer in ('3', 'part0of2_1', 'part1of2_0', 'part1of2_3', 'node.local-12'):
        (tmp_path / f'.1.parquet.{writer}.tmp').write_bytes(b'half')
        (tmp_path / f'.1.parquet.meta.json.{writer}.tmp').write_bytes(b'half')
        (pictures / f'.a.png.{writer}.tmp').write_bytes(b'half')
        old = pictures / f'.b.png.{writer}.tmp'
        old.write_bytes(b'half')
        os.utime(old, (0, 0))
    for kept in ('notes.3.tmp', '.hidden', '.b.tmp'):
        (pictures / kept).write_bytes(b'')
    shards = sharing.Shards(marks, shard, folders=[pictures, tmp_path / 'none'])
    shards.make(lambda path, mark: artifacts.commit(path, b'', fingerprint=mark))
    names = {file.name for file in tmp_path.iterdir() if file.name.startswith('.')}
    expected = {f'.1.parquet.{writer}.tmp' for writer in left}
    assert names == expected | {f'.1.parquet.meta.json.{writer}.tmp' for writer in left}
    assert {file.name for file in pictures.iterdir()} == {
        'notes.3.tmp', '.hidden', '.b.tmp', *(f'.a.png.{writer}.tmp' for writer in left)
    }  # fmt: skip


@pytest.mark.parametrize('shard', ['2/2', '-1/2', 'a/b', '1', '0/0'])
def test_a_wrong_share_is_refused(shard):
    with pytest.raises(ValueError, match="must be 'i/n'"):
        sharing.share(shard)


def test_one_process_works_as_it_is():
    assert sharing.on_main(lambda x: x + 1)(2) == 3
    assert sharing.gathered(5) == 5
    with parallel.alone():
        assert (parallel.process_index(), parallel.process_count()) == (0, 1)
        assert parallel.is_main()
    parallel.blame(ValueError())
    parallel.end(1, 'not printed')


class _Store:
    """JAX's client, whose connection breaks in one of its methods as process 0 dies."""

    def __init__(self, broken: str):
        self.broken = broken

    def __getattr__(self, method: str):
        def call(*arguments):
            if method == self.broken:
                raise jax.errors.JaxRuntimeError('UNAVAILABLE: Socket closed')
            return b''

        return call


@pytest.mark.parametrize(
    'broken', ['key_value_set_bytes', 'blocking_key_value_get_bytes', 'key_value_delete']
)
def test_a_store_that_breaks_while_it_is_asked_is_blamed(monkeypatch, broken):
    def blame():
        raise SystemExit('who has died')

    monkeypatch.setattr(processes, '_state', lambda: types.SimpleNamespace(client=_Store(broken)))
    monkeypatch.setattr(processes, '_watch', types.SimpleNamespace(blame=blame))
    monkeypatch.setattr(processes, '_told', ['iqa_jax/all/0/0'])
    monkeypatch.setattr(processes, 'process_count', lambda: 2)
    with pytest.raises(SystemExit, match='who has died'):
        parallel.exchange(b'hello')
