"""Competitions of models and rivals: roles, scales, merging of pairs."""

import json

import numpy as np
import pytest

from iqa_jax.competition import search
from iqa_jax.data import score_stream


def _scores():
    rng = np.random.default_rng(5)
    quality = rng.random(400)
    noisy = {name: quality + 0.15 * rng.standard_normal(400) for name in ('model', 'a', 'b')}
    return noisy | {'a': -np.exp(2 * noisy['a'])}, {'model': True, 'a': False, 'b': True}


def _compete(scores, *args, **kwargs):
    return search.compete(score_stream.of_columns(scores, None, None), *args, **kwargs).pairs


def test_both_roles_are_searched_and_pairs_merged_with_all_their_reasons():
    scores, higher = _scores()
    scores['a'] = -scores['a']  # now a distance that grows with quality: orientation must matter
    table = _compete(scores, higher, ['model'], ['a', 'b'], top_k=2)
    roles = set(zip(table['role'], table['defender'], table['attacker'], strict=True))
    assert roles == {
        ('defender', 'model', 'a'),
        ('defender', 'model', 'b'),
        ('attacker', 'a', 'model'),
        ('attacker', 'b', 'model'),
    }
    best, worst = (
        table[f'image_id_{side}'][table['attacker'] == 'a'] for side in ('best', 'worst')
    )
    assert (scores['a'][best] < scores['a'][worst]).all()
    reasons = [json.loads(text) for text in table['reasons']]
    contests = [(r['defender'], r['attacker'], r['level'], r['rank']) for p in reasons for r in p]
    assert len(contests) == len(set(contests))
    twin = _compete(
        scores | {'c': scores['b']}, higher | {'c': True}, ['model'], ['b', 'c'], roles=['defender']
    )
    assert all(
        [r['attacker'] for r in json.loads(text)][:2] == ['b', 'c'] for text in twin['reasons']
    )


def test_tolerance_holds_for_every_reason_of_a_merged_pair():
    scores, higher = _scores()
    close = _compete(scores, higher, ['model'], ['a', 'b'], tolerance=3, top_k=3, half_width=0.2)
    reasons = [json.loads(text) for text in close['reasons']]
    assert max(len(r) for r in reasons) > 1
    assert all(abs(r['defender_gap']) <= 3 for pair in reasons for r in pair)
    assert all(r['gap'] != 0 for pair in reasons for r in pair)


def test_a_model_among_the_rivals_meets_every_opponent_once():
    scores, higher = _scores()
    table = _compete(scores, higher, ['model', 'b'], ['model', 'b'], each_image_once=False)
    reasons = [r for text in table['reasons'] for r in json.loads(text)]
    contests = [(r['defender'], r['attacker'], r['level']) for r in reasons]
    assert len(contests) == len(set(contests)) and ('model', 'model', 0) not in contests


def test_labels_may_name_columns_of_other_names():
    scores, higher = _scores()
    named = _compete(scores, higher, ['model'], ['a', 'b'])
    other = _compete(
        {'x': scores['model'], 'y': scores['a'], 'z': scores['b']},
        higher,
        ['model'],
        ['a', 'b'],
        columns={'model': 'x', 'a': 'y', 'b': 'z'},
    )
    for key in named:
        np.testing.assert_array_equal(named[key], other[key])


def test_percentile_scale_ignores_single_outliers_and_clips_the_defender_only():
    scores, higher = _scores()
    scores = {'model': np.append(np.linspace(0, 1, 5000), 1e6), 'a': -np.arange(5001.0)}
    table = _compete(
        scores, higher, ['model'], ['a'], roles=['defender'], levels=3, half_width=0.17
    )
    assert table['level'].tolist() == [0, 1, 2]
    assert table['defender_best'].max() == 100 and table['attacker_best'].max() > 100
    low, high = np.percentile(scores['a'], [0.1, 99.9])
    expected = 100 * (-scores['a'][table['image_id_best']] + high) / (high - low)
    np.testing.assert_allclose(table['attacker_best'], expected, rtol=1e-6)


def test_own_scale_turns_distances_round_and_changes_nothing_else():
    scores, higher = _scores()
    table = _compete(scores, higher, ['model'], ['a', 'b'], scale='own', roles=['defender'])
    for name in ('a', 'b'):
        rows = table['attacker'] == name
        sign = 1 if higher[name] else -1
        np.testing.assert_array_equal(
            table['attacker_best'][rows],
            (sign * scores[name][table['image_id_best'][rows]]).astype(np.float32),
        )


def test_mappings_put_raw_scores_on_the_common_scale():
    scores, higher = _scores()
    scale = {'model': lambda x: 50 * x, 'a': lambda x: 40 - 5 * x, 'b': lambda x: 50 * x}
    table = _compete(scores, higher, ['model'], ['a', 'b'], scale=scale)
    row = np.flatnonzero(table['attacker'] == 'a')[0]
    image = table['image_id_best'][row]
    assert table['attacker_best'][row] == np.float32(40 - 5 * np.float32(scores['a'][image]))
    with pytest.raises(ValueError, match="mapping of 'a' is not monotone"):
        _compete(scores, higher, ['model'], ['a'], scale=scale | {'a': lambda x: x})
    with pytest.raises(ValueError, match="No mapping for 'b'"):
        _compete(scores, higher, ['model'], ['b'], scale={'model': scale['model']})


def test_levels_may_be_given_for_each_defender():
    scores, higher = _scores()
    levels = {'model': [(0.2, 0.4)], 'b': [(0.1, 0.3), (0.6, 0.9)]}
    table = _compete(scores, higher, ['model'], ['b'], scale='own', levels=levels, max_per_ref=None)
    for row in range(len(table['level'])):
        low, high = levels[table['defender'][row]][table['level'][row]]
        held = np.array([table['defender_best'][row], table['defender_worst'][row]])
        assert (held > low).all() and (held < high).all()
    assert set(zip(table['defender'], table['level'], strict=True)) == {
        ('model', 0), ('b', 0), ('b', 1)
    }  # fmt: skip
    with pytest.raises(ValueError, match="levels say nothing of 'a'"):
        _compete(scores, higher, ['model'], ['a'], scale='own', levels=levels)


def test_a_pair_that_straddles_two_levels_is_found_by_the_exact_engine_only():
    defender = np.array([0.0, 0.49, 0.51, 1.0], np.float32)
    attacker = np.array([[0.1], [0.9], [0.0], [0.2]], np.float32)
    rules = {'levels': [(-1, 0.5), (0.5, 2)], 'tolerance': 0.1, 'each_image_once': False}
    assert not len(search.search(defender, attacker, **rules)['level'])
    found = search.search(
        defender, attacker, **rules | {'levels': [(-1, 0.505), (0.505, 2)]}, engine='exact'
    )
    pair = found['image_id_best'].tolist(), found['image_id_worst'].tolist()
    assert pair == ([1], [2]) and found['level'].tolist() == [0]


def test_errors_name_the_column_and_the_count():
    scores, higher = _scores()
    bad = scores['b'].copy()
    bad[:3] = np.nan
    bad[3] = np.inf
    for engine in ('binned', 'exact'):
        with pytest.raises(ValueError, match=r"'b' hold 3 NaN and 1 infinite values among 400"):
            _compete(scores | {'b': bad}, higher, ['model'], ['b'], engine=engine, scale='own')
    with pytest.raises(ValueError, match='must name columns'):
        _compete(scores, higher, ['model'], ['ssim'])
    with pytest.raises(ValueError, match=r"Scores 'a': the 0\.1 and 99\.9 percentiles"):
        _compete(scores | {'a': np.ones(400)}, higher, ['model'], ['a'])
    with pytest.raises(ValueError, match="scale must be 'own', 'percentile' or functions"):
        _compete(scores, higher, ['model'], ['a'], scale='jod')
    with pytest.raises(ValueError, match="needs engine='exact' and a tolerance"):
        _compete(scores, higher, ['model'], ['a'], objective='disagreement')
    with pytest.raises(ValueError, match="engine must be 'binned' or 'exact'"):
        _compete(scores, higher, ['model'], ['a'], engine='fast')


@pytest.mark.parametrize('engine', ['binned', 'exact'])
def test_the_images_of_every_level_are_counted_whoever_may_be_shown(engine):
    scores, higher = _scores()
    table = score_stream.of_columns(scores, None, None)
    found = search.compete(
        table, higher, ['model'], ['a'], scale='own', engine=engine, exclude=range(50),
        chunk_size=64,
    ).level_images  # fmt: skip
    for name, sign in (('model', 1), ('a', -1)):
        x = sign * scores[name].astype(np.float32)
        centres = x.min() + (np.arange(6) + 0.5) * np.ptp(x) / 6
        expected = (np.abs(x - centres[:, None]) < 0.09 * np.ptp(x)).sum(1)
        assert found[name] == expected.tolist() and sum(found[name]) >= 400
