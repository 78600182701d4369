"""Active fine-tuning with people: it waits for them, keeps what they are asked and goes on."""

import pytest
from test_study_people import answer_all

from configs import study as configs_study
from iqa_jax.data import tables
from iqa_jax.runtime import stages
from iqa_jax.tasks import active, export, study

PEOPLE = {'raters': 3, 'votes_per_item': 2, 'training': 1, 'gold_share': 0.0, 'break_every': 0}


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


def test_it_waits_for_people_keeps_what_they_are_asked_and_goes_on(
    begun_loop, smoke, capsys, monkeypatch, json_of
):
    config, workdir = begun_loop
    config = _with_people(config)
    waiting = active.run(config, workdir)
    said = capsys.readouterr().err
    assert waiting['missing'] == waiting['needed'] == 12 and waiting['round'] == 1
    assert 'active: round 1 waits for 12 of 12 ratings' in said and 'serve=page' in said
    assert json_of(workdir / 'state.json') == {
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
    assert summary['ratings'] == 24 and json_of(workdir / 'state.json')['phase'] == 'done'
    assert [row['simulated'] for row in json_of(workdir / 'active.json')['rounds']] == [
        False,
        False,
    ]
    # One round more: what was the last search is learned from, and not searched for again.
    asked = (workdir / 'round_02/gmad/stage.json').read_bytes()
    waiting = active.run(config | {'rounds': 2}, workdir)
    assert waiting['round'] == 3 and (workdir / 'round_02/train/model').is_dir()
    assert (workdir / 'round_02/gmad/stage.json').read_bytes() == asked
    with pytest.raises(ValueError, match=r'People were asked in .*round_03, but with this config'):
        active.run(config, workdir)


def test_choices_between_two_are_judged_by_pairs_alone(begun_loop, tmp_path, json_of):
    config, workdir = begun_loop
    config = _with_people(config)
    config['study']['people']['design'] = 'pair_choice'
    config['stop'] = {'pairs_right': 2.0, 'ratings': 6}  # three pairs, two votes each
    assert active.run(config, workdir)['missing'] == 6
    answer_all(workdir / 'round_01/study', lambda rater, names: ('left', 'tie', 'left')[rater])
    summary = active.run(config, workdir)
    assert summary['rounds'] == 1 and summary['ratings'] == 6
    record = json_of(workdir / 'active.json')
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


def test_while_people_are_asked_main_ends_with_exit_code_0(begun_loop, smoke, main, tmp_path):
    flags = {'panel.kind': 'people'} | {f'people.{key}': value for key, value in PEOPLE.items()}
    done = main(
        '--config', 'configs/active.py:smoke', f'--config.root={smoke}',
        *(f'--config.study.{key}={value}' for key, value in flags.items()),
        '--workdir', str(begun_loop[1]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'waits for 48 of 48 ratings' in done.stderr
    assert f'--workdir {begun_loop[1]}/round_01/study' in done.stderr


def test_what_people_gave_is_not_dropped_by_another_config(begun_loop, smoke):
    config, workdir = begun_loop
    config = _with_people(config)
    assert active.run(config, workdir)['round'] == 1
    place = workdir / 'round_01/study'
    simulated = config['study'] | {'panel': begun_loop[0]['study']['panel']}
    with pytest.raises(ValueError, match='holds a study with people; set config.panel.kind'):
        active.run(config | {'study': simulated}, workdir)
    # The commands of a study need no more than its folder.
    own = configs_study.get_config().to_dict()
    own['panel']['kind'], own['people']['command'] = 'people', 'status'
    assert study.run(own, place)['missing'] == 12
    answer_all(place, _believe)
    assert active.run(config, workdir)['round'] == 2
    # What stops the loop is for searches to come: people were asked about this one.
    for stop in ({'pairs_right': 0.0, 'ratings': 0}, {'pairs_right': 2.0, 'ratings': 5}):
        assert active.run(config | {'stop': stop}, workdir)['round'] == 2
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
