"""Bad input: one clear sentence, the rest processed, and an exit code that says so."""

import numpy as np
import pytest
from PIL import Image

from iqa_jax.data import manifest, tables
from iqa_jax.images import io
from iqa_jax.tasks import evaluate, gmad, make_data, score, study, train

DATA = {
    'task': 'make_data',
    'root': '',
    'photos': '',
    'database': 'mine',
    'size': (96, 128),
    'types': ('jpeg',),
    'levels': (1, 5),
    'types_per_photo': 0,
    'split_shares': (1, 0, 0, 0),
    'metrics': ('gmsd',),
    'equalisation': 'histogram',
    'knots': 16,
    'store_images': True,
    'seed': 0,
}
SMOKE = ('--config', 'configs/quickstart.py:smoke')
STOP_AFTER_DATA = '--config.order=("data",)'


@pytest.fixture
def mixed_folder(photos):
    """Four good photographs among files that cannot be used."""
    good = (photos / 'photo0.png').read_bytes()
    Image.open(photos / 'photo1.png').save(photos / 'cut.jpg', quality=95)
    whole = (photos / 'cut.jpg').read_bytes()
    (photos / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    Image.new('RGB', (1, 1)).save(photos / 'one.png')
    Image.new('CMYK', (128, 96)).save(photos / 'ink.jpg')
    Image.fromarray(np.zeros((96, 128), np.uint16)).save(photos / 'deep.png')
    (photos / 'page.jpg').write_text('<html>not a picture</html>')
    (photos / 'wrong_suffix.jpg').write_bytes(good)
    return photos


def test_unusable_photos_are_quarantined_with_reasons_and_the_rest_is_made(mixed_folder, tmp_path):
    summary = make_data.run(DATA | {'photos': str(mixed_folder)}, tmp_path / 'data')
    assert summary['quarantined'] == 5 and summary['photos'] == 5
    table = tables.read(tmp_path / 'data/quarantine.csv')[0]
    reasons = {f.rpartition('/')[2]: r for f, r in zip(table['file'], table['reason'], strict=True)}
    assert set(reasons) == {'cut.jpg', 'one.png', 'ink.jpg', 'deep.png', 'page.jpg'}
    assert 'smaller than 128x96' in reasons['one.png']
    assert 'CMYK' in reasons['ink.jpg'] and 'more than 8 bits' in reasons['deep.png']
    assert len(manifest.read(tmp_path / 'data/manifest.parquet')['image_id']) == 5 * 3


def test_exit_codes_and_sentences_of_the_command_line(main, mixed_folder, tmp_path):
    folder, work = f'--config.photos={mixed_folder}', ('--workdir', str(tmp_path / 'w'))
    small = '--config.stages.data.size=(96, 128)'
    metric = '--config.stages.data.metrics=("gmsd",)'
    shares = '--config.stages.data.split_shares=(2, 1, 1, 1)'
    done = main(*SMOKE, *work, folder, small, metric, shares, STOP_AFTER_DATA)
    assert done.returncode == 3, done.stderr
    assert '5 quarantined' in done.stderr
    (tmp_path / 'empty').mkdir()
    empty = f'--config.photos={tmp_path / "empty"}'
    done = main(*SMOKE, *work, empty)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('Error: config.photos=')
    assert 'holds no picture' in done.stderr and 'Traceback' not in done.stderr
    done = main(*SMOKE, *work, '--config.phtos=x')
    assert done.returncode == 2
    assert 'did you mean photos?' in done.stderr and 'Traceback' not in done.stderr


def test_no_usable_photo_at_all_names_the_first(photos, tmp_path):
    for file in photos.glob('*.png'):
        file.write_bytes(b'')
    with pytest.raises(ValueError, match='None of the 4 pictures in .*photo0.png'):
        make_data.run(DATA | {'photos': str(photos)}, tmp_path / 'data')


def test_unknown_and_missing_keys_are_named(tmp_path):
    with pytest.raises(ValueError, match='config.sead is not a key.*did you mean seed'):
        make_data.run(DATA | {'sead': 1}, tmp_path)
    with pytest.raises(ValueError, match='config.knots is missing'):
        make_data.run({k: v for k, v in DATA.items() if k != 'knots'}, tmp_path)
    with pytest.raises(ValueError, match='config.types|jpg'):
        make_data.run(DATA | {'types': ('jpg',)}, tmp_path)


def score_config(folder, **changes):
    return {
        'task': 'score',
        'root': str(folder),
        'manifest': 'data/manifest.parquet',
        'model': 'pretrain/model',
        'splits': ('test',),
        'name': 'quality',
        'twin': False,
        'batch_size': 8,
        'shard_size': 16,
    } | changes


def test_a_missing_model_and_a_missing_twin_are_sentences(smoke, tmp_path):
    with pytest.raises(ValueError, match=r'nowhere/weights\.msgpack'):
        score.run(score_config(smoke, model='nowhere'), tmp_path)
    with pytest.raises(ValueError, match='trained without a pruned twin'):
        score.run(score_config(smoke, twin=True), tmp_path / 'twin')


def test_scoring_quarantines_a_damaged_image_and_keeps_the_others(smoke, tmp_path):
    columns = manifest.read(smoke / 'data/manifest.parquet')
    columns = tables.select(columns, columns['split'] == 'test')
    columns = tables.select(columns, np.arange(6))
    bad = tmp_path / 'bad.png'
    bad.write_bytes(io.encode_png(np.zeros((192, 256, 3), np.uint8)))
    columns['file'][2] = str(bad)
    manifest.write(tmp_path / 'manifest.parquet', columns, {})
    config = score_config(smoke, manifest=str(tmp_path / 'manifest.parquet'))
    summary = score.run(config, tmp_path / 'out')
    assert summary['quarantined'] == 1 and summary['images'] == 5
    reason = tables.read(tmp_path / 'out/quarantine.csv')[0]['reason'][0]
    assert 'bad.png is not the file of the manifest' in reason
    before = tables.read(smoke / 'score_unseen/scores.parquet')[0]
    want = dict(zip(before['image_id'], before['pretrained'], strict=True))
    got = tables.read(tmp_path / 'out/scores.parquet')[0]
    for image_id, value in zip(got['image_id'], got['quality'], strict=True):
        np.testing.assert_allclose(value, want[image_id], rtol=1e-5, atol=1e-6)


def test_scoring_takes_pictures_of_several_sizes(smoke, tmp_path):
    ids, files = [], []
    rng = np.random.default_rng(0)
    for name, shape in (('a', (40, 56, 3)), ('b', (64, 48, 3)), ('c', (40, 56, 3))):
        files.append(str(tmp_path / f'{name}.png'))
        (tmp_path / f'{name}.png').write_bytes(io.encode_png(rng.integers(0, 255, shape, np.uint8)))
        ids.append(name)
    columns = {'image_id': np.array(ids, object), 'file': np.array(files, object)}
    manifest.write(tmp_path / 'manifest.csv', manifest.complete(columns, 'm'), {})
    config = score_config(smoke, manifest=str(tmp_path / 'manifest.csv'), splits=('pool',))
    summary = score.run(config, tmp_path / 'out')
    assert summary['images'] == 3 and summary['quarantined'] == 0
    assert sorted(tables.read(tmp_path / 'out/scores.parquet')[0]['image_id']) == ids


def train_config(smoke, **changes):
    from configs import quickstart

    stage = quickstart.get_config('smoke').stages.pretrain.to_dict()
    del stage['folder']
    return stage | {'root': str(smoke)} | changes


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'batch_size': 0}, 'config.batch_size=0 does not divide'),
        ({'crop': (400, 64)}, r'smaller than config\.crop'),
        ({'targets': ('vif',)}, 'no column vif'),
        ({'loss': 'huber'}, "config.loss='huber' is unknown"),
        ({'total_epochs': 2}, 'Set exactly one of config.total_steps'),
        ({'init_from': 'finetune/nothing'}, 'weights.msgpack'),
        ({'ohem': {'ratio': 0.5}}, r'config\.ohem\.\w+ is missing'),
        ({'model': {'backbone': 'vgg'}}, "config.model.backbone is 'vgg'"),
        ({'learning_rate': 1e30, 'clip_norm': 1e30}, 'lower config.learning_rate'),
    ],
)
def test_training_says_what_is_wrong(smoke, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        train.run(train_config(smoke, **changes), tmp_path / 'out')


def test_stages_name_the_table_that_lacks_rows(smoke, tmp_path):
    from configs import quickstart

    stages = quickstart.get_config('smoke').stages
    rated = stages.evaluate_rated.to_dict() | {'root': str(smoke), 'headline': 'nobody'}
    del rated['folder']
    with pytest.raises(ValueError, match="config.headline='nobody'"):
        evaluate.run(rated, tmp_path)
    unseen = stages.evaluate_unseen.to_dict() | {'root': str(smoke), 'splits': ('train',)}
    del unseen['folder']
    with pytest.raises(ValueError, match='no row for .* images'):
        evaluate.run(unseen, tmp_path)
    panel = stages.rate.to_dict() | {'root': str(smoke)}
    del panel['folder']
    panel['panel'] = panel['panel'] | {'kind': 'crowd'}
    with pytest.raises(ValueError, match="config.panel.kind='crowd'"):
        study.run(panel, tmp_path)


def test_gmad_refuses_a_column_without_direction(smoke, tmp_path):
    from configs import quickstart

    config = quickstart.get_config('smoke').stages.active.gmad.to_dict()
    table = tmp_path / 'foreign.csv'
    ids = tables.read(smoke / 'active/round_01/score/scores.parquet')[0]['image_id']
    table.write_text('image_id,mine\n' + ''.join(f'{x},{i}\n' for i, x in enumerate(ids)))
    config |= {
        'task': 'gmad',
        'root': str(smoke),
        'manifest': 'data/manifest.parquet',
        'models': {'mine': {'scores': str(table), 'column': 'mine'}},
        'rivals': {'gmsd': {'scores': 'data/scores.parquet', 'column': 'gmsd'}},
        'exclude': {},
    }
    with pytest.raises(ValueError, match='set higher_is_better beside the column'):
        gmad.run(config, tmp_path / 'out')
    config['models']['mine']['higher_is_better'] = True
    assert gmad.run(config, tmp_path / 'out')['pairs'] > 0
