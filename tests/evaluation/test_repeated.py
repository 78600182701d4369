"""Repeated runs: means over splits, paired intervals, seeds that are no splits."""

import numpy as np
import pytest
import scipy.stats

from iqa_jax.evaluation import repeated

NAN = float('nan')


def runs(splits: int, seeds: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.8 + rng.normal(0, 0.02, (splits, 1)) + rng.normal(0, 0.005, (splits, seeds))


def test_the_t_interval_is_that_of_a_paired_test_over_splits():
    a, b = runs(10, 3), runs(10, 3, 1)
    found = repeated.paired_difference(a, b, tested_per_trained=16 / 65)
    want = scipy.stats.ttest_rel(a.mean(axis=1), b.mean(axis=1)).confidence_interval(0.95)
    assert found['t'] == pytest.approx([want.low, want.high])
    assert found['value'] == pytest.approx((a - b).mean())
    assert (found['splits'], found['runs']) == (10, 30)
    # Nadeau and Bengio: the variance grows from 1/10 to 1/10 + 16/65 of that of a difference.
    wider = (found['corrected'][1] - found['value']) / (found['t'][1] - found['value'])
    assert wider == pytest.approx(np.sqrt(1 + 10 * 16 / 65))
    assert np.isnan(repeated.paired_difference(a, b)['corrected']).all()


def test_more_seeds_of_a_split_are_not_more_splits():
    a, b = runs(5, 2), runs(5, 2, 1)
    once, often = (
        repeated.paired_difference(np.tile(a, n), np.tile(b, n), resamples=4000) for n in (1, 20)
    )
    assert often['t'] == pytest.approx(once['t']) and often['sd'] == pytest.approx(once['sd'])
    width = [found['bootstrap'][1] - found['bootstrap'][0] for found in (once, often)]
    assert width[1] > 0.6 * width[0]  # as independent runs it would shrink by the root of 20


def test_the_bootstrap_has_the_variance_of_two_stages():
    difference = runs(6, 4, 2) - 0.8
    found = repeated.paired_difference(difference, np.zeros((6, 4)), resamples=20000)
    # Drawing splits, then seeds: variance of the means, plus what is within each over its seeds.
    variance = (difference.mean(axis=1).var() + (difference.var(axis=1) / 4).mean()) / 6
    half = scipy.stats.norm.ppf(0.975) * np.sqrt(variance)
    ends = [difference.mean() - half, difference.mean() + half]
    assert found['bootstrap'] == pytest.approx(ends, abs=0.1 * half)
    again = repeated.paired_difference(difference, np.zeros((6, 4)), resamples=20000)
    assert again['bootstrap'] == found['bootstrap']


def test_the_t_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        change = 0.01 + rng.normal(0, 0.02, (6, 1)) + rng.normal(0, 0.01, (6, 2))
        low, high = repeated.paired_difference(change, np.zeros((6, 2)), resamples=1)['t']
        hits += low <= 0.01 <= high
    assert 0.92 <= hits / 400 <= 0.98  # sd of a share of 0.95 in 400 is 0.011


def test_runs_without_a_result_leave_their_pair_out():
    a, b = runs(4, 2), runs(4, 2, 1)
    a[1, 0], b[2] = NAN, NAN
    found = repeated.paired_difference(a, b)
    keep = [(0, 0), (0, 1), (1, 1), (3, 0), (3, 1)]
    gaps = [a[i] - b[i] for i in keep]
    means = [np.mean(gaps[:2]), gaps[2], np.mean(gaps[3:])]
    assert found['value'] == pytest.approx(np.mean(means))
    assert (found['splits'], found['runs']) == (3, 5)
    about = repeated.summary(a)
    assert (about['splits'], about['runs']) == (4, 7)
    assert about['mean'] == pytest.approx(np.mean([np.nanmean(row) for row in a]))


def test_the_spread_of_seeds_is_pooled_within_splits():
    values = np.array([[1.0, 2.0, 3.0], [10.0, 12.0, NAN], [5.0, NAN, NAN]])
    about = repeated.summary(values)
    assert about['sd_seeds'] == pytest.approx(np.sqrt((2 + 2) / 3))
    assert about['median'] == 5 and about['sd'] == pytest.approx(np.std([2, 11, 5], ddof=1))


@pytest.mark.parametrize('splits', [0, 1])
def test_fewer_than_two_splits_have_no_interval(splits):
    values = np.full((1, 2), 0.5 if splits else NAN)
    found = repeated.paired_difference(values, np.zeros((1, 2)))
    assert found['splits'] == splits
    assert found['value'] == 0.5 if splits else np.isnan(found['value'])
    for name in ('t', 'corrected', 'bootstrap'):
        assert np.isnan(found[name]).all()


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'two \[splits, seeds\], not \(3, 2\), \(3, 1\)'):
        repeated.paired_difference(runs(3, 2), runs(3, 1))


def test_the_table_lines_up_and_says_what_is_missing():
    a, b = runs(3, 1), runs(3, 1, 1)
    b[0] = NAN
    rows = [
        {'variant': name, 'group': group} | repeated.summary(x)
        | {'difference': repeated.paired_difference(x, a)}
        for name, x in (('plain', a), ('twin', b)) for group in ('all', 'head')
    ]  # fmt: skip
    lines = repeated.table(rows, 'plain').splitlines()
    assert lines[0].split()[:6] == ['variant', 'types', 'mean', 'sd', 'median', 'change']
    assert [line.split()[0] for line in lines[2:]] == ['plain', 'head', 'twin', 'head']
    assert lines[2].split()[1:] == ['all', *(f'{rows[0][k]:.3f}' for k in ('mean', 'sd', 'median'))]
    assert 'n/a' in lines[4] and lines[4].endswith('2 of 3 splits')
    ends = [line.index('[') for line in lines[4:]]
    assert ends[0] == ends[1]
