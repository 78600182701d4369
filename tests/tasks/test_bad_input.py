"""Bad input: one clear sentence, the rest processed, and an exit code that says so."""

import contextlib
import itertools
import json
import os
import threading

import numpy as np
import pytest
from PIL import Image

from configs import score as score_defaults
from configs import score_pairs as pairs_defaults
from iqa_jax.data import manifest, tables
from iqa_jax.images import guarded, io
from iqa_jax.tasks import evaluate, gmad, make_data, score, score_pairs, study

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
    'images': 'png',
    'photos_per_shard': 1,
    'shard': '',
    'estimate_images': 0,
    'tfds_runner': '',
    'beam_options': (),
    'seed': 0,
    'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
}
SMOKE = ('--config', 'configs/quickstart.py:smoke')
STOP_AFTER_DATA = '--config.order=("data",)'


@pytest.fixture
def mixed_folder(photos):
    """Four good photographs among files that cannot be used."""
    (photos / 'photo3.png').rename(photos / 'wrong_suffix.jpg')
    Image.open(photos / 'photo0.png').save(photos / 'repeat.bmp')
    Image.open(photos / 'photo1.png').save(photos / 'cut.jpg', quality=95)
    whole = (photos / 'cut.jpg').read_bytes()
    (photos / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    Image.new('RGB', (1, 1)).save(photos / 'one.png')
    Image.new('CMYK', (128, 96)).save(photos / 'ink.jpg')
    Image.fromarray(np.zeros((96, 128), np.uint16)).save(photos / 'deep.png')
    (photos / 'page.jpg').write_text('<html>not a picture</html>')
    (photos / 'dangling.png').symlink_to(photos / 'nowhere')
    (photos / 'folder.png').mkdir()
    os.mkfifo(photos / 'pipe.png')
    with open(photos / 'huge.png', 'wb') as file:
        file.truncate(2**33)
    return photos


def test_unusable_photos_are_quarantined_with_reasons_and_the_rest_is_made(mixed_folder, tmp_path):
    summary = make_data.run(DATA | {'photos': str(mixed_folder)}, tmp_path / 'data')
    assert summary['quarantined'] == 10 and summary['photos'] == 4
    table = tables.read(tmp_path / 'data/quarantine.csv')[0]
    reasons = {f.rpartition('/')[2]: r for f, r in zip(table['file'], table['reason'], strict=True)}
    for name, reason in {
        'cut.jpg': 'damaged or truncated',
        'one.png': 'smaller than 128x96',
        'ink.jpg': 'CMYK',
        'deep.png': 'more than 8 bits',
        'page.jpg': 'not an image',
        'repeat.bmp': f'shows the same picture as {mixed_folder}/photo0.png',
        'dangling.png': 'is not a file',
        'folder.png': 'is not a file',
        'pipe.png': 'is not a file',
        'huge.png': 'too many for an image',
    }.items():
        assert reason in reasons.pop(name)
    assert not reasons
    made = manifest.read(tmp_path / 'data/manifest.parquet')
    assert len(made['image_id']) == 4 * 3
    assert set(made['ref_id']) == {'photo0', 'photo1', 'photo2', 'wrong_suffix'}


def test_exit_codes_and_sentences_of_the_command_line(main, mixed_folder, tmp_path):
    folder, work = f'--config.photos={mixed_folder}', ('--workdir', str(tmp_path / 'w'))
    small = '--config.stages.data.size=(96, 128)'
    metric = '--config.stages.data.metrics=("gmsd",)'
    shares = '--config.stages.data.split_shares=(2, 1, 0, 0)'
    done = main(*SMOKE, *work, folder, small, metric, shares, STOP_AFTER_DATA)
    assert done.returncode == 3, done.stderr
    assert '10 quarantined' in done.stderr
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
    with pytest.raises(ValueError, match="distortion 'jpg' is unknown"):
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
        'calibrated': False,
        'uncertainty': False,
        'bucket_step': 64,
        'pixel_limit': 2**21,
        'resize': '',
        'batch_size': 8,
        'shard_size': 16,
        'shard': '',
        'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
    } | changes


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'resize': 'half'}, r"config\.resize='half'; use one of '', 'unique'"),
        ({'resize': 'unique', 'calibrated': True}, 'but calibrations are of images as they are'),
        ({'batch_size': -1}, r'config\.batch_size=-1 is too small; it is at least 1'),
        ({'shard_size': -1}, r'config\.shard_size=-1 is too small; it is at least 1'),
    ],
)
def test_values_that_cannot_be_are_a_sentence(smoke, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        score.run(score_config(smoke, **changes), tmp_path)


def test_the_rule_of_resizing_is_told_and_leaves_small_images_alone(smoke, tmp_path):
    tables_of = {}
    for rule in ('', 'unique'):
        score.run(score_config(smoke, resize=rule), tmp_path / f'r{rule}')
        tables_of[rule] = tables.read(tmp_path / f'r{rule}/scores.parquet')
    (plain, _), (resized, meta) = tables_of.values()
    np.testing.assert_array_equal(plain['quality'], resized['quality'])
    assert meta['columns']['quality']['origin'].endswith('resized by the rule unique')
    # None could not be overridden on the command line.
    assert None not in score_defaults.get_config().to_dict().values()


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
    with pytest.raises(ValueError, match=r'config\.per_split\.trian is not a key.*mean train'):
        study.run(panel | {'per_split': {'trian': 3}}, tmp_path)
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
    with pytest.raises(ValueError, match='set higher_is_better of it in the config'):
        gmad.run(config, tmp_path / 'out')
    config['models']['mine']['higher_is_better'] = True
    assert gmad.run(config, tmp_path / 'out')['pairs'] > 0


def test_scoring_leaves_out_pictures_too_small_for_the_model(smoke, tmp_path):
    sizes = {'small': (1, 1, 3), 'large': (40, 40, 3)}
    for name, shape in sizes.items():
        (tmp_path / f'{name}.png').write_bytes(io.encode_png(np.zeros(shape, np.uint8)))
    files = np.array([str(tmp_path / f'{name}.png') for name in sizes], object)
    columns = {'image_id': np.array(list(sizes), object), 'file': files}
    manifest.write(tmp_path / 'manifest.csv', manifest.complete(columns, 'm'), {})
    config = score_config(smoke, manifest=str(tmp_path / 'manifest.csv'), splits=('pool',))
    summary = score.run(config, tmp_path / 'out')
    assert summary['images'] == 1 and summary['quarantined'] == 1
    table = tables.read(tmp_path / 'out/quarantine.csv')[0]
    assert table['file'].tolist() == ['small'] and 'smaller than 32x32' in table['reason'][0]
    # A changed file without a digest is scored anew.
    (tmp_path / 'small.png').write_bytes(io.encode_png(np.ones((50, 50, 3), np.uint8)))
    assert score.run(config, tmp_path / 'out')['images'] == 2


def gapped_scores(smoke, folder, split):
    """A score table that lacks the first image of a split and has NaN for the second one."""
    columns = manifest.read(smoke / 'data/manifest.parquet')
    ids = columns['image_id'][columns['split'] == split]
    values = np.random.default_rng(0).random(len(ids)).astype(np.float32)
    values[1] = np.nan
    described = {'columns': {'mine': {'higher_is_better': True, 'origin': 'test'}}}
    table = {'image_id': ids[1:], 'mine': values[1:]}
    tables.write(folder / 'gaps.parquet', table, described)
    return {'scores': str(folder / 'gaps.parquet'), 'column': 'mine'}, ids[:2].tolist()


def gmad_config(smoke, **changes):
    from configs import gmad as config

    plain = config.get_config('smoke').to_dict() | {'root': str(smoke)}
    return plain | changes


def test_gmad_goes_on_without_the_images_that_score_set_aside(smoke, tmp_path, caplog):
    column, lost = gapped_scores(smoke, tmp_path, 'pool')
    config = gmad_config(smoke, models={'mine': column})
    summary = gmad.run(config, tmp_path / 'out')
    assert summary['quarantined'] == 2 and summary['pairs'] > 0
    found = tables.read(tmp_path / 'out/quarantine.csv')[0]
    assert found['file'].tolist() == lost
    assert found['reason'].tolist() == ['no finite score of mine'] * 2
    assert f'{lost[0]} the first' in caplog.text
    pairs = tables.read(tmp_path / 'out/pairs.parquet')[0]
    assert not {*pairs['image_id_best'], *pairs['image_id_worst']} & {*lost}


def test_evaluate_goes_on_without_the_images_that_score_set_aside(smoke, tmp_path):
    from configs import evaluate as module

    column, lost = gapped_scores(smoke, tmp_path, 'test')
    config = module.get_config('smoke').to_dict() | {
        'root': str(smoke),
        'manifest': 'data/manifest.parquet',
        'proxies': 'data/proxies.parquet',
        'headline': 'mine',
    }
    unseen = {'scores': 'score_unseen/scores.parquet', 'column': 'pretrained'}
    config['columns'] |= {
        'mine': column | {'kind': 'blind model'},
        'quality': unseen | {'kind': 'blind model'},
    }
    summary = evaluate.run(config, tmp_path / 'out')
    assert summary['quarantined'] == 2
    assert tables.read(tmp_path / 'out/quarantine.csv')[0]['file'].tolist() == lost
    found = tables.read(tmp_path / 'out/predictions.parquet')[0]
    assert len(found['image_id']) == summary['images'] and not {*found['image_id']} & {*lost}
    assert all(np.isfinite(found[name]).all() for name in ('mine', 'gmsd', 'quality', 'target'))


def test_pairs_that_do_not_count_are_counted(tmp_path):
    """One decided pair, a tie of people, a pair nobody rated and one without a score."""
    ids = np.array([*'abcde'], object)
    mos = np.array([90, 10, 50, 50, 70], np.float32)
    rated = {'image_id': ids, 'mos': mos, 'split': np.full(5, 'test', object)}
    manifest.write(tmp_path / 'rated.parquet', manifest.complete(rated, 'rated'), {})
    scores = {'image_id': ids[:4], 'mine': np.array([4, 1, 2, 3], np.float32)}
    tables.write(tmp_path / 'scores.parquet', scores)
    sides = {'image_id_best': [*'acae'], 'image_id_worst': [*'bdxa']}
    tables.write(tmp_path / 'pairs.csv', {k: np.array(v, object) for k, v in sides.items()})
    mine = {'scores': 'scores.parquet', 'column': 'mine', 'higher_is_better': True}
    config = {
        'task': 'evaluate', 'root': str(tmp_path), 'name': 'five', 'manifest': 'rated.parquet',
        'splits': ('test',), 'proxies': '', 'columns': {'mine': mine | {'kind': 'blind model'}},
        'headline': 'mine', 'pairs': 'pairs.csv', 'logistic_parameters': 4, 'resamples': 50,
        'allow_trained': 'nothing', 'seed': 0,
    }  # fmt: skip
    with pytest.warns(UserWarning, match='too few for 4 parameters'):
        evaluate.run(config, tmp_path / 'out')
    (row,) = json.loads((tmp_path / 'out/results.json').read_text())['pairs']
    counts = {'n': 1, 'ties': 1, 'unrated': 1, 'unscored': 1}
    assert row == {'model': 'mine', 'accuracy': [1.0, 1.0, 1.0]} | counts


def test_gmad_takes_one_role_and_images_again_where_the_config_says_so(smoke, tmp_path):
    once = gmad.run(gmad_config(smoke, roles=('attacker',)), tmp_path / 'once')
    roles = tables.read(tmp_path / 'once/pairs.parquet')[0]['role']
    assert {*roles.tolist()} == {'attacker'}
    again = gmad_config(smoke, roles=('attacker',), each_image_once=False)
    assert gmad.run(again, tmp_path / 'again')['pairs'] >= once['pairs']
    shown = tables.read(tmp_path / 'again/pairs.parquet')[0]
    images = [*shown['image_id_best'].tolist(), *shown['image_id_worst'].tolist()]
    assert len(set(images)) < len(images)
    with pytest.raises(ValueError, match='roles must be'):
        gmad.run(gmad_config(smoke, roles=('judge',)), tmp_path / 'out')


def test_children_decode_what_this_process_does_and_finished_work_is_kept(smoke, tmp_path, capsys):
    summaries, found = {}, {}
    for processes in (0, 2):
        limits = {'processes': processes, 'seconds': 20.0, 'memory_mib': 2048}
        config = score_config(smoke, decode=limits)
        summaries[processes] = score.run(config, tmp_path / f'p{processes}')
        found[processes] = tables.read(tmp_path / f'p{processes}/scores.parquet')[0]
    np.testing.assert_array_equal(found[0]['quality'], found[2]['quality'])
    # Who decodes is no reason to score again, other limits are.
    assert score.run(config | {'decode': limits | {'processes': 1}}, tmp_path / 'p0')
    assert 'score: up to date' in capsys.readouterr().err
    score.run(config | {'decode': limits | {'seconds': 30.0}}, tmp_path / 'p0')
    assert 'up to date' not in capsys.readouterr().err


def test_as_many_pictures_are_decoded_at_once_as_there_are_children(smoke, tmp_path, monkeypatch):
    calls, together = itertools.count(), threading.Barrier(2, timeout=20)

    @contextlib.contextmanager
    def decoding(settings):
        def decode(data):
            if next(calls) < 2:
                together.wait()  # fails where one is decoded after the other
            return io.decode(data)

        yield decode

    monkeypatch.setattr(guarded, 'decoding', decoding)
    limits = {'processes': 2, 'seconds': 20.0, 'memory_mib': 2048}
    assert score.run(score_config(smoke, decode=limits), tmp_path)['images'] and next(calls) > 2


def test_a_picture_beyond_the_limits_of_a_child_is_quarantined_in_every_stage(smoke, tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (5000, 5000), np.uint8)
    Image.fromarray(noise).save(photos / 'large.png')
    small = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
    (photos / 'small.png').write_bytes(io.encode_png(small))
    limits = {'processes': 1, 'seconds': 20.0, 'memory_mib': 64}
    reason = 'needs more than 64 MiB to be decoded'

    def reasons(folder):
        return tables.read(tmp_path / folder / 'quarantine.csv')[0]['reason'].tolist()

    summary = make_data.run(DATA | {'photos': str(photos), 'decode': limits}, tmp_path / 'data')
    assert summary['photos'] == 1 and reason in reasons('data')[0]
    ids = np.array(['large', 'small'], object)
    files = np.array([str(photos / f'{name}.png') for name in ids], object)
    tables.write(tmp_path / 'all.csv', {'image_id': ids, 'file': files})
    config = score_config(smoke, manifest=str(tmp_path / 'all.csv'), splits=('pool',))
    summary = score.run(config | {'decode': limits}, tmp_path / 'score')
    assert summary['images'] == 1 and f'{photos}/large.png' in reasons('score')[0]
    assert reason in reasons('score')[0]
    columns = {'image_id': ids, 'reference': files, 'distorted': files}
    tables.write(tmp_path / 'pairs.csv', columns)
    config = pairs_defaults.get_config('smoke').to_dict() | {'references': '', 'distorted': ''}
    config |= {'pairs': str(tmp_path / 'pairs.csv'), 'decode': limits}
    summary = score_pairs.run(config, tmp_path / 'pairs')
    assert summary['pairs'] == 1 and reason in reasons('pairs')[0]
