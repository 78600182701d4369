"""Spammers of simulated panels: how many are found, who is blamed, and what is said of them."""

import numpy as np
import pytest
from peers import votes_of

from iqa_jax.study import panel, spammers
from iqa_jax.study.scaling import mos_from_votes

DESIGNS = ((15, 60, 15), (24, 20, 24), (24, 60, 12), (24, 200, 8), (40, 60, 40), (40, 200, 5))


def _honest(raters=15, images=40, noise=8.0, seed=0):
    rng = np.random.default_rng(seed)
    quality, bias = rng.uniform(15, 85, images), rng.normal(0, 6, (raters, 1))
    return (quality + bias + rng.normal(0, noise, (raters, images))).clip(0, 100)


def _study(raters, images, each, seed):
    """(quality, votes, ids of the spammers): whose votes differ from an honest panel's."""
    quality = np.random.default_rng([seed, raters, images]).uniform(15, 85, images)
    rules = {'raters': raters, 'bias_std': 6, 'noise_std': 10, 'votes_per_image': each}
    ids = [f'i{i:03d}' for i in range(images)]
    votes = panel.simulate_votes(ids, quality, spammer_fraction=0.1, seed=seed, **rules)
    honest = panel.simulate_votes(ids, quality, spammer_fraction=0.0, seed=seed, **rules)
    return quality, votes, set(votes['rater_id'][votes['vote'] != honest['vote']].tolist())


@pytest.mark.parametrize('design', DESIGNS, ids=str)
def test_finds_nine_in_ten_spammers_and_blames_less_than_one_in_fifty(design):
    hits = guilty_ones = blamed = innocent = 0
    errors = []
    for seed in range(6 if design[0] == 40 else 12):
        quality, votes, guilty = _study(*design, seed)
        found = spammers.find(votes)
        truth = np.array([name in guilty for name in found['rater_id']])
        hits += (found['spammer'] & truth).sum()
        blamed += (found['spammer'] & ~truth).sum()
        guilty_ones += truth.sum()
        innocent += (~truth).sum()
        scores = [mos_from_votes(votes, method=method)[0]['mos'] for method in ('mean', 'ml')]
        errors.append([np.std(mos - quality) for mos in scores])
    assert guilty_ones >= 10
    assert hits >= 0.9 * guilty_ones and blamed < 0.02 * innocent
    plain, likely = np.mean(errors, axis=0)
    assert likely < 0.85 * plain


def test_random_constant_and_reversed_votes_are_told_from_noisy_and_biased_ones():
    table = _honest()
    rng = np.random.default_rng(1)
    table[2] = rng.uniform(0, 100, 40)
    table[5] = 50.0
    table[8] = 100 - table[8]
    table[10] = (table[10] + rng.normal(0, 20, 40)).clip(0, 100)
    table[12] = (table[12] - 30).clip(0, 100)
    found = spammers.find(votes_of(table))
    assert np.flatnonzero(found['spammer']).tolist() == [2, 5, 8]
    assert found['reason'][5] == 'Spammer: gave the same vote to all of 40 images.'
    r, typical = found['correlation'][8], np.median(found['correlation'])
    assert r < -0.8 < 0.8 < typical
    assert found['reason'][8] == (
        f'Spammer: the votes on 40 images correlate by {r:.2f} with the other raters, whose '
        f'median is {typical:.2f}.'
    )
    assert all(reason == '' for reason in found['reason'][~found['spammer']])
    assert found['images'].tolist() == [40] * 15


def test_nobody_is_judged_by_few_images_or_where_all_look_alike():
    few = _honest(images=7)
    few[3] = np.random.default_rng(0).uniform(0, 100, 7)
    assert not spammers.find(votes_of(few))['spammer'].any()
    same = np.random.default_rng(2).normal(50, 8, (15, 40))
    assert not spammers.find(votes_of(same))['spammer'].any()
    assert not spammers.find(votes_of(np.full((6, 30), 60.0)))['spammer'].any()
    alone = spammers.find(votes_of(_honest(raters=1)))
    assert not alone['spammer'].any() and np.isnan(alone['correlation']).all()


def test_dropped_spammers_leave_the_scores_of_the_others():
    table = _honest()
    table[4] = np.random.default_rng(3).uniform(0, 100, 40)
    for method in ('mean', 'ml', 'zscore', 'bias_bt500'):
        images, raters = mos_from_votes(votes_of(table), method=method, drop_spammers=True)
        without = np.delete(table, 4, axis=0)
        expected, others = mos_from_votes(votes_of(without), method=method)
        assert raters['excluded'][4] and raters['reason'][4].startswith('Spammer:')
        np.testing.assert_allclose(images['mos'], expected['mos'], atol=1e-7)
        np.testing.assert_array_equal(images['votes'], expected['votes'])
        assert np.delete(raters['excluded'], 4).tolist() == others['excluded'].tolist()
        np.testing.assert_allclose(np.delete(raters['bias'], 4), others['bias'], atol=1e-7)
    plain, raters = mos_from_votes(votes_of(table), method='mean')
    assert not raters['excluded'].any() and (plain['votes'] == 15).all()
