"""Maximum likelihood of quality, bias and inconsistency: against sureal, and recovery."""

import numpy as np
import peers
import pytest
import scipy.optimize

from iqa_jax.study import maximum_likelihood
from iqa_jax.study.scaling import mos_from_votes

TOLERANCE = 1e-3  # points of 100
SHAPES = ('documented', 'netflix', 'grades', 'partial')


def _panel(raters, images, missing, seed, spread=0.25):
    rng = np.random.default_rng(seed)
    quality, bias = rng.uniform(20, 80, images), rng.normal(0, 6, raters)
    noise = 10 * np.exp(spread * rng.standard_normal(raters))
    table = quality + bias[:, None] + noise[:, None] * rng.standard_normal((raters, images))
    table[rng.random(table.shape) < missing] = np.nan
    return quality, bias - bias.mean(), noise, table


@pytest.mark.parametrize('name', SHAPES)
def test_agrees_with_sureal_on_the_shapes_of_its_examples(name):
    table = peers.table(name)
    fitted = maximum_likelihood.fit(table)
    assert fitted['converged']
    for ours, theirs in (
        ('quality', 'ml'),
        ('bias', 'observer_bias'),
        ('inconsistency', 'observer_inconsistency'),
        ('bias_error', 'observer_bias_std'),
    ):
        np.testing.assert_allclose(fitted[ours], peers.ARCHIVE[f'{name}/{theirs}'], atol=TOLERANCE)
    if name == 'documented':
        return  # a rater without any noise, whom sureal believes without any error
    for ours, theirs in (
        ('quality_error', 'quality_scores_std'),
        ('inconsistency_error', 'observer_inconsistency_std'),
    ):
        np.testing.assert_allclose(fitted[ours], peers.ARCHIVE[f'{name}/{theirs}'], atol=TOLERANCE)


@pytest.mark.parametrize('name', ['netflix', 'grades'])
@pytest.mark.parametrize('method', ['mean', 'bias', 'bt500', 'zscore'])
def test_the_other_methods_agree_with_sureal_on_whole_tables(name, method):
    images, _ = mos_from_votes(peers.votes_of(peers.table(name)), method=method)
    theirs = peers.ARCHIVE[f'{name}/{method}']
    theirs = 100 * (theirs + 3) / 6 if method == 'zscore' else theirs
    np.testing.assert_allclose(images['mos'], theirs, atol=TOLERANCE)


def test_is_the_top_of_the_likelihood():
    _, _, _, table = _panel(24, 40, 0.2, 0)
    held = ~np.isnan(table)

    def loss(x):  # of quality, bias and the log of inconsistency
        residual = (table - x[:40] - x[40:64, None]) / np.exp(x[64:, None])
        return (0.5 * residual**2 + x[64:, None])[held].sum()

    fitted = maximum_likelihood.fit(table)
    x = np.concatenate([fitted['quality'], fitted['bias'], np.log(fitted['inconsistency'])])
    assert np.abs(scipy.optimize.approx_fprime(x, loss, 1e-6)).max() < 1e-3
    for away in np.random.default_rng(1).normal(0, 0.05, (50, len(x))):
        assert loss(x + away) > loss(x)
    assert abs(fitted['bias'].sum()) < 1e-9


def test_recovers_bias_noise_and_quality_with_missing_votes():
    errors, covered = [], {'quality': [], 'bias': [], 'inconsistency': []}
    for seed in range(10):
        quality, bias, noise, table = _panel(40, 120, 0.3, seed, spread=0.5)
        fitted = maximum_likelihood.fit(table)
        level = np.mean(fitted['quality'] - quality)
        truth = {'quality': quality + level, 'bias': bias, 'inconsistency': noise}
        for key, values in truth.items():
            far = np.abs(fitted[key] - values) > 1.96 * fitted[f'{key}_error']
            covered[key].append(1 - far.mean())
        plain = np.nanmean(table, 0) - quality
        errors.append([np.std(fitted['quality'] - quality), np.std(plain)])
    ours, plain = np.mean(errors, axis=0)
    assert ours < 0.75 * plain
    assert 0.9 < np.mean(covered['quality']) < 0.97
    assert 0.9 < np.mean(covered['bias']) < 0.97
    # The likelihood knows no degrees of freedom, so inconsistency comes out a little low.
    assert 0.82 < np.mean(covered['inconsistency']) < 0.97


def test_no_rater_takes_the_scores_over():
    errors = []
    for seed in range(20):  # with so few raters the likelihood has no maximum
        quality, _, _, table = _panel(8, 20, 0.0, seed)
        fitted = maximum_likelihood.fit(table)
        assert fitted['converged']
        # As if all eight were of the largest weight there is.
        limit = np.median(fitted['inconsistency']) / 3 / np.sqrt(8)
        assert fitted['quality_error'].min() > limit
        errors.append(np.std(fitted['quality'] - quality))
    assert np.mean(errors) < 4.2  # 5.4 without the limit


def test_what_votes_cannot_tell_is_nan_or_split_evenly():
    table = np.full((5, 7), np.nan)
    table[:2, :3] = [[10, 20, 60], [16, 24, 68]]
    table[2:4, 3:6] = [[90, 50, 40], [80, 42, 28]]
    table[4, 6] = 33  # seen by nobody else
    fitted = maximum_likelihood.fit(table)
    np.testing.assert_allclose(fitted['bias'][:2].sum(), 0, atol=1e-9)
    np.testing.assert_allclose(fitted['bias'][2:4].sum(), 0, atol=1e-9)
    assert fitted['quality'][6] == 33 and fitted['bias'][4] == 0
    assert np.isnan(fitted['inconsistency'][4]) and np.isfinite(fitted['quality_error'][6])


def test_the_quality_by_the_others_leaves_the_rater_out():
    _, _, _, table = _panel(20, 30, 0.8, 2)
    fitted = maximum_likelihood.fit(table)
    others = maximum_likelihood.others_quality(table, fitted)
    median = np.median(fitted['inconsistency'])
    weights = np.maximum(fitted['inconsistency'], median / 3) ** -2.0
    for rater in range(20):
        rest = np.delete(np.arange(20), rater)
        held = ~np.isnan(table[rest])
        unbiased = np.where(held, table[rest] - fitted['bias'][rest, None], 0)
        total = (weights[rest, None] * held).sum(0)
        expected = (weights[rest, None] * unbiased).sum(0) / np.where(total, total, np.nan)
        np.testing.assert_allclose(others[rater], expected, atol=1e-9)
