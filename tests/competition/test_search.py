"""gMAD search against a brute force over all pairs, and the laws it claims."""

import itertools
import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from iqa_jax.competition.search import search

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
    'gap',
    'defender_gap',
    'reasons',
]


def _windows(defender, rules):
    """The windows of the rules, written down a second time in float64."""
    centres, reach = (np.arange(3) + 0.5) / 3, rules['half_width']
    if rules['window'] == 'equal_width':
        span = float(np.ptp(defender))
        ends = [float(defender.min()) + span * (centres + sign * reach) for sign in (-1, 1)]
        return [end.astype(np.float32) for end in ends]
    shares = [(centres - reach).clip(0, 1), (centres + reach).clip(0, 1)]
    low, high = (np.quantile(defender.astype(np.float64), x).astype(np.float32) for x in shares)
    return np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))


def _holds(rules, x, y, low, high):
    """Does a defender with scores x and y hold the pair equal inside the level?"""
    tolerance = np.inf if rules['tolerance'] is None else rules['tolerance']
    if abs(x - y) > tolerance:
        return False
    if rules['engine'] == 'exact' and rules['tolerance'] is not None:
        return low < (x + y) / 2 < high
    return low < x < high and low < y < high


def _worth(rules, defender_gap, attacker_gap):
    return attacker_gap - (abs(defender_gap) if rules['objective'] == 'disagreement' else 0)


def _brute_force(defender, attackers, refs, levels, out, rules):
    """All ordered pairs of each level, under the rules as `search` states them."""
    pairs, reasons, own = [], [], {}
    defender, attackers = defender.astype(float), attackers.astype(float)
    for rank, level, rival in itertools.product(
        range(rules['top_k']), range(len(levels)), range(attackers.shape[1])
    ):
        mine = own.setdefault((level, rival), set())
        members = [i for i in range(len(defender)) if not out[i]]
        shown = {image for pair in pairs for image in pair}
        best = None
        for x, y in itertools.permutations(members, 2):
            gap = _worth(
                rules, defender[x] - defender[y], attackers[x, rival] - attackers[y, rival]
            )
            known = [i for i, pair in enumerate(pairs) if set(pair) == {x, y}]
            together = shown | {x, y}
            contents = [refs[i] for i in together]
            cap = rules['max_per_ref']
            fresh = not ({x, y} & shown) if rules['each_image_once'] else True
            capped = cap and any(contents.count(refs[i]) > cap for i in {x, y} - shown)
            held = _holds(rules, defender[x], defender[y], *map(float, levels[level]))
            if gap <= 0 or {x, y} & mine or not held:
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
        'tolerance': draw(st.sampled_from([None, 0.0, 1.0, 4.0, np.inf])),
        'engine': draw(st.sampled_from(['binned', 'exact'])),
        'objective': 'gap',
        'top_k': draw(st.integers(1, 3)),
        'max_per_ref': draw(st.sampled_from([None, 1, 2, 3])),
        'each_image_once': draw(st.booleans()),
    }
    if rules['engine'] == 'exact' and rules['tolerance'] is not None:
        rules['objective'] = draw(st.sampled_from(['gap', 'disagreement']))
    return defender, attackers, refs, out, rules


@hypothesis.settings(max_examples=2000, deadline=None, derandomize=True)
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
    levels = list(zip(*_windows(defender, rules), strict=True))
    pairs, reasons = _brute_force(defender, attackers, refs, levels, out, rules)
    found = list(zip(table['image_id_best'], table['image_id_worst'], strict=True))
    assert found == [(ids[x], ids[y]) for x, y in pairs]
    listed = [
        [(r['level'], int(r['attacker'][-1]), r['rank']) for r in json.loads(text)]
        for text in table['reasons']
    ]
    assert listed == reasons


def _best_of_all_pairs(defender, attacker, low, high, tolerance, engine):
    """(largest gap, best, worst) of one level by all N x N pairs; ties by score, then by number."""
    d, a = defender.astype(float), attacker.astype(float)
    near = np.abs(d[:, None] - d) <= (np.inf if tolerance is None else tolerance)
    if engine == 'exact' and tolerance is not None:
        mean = (d[:, None] + d) / 2
        near &= (mean > low) & (mean < high)
    else:
        inside = (d > low) & (d < high)
        near &= inside[:, None] & inside
    gaps = np.where(near, a[:, None] - a, -np.inf)
    top = gaps.max(initial=-np.inf)
    if top <= 0:
        return None
    pairs = np.argwhere(gaps == top)
    best, worst = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], -a[pairs[:, 0]]))[0]]
    return top, best, worst


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    st.integers(2, 2000),
    st.sampled_from([2, 5, 100, 10**6]),
    st.sampled_from([None, 0.0, 0.01, 0.2]),
    st.sampled_from(['binned', 'exact']),
    st.sampled_from(['equal_width', 'quantile']),
    st.integers(0, 10**6),
)
def test_the_best_pair_of_up_to_2000_images(size, grades, tolerance, engine, window, seed):
    rng = np.random.default_rng(seed)
    # A skewed defender leaves levels empty or with one image; few grades make ties and duplicates.
    defender = (np.floor(rng.random(size) ** 6 * grades) / grades).astype(np.float32)
    hypothesis.assume(defender.min() < defender.max())
    attacker = (np.floor((defender + rng.random(size)) * grades) / grades).astype(np.float32)
    rules = {'levels': 3, 'half_width': 0.17, 'window': window}
    plain = {'max_per_ref': None, 'each_image_once': False, 'tolerance': tolerance}
    table = search(defender, attacker[:, None], engine=engine, chunk_size=512, **rules, **plain)
    expected = {}
    for level, (low, high) in enumerate(zip(*_windows(defender, rules), strict=True)):
        found = _best_of_all_pairs(defender, attacker, low, high, tolerance, engine)
        if found:
            expected.setdefault(frozenset(map(int, found[1:])), []).append((level, *found))
    reasons = [json.loads(text) for text in table['reasons']]
    assert sorted((r['level'], r['gap']) for row in reasons for r in row) == sorted(
        (level, gap) for row in expected.values() for level, gap, *_ in row
    )
    pairs = zip(table['image_id_best'], table['image_id_worst'], strict=True)
    if len(table['level']) == len(expected):  # else a tie took a pair that is shown already
        assert {frozenset(pair) for pair in pairs} == set(expected)


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
    assert (first['gap'] > 0).all() and (abs(first['defender_gap']) <= 0.03).all()
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


def test_errors_say_what_to_mend():
    two = np.array([[0.0], [1.0]], np.float32)
    with pytest.raises(ValueError, match="image_ids must be unique, but 'x'"):
        search(two[:, 0], two, image_ids=['x', 'x'])
    with pytest.raises(ValueError, match="Defender 'ssim': .* same score .* no levels"):
        search(two[:, 0] * 0, two, defender_name='ssim')
    with pytest.raises(ValueError, match='1 attackers need as many different names'):
        search(two[:, 0], two, attacker_names=['a', 'b'])
    with pytest.raises(ValueError, match='window must be'):
        search(two[:, 0], two, window='bins')
    with pytest.raises(ValueError, match='top_k must be a whole number of at least 1'):
        search(two[:, 0], two, top_k=0)
