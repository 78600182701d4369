"""Votes to mean opinion scores: bias, screening and intervals against plain re-computation."""

import numpy as np
import pytest
import scipy.stats
from peers import table as peer_table
from peers import votes_of

from iqa_jax.study.panel import simulate_votes
from iqa_jax.study.scaling import METHODS, mos_from_votes
from iqa_jax.study.votes import left_by_bias


def _panel(raters=20, images=30, bias=8.0, noise=5.0, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(35, 65, images)
    offset = rng.normal(0, bias, raters)
    table = quality + offset[:, None] + rng.normal(0, noise, (raters, images))
    table[rng.random(table.shape) < missing] = np.nan
    return quality, offset, table.clip(0, 100)


def test_full_design_equals_the_p913_formulas():
    _, _, table = _panel()
    images, raters = mos_from_votes(votes_of(table), method='bias')
    bias = (table - table.mean(0)).mean(1)
    clean = table - bias[:, None]
    np.testing.assert_allclose(raters['bias'], bias, atol=1e-10)
    np.testing.assert_allclose(images['mos'], table.mean(0), atol=1e-10)
    # Of 600 votes 20 biases cost 20 degrees of freedom, and 30 scores 30, less the common level.
    freedom = (600 - 20 - 30 + 1) / 30
    std = np.sqrt(((clean - clean.mean(0)) ** 2).sum(0) / freedom)
    np.testing.assert_allclose(images['mos_std'], std, atol=1e-10)
    error = std / np.sqrt(20)
    low, high = scipy.stats.t.interval(0.95, freedom, clean.mean(0), error)
    np.testing.assert_allclose(images['standard_error'], error, atol=1e-10)
    np.testing.assert_allclose([images['low'], images['high']], [low, high], atol=1e-9)
    np.testing.assert_allclose(
        raters['inconsistency'], (clean - clean.mean(0)).std(1, ddof=1), atol=1e-10
    )
    assert images['votes'].tolist() == [20] * 30 and raters['votes'].tolist() == [30] * 20


def test_the_degrees_of_freedom_are_those_of_the_least_squares_fit():
    _, _, table = _panel(raters=9, images=7, seed=5)
    for skip in (0, 3):
        table[np.arange(9), (np.arange(9) * (skip + 1) + skip) % 7] = np.nan
    rater, image = np.nonzero(~np.isnan(table))
    n = len(rater)
    design = np.zeros((n, 16))
    design[np.arange(n), image] = design[np.arange(n), 7 + rater] = 1
    inverse = np.linalg.pinv(design.T @ design)
    leverage = np.einsum('ij,jk,ik->i', design, inverse, design)
    freedom, variance = left_by_bias(table)
    np.testing.assert_allclose(freedom, np.bincount(image, 1 - leverage), atol=1e-9)
    assert freedom.sum() == pytest.approx(n - 16 + 1)
    # Of differences of scores, which no level of the biases changes.
    weights = np.array([(image == i) / (image == i).sum() for i in range(7)])
    by_bias = np.eye(9) - np.full((9, 9), 1 / 9)
    votes_to_bias = by_bias @ inverse[7:] @ design.T
    means = weights - weights @ design[:, 7:] @ votes_to_bias
    np.testing.assert_allclose(variance, (means**2).sum(1), atol=1e-9)


@pytest.mark.parametrize('each', [1, 2, 5])
def test_intervals_of_raters_with_few_votes_hold_the_truth(each):
    inside, spread = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        images, raters = 10, 150 // each
        table, load = np.full((raters, images), np.nan), np.zeros(raters)
        quality, bias = rng.uniform(35, 65, images), rng.normal(0, 6, raters)
        for i in range(images):  # 15 votes each, evenly by lot
            who = np.lexsort((rng.random(raters), load))[:15]
            load[who] += 1
            table[who, i] = quality[i] + bias[who] + rng.normal(0, 8, 15)
        scores, _ = mos_from_votes(votes_of(table.clip(0, 100)), method='bias')
        level = np.mean(scores['mos'] - quality)
        inside.append((scores['low'] - level < quality) & (quality < scores['high'] - level))
        spread.append(scores['mos_std'] ** 2)
    assert 0.92 < np.mean(inside) < 0.99
    # A single vote cannot tell bias from noise: both are in the spread.
    assert np.sqrt(np.mean(spread)) == pytest.approx(10 if each == 1 else 8, rel=0.07)


def test_a_single_vote_moves_the_image_and_not_the_panel():
    table = np.vstack([_panel(noise=4)[2], np.full(30, np.nan)])
    plain, _ = mos_from_votes(votes_of(table), method='bias')
    table[20, 3] = 99.0
    with_it, raters = mos_from_votes(votes_of(table), method='bias')
    same = np.arange(30) != 3
    np.testing.assert_allclose(with_it['mos'][same], plain['mos'][same], atol=1e-9)
    assert with_it['mos'][3] > plain['mos'][3] and with_it['mos_std'][3] > plain['mos_std'][3]
    assert raters['bias'][20] > 20  # as it was given, against the scores


def test_noise_free_votes_of_an_incomplete_design_are_solved_exactly():
    quality, offset, table = _panel(bias=8, noise=0, missing=0.7)
    images, raters = mos_from_votes(votes_of(table), method='bias')
    level = offset.mean()  # what no vote can tell
    np.testing.assert_allclose(raters['bias'], offset - level, atol=1e-9)
    np.testing.assert_allclose(images['mos'], quality + level, atol=1e-9)
    np.testing.assert_allclose(images['mos_std'], 0, atol=1e-9)


def test_removing_bias_brings_an_incomplete_design_closer_to_the_truth():
    quality, _, table = _panel(raters=24, images=80, bias=15, noise=6, missing=0.6, seed=4)
    errors = []
    for method in ('bias', 'mean'):
        images, _ = mos_from_votes(votes_of(table), method=method)
        errors.append(np.std(images['mos'] - quality))
    assert errors[0] < 0.6 * errors[1]


def _bt500(table):
    """BT.500 screening of complete, already unbiased votes, rater by rater and image by image."""
    kurtosis = [scipy.stats.kurtosis(votes, fisher=False) for votes in table.T]
    excluded = []
    for rater in range(len(table)):
        p = q = 0
        for image in range(table.shape[1]):
            votes = table[:, image]
            limit = (2 if 2 <= kurtosis[image] <= 4 else 20**0.5) * votes.std(ddof=1)
            p += table[rater, image] >= votes.mean() + limit
            q += table[rater, image] <= votes.mean() - limit
        excluded.append((p + q) / table.shape[1] > 0.05 and abs(p - q) / (p + q) < 0.3)
    return excluded


def test_screening_equals_bt500_written_out():
    _, _, table = _panel(raters=18, images=40, bias=0, noise=6, seed=2)
    rng = np.random.default_rng(0)
    table[3] = rng.uniform(0, 100, 40)
    table[7] = 100 - table[7] + rng.normal(0, 15, 40)
    table[9, :6] = 100.0  # outliers to one side only: kept
    table = table.clip(0, 100)
    clean = table - (table - table.mean(0)).mean(1)[:, None]
    _, raters = mos_from_votes(votes_of(table))
    assert raters['excluded'].tolist() == _bt500(clean)
    assert raters['excluded'][3] and not raters['excluded'][9]
    for excluded, reason in zip(raters['excluded'], raters['reason'], strict=True):
        assert ('BT.500' in reason) == excluded
    nobody, _ = mos_from_votes(votes_of(table), method='bias')
    assert (nobody['votes'] == 18).all()


def test_most_spammers_and_few_others_are_excluded_and_the_scores_recovered():
    ids = [f'i{i:03d}' for i in range(150)]
    quality = np.random.default_rng(0).uniform(15, 85, 150)
    panel = {'raters': 40, 'bias_std': 6, 'noise_std': 10, 'votes_per_image': 25}
    caught, spammers, wronged, inside = 0, 0, 0, []
    for seed in range(8):
        votes = simulate_votes(ids, quality, spammer_fraction=0.15, seed=seed, **panel)
        images, raters = mos_from_votes(votes)
        spammer = raters['inconsistency'] > 25
        spammers += spammer.sum()
        caught += raters['excluded'][spammer].sum()
        wronged += raters['excluded'][~spammer].sum()
        assert np.corrcoef(images['mos'], quality)[0, 1] > 0.985
        shift = np.mean(images['mos'] - quality)  # the level of the panel as a whole
        low, high = images['low'] - shift, images['high'] - shift
        inside.append(((low < quality) & (quality < high)).mean())
    assert caught > 0.75 * spammers > 20 and wronged < 0.03 * (8 * 40 - spammers)
    assert 0.92 < np.mean(inside) < 0.98


@pytest.mark.parametrize('scale', [1.0, 0.3, 1 / 7])
def test_votes_at_bt500s_limit_are_outliers(scale):
    # Of 41 votes two opposite ones lie exactly sqrt(20) standard deviations from the mean.
    table = np.full((41, 10), 50.0)
    table[0], table[1] = 50 + 30 * scale, 50 - 30 * scale
    table[:2, ::2] = table[1::-1, ::2]
    _, raters = mos_from_votes(votes_of(table), method='bt500')
    assert np.flatnonzero(raters['excluded']).tolist() == [0, 1]
    assert raters['reason'][0] == 'BT.500: 10 of 10 votes are outliers, to both sides'


def test_screening_alone_leaves_the_bias_in():
    table = peer_table('grades')
    images, raters = mos_from_votes(votes_of(table), method='bt500')
    assert raters['excluded'].tolist() == _bt500(table) and raters['excluded'].sum() == 3
    kept = table[~raters['excluded']]
    np.testing.assert_allclose(images['mos'], kept.mean(0), atol=1e-10)
    np.testing.assert_allclose(images['mos_std'], kept.std(0, ddof=1), atol=1e-10)


def test_z_scores_are_mapped_as_live_does():
    _, _, table = _panel(raters=12, images=25, seed=3)
    table[4] = 50.0  # says nothing
    images, raters = mos_from_votes(votes_of(table), method='zscore')
    kept = np.delete(table, 4, axis=0)
    z = (kept - kept.mean(1, keepdims=True)) / kept.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(images['mos'], (100 * (z + 3) / 6).mean(0), atol=1e-10)
    assert raters['excluded'].tolist() == [i == 4 for i in range(12)]
    assert raters['reason'][4] == 'z-score: all votes are the same' and images['votes'][0] == 11
    np.testing.assert_allclose(raters['bias'], (table - kept.mean(0)).mean(1), atol=1e-10)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_gives_the_same_form_of_table(method):
    _, _, table = _panel(raters=16, images=30, missing=0.2, seed=6)
    images, raters = mos_from_votes(votes_of(table), method=method)
    assert list(images) == [
        'image_id', 'mos', 'mos_std', 'votes', 'standard_error', 'low', 'high'
    ]  # fmt: skip
    assert list(raters) == [
        'rater_id', 'bias', 'inconsistency', 'votes', 'excluded', 'reason', 'bias_low',
        'bias_high', 'inconsistency_low', 'inconsistency_high',
    ]  # fmt: skip
    assert all(len(x) == 30 for x in images.values())
    assert all(len(x) == 16 for x in raters.values())
    assert ((images['low'] <= images['mos']) & (images['mos'] <= images['high'])).all()
    assert images['votes'].dtype == np.int32 and raters['excluded'].dtype == bool
    n = (~np.isnan(table)).sum(1)
    reach = 1.96 * raters['inconsistency'] / np.sqrt(n)
    np.testing.assert_allclose(raters['bias_high'] - raters['bias'], reach, atol=1e-9)
    spread = raters['inconsistency_high'] - raters['inconsistency']
    np.testing.assert_allclose(spread, reach / np.sqrt(2), atol=1e-9)


@pytest.mark.parametrize('method', METHODS)
def test_names_and_a_raters_constant_change_nothing_but_the_bias(method):
    _, _, table = _panel(raters=16, images=30, missing=0.2, seed=6)
    images, raters = mos_from_votes(votes_of(table), method=method)
    order = np.random.default_rng(0).permutation(16)
    others, renamed = mos_from_votes(votes_of(table[order]), method=method)
    np.testing.assert_allclose(others['mos'], images['mos'], atol=1e-6)
    np.testing.assert_allclose(renamed['bias'], raters['bias'][order], atol=1e-6)
    np.testing.assert_allclose(renamed['inconsistency'], raters['inconsistency'][order], atol=1e-6)
    if method in ('mean', 'bt500'):
        return  # they leave the bias in the scores
    table = 0.8 * table  # room for the constant
    images, raters = mos_from_votes(votes_of(table), method=method)
    table[5] += 16.0
    moved, shifted = mos_from_votes(votes_of(table), method=method)
    level = 0.0 if method == 'zscore' else 1.0  # biases add up to zero: a 16th for everyone
    np.testing.assert_allclose(moved['mos'], images['mos'] + level, atol=1e-6)
    np.testing.assert_allclose(moved['mos_std'], images['mos_std'], atol=1e-6)
    expected = raters['bias'] + 16.0 * (np.arange(16) == 5) - 1.0
    np.testing.assert_allclose(shifted['bias'], expected, atol=1e-6)
    np.testing.assert_allclose(shifted['inconsistency'], raters['inconsistency'], atol=1e-6)


@pytest.mark.parametrize('method', [name for name in METHODS if name != 'zscore'])
def test_one_rater_and_votes_all_the_same(method):
    alone, raters = mos_from_votes(votes_of(np.array([[10.0, 40.0, 90.0]])), method=method)
    np.testing.assert_allclose(alone['mos'], [10, 40, 90], atol=1e-9)
    assert np.isnan(alone['standard_error']).all() and not raters['excluded'].any()
    same, raters = mos_from_votes(votes_of(np.full((5, 4), 70.0)), method=method)
    np.testing.assert_allclose(same['mos'], 70, atol=1e-9)
    np.testing.assert_allclose(same['mos_std'], 0, atol=1e-9)
    np.testing.assert_allclose([raters['bias'], raters['inconsistency']], 0, atol=1e-9)
    assert not raters['excluded'].any()


def test_repeated_votes_count_once_and_rows_may_come_in_any_order():
    _, _, table = _panel(raters=8, images=10, missing=0.3, seed=1)
    votes = votes_of(table)
    twice = {key: np.concatenate([column, column[:9]]) for key, column in votes.items()}
    twice['vote'] = twice['vote'].copy()
    twice['vote'][:9] += 3
    twice['vote'][-9:] -= 3
    rows = np.random.default_rng(0).permutation(len(twice['vote']))
    plain, _ = mos_from_votes(votes)
    other, _ = mos_from_votes({key: column[rows] for key, column in twice.items()})
    for key in ('mos', 'mos_std', 'votes'):
        np.testing.assert_allclose(other[key], plain[key], atol=1e-9)


def test_images_without_enough_votes_stay_in_the_table_as_nan():
    votes = {'rater_id': ['a', 'b', 'a'], 'image_id': ['x', 'x', 'y'], 'vote': [10, 20, 30]}
    images, _ = mos_from_votes(votes)
    assert images['votes'].tolist() == [2, 1] and np.isnan(images['mos_std'][1])
    assert np.isfinite(images['mos']).all()
    _, _, table = _panel(raters=18, images=40, bias=0, noise=6, seed=2)
    table[3] = np.random.default_rng(0).uniform(0, 100, 40)
    table = np.column_stack([table, np.full(18, np.nan)])
    table[3, 40] = 50  # only the rater who will be excluded saw the last image
    images, raters = mos_from_votes(votes_of(table))
    assert raters['excluded'][3] and images['votes'][40] == 0
    for name in ('mos', 'mos_std', 'standard_error', 'low', 'high'):
        assert np.isnan(images[name][40]), name


def test_errors_are_sentences():
    good = {'rater_id': ['a'], 'image_id': ['x'], 'vote': [10.0]}
    with pytest.raises(ValueError, match=r"lacks the columns \['vote'\]"):
        mos_from_votes({key: good[key] for key in ('rater_id', 'image_id')})
    with pytest.raises(ValueError, match='1 of 1 votes are NaN or outside'):
        mos_from_votes(good | {'vote': [101.0]})
    with pytest.raises(ValueError, match='empty'):
        mos_from_votes({key: [] for key in good})
    with pytest.raises(ValueError, match="method must be one of mean, .*, ml, not 'median'"):
        mos_from_votes(good, method='median')
    with pytest.raises(ValueError, match='Of 1 raters none is left to scale.*votes are the same'):
        mos_from_votes(good, method='zscore')
