"""gMAD search against a brute force over all pairs, and the laws it claims."""

import itertools
import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from iqa_jax.competition.search import compete, oriented, percentile_scale, search
from iqa_jax.competition.windows import candidate_lists, level_windows

_COLUMNS = [
    'defender',
    'attacker',
    'role',
    'level',
    'rank',
    'image_id_best',
    'image_id_worst',
    'ref_id_best',
    'ref_id_worst',
    'defender_best',
    'defender_worst',
    'attacker_best',
    'attacker_worst',
    'attacker_gap',
    'defender_gap',
    'reasons',
]


def _brute_force(defender, attackers, refs, windows, out, rules):
    """All ordered pairs of each window, under the rules as `search` states them."""
    pairs, reasons, own = [], [], {}
    for rank, level, rival in itertools.product(
        range(rules['top_k']), range(len(windows)), range(attackers.shape[1])
    ):
        mine = own.setdefault((level, rival), set())
        low, high = windows[level]
        members = [i for i in range(len(defender)) if low < defender[i] < high and not out[i]]
        shown = {image for pair in pairs for image in pair}
        best = None
        for x, y in itertools.permutations(members, 2):
            gap = attackers[x, rival] - attackers[y, rival]
            known = [i for i, pair in enumerate(pairs) if set(pair) == {x, y}]
            together = shown | {x, y}
            contents = [refs[i] for i in together]
            cap = rules['max_per_ref']
            fresh = not ({x, y} & shown) if rules['each_image_once'] else True
            capped = cap and any(contents.count(refs[i]) > cap for i in {x, y} - shown)
            if gap <= 0 or {x, y} & mine or abs(defender[x] - defender[y]) > rules['tolerance']:
                continue
            if not known and (not fresh or capped):
                continue
            # Largest gap; then a pair shown already, the earliest; then the higher best; then ids.
            order = (-known[0], 0, 0, 0) if known else (-np.inf, attackers[x, rival], -x, -y)
            if best is None or (gap, *order) > best[0]:
                best = (gap, *order), known, (x, y)
        if best is None:
            continue
        _, known, pair = best
        if not known:
            known = [len(pairs)]
            pairs.append(pair)
            reasons.append([])
        mine.update(pair)
        reasons[known[0]].append((level, rival, rank))
    return pairs, reasons


@st.composite
def _problems(draw):
    size = draw(st.integers(2, 13))
    small = st.integers(0, draw(st.sampled_from([3, 30])))
    column = st.lists(small, min_size=size, max_size=size)
    defender = np.array(draw(column), np.float32)
    hypothesis.assume(defender.min() < defender.max())
    attackers = np.array([draw(column), draw(column)], np.float32).T
    refs = np.array(draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)))
    out = np.array(draw(st.lists(st.sampled_from([False] * 5 + [True]), min_size=size,
                                 max_size=size)))  # fmt: skip
    rules = {
        'levels': 3,
        'half_width': draw(st.sampled_from([0.1, 0.17, 0.4])),
        'window': draw(st.sampled_from(['equal_width', 'quantile'])),
        'tolerance': draw(st.sampled_from([0.0, 1.0, 4.0, np.inf])),
        'top_k': draw(st.integers(1, 3)),
        'max_per_ref': draw(st.sampled_from([None, 1, 2, 3])),
        'each_image_once': draw(st.booleans()),
    }
    return defender, attackers, refs, out, rules


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(_problems(), st.sampled_from([1, 3]))
def test_search_equals_brute_force_over_all_pairs(problem, candidates):
    defender, attackers, refs, out, rules = problem
    # Shuffled rows: ties must go by image id, here 'a', 'b', ..., not by row.
    ids = np.array([chr(ord('a') + i) for i in range(len(defender))], object)
    rows = np.random.default_rng(len(defender)).permutation(len(defender))
    table = search(
        defender[rows],
        attackers[rows],
        image_ids=ids[rows],
        ref_ids=refs[rows].astype(str),
        exclude=set(ids[out]),
        candidates=candidates,
        chunk_size=4,
        **rules,
    )
    windows = list(zip(*level_windows(defender, 3, rules['window'], rules['half_width']),
                       strict=True))  # fmt: skip
    pairs, reasons = _brute_force(defender, attackers, refs, windows, out, rules)
    found = list(zip(table['image_id_best'], table['image_id_worst'], strict=True))
    assert found == [(ids[x], ids[y]) for x, y in pairs]
    listed = [
        [(r['level'], int(r['attacker'][-1]), r['rank']) for r in json.loads(text)]
        for text in table['reasons']
    ]
    assert listed == reasons


@pytest.mark.parametrize(
    ('defender', 'attacker', 'pair'),
    [
        # The first high has a partner in the lists; a high outside them has a far better one.
        ([10, 0, 20, 20, 10], [100, 90, 85, 0, 80], (2, 3)),
        # Gaps are equal; the smaller id has its partner outside the lists.
        ([0, 10, 10, 10, 0], [10, 10, 0, 0, 0], (0, 4)),
    ],
)
def test_the_best_pair_is_found_outside_the_candidate_lists(defender, attacker, pair):
    table = search(
        np.array(defender, np.float32),
        np.array(attacker, np.float32)[:, None],
        levels=1,
        half_width=1,
        tolerance=1,
        candidates=2,
    )
    assert (table['image_id_best'][0], table['image_id_worst'][0]) == pair


@pytest.fixture(scope='module')
def problem():
    rng = np.random.default_rng(3)
    quality = rng.random(3000)
    defender = (quality + 0.1 * rng.standard_normal(3000)).astype(np.float32)
    attackers = (quality[:, None] + 0.2 * rng.standard_normal((3000, 2))).round(2)
    ids = np.array([f'image{i:04d}' for i in range(3000)], object)
    refs = np.array([f'ref{i % 40:02d}' for i in range(3000)], object)
    return defender, attackers.astype(np.float32), ids, refs


@pytest.mark.parametrize('chunk_size', [128, 700, 5000])
def test_candidate_lists_are_exact_for_any_chunk_size(problem, chunk_size):
    defender, attackers, _, _ = problem
    low, high = level_windows(defender, 6)
    highs, lows = candidate_lists(defender, attackers, low, high, 8, chunk_size=chunk_size)
    for level in range(6):
        members = np.flatnonzero((defender > low[level]) & (defender < high[level]))
        for rival in range(2):
            scores = attackers[members, rival]
            for found, sign in ((highs, -1), (lows, 1)):
                expected = members[np.argsort(sign * scores, kind='stable')[:8]]
                found = found[rival, level]
                np.testing.assert_array_equal(found[found >= 0], expected)


def test_result_depends_on_neither_chunks_nor_candidates_nor_row_order(problem):
    defender, attackers, ids, refs = problem
    rules = {'top_k': 3, 'tolerance': 0.02, 'max_per_ref': 2}
    whole = search(defender, attackers, image_ids=ids, ref_ids=refs, **rules)
    rows = np.random.default_rng(0).permutation(3000)
    parts = search(
        defender[rows],
        attackers[rows],
        image_ids=ids[rows],
        ref_ids=refs[rows],
        chunk_size=700,
        candidates=2,
        **rules,
    )
    assert list(whole) == _COLUMNS and len(whole['rank']) > 20
    for key in whole:
        np.testing.assert_array_equal(whole[key], parts[key])


def test_pairs_respect_tolerance_cap_exclusion_and_single_use(problem):
    defender, attackers, ids, refs = problem
    rules = {'image_ids': ids, 'ref_ids': refs, 'top_k': 4, 'tolerance': 0.03}
    first = search(defender, attackers, **rules)
    used = np.concatenate([first['image_id_best'], first['image_id_worst']])
    assert len(set(used)) == len(used)
    contents = np.concatenate([first['ref_id_best'], first['ref_id_worst']])
    assert np.unique(contents.astype(str), return_counts=True)[1].max() == 2
    assert (first['attacker_gap'] > 0).all() and (abs(first['defender_gap']) <= 0.03).all()
    second = search(defender, attackers, exclude=set(used), **rules)
    assert len(second['rank']) > 10
    assert not set(used) & {*second['image_id_best'], *second['image_id_worst']}


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(st.lists(st.tuples(st.integers(0, 20), st.integers(-9, 9)), min_size=3,
                           max_size=25, unique_by=lambda x: x[1]))  # fmt: skip
def test_best_pairs_are_invariant_to_monotone_maps_of_the_attacker(rows):
    defender, attacker = np.array(rows, np.float32).T
    hypothesis.assume(defender.min() < defender.max())
    rules = {'levels': 3, 'half_width': 0.17, 'each_image_once': False, 'chunk_size': 4}
    pairs = [
        search(defender, np.stack([x, x], -1), **rules)
        for x in (attacker, np.exp(attacker / 3), attacker**3 - 7)
    ]
    for other in pairs[1:]:
        for key in ('level', 'image_id_best', 'image_id_worst'):
            np.testing.assert_array_equal(pairs[0][key], other[key])


def test_equal_width_levels_follow_the_toolbox_rule():
    low, high = level_windows(np.array([20.0, 50.0, 120.0]), 6, 'equal_width', 0.09)
    centres = 20 + (np.arange(6) + 0.5) * 100 / 6
    np.testing.assert_allclose(low, centres - 9, rtol=1e-6)
    np.testing.assert_allclose(high, centres + 9, rtol=1e-6)


def test_quantile_levels_hold_equal_shares():
    scores = np.random.default_rng(0).exponential(size=1000).astype(np.float32)
    low, high = level_windows(scores, 10, 'quantile', 0.05)
    held = ((scores[:, None] > low) & (scores[:, None] < high)).sum(0)
    assert held.tolist() == [100] * 10


def test_levels_with_one_image_or_none_give_no_pair():
    defender = np.array([0.0, 0.01, 0.5, 1.0], np.float32)
    attacker = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    table = search(defender, attacker, levels=4, half_width=0.2)
    assert table['level'].tolist() == [0]
    assert (table['image_id_best'][0], table['image_id_worst'][0]) == (1, 0)
    nothing = search(defender, attacker * 0, levels=4, half_width=0.2)
    assert list(nothing) == _COLUMNS and all(len(column) == 0 for column in nothing.values())


def test_zero_and_negative_zero_are_one_defender_score():
    defender = np.array([-1.0, -0.0, 0.0, 1.0], np.float32)
    attacker = np.array([[9.0], [1.0], [2.0], [-9.0]], np.float32)
    table = search(defender, attacker, levels=1, half_width=0.25)
    assert (table['image_id_best'][0], table['image_id_worst'][0]) == (2, 1)


def _scores():
    rng = np.random.default_rng(5)
    quality = rng.random(400)
    noisy = {name: quality + 0.15 * rng.standard_normal(400) for name in ('model', 'a', 'b')}
    return noisy | {'a': -np.exp(2 * noisy['a'])}, {'model': True, 'a': False, 'b': True}


def test_compete_takes_both_roles_and_merges_pairs_with_all_their_reasons():
    scores, higher = _scores()
    scores['a'] = -scores['a']  # now a distance that grows with quality: orientation must matter
    table = compete(scores, higher, ['model'], ['a', 'b'], top_k=2)
    roles = {(r, d, a) for r, d, a in zip(table['role'], table['defender'], table['attacker'],
                                          strict=True)}  # fmt: skip
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
    twin = compete(
        scores | {'c': scores['b']}, higher | {'c': True}, ['model'], ['b', 'c'], roles=['defender']
    )
    assert all(
        [r['attacker'] for r in json.loads(text)][:2] == ['b', 'c'] for text in twin['reasons']
    )


def test_tolerance_holds_for_every_reason_of_a_merged_pair():
    scores, higher = _scores()
    close = compete(scores, higher, ['model'], ['a', 'b'], tolerance=3, top_k=3, half_width=0.2)
    reasons = [json.loads(text) for text in close['reasons']]
    assert max(len(r) for r in reasons) > 1
    assert all(abs(r['defender_gap']) <= 3 for pair in reasons for r in pair)
    assert all(r['attacker_gap'] != 0 for pair in reasons for r in pair)


def test_a_model_among_the_rivals_meets_every_opponent_once():
    scores, higher = _scores()
    table = compete(scores, higher, ['model', 'b'], ['model', 'b'], each_image_once=False)
    reasons = [r for text in table['reasons'] for r in json.loads(text)]
    contests = [(r['defender'], r['attacker'], r['level']) for r in reasons]
    assert len(contests) == len(set(contests)) and ('model', 'model', 0) not in contests


def test_percentile_scale_ignores_single_outliers_and_clips_the_defender_only():
    scores, higher = _scores()
    scores['model'] = np.append(np.linspace(0, 1, 5000), 1e6)
    scores['a'] = -np.arange(5001.0)
    scaled = percentile_scale(scores['model'])
    assert 99 < scaled[4999] < 101 and scaled[5000] > 1e6
    table = compete(scores, higher, ['model'], ['a'], roles=['defender'], levels=3, half_width=0.17)
    assert table['level'].tolist() == [0, 1, 2]
    assert table['defender_best'].max() == 100 and table['attacker_best'].max() > 100


def test_mappings_put_raw_scores_on_the_common_scale():
    scores, higher = _scores()
    mappings = {'model': lambda x: 50 * x, 'a': lambda x: 40 - 5 * x, 'b': lambda x: 50 * x}
    table = compete(scores, higher, ['model'], ['a', 'b'], mappings=mappings)
    row = np.flatnonzero(table['attacker'] == 'a')[0]
    image = table['image_id_best'][row]
    assert table['attacker_best'][row] == np.float32(40 - 5 * np.float32(scores['a'][image]))
    with pytest.raises(ValueError, match="mapping of 'a' is not monotone"):
        compete(scores, higher, ['model'], ['a'], mappings=mappings | {'a': lambda x: x})
    with pytest.raises(ValueError, match="No mapping for 'b'"):
        compete(scores, higher, ['model'], ['b'], mappings={'model': mappings['model']})


def test_oriented_turns_distances_round():
    np.testing.assert_array_equal(oriented(np.array([1, 2]), False), [-1, -2])


def test_errors_name_the_column_and_the_count():
    scores, higher = _scores()
    bad = scores['b'].copy()
    bad[:3] = np.nan
    bad[3] = np.inf
    with pytest.raises(ValueError, match=r"'b' hold 3 NaN and 1 infinite values among 400"):
        compete(scores | {'b': bad}, higher, ['model'], ['b'])
    with pytest.raises(ValueError, match='must name columns'):
        compete(scores, higher, ['model'], ['ssim'])
    with pytest.raises(ValueError, match=r"Scores 'a': The 0\.1 and 99\.9 percentiles"):
        compete(scores | {'a': np.ones(400)}, higher, ['model'], ['a'])
    two = np.array([[0.0], [1.0]], np.float32)
    with pytest.raises(ValueError, match="image_ids must be unique, but 'x'"):
        search(two[:, 0], two, image_ids=['x', 'x'])
    with pytest.raises(ValueError, match=r"Defender 'ssim': .* same score, so it has no levels"):
        search(two[:, 0] * 0, two, defender_name='ssim')
    with pytest.raises(ValueError, match='1 attackers need as many different names'):
        search(two[:, 0], two, attacker_names=['a', 'b'])
    with pytest.raises(ValueError, match='window must be'):
        search(two[:, 0], two, window='bins')
    with pytest.raises(ValueError, match='top_k must be at least 1'):
        search(two[:, 0], two, top_k=0)
