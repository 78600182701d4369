"""Active fine-tuning as a state machine: it waits for people, stops, rolls back and goes on."""

import json
import re
import shutil

import numpy as np
import pytest
from test_study_people import answer_all

from configs import quickstart
from configs import study as configs_study
from iqa_jax.data import manifest, tables
from iqa_jax.runtime import stages
from iqa_jax.tasks import active, active_results, export, report, study

PEOPLE = {'raters': 3, 'votes_per_item': 2, 'training': 1, 'gold_share': 0.0, 'break_every': 0}


@pytest.fixture
def begun(smoke, tmp_path):
    """(config, workdir) of a second active run beside the smoke run's, its first search done."""
    config = quickstart.get_config('smoke').stages.active.to_dict() | {'root': str(smoke)}
    del config['folder']
    for part in ('round_00', 'round_01/score', 'round_01/gmad'):
        shutil.copytree(smoke / 'active' / part, tmp_path / 'active' / part)
    return config, tmp_path / 'active'


def _with_people(config: dict) -> dict:
    study = config['study']
    people, panel = study['people'] | PEOPLE, study['panel'] | {'kind': 'people'}
    return config | {
        'gmad': config['gmad'] | {'max_pairs': 3},
        'stop': {'pairs_right': 2.0, 'ratings': 0},  # never by its accuracy
        'study': study | {'people': people, 'panel': panel},
    }


def _believe(rater: int, names: list[str]) -> float:
    return float((7 * rater + 13 * sum(map(ord, names[0]))) % 90 + 5)


def _state(workdir) -> dict:
    return json.loads((workdir / 'state.json').read_text())


def _record(workdir) -> dict:
    return json.loads((workdir / 'active.json').read_text())


def test_it_waits_for_people_keeps_what_they_are_asked_and_goes_on(
    begun, smoke, capsys, monkeypatch
):
    config, workdir = begun
    config = _with_people(config)
    waiting = active.run(config, workdir)
    said = capsys.readouterr().err
    assert waiting['missing'] == waiting['needed'] == 12 and waiting['round'] == 1
    assert 'active: round 1 waits for 12 of 12 ratings' in said and 'serve=page' in said
    assert _state(workdir) == {
        'round': 1, 'phase': 'waiting for people', 'missing': 12, 'needed': 12,
    }  # fmt: skip
    assert not (workdir / 'round_01/train').exists() and not (workdir / 'active.json').exists()
    # A newer version of the program does not search again while people answer.
    asked = (workdir / 'round_01/gmad/stage.json').read_bytes()
    monkeypatch.setattr(stages, '_source_digest', lambda: 'newer')
    assert active.run(config, workdir)['missing'] == 12
    assert (workdir / 'round_01/gmad/stage.json').read_bytes() == asked
    changed = config | {'gmad': config['gmad'] | {'levels': 2}}
    with pytest.raises(ValueError, match=r'round_01/gmad ran with another levels, and people were'):
        active.run(changed, workdir)
    # They answer, the round trains, and the next search waits for them again.
    answer_all(workdir / 'round_01/study', _believe)
    waiting = active.run(config, workdir)
    assert waiting['round'] == 2 and (workdir / 'round_01/train/model').is_dir()
    rated, about = tables.read(workdir / 'round_01/study/rated.parquet')
    assert about['simulated'] is False and set(rated['split']) == {'train'}
    trained = (workdir / 'round_01/train/stage.json').read_bytes()
    monkeypatch.setattr(stages, '_source_digest', lambda: 'newer still')
    assert active.run(config, workdir)['round'] == 2
    assert (workdir / 'round_01/train/stage.json').read_bytes() == trained
    answer_all(workdir / 'round_02/study', _believe)
    summary = active.run(config, workdir)
    assert 'SIMULATED' not in summary['headline'].split('fresh')[1]
    assert summary['ratings'] == 24 and _state(workdir)['phase'] == 'done'
    assert [row['simulated'] for row in _record(workdir)['rounds']] == [False, False]
    # One round more: what was the last search is learned from, and not searched for again.
    asked = (workdir / 'round_02/gmad/stage.json').read_bytes()
    waiting = active.run(config | {'rounds': 2}, workdir)
    assert waiting['round'] == 3 and (workdir / 'round_02/train/model').is_dir()
    assert (workdir / 'round_02/gmad/stage.json').read_bytes() == asked


def test_choices_between_two_are_judged_by_pairs_alone(begun, tmp_path):
    config, workdir = begun
    config = _with_people(config)
    config['study']['people']['design'] = 'pair_choice'
    config['stop'] = {'pairs_right': 2.0, 'ratings': 6}  # three pairs, two votes each
    assert active.run(config, workdir)['missing'] == 6
    answer_all(workdir / 'round_01/study', lambda rater, names: ('left', 'tie', 'left')[rater])
    summary = active.run(config, workdir)
    assert summary['rounds'] == 1 and summary['ratings'] == 6
    record = _record(workdir)
    measures = [(entry['set'], entry['measure']) for entry in record['comparisons']]
    assert measures == [('old_rated', 'SRCC'), ('round_01', 'pairs right')]
    assert {row['measure'] for row in record['history'] if row['set'] == 'round_01'} == {
        'pairs right'
    }
    card = {'task': 'export', 'root': '', 'model': str(workdir / 'model'), 'calibration': None}
    card |= {'results': str(workdir / 'evaluate/round_01/results.json'), 'pairs': '', 'rated': ''}
    export.run(card, tmp_path / 'card')
    text = (tmp_path / 'card/MODEL_CARD.md').read_text()
    assert 'opinions are on no common scale' in text and 'SRCC' not in text.split('## Eval')[1]


def test_while_people_are_asked_main_ends_with_exit_code_0(begun, smoke, main, tmp_path):
    flags = {'panel.kind': 'people'} | {f'people.{key}': value for key, value in PEOPLE.items()}
    done = main(
        '--config', 'configs/active.py:smoke', f'--config.root={smoke}',
        *(f'--config.study.{key}={value}' for key, value in flags.items()),
        '--workdir', str(begun[1]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'waits for 48 of 48 ratings' in done.stderr
    assert f'--workdir {begun[1]}/round_01/study' in done.stderr


def test_a_model_that_forgets_is_rolled_back(begun, smoke, capsys):
    config, workdir = begun
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
    record = _record(workdir)
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


def test_a_good_model_and_an_empty_purse_stop_the_loop(begun, smoke):
    config, workdir = begun
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
    record = _record(workdir.parent / 'poor')
    # Nobody rated the last search, so no set is fresh to the model.
    assert [row['set'] for row in record['comparisons']] == ['old_rated', 'round_01', 'round_01']
    results = json.loads((workdir.parent / 'poor/results.json').read_text())
    assert results['name'] == 'old_rated'


def test_the_loop_ends_where_no_counterexample_is_left(begun, smoke, monkeypatch):
    config, workdir = begun
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
    assert active_results.BEFORE in json.dumps(_record(workdir)['history'])


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


def test_killed_at_every_phase_it_goes_on_to_the_same_record(smoke, main, tmp_path):
    workdir = tmp_path / 'killed'
    shutil.copytree(smoke / 'active/round_00', workdir / 'round_00')
    flags = ('--config', 'configs/active.py:smoke', f'--config.root={smoke}', '--workdir')
    for phase, said in ((3, 'fine-tuning'), (6, 'evaluating')):
        point = f'active.phase:{phase}'
        killed = main(*flags, str(workdir), IQA_JAX_CRASH_AT=point)
        assert killed.returncode == -9, killed.stderr
        assert _state(workdir)['phase'] == said
    done = main(*flags, str(workdir))
    assert done.returncode == 0, done.stderr
    for name in ('active.json', 'scores.parquet', 'pairs.parquet', 'model/weights.msgpack'):
        assert (workdir / name).read_bytes() == (smoke / 'active' / name).read_bytes(), name


def test_databases_that_know_each_others_images_are_refused_before_round_1(begun, smoke):
    config, workdir = begun
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


def test_what_people_gave_is_not_dropped_by_another_config(begun, smoke):
    config, workdir = begun
    config = _with_people(config)
    shutil.copytree(smoke / 'active/round_01/train', workdir / 'round_01/train')
    assert active.run(config, workdir)['round'] == 1
    place = workdir / 'round_01/study'
    simulated = config['study'] | {'panel': begun[0]['study']['panel']}
    with pytest.raises(ValueError, match='holds a study with people; take another --workdir'):
        active.run(config | {'study': simulated}, workdir)
    # The commands of a study need no more than its folder.
    own = configs_study.get_config().to_dict()
    own['panel']['kind'], own['people']['command'] = 'people', 'status'
    assert study.run(own, place)['missing'] == 12
    answer_all(place, _believe)
    assert active.run(config, workdir)['round'] == 2
    with pytest.raises(ValueError, match=r'People were asked in .*round_02, but with this config'):
        active.run(config | {'stop': {'pairs_right': 0.0, 'ratings': 0}}, workdir)
    # A purse that is empty now was not when they were asked.
    assert active.run(config | {'stop': {'pairs_right': 2.0, 'ratings': 5}}, workdir)['round'] == 2
    # The first model is the one that people were asked about, whatever was trained since.
    first = (workdir / 'round_00/model/weights.msgpack').read_bytes()
    assert active.run(config | {'model': 'pretrain/model'}, workdir)['round'] == 2
    assert (workdir / 'round_00/model/weights.msgpack').read_bytes() == first
    # Nobody prefers anything: the loop ends, and no pair says who is right.
    answer_all(workdir / 'round_02/study', lambda rater, names: 50.0)
    with pytest.warns(UserWarning):
        summary = active.run(config, workdir)
    assert summary['rounds'] == 1
    fresh = [entry for entry in summary['comparisons'] if entry['set'] == 'fresh'][-1]
    assert fresh['n'] == 0 and fresh['ties'] == 3
