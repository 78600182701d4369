"""The simulated panel: what it claims about its hidden quality and its votes."""

import numpy as np
import pytest
import scipy.stats

from iqa_jax.study.panel import hidden_quality, simulate_votes

PANEL = {
    'raters': 30,
    'bias_std': 5.0,
    'noise_std': 10.0,
    'spammer_fraction': 0.1,
    'votes_per_image': 20,
}


@pytest.fixture(scope='module')
def world():
    """20 contents, each pristine and in 10 types at 5 levels, with four noisy proxies."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(1, 26, (20, 10))
    types = np.concatenate([np.zeros((20, 1), int), kinds.repeat(5, 1)], 1).reshape(-1)
    levels = np.tile(np.append(0, np.tile(np.arange(1, 6), 10)), 20)
    proxies = np.clip(1.05 - 0.18 * levels[:, None] + rng.normal(0, 0.1, (1020, 4)), 0.01, 0.99)
    proxies[types == 0] = np.nan
    refs = np.repeat([f'ref{i:02d}' for i in range(20)], 51)
    return types, levels, proxies, refs


def test_hidden_quality_is_near_its_proxies_but_equals_neither_one_nor_their_mean(world):
    types, _, proxies, _ = world
    quality = hidden_quality(*world, seed=0)
    distorted = types > 0
    assert quality.min() >= 0 and quality.max() <= 100 and quality.dtype == np.float64
    assert len(np.unique(quality)) > 0.98 * len(quality)
    for proxy in [*proxies.T, proxies.mean(1)]:
        agreement = scipy.stats.spearmanr(proxy[distorted], quality[distorted]).statistic
        assert 0.6 < agreement < 0.97
    assert quality[~distorted].min() > np.percentile(quality[distorted], 90)


def test_within_a_type_and_content_hidden_quality_follows_the_mean_proxy(world):
    types, _, proxies, refs = world
    quality = hidden_quality(*world, seed=3)
    for kind in (types[1], types[500]):
        for ref in np.unique(refs[types == kind]):
            rows = np.flatnonzero((types == kind) & (refs == ref))
            rows = rows[np.argsort(proxies[rows].mean(1))]
            assert (np.diff(quality[rows]) >= 0).all()


def test_hidden_quality_of_an_image_does_not_depend_on_the_others(world):
    whole = hidden_quality(*world, seed=0)
    rows = np.random.default_rng(1).permutation(len(whole))[:100]
    np.testing.assert_array_equal(hidden_quality(*(x[rows] for x in world), seed=0), whole[rows])
    assert abs(hidden_quality(*world, seed=1) - whole).max() > 5


def test_hidden_quality_refuses_what_is_no_equalised_proxy(world):
    types, levels, proxies, refs = world
    with pytest.raises(ValueError, match='equalised'):
        hidden_quality(types, levels, proxies * 40, refs, 0)
    with pytest.raises(ValueError, match='both mean pristine'):
        hidden_quality(types, np.maximum(levels, 1), proxies, refs, 0)
    with pytest.raises(ValueError, match='equally many'):
        hidden_quality(types, levels, proxies[1:], refs, 0)


def _as_dict(votes):
    keys = zip(votes['rater_id'], votes['image_id'], strict=True)
    return dict(zip(keys, votes['vote'], strict=True))


def test_votes_depend_on_seed_rater_and_image_alone():
    ids = [f'image{i}' for i in range(50)]
    quality = np.linspace(20, 80, 50)
    whole = _as_dict(simulate_votes(ids, quality, seed=4, **PANEL))
    rows = np.random.default_rng(0).permutation(50)[:17]
    part = _as_dict(simulate_votes([ids[i] for i in rows], quality[rows], seed=4, **PANEL))
    assert part == {key: vote for key, vote in whole.items() if key[1] in {ids[i] for i in rows}}
    assert len(part) == 17 * 20 and len(whole) == 50 * 20
    other = _as_dict(simulate_votes(ids, quality, seed=5, **PANEL))
    assert sum(other.get(key) == vote for key, vote in whole.items()) < 20


def test_votes_table_is_marked_as_simulated_and_complete():
    ids = [f'image{i}' for i in range(60)]
    votes = simulate_votes(ids, np.full(60, 50.0), seed=0, **PANEL)
    assert list(votes) == ['rater_id', 'image_id', 'trial', 'vote', 'simulated']
    assert votes['simulated'].all() and all('simulated' in name for name in votes['rater_id'])
    assert votes['vote'].min() >= 0 and votes['vote'].max() <= 100
    assert np.unique(votes['image_id'].astype(str), return_counts=True)[1].tolist() == [20] * 60
    for rater in np.unique(votes['rater_id'].astype(str)):
        mine = votes['rater_id'] == rater
        assert votes['trial'][mine].tolist() == list(range(mine.sum()))


def test_votes_have_the_bias_noise_and_spammers_asked_for():
    rules = PANEL | {'raters': 400, 'votes_per_image': 400, 'spammer_fraction': 0.25}
    votes = simulate_votes([f'i{i}' for i in range(40)], np.full(40, 50.0), seed=1, **rules)
    table = votes['vote'].reshape(400, 40)
    spread = table.std(1, ddof=1)
    honest = spread < 20
    assert 0.7 < honest.mean() < 0.8
    assert abs(table[honest].mean() - 50) < 1
    # The mean of 40 votes still holds noise: variance 25 + 100 / 40.
    assert table[honest].mean(1).std() == pytest.approx(27.5**0.5, rel=0.12)
    assert np.median(spread[honest]) == pytest.approx(10, rel=0.05)
    assert spread[honest].std() > 2  # raters differ


def test_votes_refuse_impossible_panels():
    with pytest.raises(ValueError, match=r'votes_per_image must be in 1\.\.raters=30'):
        simulate_votes(['a'], [50], seed=0, **PANEL | {'votes_per_image': 31})
    with pytest.raises(ValueError, match='must be unique'):
        simulate_votes(['a', 'a'], [50, 50], seed=0, **PANEL)
    with pytest.raises(ValueError, match=r'0\.\.100 and not NaN'):
        simulate_votes(['a'], [np.nan], seed=0, **PANEL)
