"""The planner's numbers against simulated competitions of known spreads."""

import numpy as np
import pytest
from competitions import NAMES, simulated

from iqa_jax.competition import budget, ranking

KNOWN = {'noise_std': 20.0, 'pair_std': 15.0, 'rater_std': 8.0}


def test_spreads_of_a_pilot_are_those_it_was_made_with():
    rng = np.random.default_rng(0)
    table = simulated(rng, models=5, levels=4, per_level=5, raters=20, **KNOWN)
    found = budget.spreads(table)
    # 400 pairs, 400 raters in contests, 8,000 answers: standard errors of 1 / sqrt(2 n), 4 %, 4 %
    # and 1 %, and 1 % more since the others are subtracted; three of them are allowed.
    assert found['pair_std'] == pytest.approx(15, rel=0.15)
    assert found['rater_std'] == pytest.approx(8, rel=0.15)
    assert found['noise_std'] == pytest.approx(20, rel=0.04)
    # A quarter of the answers, at random, changes no expectation.
    part = rng.uniform(size=len(table['level'])) < 0.25
    thin = budget.spreads({k: v[part] for k, v in table.items()})
    assert thin['noise_std'] == pytest.approx(20, rel=0.08)
    assert thin['pair_std'] == pytest.approx(15, rel=0.25)
    none = simulated(rng, models=4, levels=4, per_level=5, noise_std=10.0, pair_std=0.0)
    assert budget.spreads(none)['pair_std'] < 2


@pytest.mark.parametrize('over', [('raters', 'pairs'), ('raters',), ('pairs',)])
@pytest.mark.parametrize(('per_level', 'raters'), [(2, 10), (4, 20)])
def test_the_expected_half_width_is_that_of_simulated_competitions(per_level, raters, over):
    rng, widths = np.random.default_rng(1), []
    for _ in range(8):
        table = simulated(rng, levels=4, per_level=per_level, raters=raters, **KNOWN)
        matrix = ranking.rank(
            table, NAMES, np.ones((3, 4)), over=over, resamples=300, methods=()
        )['aggressiveness']['matrix']  # fmt: skip
        widths.append(np.nanmean(matrix[..., 2] - matrix[..., 1]) / 2)
    predicted = budget.half_width(4 * per_level, raters, KNOWN, over=over)
    # The documented accuracy; the mean of 48 widths has a standard error of 3 %.
    assert np.mean(widths) == pytest.approx(predicted, rel=0.1)


@pytest.mark.parametrize('over', [('raters', 'pairs'), ('raters',), ('pairs',)])
def test_levels_without_weight_cost_their_pairs(over):
    one_of_four = np.array([[1, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0]])  # the last only attacks
    found = budget.half_width(80, 10, KNOWN, level_weights=one_of_four, over=over)
    assert found == pytest.approx(budget.half_width(20, 10, KNOWN, over=over))
    equal = budget.half_width(80, 10, KNOWN, level_weights=np.full(4, 0.25), over=over)
    assert equal == pytest.approx(budget.half_width(80, 10, KNOWN, over=over))


def test_a_plan_has_every_cell_and_its_cheapest_is_the_cheapest():
    matrix = np.array([[np.nan, 40, 10], [20, np.nan, 30], [5, 15, np.nan]])
    planned = budget.plan(matrix, KNOWN, (6, 12, 24), (5, 10, 20), draws=200)
    assert len(planned['pairs']) == 9 and (np.diff(planned['answers']) >= 0).all()
    np.testing.assert_array_equal(planned['answers'], planned['pairs'] * planned['raters'] * 6)
    for pairs, raters, width in zip(
        *(planned[k].tolist() for k in ('pairs', 'raters', 'half_width')), strict=True
    ):
        assert width == budget.half_width(pairs, raters, KNOWN)
    for column in ('half_width', 'half_width_score'):
        for wanted in planned[column].tolist():
            row = budget.cheapest(planned, wanted, column)
            fits = planned[column] <= wanted
            assert row['answers'] == planned['answers'][fits].min() and row[column] <= wanted
        assert budget.cheapest(planned, planned[column].min() * 0.999, column) is None
    # Of 120 answers per contest, 6 x 20 and 12 x 10 or 24 x 5, the fewest raters.
    assert budget.cheapest(planned, 1e3)['raters'] == 5
    tie = {k: np.array(v) for k, v in {'answers': [9, 9], 'raters': [3, 1], 'w': [1, 1]}.items()}
    assert budget.cheapest(tie, 1, 'w')['raters'] == 1


def test_the_expected_half_width_of_a_score_is_that_of_simulated_competitions():
    rng, widths = np.random.default_rng(2), []
    for _ in range(8):
        table = simulated(rng, levels=4, per_level=3, raters=12, truth=30.0, **KNOWN)
        score = ranking.rank(
            table, NAMES, np.ones((3, 4)), resamples=200, methods=('bradley_terry',)
        )['aggressiveness']['score']['bradley_terry']  # fmt: skip
        widths.append(np.mean(score[:, 2] - score[:, 1]) / 2)
    matrix = np.where(np.eye(3, dtype=bool), np.nan, 30.0)
    planned = budget.plan(matrix, KNOWN, (12,), (12,), draws=1000)
    # 24 widths, each of two noisy percentiles and of a pilot that is itself off.
    assert np.mean(widths) == pytest.approx(planned['half_width_score'][0], rel=0.15)


@pytest.mark.parametrize(
    ('call', 'sentence'),
    [
        (lambda: budget.half_width(1, 5, KNOWN), '1 pairs has no interval; take at least 2'),
        (lambda: budget.half_width(5, 1, KNOWN), '1 raters has no interval'),
        (lambda: budget.half_width(5, 5, KNOWN | {'pair_std': -1.0}), 'pair_std must be 0 or more'),
        (lambda: budget.half_width(5, 5, KNOWN, over=()), "'raters', 'pairs' or both"),
        (lambda: budget.half_width(5, 5, KNOWN, level_weights=np.zeros(3)), 'not all 0'),
        (lambda: budget.plan(np.full((2, 2), np.nan), KNOWN, (2,), (2,)), 'no contest to plan'),
        (lambda: budget.plan(np.ones((2, 2)), KNOWN, (2,), ()), 'one number of pairs and one of r'),
        (
            lambda: budget.spreads(simulated(np.random.default_rng(0), levels=1, per_level=1)),
            'two raters share a pair and a rater has two pairs',
        ),
    ],
)
def test_bad_input_is_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
