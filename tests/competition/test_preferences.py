"""Contests of pairs, preferences from votes and answers, screening: by hand and by reference."""

import json

import numpy as np
import pytest
import scipy.stats

from iqa_jax.competition import preferences, screening
from iqa_jax.data import tables


def reason(defender, attacker, level, best, worst) -> dict:
    return {
        'role': 'defender', 'defender': defender, 'attacker': attacker, 'level': level, 'rank': 0,
        'attacker_best': best, 'attacker_worst': worst,
    }  # fmt: skip


def pairs_table(*rows) -> dict:
    """Rows (best, worst, [reason, ...]) as the search writes them."""
    first = [reasons[0] for _, _, reasons in rows]
    table = {k: np.array([r[k] for r in first], object) for k in ('defender', 'attacker', 'level')}
    table |= {f'image_id_{end}': np.array([r[i] for r in rows], object)
              for i, end in enumerate(('best', 'worst'))}  # fmt: skip
    return table | {'reasons': np.array([json.dumps(r[2]) for r in rows], object)}


PAIRS = pairs_table(
    ('x', 'y', [reason('d', 'a', 0, 90, 10), reason('d', 'b', 1, 20, 70)]),
    ('u', 'v', [reason('a', 'd', 0, 60, 50)]),
)


def votes_table(**votes) -> dict:
    """rater=[(image, vote), ...] as a votes table."""
    rows = [(rater, image, vote) for rater, given in votes.items() for image, vote in given]
    names = ('rater_id', 'image_id', 'vote')
    return {k: np.array([row[i] for row in rows], float if k == 'vote' else object)
            for i, k in enumerate(names)}  # fmt: skip


def answers_table(rows) -> dict:
    names = ('rater_id', 'image_id_a', 'image_id_b', 'preference')
    return {k: np.array([row[i] for row in rows], float if k == 'preference' else object)
            for i, k in enumerate(names)}  # fmt: skip


def as_rows(table: dict) -> set:
    names = ('rater_id', 'defender', 'attacker', 'level', 'image_id_best', 'image_id_worst')
    return set(zip(*(table[k].tolist() for k in (*names, 'preference')), strict=True))


def test_every_reason_is_a_contest_seen_as_its_attacker_sees_it():
    rounds, left_out = preferences.contests(PAIRS)
    assert not left_out and rounds['level'].dtype == np.int32
    names = ('defender', 'attacker', 'level', 'image_id_best', 'image_id_worst')
    assert list(zip(*(rounds[k].tolist() for k in names), strict=True)) == [
        ('d', 'a', 0, 'x', 'y'), ('d', 'b', 1, 'y', 'x'), ('a', 'd', 0, 'u', 'v'),
    ]  # fmt: skip
    # A table without reasons, such as another program's, is one contest per row.
    foreign = {k: v for k, v in PAIRS.items() if k != 'reasons'}
    assert preferences.contests(foreign)[0]['image_id_best'].tolist() == ['x', 'u']


def test_ids_may_be_numbers_and_a_table_may_be_a_csv(tmp_path):
    pairs = pairs_table(('007', '12', [reason('d', 'a', 0, 90, 10)]))
    tables.write(tmp_path / 'pairs.csv', pairs)
    (tmp_path / 'votes.csv').write_text('rater_id,image_id,vote\n1,007,90\n1,12,30\n')
    found = [tables.read(tmp_path / name)[0] for name in ('pairs.csv', 'votes.csv')]
    rounds, _ = preferences.contests(found[0])
    expected = {('1', 'd', 'a', 0, '007', '12', 60.0)}
    assert as_rows(preferences.from_votes(rounds, found[1])[0]) == expected
    # The search numbers images where it is given no ids.
    numbered = pairs | {'image_id_best': np.array([7]), 'image_id_worst': np.array([12])}
    rounds, _ = preferences.contests(numbered)
    answers = {'rater_id': np.array([1]), 'image_id_a': np.array([12])}
    answers |= {'image_id_b': np.array([7]), 'preference': np.array([-5.0])}
    assert as_rows(preferences.from_answers(rounds, answers)[0]) == {
        ('1', 'd', 'a', 0, '7', '12', 5.0)
    }
    quality = {7: 60.0, 12: 20.0}
    assert preferences.simulate(rounds, quality, raters=1, noise_std=0)['preference'] == [40.0]


def test_no_pairs_give_no_preferences():
    none = {k: v[:0] for k, v in PAIRS.items()}
    rounds, left_out = preferences.contests(none)
    found, missing, counts = preferences.from_votes(rounds, votes_table(r=[('x', 5.0)]))
    assert not left_out and not missing and len(found['preference']) == 0
    assert counts['votes_elsewhere'] == 1 and counts['pairs'] == 0
    assert len(screening.screen(found)['rater_id']) == 0
    with pytest.raises(ValueError, match='no contest to simulate'):
        preferences.simulate(rounds, {}, raters=2, noise_std=1)


def test_contests_that_say_nothing_are_listed():
    table = pairs_table(
        ('x', 'x', [reason('d', 'a', 0, 9, 1)]),
        ('x', 'y', [reason('d', 'a', 0, 5, 5), reason('d', 'd', 0, 5, 1)]),
        ('u', 'v', [reason('d', 'a', 0, 9, 1), reason('d', 'a', 0, 9, 1)]),
    )
    rounds, left_out = preferences.contests(table)
    assert len(rounds['level']) == 1
    assert [entry['file'] for entry in left_out] == ['x | x', 'x | y', 'x | y', 'u | v']
    said = ' '.join(entry['reason'] for entry in left_out)
    for why in ('the same', 'tell the images apart', 'attack itself', 'this pair twice'):
        assert why in said


def test_votes_become_differences_of_the_same_rater_in_every_contest():
    rounds, _ = preferences.contests(PAIRS)
    votes = votes_table(
        r1=[('x', 80.0), ('y', 30.0), ('u', 10.0), ('v', 60.0)],
        r2=[('x', 60.0), ('x', 40.0), ('y', 90.0), ('u', 5.0), ('z', 50.0)],  # x twice: 50
        r3=[('x', np.nan), ('y', 101.0)],
    )
    found, left_out, counts = preferences.from_votes(rounds, votes)
    assert as_rows(found) == {
        ('r1', 'd', 'a', 0, 'x', 'y', 50.0), ('r1', 'd', 'b', 1, 'y', 'x', -50.0),
        ('r2', 'd', 'a', 0, 'x', 'y', -40.0), ('r2', 'd', 'b', 1, 'y', 'x', 40.0),
        ('r1', 'a', 'd', 0, 'u', 'v', -50.0),
    }  # fmt: skip
    assert not found['simulated'].any()
    assert [(e['file'], e['reason']) for e in left_out] == [
        ('r3 on x', 'a vote of nan is not in 0..100'),
        ('r3 on y', 'a vote of 101.0 is not in 0..100'),
    ]
    assert counts == {
        'votes': 11, 'votes_elsewhere': 1, 'votes_unpaired': 1, 'answers': 3,
        'answers_elsewhere': 0, 'answers_repeated': 0, 'pairs': 2, 'contests': 3,
    }  # fmt: skip


def test_answers_may_come_from_either_side_and_repeat():
    rounds, _ = preferences.contests(PAIRS)
    rows = [('r1', 'x', 'y', 60.0), ('r1', 'y', 'x', -20.0), ('r2', 'y', 'x', 30.0),
            ('r2', 'x', 'z', 5.0), ('r3', 'x', 'y', np.nan)]  # fmt: skip
    found, left_out, counts = preferences.from_answers(rounds, answers_table(rows))
    assert as_rows(found) == {
        ('r1', 'd', 'a', 0, 'x', 'y', 40.0), ('r1', 'd', 'b', 1, 'y', 'x', -40.0),
        ('r2', 'd', 'a', 0, 'x', 'y', -30.0), ('r2', 'd', 'b', 1, 'y', 'x', 30.0),
    }  # fmt: skip
    assert [e['file'] for e in left_out] == ['r3 on x | y', 'u | v']
    assert left_out[1]['reason'] == 'no rater answered this pair'
    assert (counts['answers'], counts['answers_elsewhere'], counts['answers_repeated']) == (5, 1, 1)


def test_what_was_made_up_stays_marked():
    rounds, _ = preferences.contests(PAIRS)
    votes = votes_table(r1=[('x', 80.0), ('y', 30.0)], r2=[('x', 80.0), ('y', 30.0)])
    marked = votes | {'simulated': np.array([False, True, False, False])}
    found, _, _ = preferences.from_votes(rounds, marked)
    assert {*found['rater_id'][found['simulated']]} == {'r1'} and len(found['simulated']) == 4


def test_simulated_preferences_are_the_known_difference_and_say_what_they_are():
    rounds, _ = preferences.contests(PAIRS)
    quality = {'x': 70.0, 'y': 20.0, 'u': 30.0, 'v': 90.0}
    exact = preferences.simulate(rounds, quality, raters=3, noise_std=0.0)
    assert exact['simulated'].all() and len(exact['preference']) == 9
    assert {(r[3], r[4], r[6]) for r in as_rows(exact)} == {
        (0, 'x', 50.0), (1, 'y', -50.0), (0, 'u', -60.0),
    }  # fmt: skip
    some = preferences.simulate(rounds, quality, raters=9, noise_std=15.0, answers_per_pair=4)
    again = preferences.simulate(rounds, quality, raters=9, noise_std=15.0, answers_per_pair=4)
    assert len(some['preference']) == 12 and as_rows(some) == as_rows(again)
    assert as_rows(some) != as_rows(
        preferences.simulate(rounds, quality, raters=9, noise_std=15.0, answers_per_pair=4, seed=1)
    )


@pytest.mark.parametrize(
    ('call', 'sentence'),
    [
        (lambda: preferences.contests({'defender': np.array(['d'])}), 'no column attacker'),
        (lambda: preferences.contests(PAIRS | {'reasons': np.array(['{', '[]'])}), 'no JSON list'),
        (lambda: preferences.contests(PAIRS | {'reasons': np.array(['[{}]', '[]'])}), 'Row 0.*def'),
        (lambda: preferences.contests(pairs_table(('x', 'y', [reason('d', 'a', -1, 2, 1)]))), '-1'),
        (lambda: preferences.from_votes(preferences.contests(PAIRS)[0], {}), 'rater_id, image_id'),
        (lambda: preferences.from_answers(preferences.contests(PAIRS)[0], {}), 'image_id_a'),
        (
            lambda: preferences.simulate(
                preferences.contests(PAIRS)[0], {'x': 1.0}, raters=2, noise_std=1
            ),
            'No quality of 3 images is given, u the first',
        ),
        (
            lambda: preferences.simulate(
                preferences.contests(PAIRS)[0], {}, raters=2, noise_std=1, answers_per_pair=3
            ),
            'answers_per_pair must be in 1..raters=2',
        ),
        (lambda: screening.screen({}, 'bt'), "one of bt500, toolbox, none, not 'bt'"),
    ],
)
def test_bad_input_is_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


# ---- screening ----------------------------------------------------------------------------------


def many_answers(seed: int, raters: int = 12, pairs: int = 40, spammers: int = 2) -> dict:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-60, 60, pairs)
    values = truth + rng.normal(0, 10, (raters, pairs))
    values[:spammers] = rng.choice([-100, 100], (spammers, pairs))
    rows = [(f'r{r:02d}', f'a{p}', f'b{p}', values[r, p])
            for r in range(raters) for p in range(pairs) if rng.uniform() < 0.9]  # fmt: skip
    rounds = {
        'defender': np.full(pairs, 'd', object), 'attacker': np.full(pairs, 'a', object),
        'level': np.zeros(pairs, np.int32),
        'image_id_best': np.array([f'a{p}' for p in range(pairs)], object),
        'image_id_worst': np.array([f'b{p}' for p in range(pairs)], object),
    }  # fmt: skip
    return preferences.from_answers(rounds, answers_table(rows))[0]


def reference_screen(table: dict, rule: str) -> dict[str, tuple]:
    """Rater -> (P, Q, excluded), one pair after the other as the rule is written."""
    count = {rater: [0, 0, 0] for rater in table['rater_id'].tolist()}
    for name in {*table['image_id_best'].tolist()}:
        rows = np.flatnonzero(table['image_id_best'] == name)
        x = table['preference'][rows]
        kurtosis = scipy.stats.kurtosis(x, fisher=False)
        normal = 2 <= kurtosis <= 4
        limit = (2 if normal else np.sqrt(20)) * x.std(ddof=1)
        for rater, value in zip(table['rater_id'][rows].tolist(), x, strict=True):
            count[rater][2] += 1
            if abs(value - x.mean()) > limit:
                first = value > x.mean() if rule == 'bt500' else normal
                count[rater][0 if first else 1] += 1
    return {
        rater: (p, q, (p + q) / n > 0.05 and abs(p - q) / (p + q) < 0.3)
        for rater, (p, q, n) in count.items()
    }


@pytest.mark.parametrize('rule', ['bt500', 'toolbox'])
@pytest.mark.parametrize('seed', range(3))
def test_screening_is_the_written_rule(rule, seed):
    table = many_answers(seed)
    found = screening.screen(table, rule)
    expected = reference_screen(table, rule)
    for rater, *row in zip(
        *(found[k].tolist() for k in ('rater_id', 'outliers_p', 'outliers_q', 'excluded')),
        strict=True,
    ):
        assert tuple(row) == expected[rater], rater
    assert found['outliers_p'].sum() > 0
    none = screening.screen(table, 'none')
    assert not none['excluded'].any()


def test_the_two_rules_differ_where_outliers_lie_on_both_sides_of_near_normal_pairs():
    table = many_answers(0)
    of = {rule: screening.screen(table, rule) for rule in ('bt500', 'toolbox')}
    assert {*of['bt500']['rater_id'][of['bt500']['excluded']]} == {'r00', 'r01'}
    assert not of['toolbox']['excluded'].any()  # all in one regime: not balanced
    assert of['bt500']['reason'][0].startswith('bt500: ') and of['bt500']['reason'][5] == ''


def test_an_answer_to_several_contests_is_screened_once():
    table = many_answers(1)
    flipped = table | {
        'attacker': np.full(len(table['level']), 'other', object),
        'image_id_best': table['image_id_worst'], 'image_id_worst': table['image_id_best'],
        'preference': -table['preference'],
    }  # fmt: skip
    both = {k: np.concatenate([table[k], flipped[k]]) for k in table}
    once, twice = screening.screen(table), screening.screen(both)
    for key in once:
        np.testing.assert_array_equal(once[key], twice[key])
