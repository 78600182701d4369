"""One path layer: names, objects and local copies, on fsspec's file system in memory."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from fsspec.registry import _registry
from memory_store import flip

from iqa_jax.data import features, manifest, records, score_stream, tables
from iqa_jax.images import io
from iqa_jax.models import weight_files
from iqa_jax.runtime import artifacts, checkpoints, metric_writer, paths, stages
from iqa_jax.runtime.paths import as_path


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('gs://bucket/run', 'gs://bucket/run'),
        ('gs://bucket//run/./x/../y/', 'gs://bucket/run/y'),
        ('s3://bucket', 's3://bucket'),
        ('memory://bucket/a b#7', 'memory://bucket/a b#7'),
    ],
)
def test_names_of_objects_are_normal(store, name, text):
    path = as_path(name)
    assert str(path) == text and as_path(path) is path and hash(path) == hash(as_path(text))
    assert paths.is_remote(name) and paths.is_remote(path)


def test_local_names_stay_pathlib_paths():
    for name in ('runs/x', '/data/x', '../x', '.', pathlib.Path('a')):
        assert as_path(name) == pathlib.Path(name) and not paths.is_remote(name)
    assert paths.normal(pathlib.Path('a/../b')) == 'b'
    assert paths.relative('/data/x/y', '/data/z') == '../x/y'
    assert paths.common(['/data/x/a', '/data/y/b']) == '/data'


def test_an_object_has_the_names_of_a_path(store):
    path = as_path('gs://bucket/run/data/x.tar.png')
    assert (path.name, path.stem, path.suffix) == ('x.tar.png', 'x.tar', '.png')
    assert str(path.with_name('y')) == 'gs://bucket/run/data/y'
    assert str(path.with_suffix('')) == 'gs://bucket/run/data/x.tar'
    assert path.relative_to('gs://bucket/run') == pathlib.PurePosixPath('data/x.tar.png')
    assert path.is_relative_to('gs://bucket/run') and not path.is_relative_to('gs://bucket/ru')
    assert path.parent.parent == as_path('gs://bucket/run') != as_path('s3://bucket/run')
    assert as_path('gs://bucket').parent == as_path('gs://bucket')
    with pytest.raises(ValueError, match='is not below'):
        path.relative_to('s3://bucket/run')


def test_joined_and_relative_names_cross_the_border(store):
    root = as_path('gs://bucket/run')
    assert str(root / '../photos' / 'a.png') == 'gs://bucket/photos/a.png'
    assert root / '/data/x' == pathlib.Path('/data/x')
    assert paths.join('/local', 'gs://bucket/x') == as_path('gs://bucket/x')
    assert paths.join(root, 's3://other/x') == as_path('s3://other/x')
    assert paths.relative('gs://bucket/photos/a.png', root) == '../photos/a.png'
    assert paths.relative('gs://other/a.png', root) == 'gs://other/a.png'
    assert paths.relative('/data/a.png', root) == '/data/a.png'
    assert paths.relative('gs://bucket/a.png', '/data') == 'gs://bucket/a.png'
    assert paths.common(['gs://bucket/x/a', 'gs://bucket/y/b']) == 'gs://bucket'
    assert paths.common(['gs://bucket/x/a', '/data/b']) == ''


def test_objects_sort_as_files_do(store, tmp_path):
    names = ['a-b/x', 'a/x', 'a/b/x', 'a0', 'B']
    local = sorted(tmp_path / name for name in names)
    found = sorted(as_path('gs://bucket') / name for name in names)
    assert [str(p.relative_to(tmp_path)) for p in local] == [
        str(p.relative_to('gs://bucket')) for p in found
    ]


def test_what_lies_below_a_name(store):
    root = as_path('gs://bucket/run')
    for name in ('x.png', 'deep/y.png', 'deep/er/z.txt'):
        (root / name).write_bytes(name.encode())
    assert root.is_dir() and not root.is_file() and (root / 'x.png').is_file()
    assert not (root / 'dee').exists() and not (root / 'x.pn').exists()
    assert sorted(p.name for p in root.iterdir()) == ['deep', 'x.png']
    assert [p.name for p in root.glob('*.png')] == ['x.png'] and not [*(root / 'no').glob('*')]
    assert sorted(p.name for p in root.rglob('*.png')) == ['x.png', 'y.png']
    assert (root / 'x.png').stat().st_size == 5 and (root / 'x.png').stat().st_mtime_ns > 0
    paths.remove_tree(root / 'deep')
    paths.remove_tree(root / 'deep')
    assert [str(p) for p in root.rglob('*')] == ['gs://bucket/run/x.png']
    (root / 'x.png').unlink()
    (root / 'x.png').unlink(missing_ok=True)
    for fails in (lambda p: p.read_bytes(), lambda p: p.stat(), lambda p: p.open('rb')):
        with pytest.raises(FileNotFoundError, match='gs://bucket/run/x.png'):
            fails(root / 'x.png')


def test_a_name_like_a_pattern_removes_itself_only(store):
    root = as_path('gs://bucket')
    names = [
        'run*/steps/1',
        'run_other/steps/1',
        'lr[1]/steps/1',
        'lr1/steps/1',
        'why?/x',
        'whyy/x',
    ]
    for name in names:
        (root / name / 'file').write_bytes(b'x')
    for name in names[::2]:
        paths.remove_tree(root / name)
    assert [str(p) for p in sorted(root.rglob('*'))] == [
        f'gs://bucket/{name}/file' for name in sorted(names[1::2])
    ]


def test_an_object_cannot_pass_for_a_file_of_this_machine(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = as_path('gs://bucket/x')
    with pytest.raises(TypeError):
        pathlib.Path(path)
    with pytest.raises(TypeError), open(path, 'wb'):
        pass
    with pytest.raises(ValueError, match='cannot be opened to write'):
        path.open('w')
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('gs://', 'names nothing in a bucket'),
        ('gs://bucket/../other', 'names nothing in a bucket'),
        ('nosuch://bucket/x', 'nosuch:// is no object store that is known; use gs://'),
        ('https://host/x.png', 'download it and give the path'),
        ('file:///x', 'leave out file://'),
    ],
)
def test_names_that_cannot_be_end_in_a_sentence(store, name, sentence):
    with pytest.raises(ValueError, match=sentence):
        as_path(name)


@pytest.mark.parametrize(
    ('scheme', 'package', 'extra'), [('gs', 'gcsfs', 'gcs'), ('s3', 's3fs', 's3')]
)
def test_a_missing_package_names_its_extra(monkeypatch, scheme, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(_registry, scheme, raising=False)
    sentence = rf"^{scheme}:// needs .*pip install -e '\.\[{extra}\]'\.$"
    with pytest.raises(ValueError, match=sentence):
        as_path(f'{scheme}://bucket/x')


def test_a_store_that_does_not_answer_is_no_missing_object(store, monkeypatch):
    path = as_path('gs://bucket/x.csv')
    artifacts.commit(path, b'a\n1\n')

    def refuse(*args, **options):
        raise PermissionError('no storage.objects.get')

    monkeypatch.setattr(store, 'info', refuse)
    for call in (path.is_file, path.stat, lambda: artifacts.is_current(path, ''),
                 lambda: io.read_file(path), lambda: tables.read(path)):  # fmt: skip
        with pytest.raises(paths.UnreachableStore, match='gs://bucket/x.csv.* cannot be reached'):
            call()


def test_a_store_that_breaks_off_while_it_is_read_is_told(store, monkeypatch):
    path = as_path('gs://bucket/x.csv')
    artifacts.commit(path, b'a\n1\n' * 9)
    with path.open() as text, path.open('rb') as file:
        assert text.readline() == 'a\n' and text.tell() == 2
        assert file.seek(-2, os.SEEK_END) == 34 and file.read() == b'1\n'
        assert file.seek(0) == 0 and file.read(3) == b'a\n1' and file.tell() == 3

    class Broken(type(store().open('bucket/x.csv'))):
        def readinto(self, buffer):
            raise ConnectionError('reset by peer')

    monkeypatch.setattr(store, 'open', lambda *args, **options: Broken(store(), 'x', b'a'))
    sentence = r'gs://bucket/x.csv cannot be reached \(ConnectionError: reset by peer\)'
    for call in (lambda: paths.sha256(path), lambda: artifacts.meta(path),
                 lambda: artifacts.is_current(path, ''), lambda: path.open().read(),
                 lambda: path.open('rb').read(1), lambda: path.open('rb').readline()):  # fmt: skip
        with pytest.raises(paths.UnreachableStore, match=sentence):
            call()


ENDS = {
    'by itself': ('', 0),
    'as one of several': ('signals.leave(3)', 3),
    'stopped': ('signals.leave_at_once(); os.kill(os.getpid(), signal.SIGTERM)', 143),
}


@pytest.mark.parametrize('end', ENDS)
def test_what_a_process_keeps_of_objects_goes_with_it(tmp_path, end):
    last, code = ENDS[end]
    program = f"""
import os, signal
from iqa_jax.runtime import paths, signals
file = paths.scratch('memory://bucket/large.bin')
file.write_bytes(b'x')
if not os.fork():
    signals._leave(0, None)
os.wait()
print(file.exists(), flush=True)
{last}
"""
    environment = os.environ | {'TMPDIR': str(tmp_path)}
    done = subprocess.run(
        [sys.executable, '-c', program], env=environment, stdout=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (code, b'True')
    assert not [*tmp_path.iterdir()]


def test_a_commit_keeps_the_record_of_what_it_replaces(store, monkeypatch):
    path = as_path('gs://bucket/run/x.bin')
    artifacts.commit(path, b'old', fingerprint='1', meta={'n': 1})
    assert artifacts.read(path) == b'old' and artifacts.is_current(path, '1')
    put = type(path).write_bytes

    def stop_at_the_data(self, data):
        if self == path:
            raise KeyboardInterrupt
        return put(self, data)

    monkeypatch.setattr(type(path), 'write_bytes', stop_at_the_data)
    with pytest.raises(KeyboardInterrupt):
        artifacts.commit(path, b'new', fingerprint='2')
    assert artifacts.read(path) == b'old' and artifacts.meta(path)['meta'] == {'n': 1}
    monkeypatch.undo()
    artifacts.commit(path, b'new', fingerprint='2')
    assert artifacts.read(path) == b'new' and artifacts.is_current(path, '2')
    assert sorted(p.name for p in path.parent.iterdir()) == ['x.bin', 'x.bin.meta.json']


def test_damage_of_an_object_is_told(store):
    path = as_path('gs://bucket/x.bin')
    artifacts.commit(path, b'content')
    flip(path)
    for call in (artifacts.read, artifacts.meta):
        with pytest.raises(artifacts.DamagedArtifact, match='^gs://bucket/x.bin is damaged'):
            call(path)
    artifacts.commit(path, b'content')
    flip(artifacts.sidecar_path(path), 10)
    with pytest.raises(artifacts.DamagedArtifact, match='x.bin.meta.json is damaged'):
        artifacts.read(path)
    artifacts.forget(path)
    with pytest.raises(artifacts.MissingArtifact, match='There is no file gs://bucket/x.bin'):
        artifacts.read(path)


def test_tables_and_manifests_equal_local_ones(store, tmp_path):
    columns = {'image_id': np.array(['a', 'b'], object), 'quality': np.float32([1, np.nan])}
    for folder in (tmp_path, as_path('gs://bucket/t')):
        for suffix in ('csv', 'parquet'):
            tables.write(folder / f'x.{suffix}', columns, {'k': 1})
        rows = {'image_id': columns['image_id']}
        rows |= {'file': np.array([str(folder / 'images/a.png'), '/data/b.png'], object)}
        manifest.write(folder / 'manifest.csv', manifest.complete(rows, 'rows'), {})
        read = manifest.read(folder / 'manifest.csv')['file'].tolist()
        assert read == [str(folder / 'images/a.png'), '/data/b.png']
    for name in ('x.csv', 'x.parquet', 'x.csv.meta.json'):
        assert (tmp_path / name).read_bytes() == as_path(f'gs://bucket/t/{name}').read_bytes()
    table = score_stream.Table(as_path('gs://bucket/t/x.parquet'))
    assert [b.ids.to_pylist() for b in table.batches(['quality'], 9)] == [['a', 'b']]
    tables.write(as_path('gs://bucket/t/x.parquet'), {'image_id': np.array(['c'], object)})
    assert score_stream.Table(as_path('gs://bucket/t/x.parquet')).schema.names == ['image_id']


def test_a_table_in_a_store_that_lost_its_record_is_refused(store, tmp_path):
    columns = {'image_id': np.array(['a'], object), 'quality': np.float32([1])}
    folder = as_path('gs://bucket/run')
    outputs = [folder / 'deep' / 'x.csv', folder / 'x.parquet']
    for path in outputs:
        tables.write(path, columns)
        artifacts.sidecar_path(path).unlink()
    for path in (outputs[0], as_path('gs://bucket/elsewhere.csv')):
        path.write_bytes(b'image_id,quality\na,2\n')
        assert tables.read(path)[0]['quality'].tolist() == [2]
        assert score_stream.Table(path).columns() == ['quality']
    summary = {'quarantined': 0, 'seconds': 1.0, 'headline': 'done', 'artifact': 'x.parquet'}
    stages.Stage('score', folder, {}).finish(summary, outputs)
    for path in outputs:
        for read in (tables.read, score_stream.Table):
            with pytest.raises(artifacts.DamagedArtifact, match=f'^{path} was written by'):
                read(path)


def test_records_are_written_and_read_by_number(store):
    path = as_path('gs://bucket/records/0.array_record')
    with records.writer(path) as append:
        assert [append(bytes([i]) * 1000) for i in range(3)] == [0, 1, 2]
        assert not path.is_file()
    assert records.read(f'{path}#2') == b'\x02' * 1000 and records.exists(f'{path}#9')
    with pytest.raises(io.ImageError, match='has no record 3'):
        records.read(f'{path}#3')
    with pytest.raises(io.ImageError, match='gs://bucket/no.array_record is not a file'):
        records.read('gs://bucket/no.array_record#0')
    with records.writer(path) as append:
        append(b'again')
    assert records.read(f'{path}#0') == b'again'


def test_features_are_mapped_from_a_local_copy(store):
    folder = as_path('gs://bucket/features')
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    features.write_shard(folder / 'shards/0.npy', ['a', 'b'], vectors, [], 'mark')
    features.write_index(folder, [folder / 'shards/0.npy'], {'backbone': 'tiny'}, 'mark')
    found = features.FeatureStore([(str(folder / features.INDEX), np.array(['b'], object))])
    assert found.load(np.array([0])).tolist() == [[3, 4, 5]]


def test_a_local_copy_follows_the_object(store):
    path = as_path('gs://bucket/w.safetensors')
    path.write_bytes(b'one')
    copy = paths.local_copy(path)
    assert copy.read_bytes() == b'one' and paths.local_copy(path) == copy
    path.write_bytes(b'three')
    assert paths.local_copy(path, fresh=False).read_bytes() == b'one'
    assert paths.local_copy(path).read_bytes() == b'three'
    with pytest.raises(ValueError, match='^gs://bucket/w.safetensors: not a whole .safetensors'):
        weight_files.read(path)
    with pytest.raises(ValueError, match='There is no weight file gs://bucket/no.pth'):
        weight_files.read('gs://bucket/no.pth')


def test_metrics_are_appended_and_rewound(store):
    writer = metric_writer.MetricWriter('gs://bucket/run')
    for step in (1, 2, 3):
        writer.write(step, {'loss': float(step)})
    writer.rewind(2)
    writer.close()
    text = as_path('gs://bucket/run/metrics.jsonl').read_text()
    assert text == '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 2.0}\n'


def test_a_damaged_checkpoint_falls_back_and_old_ones_go(store):
    folder = as_path('gs://bucket/run/checkpoints')
    saving = checkpoints.Checkpoints(folder, keep=2)
    for step in (1, 2, 3):
        saving.save(step, {'w': np.full((4,), step, np.float32), 'n': step}, {'at': step})
    saving.close()
    assert sorted(p.name for p in (folder / 'steps').iterdir()) == ['2', '3']
    target = {'w': np.zeros((4,), np.float32), 'n': 0}
    step, state, metadata = checkpoints.Checkpoints(folder).restore(target)
    assert (step, state['w'].tolist(), state['n'], metadata) == (3, [3] * 4, 3, {'at': 3})
    largest = max((folder / 'steps/3').rglob('*'), key=lambda p: p.stat().st_size)
    flip(largest)
    again = checkpoints.Checkpoints(folder)
    assert again.restore(target)[0] == 2
    again.save(4, target, {})
    assert again.steps() == [2, 4] and not (folder / 'steps/3').exists()
    (folder / 'steps/9/state').write_bytes(b'a step that was never finished')
    (folder / 'step_2.json').unlink()
    flip(max((folder / 'steps/4').rglob('*'), key=lambda p: p.stat().st_size))
    with pytest.raises(ValueError, match='None of the checkpoints in gs://bucket/run/checkpoints'):
        checkpoints.Checkpoints(folder).restore(target)
