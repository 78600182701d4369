"""Votes to mean opinion scores: bias, screening and intervals against plain re-computation."""

import numpy as np
import pytest
import scipy.stats

from iqa_jax.study.panel import simulate_votes
from iqa_jax.study.scaling import mos_from_votes


def _votes(table):
    """A votes table of a [raters, images] array; nan is no vote."""
    rater, image = np.nonzero(~np.isnan(table))
    return {
        'rater_id': np.array([f'r{i:03d}' for i in rater], object),
        'image_id': np.array([f'i{i:03d}' for i in image], object),
        'vote': table[rater, image],
    }


def _panel(raters=20, images=30, bias=8.0, noise=5.0, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(35, 65, images)
    offset = rng.normal(0, bias, raters)
    table = quality + offset[:, None] + rng.normal(0, noise, (raters, images))
    table[rng.random(table.shape) < missing] = np.nan
    return quality, offset, table.clip(0, 100)


def test_full_design_equals_the_p913_formulas():
    _, _, table = _panel()
    images, raters = mos_from_votes(_votes(table), screen=False)
    bias = (table - table.mean(0)).mean(1)
    clean = table - bias[:, None]
    np.testing.assert_allclose(raters['bias'], bias, atol=1e-10)
    np.testing.assert_allclose(images['mos'], table.mean(0), atol=1e-10)
    np.testing.assert_allclose(images['mos_std'], clean.std(0, ddof=1), atol=1e-10)
    error = scipy.stats.sem(clean, 0)
    low, high = scipy.stats.t.interval(0.95, 19, clean.mean(0), error)
    np.testing.assert_allclose(images['standard_error'], error, atol=1e-10)
    np.testing.assert_allclose([images['low'], images['high']], [low, high], atol=1e-9)
    np.testing.assert_allclose(
        raters['inconsistency'], (clean - clean.mean(0)).std(1, ddof=1), atol=1e-10
    )
    assert images['votes'].tolist() == [20] * 30 and raters['votes'].tolist() == [30] * 20


def test_noise_free_votes_of_an_incomplete_design_are_solved_exactly():
    quality, offset, table = _panel(bias=8, noise=0, missing=0.7)
    images, raters = mos_from_votes(_votes(table), screen=False)
    level = offset.mean()  # what no vote can tell
    np.testing.assert_allclose(raters['bias'], offset - level, atol=1e-9)
    np.testing.assert_allclose(images['mos'], quality + level, atol=1e-9)
    np.testing.assert_allclose(images['mos_std'], 0, atol=1e-9)


def test_removing_bias_brings_an_incomplete_design_closer_to_the_truth():
    quality, _, table = _panel(raters=24, images=80, bias=15, noise=6, missing=0.6, seed=4)
    errors = []
    for remove_bias in (True, False):
        images, _ = mos_from_votes(_votes(table), remove_bias=remove_bias, screen=False)
        errors.append(np.std(images['mos'] - quality))
    assert errors[0] < 0.6 * errors[1]


def _bt500(table):
    """BT.500 screening of complete, already unbiased votes, rater by rater and image by image."""
    excluded = []
    for rater in range(len(table)):
        p = q = 0
        for image in range(table.shape[1]):
            votes = table[:, image]
            limit = 2 if 2 <= scipy.stats.kurtosis(votes, fisher=False) <= 4 else 20**0.5
            p += table[rater, image] > votes.mean() + limit * votes.std(ddof=1)
            q += table[rater, image] < votes.mean() - limit * votes.std(ddof=1)
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
    _, raters = mos_from_votes(_votes(table))
    assert raters['excluded'].tolist() == _bt500(clean)
    assert raters['excluded'][3] and not raters['excluded'][9]
    for excluded, reason in zip(raters['excluded'], raters['reason'], strict=True):
        assert ('BT.500' in reason) == excluded
    nobody, _ = mos_from_votes(_votes(table), screen=False)
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


def test_repeated_votes_count_once_and_rows_may_come_in_any_order():
    _, _, table = _panel(raters=8, images=10, missing=0.3, seed=1)
    votes = _votes(table)
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
    images, raters = mos_from_votes(_votes(table))
    assert raters['excluded'][3] and images['votes'][40] == 0 and np.isnan(images['mos'][40])


def test_errors_are_sentences():
    good = {'rater_id': ['a'], 'image_id': ['x'], 'vote': [10.0]}
    with pytest.raises(ValueError, match=r"lacks the columns \['vote'\]"):
        mos_from_votes({key: good[key] for key in ('rater_id', 'image_id')})
    with pytest.raises(ValueError, match='1 of 1 votes are NaN or outside'):
        mos_from_votes(good | {'vote': [101.0]})
    with pytest.raises(ValueError, match='empty'):
        mos_from_votes({key: [] for key in good})
