"""Active fine-tuning as a state machine: it checks, stops, rolls back and survives kills."""

import json
import re
import shutil

import numpy as np
import pytest

from configs import quickstart
from iqa_jax.data import manifest, tables
from iqa_jax.tasks import active, active_results, report


def test_a_model_that_forgets_is_rolled_back(begun_loop, smoke, capsys, json_of):
    config, workdir = begun_loop
    rated, about = tables.read(smoke / 'rate/rated.parquet')
    rated = manifest.read(smoke / 'rate/rated.parquet')
    scores = tables.read(smoke / 'active/round_00/old_rated/scores.parquet')[0]
    inside = np.flatnonzero(rated['split'] == 'val')
    known = tables.join(rated['image_id'][inside], scores, ['quality'], 'scores')['quality']
    # The first model orders these perfectly, so whatever the training changes is a fall.
    rated['mos'][inside] = 10 * np.argsort(np.argsort(known)) + 1
    path = workdir.parent / 'rated.parquet'
    manifest.write(path, rated, about)
    config |= {
        'replay': {
            'rated': {'manifest': str(path), 'weight': 0.5},
            'second': {'manifest': str(smoke / 'rate/rated.parquet'), 'weight': 0.25},
        },
        'guard': {'srcc_fall': 0.0},
        'train': config['train'] | {'learning_rate': 0.1},
    }
    summary = active.run(config, workdir)
    record = json_of(workdir / 'active.json')
    assert summary['rounds'] == 0 and 'round 1 is rolled back: SRCC on the' in summary['stopped']
    first = record['rounds'][0]
    assert len(record['rounds']) == 1 and first['trained'] and not first['kept']
    assert first['guard']['rated']['before'] == 1.0 > first['guard']['rated']['after']
    weights = [f / 'weights.msgpack' for f in (workdir / 'model', smoke / 'finetune/model')]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not (workdir / 'round_02').exists()
    assert [*first['guard']] == ['rated', 'second']
    sets = [e['set'] for e in record['comparisons']]
    assert sets == ['old_rated', 'old_second', 'fresh', 'fresh']
    # The same images in two databases enter the table of scores once.
    ids = tables.read(workdir / 'scores.parquet')[0]['image_id'].tolist()
    assert len(ids) == len(set(ids)) == 64 + 32
    assert {tuple(e['difference']) for e in record['comparisons']} == {(0.0, 0.0, 0.0)}
    page = quickstart.get_config('smoke').stages.report.to_dict() | {'root': str(smoke)}
    del page['folder']
    page['active'] = {'folder': str(workdir)}
    page['stages']['active']['folder'] = str(workdir)
    report.run(page, workdir.parent / 'page')
    text = (workdir.parent / 'page/report.html').read_text()
    assert 'rolled back' in text and 'active, round 1 (rolled back)' in text
    assert 'no round was kept' in text


def test_a_good_model_and_an_empty_purse_stop_the_loop(begun_loop, smoke, json_of):
    config, workdir = begun_loop
    with pytest.raises(ValueError, match=r'config\.stop\.ratings=1, but the first round needs 360'):
        active.run(config | {'stop': {'pairs_right': 1.0, 'ratings': 1}}, workdir)
    assert not (workdir / 'round_01/study').exists()
    summary = active.run(config | {'stop': {'pairs_right': 0.0, 'ratings': 0}}, workdir)
    assert summary['rounds'] == 0 and 'of the pairs found against it' in summary['stopped']
    assert not (workdir / 'round_01/train').exists()
    shutil.copytree(smoke / 'active', workdir.parent / 'poor')
    poor = config | {'stop': {'pairs_right': 1.0, 'ratings': 400}}
    summary = active.run(poor, workdir.parent / 'poor')
    assert summary['rounds'] == 1
    said = 'of 400 ratings 360 are given, and the next search needs [1-9]'
    assert re.match(said, summary['stopped'])
    record = json_of(workdir.parent / 'poor' / 'active.json')
    # Nobody rated the last search, so no set is fresh to the model.
    assert [row['set'] for row in record['comparisons']] == ['old_rated', 'round_01', 'round_01']
    results = json.loads((workdir.parent / 'poor/results.json').read_text())
    assert results['name'] == 'old_rated'


def test_the_loop_ends_where_no_counterexample_is_left(begun_loop, smoke, monkeypatch, json_of):
    config, workdir = begun_loop
    config['gmad'] |= {'levels': 1, 'half_width': 1.0, 'top_k': 2}
    shutil.rmtree(workdir / 'round_01/gmad')
    # The whole pool is rated in round 1, so that the second search has nothing to choose from.
    pool = manifest.read(smoke / 'data/manifest.parquet')
    few = tables.select(pool, np.isin(pool['split'], ['train', 'val', 'test']))
    one = tables.select(pool, np.flatnonzero(pool['split'] == 'pool')[[0, 1, 16, 20]])
    manifest.write(workdir.parent / 'few.parquet', tables.concatenate([few, one]), {})
    config |= {'manifest': str(workdir.parent / 'few.parquet')}
    config |= {'stop': {'pairs_right': 2.0, 'ratings': 0}}
    summary = active.run(config, workdir)
    assert summary['rounds'] == 1 and 'no counterexample left' in summary['stopped']
    assert active_results.BEFORE in json.dumps(json_of(workdir / 'active.json')['history'])


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'rounds': 0}, r'config\.rounds=0'),
        ({'guard': {'srcc_fall': -1.0}}, r'config\.guard\.srcc_fall=-1\.0'),
        ({'guard': {}}, r'config\.guard\.srcc_fall is missing'),
        ({'stop': {'pairs': 1}}, r'config\.stop\.pairs is not a key'),
        ({'fresh_against': ('before',)}, r"config\.fresh_against=\['before'\]"),
        ({'gmad_weight': 0.0}, r'config\.gmad_weight=0\.0'),
        ({'replay': {}}, r'config\.replay names no database'),
        ({'replay': {'round_01': {'manifest': 'm', 'weight': 1.0}}}, 'has the name of a round'),
        ({'replay': {'rated': {'manifest': 'm'}}}, r'config\.replay\.rated\.weight is missing'),
        ({'study': {'people': {'command': 'pause'}}}, r'config\.study\.people\.command'),
    ],
)
def test_what_cannot_be_is_said_before_the_first_round(changes, said, tmp_path):
    config = quickstart.get_config('smoke').stages.active.to_dict() | {'root': 'nowhere'}
    del config['folder']
    with pytest.raises(ValueError, match=said):
        active.run(config | changes, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_killed_at_every_phase_it_goes_on_to_the_same_record(smoke, main, tmp_path, json_of):
    workdir = tmp_path / 'killed'
    shutil.copytree(smoke / 'active/round_00', workdir / 'round_00')
    flags = ('--config', 'configs/active.py:smoke', f'--config.root={smoke}', '--workdir')
    for phase, said in ((3, 'fine-tuning'), (6, 'evaluating')):
        point = f'active.phase:{phase}'
        killed = main(*flags, str(workdir), IQA_JAX_CRASH_AT=point)
        assert killed.returncode == -9, killed.stderr
        assert json_of(workdir / 'state.json')['phase'] == said
    done = main(*flags, str(workdir))
    assert done.returncode == 0, done.stderr
    for name in ('active.json', 'scores.parquet', 'pairs.parquet', 'model/weights.msgpack'):
        assert (workdir / name).read_bytes() == (smoke / 'active' / name).read_bytes(), name


def test_databases_that_know_each_others_images_are_refused_before_round_1(begun_loop, smoke):
    config, workdir = begun_loop
    path = workdir.parent / 'second.parquet'
    rated, about = tables.read(smoke / 'rate/rated.parquet')
    rated = manifest.read(smoke / 'rate/rated.parquet')
    second = {'second': {'manifest': str(path), 'weight': 0.25}}
    config |= {'replay': config['replay'] | second}
    # What one database is tested on, the other one trains on.
    swapped = {'train': 'test', 'test': 'train', 'val': 'val'}
    split = np.array([swapped[name] for name in rated['split'].tolist()], object)
    manifest.write(path, rated | {'split': split}, about)
    with pytest.raises(ValueError, match=r'in split test of .*cannot test: .* in split train of'):
        active.run(config, workdir)
    # The guard's photographs may not be trained on either.
    split = rated['split'].copy()
    split[np.flatnonzero(split == 'val')[1:]] = 'train'
    manifest.write(path, rated | {'split': split}, about)
    with pytest.raises(ValueError, match=r'in split val of .*cannot guard: '):
        active.run(config, workdir)
    # One id, two images.
    order = np.arange(len(rated['image_id']))
    order[[0, -1]] = order[[-1, 0]]
    manifest.write(path, rated | {'image_id': rated['image_id'][order]}, about)
    with pytest.raises(ValueError, match=f'call two different images {rated["image_id"][0]}'):
        active.run(config, workdir)
    assert not (workdir / 'round_01/study').exists()
