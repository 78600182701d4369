"""The smoke run with its workdir in an object store: the same bytes, the same resumption."""

import memory_store
import pytest

import iqa_jax
from configs import import_database, make_data, quickstart, score, study
from iqa_jax.data import manifest, tables
from iqa_jax.images import io
from iqa_jax.runtime import artifacts
from iqa_jax.runtime.paths import as_path
from iqa_jax.tasks import active, pipeline
from iqa_jax.tasks import evaluate as evaluate_task
from iqa_jax.tasks import import_database as import_task
from iqa_jax.tasks import make_data as make_data_task
from iqa_jax.tasks import score as score_task
from iqa_jax.tasks import score_pairs as score_pairs_task
from iqa_jax.tasks import study as study_task
from iqa_jax.tasks import train as train_task

ROOT = 'gs://bucket/deep/run'
TIMED = ('stage.json', 'metrics.jsonl', 'summary.json', 'report.html')  # they hold seconds


@pytest.fixture(scope='module')
def remote():
    """The root of a finished smoke run in an object store."""
    with memory_store.opened():
        pipeline.run(quickstart.get_config('smoke'), ROOT)
        yield as_path(ROOT)


def contents(folder) -> dict[str, bytes]:
    """All files below a folder by relative name."""
    files = (f for f in folder.rglob('*') if f.is_file())
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def stage_config(name: str, root) -> dict:
    """The config of a stage of the smoke run, to be run on its own."""
    config = quickstart.get_config('smoke').stages[name].to_dict() | {'root': str(root)}
    del config['folder']
    return config


def test_a_run_in_a_store_leaves_the_bytes_of_a_local_one(remote, smoke):
    here, there = contents(smoke), contents(remote)
    kept = [{name for name in found if '/steps/' not in name} for found in (here, there)]
    assert kept[0] == kept[1]
    steps = {name.partition('/steps/')[0] for name in there if '/steps/' in name}
    assert len(steps) == 3
    equal = [n for n in kept[0] if not n.removesuffix('.meta.json').endswith(TIMED)]
    equal = [n for n in equal if '/checkpoints/' not in n]
    assert len(equal) > 500 and sum(n.endswith('.parquet') for n in equal) > 20
    assert not [name for name in equal if here[name] != there[name]]
    assert b'SIMULATED' in there['report.html']


def test_the_same_run_again_writes_nothing(remote, capsys):
    before = contents(remote)
    pipeline.run(quickstart.get_config('smoke'), ROOT)
    said = capsys.readouterr().err
    for stage in ('make_data', 'train', 'score', 'gmad', 'study', 'evaluate', 'export', 'report'):
        assert f'{stage}: up to date (gs://bucket/' in said
    assert contents(remote) == before


def test_training_goes_on_from_a_checkpoint_in_the_store(remote, smoke, caplog):
    folder = remote / 'pretrain'
    for path in ('model/weights.msgpack', 'stage.json'):
        artifacts.forget(folder / path)
    with caplog.at_level('INFO'):
        train_task.run(stage_config('pretrain', remote), str(folder))
    assert 'train continues at step 8 of 8' in caplog.text
    weights = (folder / 'model/weights.msgpack').read_bytes()
    assert weights == (smoke / 'pretrain/model/weights.msgpack').read_bytes()


def test_a_changed_byte_is_told_and_mended(remote, smoke, caplog):
    table = remote / 'score_unseen/scores.parquet'
    memory_store.flip(table, 1000)
    sentence = f'{table} is damaged: its SHA-256 is not the one in scores.parquet.meta.json'
    with pytest.raises(artifacts.DamagedArtifact, match=sentence):
        evaluate_task.run(stage_config('evaluate_unseen', remote), remote / 'again')
    score_task.run(stage_config('score_unseen', remote), remote / 'score_unseen')
    assert table.read_bytes() == (smoke / 'score_unseen/scores.parquet').read_bytes()
    assert f'score runs again: {table} is damaged' in caplog.text


def test_a_model_is_loaded_from_the_store(remote, smoke):
    model, other = iqa_jax.load_model(f'{remote}/model'), iqa_jax.load_model(smoke / 'model')
    columns = manifest.read(f'{remote}/data/manifest.parquet')
    file = as_path(columns['file'][5])
    assert str(file).startswith('gs://bucket/deep/run/data/')
    assert model.score(io.decode(file)) == other.score(io.decode(file.read_bytes()))


def test_search_reads_a_score_table_of_the_store(remote, smoke):
    name = 'active/round_02/score/scores.parquet'
    columns = [c for c in tables.read(smoke / name)[0] if c != 'image_id'][:2]
    found = [iqa_jax.gmad(f'{root}/{name}', columns, columns) for root in (remote, smoke)]
    assert found[0].num_rows > 0 and found[0].equals(found[1])


@pytest.mark.parametrize('images', ['array_record', 'recipe'])
def test_photographs_of_a_store_become_records_and_recipes(remote, smoke, photos, tmp_path, images):
    for photo in photos.iterdir():
        (as_path('s3://photos/mine') / photo.name).write_bytes(photo.read_bytes())
    made = {}
    for folder, source in ((tmp_path, photos), (remote.parent / images, 's3://photos/mine')):
        config = make_data.get_config('smoke').to_dict() | {'root': '', 'photos': str(source)}
        config |= {'images': images, 'types': ('gaussian_blur', 'jpeg'), 'size': ()}
        config |= {'metrics': ('ssim', 'gmsd'), 'split_shares': (1, 1, 2, 0)}
        make_data_task.run(config, folder / 'data')
        chosen = score.get_config('smoke').to_dict() | {'root': str(folder)}
        chosen |= {'manifest': 'data/manifest.parquet', 'model': str(smoke / 'pretrain/model')}
        chosen |= {'splits': ('train', 'val', 'test', 'pool')}
        score_task.run(chosen, folder / 'scored')
        made[folder] = [
            (folder / name).read_bytes()
            for name in ('data/scores.parquet', 'data/proxies.parquet', 'scored/scores.parquet')
        ]
    assert made[tmp_path] == made[remote.parent / images]
    refs = manifest.read(remote.parent / images / 'data/manifest.parquet')['ref_file'].tolist()
    whole = 's3://photos/mine' if images == 'recipe' else f'{remote.parent}/array_record/data/'
    assert all(file.startswith(whole) for file in refs if file)


def test_pairs_of_two_folders_in_a_store(remote, photos, tmp_path):
    for folder in (tmp_path / 'two', as_path('gs://pairs/two')):
        for photo in sorted(photos.iterdir())[:2]:
            image = io.decode(photo)
            for end, pixels in (('ref/I{}.png', image), ('dist/I{}_1.png', 255 - image)):
                artifacts.write(folder / end.format(photo.stem[-1]), io.encode_png(pixels))
        config = {
            'task': 'score_pairs', 'root': str(folder), 'pairs': '', 'references': 'ref',
            'distorted': 'dist', 'metrics': ('psnr',), 'policy': 'safe', 'batch_size': 2,
            'shard_size': 1, 'shard': '', 'threads': 2, 'waiting_mib': 8,
            'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
        }  # fmt: skip
        score_pairs_task.run(config, folder / 'scored')
    scores = [f / 'two/scored/scores.csv' for f in (tmp_path, as_path('gs://pairs'))]
    assert scores[0].read_bytes() == scores[1].read_bytes()


def test_what_needs_a_disk_says_so(remote, photos):
    people = study.get_config('smoke').to_dict() | {'root': str(remote)}
    people['panel'] = people['panel'] | {'kind': 'people'}
    with pytest.raises(ValueError, match=r'^gs://bucket/people is in an object store, but a study'):
        study_task.run(people, 'gs://bucket/people')
    rounds = stage_config('active', remote)
    rounds['study']['panel']['kind'] = 'people'
    with pytest.raises(ValueError, match='in an object store, but a study with people'):
        active.run(rounds, 'gs://bucket/active')
    tfds = make_data.get_config('smoke').to_dict() | {'root': '', 'photos': str(photos)}
    with pytest.raises(ValueError, match=r'object store, but tfds data sets .*tfds_runner'):
        make_data_task.run(tfds | {'tfds_runner': 'local'}, 'gs://bucket/tfds')
    database = import_database.get_config().to_dict() | {'name': 'kadid10k'}
    with pytest.raises(ValueError, match='^gs://bucket/kadid is in an object store, but databases'):
        import_task.run(database | {'folder': 'gs://bucket/kadid'}, 'gs://bucket/imported')


def test_the_command_line_names_what_a_store_cannot_be(main, tmp_path):
    for args, sentence, code in (
        (('--config=gs://b/c.py', '--workdir=x'), '--config=gs://b/c.py is in an object store', 2),
        (('--config', 'configs/quickstart.py:smoke', '--workdir', 'nosuch://b/run'),
         'Error: nosuch:// is no object store that is known', 1),
    ):  # fmt: skip
        done = main(*args)
        assert done.returncode == code and sentence in done.stderr
        assert 'Traceback' not in done.stderr
