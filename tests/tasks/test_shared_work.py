"""What several processes or jobs make together has the bytes of one process's work."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from iqa_jax.data import manifest, tables
from iqa_jax.data.pipeline import Pipeline, Source
from iqa_jax.images import io
from iqa_jax.runtime import parallel

ROOT = pathlib.Path(__file__).resolve().parents[2]
PIPELINE = """
from ml_collections import ConfigDict

from configs import evaluate, extract_features, gallery, score, score_pairs, split


def get_config() -> ConfigDict:
    mine = {'manifest': '../seven.csv', 'model': '../model', 'shard_size': 2}
    mine |= {'splits': ('pool',), 'batch_size': 4}
    pairs = {'references': '{place}/images', 'distorted': '{place}/images', 'metrics': ('gmsd',)}
    rows = {'databases': {'mine': {'manifest': '../data.parquet', 'keep': False}}}
    column = {'scores': '../raw.parquet', 'column': 'ssim', 'kind': 'full-reference metric'}
    stages = {
        'score': score.get_config('smoke').to_dict() | mine,
        'features': extract_features.get_config('smoke').to_dict() | mine,
        'score_pairs': score_pairs.get_config('smoke').to_dict() | pairs | {'shard_size': 3},
        'split': split.get_config('smoke').to_dict() | rows | {'shard_size': 3},
        'evaluate': evaluate.get_config('smoke').to_dict()
        | {'manifest': '../data.parquet', 'proxies': '../proxies.parquet', 'splits': ('test',)}
        | {'columns': {'ssim': column}, 'headline': 'ssim'},
        'gallery': gallery.get_config('smoke').to_dict(),
    }
    stages = {name: {**stage, 'folder': name} for name, stage in stages.items()}
    return ConfigDict(
        {'task': 'pipeline', 'root': '', 'order': tuple(stages), 'stages': stages, 'headlines': {}}
    )
"""


def launch(count: int, *arguments: str, **environment: str) -> subprocess.Popen:
    """The launcher of `count` processes, its output and errors as one text."""
    return subprocess.Popen(
        ['launch/local_processes.sh', str(count), *arguments],
        cwd=ROOT, env=os.environ | {'PYTHON': sys.executable} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(count: int, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and text of a finished launcher."""
    launcher = launch(count, *arguments, **environment)
    text = launcher.communicate(timeout=400)[0]
    return launcher.returncode, text


@pytest.fixture(scope='module')
def place(smoke, tmp_path_factory):
    """A folder with seven pictures, one of them broken, a model, and data of the smoke run."""
    folder = tmp_path_factory.mktemp('shared')
    (folder / 'images').mkdir()
    lines = ['image_id,file']
    for i in range(7):
        pixels = np.random.default_rng(i).integers(0, 256, (48, 48 + 16 * (i % 2), 3), np.uint8)
        data = io.encode_png(pixels) if i != 3 else b'no picture'
        (folder / f'images/{i}.png').write_bytes(data)
        lines.append(f'{i},{folder}/images/{i}.png')
    for i in range(1, 6):
        pixels = np.random.default_rng(9).integers(0, 256, (48, 48, 3), np.uint8)
        (folder / 'images/I01.png').write_bytes(io.encode_png(pixels))
        (folder / f'images/I01_10_0{i}.png').write_bytes(io.encode_png(pixels // i))
    (folder / 'seven.csv').write_text('\n'.join(lines) + '\n')
    (folder / 'model').symlink_to(smoke / 'pretrain/model')
    for name, source in (('data', 'manifest'), ('raw', 'scores'), ('proxies', 'proxies')):
        for suffix in ('', '.meta.json'):
            target = smoke / f'data/{source}.parquet{suffix}'
            (folder / f'{name}.parquet{suffix}').symlink_to(target)
    (folder / 'several.py').write_text(PIPELINE.replace('{place}', str(folder)))
    return folder


@pytest.fixture(scope='module')
def one(main, place):
    """What one process makes."""
    done = main('--config', str(place / 'several.py'), '--workdir', str(place / 'one'))
    assert done.returncode == 3, done.stderr  # the broken picture
    return place / 'one'


def results(folder: pathlib.Path) -> dict[str, bytes]:
    """Bytes of everything but summaries, which hold seconds."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob('*'))
        if file.is_file() and file.name.partition('.')[0] not in ('stage', 'summary')
    }


def test_four_processes_make_what_one_makes(place, one):
    code, text = finished(4, f'--config={place}/several.py', f'--workdir={place}/four')
    assert code == 3, text
    for stage in ('score', 'score_pairs', 'split', 'evaluate', 'gallery'):
        assert text.count(f'\n{stage}: ') == (2 if stage == 'score' else 1), (stage, text)
    ours, theirs = results(one), results(place / 'four')
    assert ours.keys() == theirs.keys()
    assert len([name for name in ours if '/shards/' in name]) > 16
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert tables.read(one / 'score/scores.parquet')[0]['image_id'].tolist() == list('012456')


@pytest.mark.parametrize('stage', ['score', 'score_pairs'])
def test_jobs_of_their_own_make_the_shards_of_one_run(main, place, one, stage):
    config = [f'--config=configs/{stage}.py:smoke', f'--workdir={place}/jobs_{stage}']
    if stage == 'score':
        config += [f'--config.manifest={place}/seven.csv', f'--config.model={place}/model']
        config += ['--config.splits=("pool",)', '--config.shard_size=2', '--config.root=']
    else:
        config += [f'--config.{role}={place}/images' for role in ('references', 'distorted')]
        config += ['--config.shard_size=3', '--config.metrics=("gmsd",)']
    for part in ('1/2', '0/2'):
        if part == '0/2':  # a job may be of several processes
            code, text = finished(2, *config, f'--config.shard={part}')
        else:
            done = main(*config, f'--config.shard={part}')
            code, text = done.returncode, done.stderr
        assert code in (0, 3), text
        assert text.count('run without config.shard when all are there') == 1
        assert not (place / f'jobs_{stage}/scores.parquet').exists()
    shards = sorted((place / f'jobs_{stage}/shards').iterdir())
    times = [shard.stat().st_mtime_ns for shard in shards]
    again = main(*config, '--config.shard=0/2')
    assert f'{stage}: up to date' in again.stderr
    joined = main(*config)
    assert joined.returncode in (0, 3), joined.stderr
    assert [shard.stat().st_mtime_ns for shard in shards] == times
    ours, theirs = (place / f'jobs_{stage}/scores.parquet', one / stage / 'scores.parquet')
    assert tables.read(ours)[0].keys() == tables.read(theirs)[0].keys()
    for name, column in tables.read(theirs)[0].items():
        np.testing.assert_array_equal(tables.read(ours)[0][name], column, err_msg=name)


def test_an_error_is_said_once_with_its_exit_code(place):
    code, text = finished(
        2, '--config=configs/evaluate.py', '--config.headline=nobody', f'--workdir={place}/wrong'
    )
    assert code == 1, text
    assert text.count('Error: ') == 1
    assert "config.headline='nobody' is not one of config.columns" in text


def test_a_signal_to_the_launcher_ends_all_with_a_committed_state(smoke, place):
    workdir = place / 'stopped'
    arguments = ['--config=configs/train_proxies.py:smoke', f'--config.root={smoke}']
    arguments += ['--config.total_steps=4000', '--config.checkpoint_steps=3']
    launcher = launch(2, *arguments, f'--workdir={workdir}')
    until = time.monotonic() + 200
    while not list(workdir.glob('checkpoints/*/step_*.json')) and time.monotonic() < until:
        time.sleep(0.2)
    launcher.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    text = launcher.communicate(timeout=60)[0]
    assert time.monotonic() - begin < 30
    assert launcher.returncode == 143, text
    assert text.count('Stopped; run the same command to continue.') == 1, text
    assert list(workdir.glob('checkpoints/*/step_*.json'))


@pytest.fixture(scope='module')
def halves(smoke, place, main):
    """{number of processes: workdir of a training that was killed at its first checkpoint}."""
    found = {}
    for count in (1, 2):
        found[count] = place / f'half_{count}'
        code, text = finished(
            count, *training(smoke), f'--workdir={found[count]}',
            IQA_JAX_CRASH_AT='train.checkpoint:1',
        )  # fmt: skip
        assert code == 137, text
    whole = main(*training(smoke), f'--workdir={place}/whole')
    assert whole.returncode == 0, whole.stderr
    return found


def losses(path: pathlib.Path) -> list[float]:
    """The losses of a metrics file."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row['loss'] for row in rows if 'loss' in row]


def training(smoke) -> list[str]:
    """With dropout, whose masks belong to the rows of a batch."""
    config = ['--config=configs/train_proxies.py:smoke', f'--config.root={smoke}']
    return [*config, '--config.model.dropout=0.25', '--config.log_steps=1']


@pytest.mark.parametrize(('before', 'after'), [(1, 2), (2, 1), (2, 4)])
def test_a_checkpoint_is_continued_by_another_number_of_processes(
    smoke, place, halves, before, after
):
    workdir = place / f'from_{before}_to_{after}'
    workdir.mkdir()
    subprocess.run(['cp', '-r', f'{halves[before]}/.', str(workdir)], check=True)
    code, text = finished(after, *training(smoke), f'--workdir={workdir}')
    assert code == 0, text
    assert 'train continues at step 4 of 8' in text
    ours, wanted = (losses(f / 'metrics.jsonl') for f in (workdir, place / 'whole'))
    assert len(ours) == 8
    np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_any_number_of_processes_sees_the_same_global_batches(smoke, monkeypatch):
    rows = manifest.in_splits(manifest.read(smoke / 'data/manifest.parquet'), ('train',), 'x')

    def batches(count: int) -> list[dict[str, np.ndarray]]:
        parts = []
        for index in range(count):
            monkeypatch.setattr(parallel, 'process_count', lambda count=count: count)
            monkeypatch.setattr(parallel, 'process_index', lambda index=index: index)
            own = parallel.local_rows(8)
            assert own == slice(index * 8 // count, (index + 1) * 8 // count)
            targets = np.arange(len(rows['image_id']), dtype=np.float32)
            source = Source(rows, targets[:, None], np.zeros_like(targets))
            pipeline = Pipeline([source], 8, (32, 32), seed=3)
            parts.append(list(pipeline.batches(2, 5, own)))
        return [
            {key: np.concatenate([part[key] for part in step]) for key in step[0]}
            for step in zip(*parts, strict=True)
        ]

    one = batches(1)
    assert len(one) == 3
    for count in (2, 4):
        for ours, theirs in zip(batches(count), one, strict=True):
            for key in theirs:
                np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
