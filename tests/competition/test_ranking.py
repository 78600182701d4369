"""Aggressiveness and resistance by hand, intervals by simulation, and the laws they obey."""

import numpy as np
import pytest
import scipy.stats
from competitions import NAMES, simulated

from iqa_jax.competition import preferences, ranking
from iqa_jax.data import tables


def answers(*rows) -> dict:
    """Rows (rater, attacker, defender, level, pair, preference) as preferences."""
    names = ('rater_id', 'attacker', 'defender', 'level', 'pair', 'preference')
    table = {k: np.array([row[i] for row in rows], object) for i, k in enumerate(names)}
    pair = table.pop('pair')
    table |= {f'image_id_{end}': np.array([f'{p}_{end}' for p in pair], object)
              for end in ('best', 'worst')}  # fmt: skip
    table['level'] = table['level'].astype(np.int32)
    return table | {'preference': table['preference'].astype(float)}


SMALL = answers(
    ('r1', 'a', 'b', 0, 'p', 60), ('r2', 'a', 'b', 0, 'p', 20), ('r1', 'a', 'b', 1, 'q', -30),
    ('r1', 'b', 'a', 2, 's', 50), ('r2', 'b', 'a', 2, 't', 90), ('r3', 'b', 'a', 2, 't', 10),
)  # fmt: skip
# Rows: a's and b's shares of images in three levels.
WEIGHTS = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]])


def test_matrices_by_hand():
    p, count, pairs = ranking.mean_preferences(SMALL, ['a', 'b'], 3)
    np.testing.assert_array_equal(p[0, 1], [40, -30, np.nan])
    np.testing.assert_array_equal(p[1, 0], [np.nan, np.nan, 50])
    np.testing.assert_array_equal(count[0, 1], [2, 1, 0])
    np.testing.assert_array_equal(pairs[1, 0], [0, 0, 2])
    assert np.isnan(p[0, 0]).all()
    aggressiveness, resistance = ranking.matrices(p, WEIGHTS)
    # a against b: levels 0 and 1 share the weight of level 2, 0.75 and 0.25.
    assert aggressiveness[0, 1] == pytest.approx(0.75 * 40 - 0.25 * 30)
    assert resistance[1, 0] == pytest.approx(0.75 * 60 + 0.25 * 70)
    assert aggressiveness[1, 0] == pytest.approx(50) and resistance[0, 1] == pytest.approx(50)
    assert np.isnan(np.diag(aggressiveness)).all() and np.isnan(np.diag(resistance)).all()
    # Levels that are answered but hold no image leave nothing to average.
    empty, _ = ranking.matrices(p, np.array([[0.5, 0.5, 0], [1, 0, 0.0]]))
    assert np.isnan(empty[1, 0]) and empty[0, 1] == pytest.approx(40)


@pytest.mark.parametrize('seed', range(3))
def test_a_sample_of_everything_once_is_the_value(seed):
    table = simulated(np.random.default_rng(seed), levels=3)
    table = tables.select(
        table, np.random.default_rng(seed).uniform(size=len(table['level'])) < 0.3
    )
    weights = np.random.default_rng(seed).uniform(0.1, 1, (3, 3))
    design = ranking._design(table, NAMES, weights)
    ones = np.ones((design.sums.shape[1], 1)), np.ones((design.pairs, 1))
    p, _, _ = ranking.mean_preferences(table, NAMES, 3)
    for sample, value in zip(
        ranking._resampled(design, *ones), ranking.matrices(p, weights), strict=True
    ):
        np.testing.assert_allclose(sample[0], value, atol=1e-10)


def test_a_sample_that_counts_twice_is_one_with_everything_there_twice():
    table = simulated(np.random.default_rng(0), levels=2, raters=4)
    weights = np.array([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])
    design = ranking._design(table, NAMES, weights)
    raters = sorted({*table['rater_id'].tolist()})
    count = np.array([2.0, 0, 1, 3])
    twin = np.concatenate([np.repeat(np.flatnonzero(table['rater_id'] == r), int(n))
                           for r, n in zip(raters, count, strict=True)])  # fmt: skip
    p, _, _ = ranking.mean_preferences(tables.select(table, twin), NAMES, 2)
    found, _ = ranking._resampled(design, count[:, None], np.ones((design.pairs, 1)))
    np.testing.assert_allclose(found[0], ranking.matrices(p, weights)[0], atol=1e-10)


def test_names_do_not_matter_and_answers_given_twice_change_nothing():
    table = simulated(np.random.default_rng(1))
    weights = np.random.default_rng(2).uniform(0.1, 1, (3, 4))
    found = ranking.rank(table, NAMES, weights, resamples=50)
    order = [2, 0, 1]
    turned = ranking.rank(table, [NAMES[i] for i in order], weights[order], resamples=50)
    double = {k: np.concatenate([v, v]) for k, v in table.items()}
    double['rater_id'][len(table['level']) :] += 'again'
    twice = ranking.rank(double, NAMES, weights, resamples=50)
    for kind in ranking.KINDS:
        matrix = found[kind]['matrix'][..., 0]
        np.testing.assert_allclose(turned[kind]['matrix'][..., 0], matrix[order][:, order])
        np.testing.assert_allclose(twice[kind]['matrix'][..., 0], matrix, atol=1e-10)
        for method, score in found[kind]['score'].items():
            np.testing.assert_allclose(
                turned[kind]['score'][method][:, 0], score[order, 0], atol=1e-8
            )
            np.testing.assert_array_equal(
                turned[kind]['rank'][method][:, 0], found[kind]['rank'][method][order, 0]
            )
    again = ranking.rank(table, NAMES, weights, resamples=50)
    np.testing.assert_array_equal(
        again['aggressiveness']['matrix'], found['aggressiveness']['matrix']
    )


def test_a_known_order_is_recovered_from_simulated_answers():
    models, rng = [f'm{i}' for i in range(6)], np.random.default_rng(0)
    skill = np.array([0.0, 0.9, 0.35, 0.2, 0.55, 0.75])  # share of attacks that show a real flaw
    rows, quality = [], {}
    for i in range(6):
        for j in range(6):
            for k in range(4) if i != j else ():
                pair = f'{i}_{j}_{k}'
                rows.append((models[j], models[i], k, f'{pair}b', f'{pair}w'))
                quality[f'{pair}w'] = 30.0
                # Who attacks well finds images that differ; so does who attacks the weak.
                quality[f'{pair}b'] = 30 + 60 * skill[i] * (1 - 0.5 * skill[j])
    columns = list(zip(*rows, strict=True))
    names = ('defender', 'attacker', 'level', 'image_id_best', 'image_id_worst')
    rounds = {k: np.array(c, np.int32 if k == 'level' else object)
              for k, c in zip(names, columns, strict=True)}  # fmt: skip
    table = preferences.simulate(rounds, quality, raters=15, noise_std=25.0, seed=rng.integers(99))
    found = ranking.rank(table, models, np.ones((6, 4)), resamples=200)
    expected = scipy.stats.rankdata(-skill)
    for method in ('bradley_terry', 'thurstone', 'perron'):
        np.testing.assert_array_equal(found['aggressiveness']['rank'][method][:, 0], expected)
    np.testing.assert_array_equal(found['resistance']['rank']['bradley_terry'][:, 0], expected)
    place = found['aggressiveness']['rank']['bradley_terry']
    assert (place[:, 1] <= place[:, 0]).all() and (place[:, 0] <= place[:, 2]).all()


@pytest.mark.parametrize('over', [('raters', 'pairs'), ('raters',), ('pairs',)])
def test_intervals_cover_what_they_claim_to(over):
    spreads = {'pair_std': 15.0, 'rater_std': 10.0, 'noise_std': 10.0}
    if 'raters' not in over:
        spreads['rater_std'] = 0.0  # what is not resampled must not vary
    if 'pairs' not in over:
        spreads['pair_std'] = 0.0
    rng, hits = np.random.default_rng(7), []
    for _ in range(50):
        table = simulated(rng, levels=4, per_level=3, raters=15, **spreads)
        found = ranking.rank(
            table, NAMES, np.ones((3, 4)), over=over, resamples=300, methods=()
        )['aggressiveness']['matrix']  # fmt: skip
        low, high = found[..., 1], found[..., 2]
        met = ~np.eye(3, dtype=bool)
        hits += ((low <= 20) & (high >= 20))[met].tolist()
    # 300 independent contests of a true coverage of 0.95: all but one run in a thousand lie here.
    few, many = scipy.stats.binom.interval(0.999, len(hits), 0.95)
    assert few <= sum(hits) <= many


def test_intervals_cover_where_one_level_holds_most_images():
    weights, rng, hits = np.tile([0.7, 0.1, 0.1, 0.1], (3, 1)), np.random.default_rng(5), []
    for _ in range(50):
        table = simulated(rng, levels=4, per_level=4, raters=12)
        found = ranking.rank(table, NAMES, weights, resamples=300, methods=())['aggressiveness']
        low, high = found['matrix'][..., 1], found['matrix'][..., 2]
        hits += ((low <= 20) & (high >= 20))[~np.eye(3, dtype=bool)].tolist()
    few, many = scipy.stats.binom.interval(0.999, len(hits), 0.95)
    assert few <= sum(hits) <= many


def test_pairs_count_by_their_weight():
    design = ranking._design(SMALL, ['a', 'b'], WEIGHTS)
    # a against b: p and q weigh 0.75 and 0.25. b against a: s has one answer of three, t two.
    expected = {'p': 1 / (0.75**2 + 0.25**2), 's': 1 / ((1 / 3) ** 2 + (2 / 3) ** 2)}
    np.testing.assert_allclose(
        ranking._effective_pairs(design), [expected[k] for k in ('p', 'p', 's', 's')]
    )


def test_what_is_not_resampled_adds_nothing():
    rng = np.random.default_rng(0)
    table = simulated(rng, levels=1, per_level=1, raters=6)
    weights = np.ones((3, 1))
    widths = {}
    for over in (('raters',), ('pairs',), ('raters', 'pairs')):
        matrix = ranking.rank(table, NAMES, weights, over=over, resamples=300)['aggressiveness']
        widths[over] = np.nanmean(np.ptp(matrix['matrix'][..., 1:], axis=-1))
    # One pair per contest: its weight cancels.
    assert widths['pairs',] == pytest.approx(0, abs=1e-9)
    assert widths['raters', 'pairs'] == pytest.approx(widths['raters',], rel=1e-9)
    assert widths['raters',] > 1


def test_the_size_of_the_parts_does_not_matter(monkeypatch):
    table = simulated(np.random.default_rng(0))
    whole = ranking.bootstrap(table, NAMES, np.ones((3, 4)), resamples=40)
    monkeypatch.setattr(ranking, '_BATCH', 500)  # ten samples at once
    parts = ranking.bootstrap(table, NAMES, np.ones((3, 4)), resamples=40)
    for one, other in zip(whole, parts, strict=True):
        assert one.shape == (40, 3, 3) and np.ptp(one[:, 0, 1]) > 1
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_a_method_without_a_score_in_many_samples_has_no_interval():
    table = simulated(np.random.default_rng(3), truth=0.0, levels=2, per_level=1, raters=4)
    # Attacks of m0 fail outright, so it is reached from nowhere and the matrix is reducible.
    table['preference'] = np.where(
        table['attacker'] == 'm0', -50.0, np.abs(table['preference']) + 1
    )
    table['preference'][(table['attacker'] == 'm0') & (table['level'] == 1)] = 50.5
    found = ranking.rank(table, NAMES, np.ones((3, 2)), resamples=200)['aggressiveness']
    assert np.isfinite(found['score']['perron'][:, 0]).all()
    assert found['undefined']['perron'] > 20 and np.isnan(found['score']['perron'][:, 1:]).all()
    assert found['undefined']['bradley_terry'] == 0
    assert np.isfinite(found['score']['bradley_terry']).all()


@pytest.mark.parametrize(
    ('change', 'options', 'sentence'),
    [
        ({}, {'models': ['a', 'a']}, 'models must be different'),
        ({}, {'models': ['a', 'x']}, 'name b, which models does not'),
        ({}, {'weights': np.ones((2, 2))}, 'level of 2 is not below the 2'),
        ({}, {'weights': -np.ones((2, 3))}, 'finite and 0 or more'),
        ({}, {'resamples': 0}, 'resamples must be at least 2'),
        ({}, {'over': ('people',)}, "'raters', 'pairs' or both"),
        ({'preference': np.full(6, np.nan)}, {}, '-100..100 and not NaN'),
        ({'rater_id': np.full(6, 'r', object)}, {}, 'over raters needs at least 2 of them, not 1'),
        ({}, {'methods': ('elo',)}, "not 'elo'"),
    ],
)
def test_bad_input_is_a_sentence(change, options, sentence):
    options = {'models': ['a', 'b'], 'weights': np.ones((2, 3))} | options
    with pytest.raises(ValueError, match=sentence):
        ranking.rank(SMALL | change, **({'resamples': 5} | options))
