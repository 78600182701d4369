"""Losses against plain float64 formulas, pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from iqa_jax.training import losses


def batch_of(mos, std, database):
    return {
        'target': jnp.array(mos, jnp.float32)[:, None],
        'target_std': jnp.array(std, jnp.float32),
        'database': jnp.array(database),
    }


def reference(score, mos, spread, database, std=None, binary=False):
    std = np.ones(len(score)) if std is None else std
    total = []
    for i in range(len(score)):
        for j in range(i + 1, len(score)):
            if database[i] != database[j] or (binary and mos[i] == mos[j]):
                continue
            p = norm.cdf((score[i] - score[j]) / np.hypot(std[i], std[j]))
            g = norm.cdf((mos[i] - mos[j]) / (np.hypot(spread[i], spread[j]) + 1e-8))
            g = float(mos[i] > mos[j]) if binary else g
            loss = 1 - np.sqrt(p * g + 1e-8) - np.sqrt((1 - p) * (1 - g) + 1e-8)
            total.append(loss)
    return np.mean(total)


def fidelity(prediction, out, batch, options):
    return losses.get('fidelity').apply(prediction, out, batch, options, {}, ())[0]


def mse(prediction, out, batch, options):
    return losses.get('mse').apply(prediction, out, batch, options, {}, ())[0]


OPTIONS = {'labels': 'soft', 'hinge_weight': 1.0, 'hinge_margin': 0.025}
RNG = np.random.default_rng(0)
SCORE, MOS = RNG.normal(size=7), RNG.uniform(0, 100, 7).round()
SPREAD, DATABASE = RNG.uniform(5, 20, 7), [0, 0, 0, 1, 1, 1, 1]
MOS[1] = MOS[0]


@pytest.mark.parametrize('labels', ['soft', 'binary'])
def test_fidelity_equals_the_pairwise_formula(labels):
    got = fidelity(
        jnp.array(SCORE)[:, None], {}, batch_of(MOS, SPREAD, DATABASE), OPTIONS | {'labels': labels}
    )
    want = reference(SCORE, MOS, SPREAD, DATABASE, binary=labels == 'binary')
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_fidelity_takes_the_uncertainty_but_learns_it_by_the_hinge_only():
    std = RNG.uniform(0.5, 2, 7)
    batch = batch_of(MOS, SPREAD, DATABASE)
    options = OPTIONS | {'hinge_weight': 0.0}
    score = jnp.array(SCORE)[:, None]
    value = fidelity(score, {'std': jnp.array(std)[:, None]}, batch, options)
    np.testing.assert_allclose(value, reference(SCORE, MOS, SPREAD, DATABASE, std), atol=2e-6)

    def loss(s, weight):
        return fidelity(score, {'std': s}, batch, options | {'hinge_weight': weight})

    assert not np.any(jax.grad(loss)(jnp.array(std), 0.0))
    assert np.any(jax.grad(loss)(jnp.array(std), 1.0))


def test_fidelity_is_near_zero_when_right_and_its_gradient_points_uphill():
    mos, spread, one = [90.0, 10.0], [5.0, 5.0], [0, 0]
    right = fidelity(jnp.array([[9.0], [-9.0]]), {}, batch_of(mos, spread, one), OPTIONS)
    wrong = fidelity(jnp.array([[-9.0], [9.0]]), {}, batch_of(mos, spread, one), OPTIONS)
    assert right < 1e-3 and wrong > 0.99
    loss = lambda s: fidelity(s, {}, batch_of(mos, spread, one), OPTIONS)  # noqa: E731
    slope = jax.grad(loss)(jnp.zeros((2, 1)))
    assert slope[0, 0] < 0 < slope[1, 0]


def one_pair(score, mos, spread, std, labels):
    """float64 loss of one pair, as UNIQUE and the OHEM code compute it."""
    g = norm.cdf((mos[0] - mos[1]) / (np.hypot(*spread) + 1e-8))
    g = float(mos[0] > mos[1]) if labels == 'binary' else g
    p = norm.cdf((score[0] - score[1]) / np.hypot(*std))
    hinge = max(0.0, 0.025 - np.sign(spread[0] - spread[1]) * (std[0] - std[1]))
    return 1 - np.sqrt(p * g + 1e-8) - np.sqrt((1 - p) * (1 - g) + 1e-8) + hinge


@pytest.mark.parametrize('labels', ['soft', 'binary'])
def test_a_literal_list_counts_its_own_pairs_only_ties_included(labels):
    score, std = RNG.normal(size=8), RNG.uniform(0.5, 2, 8)
    mos, spread = np.array([3.0, 3, 1, 2, 5, 4, 7, 7]), np.array([1.0, 1, 2, 3, 3, 2, 2, 2])
    batch = batch_of(mos, spread, [0, 0, 1, 1, 0, 0, 1, 1])
    batch['pair'] = jnp.repeat(jnp.array([9, 2, 0, 4]), 2)
    got = fidelity(
        jnp.array(score)[:, None],
        {'std': jnp.array(std)[:, None]},
        batch,
        OPTIONS | {'labels': labels},
    )
    sides = [slice(i, i + 2) for i in range(0, 8, 2)]
    want = [one_pair(score[k], mos[k], spread[k], std[k], labels) for k in sides]
    np.testing.assert_allclose(got, np.mean(want), atol=2e-6)


def test_the_hinge_is_the_mean_over_pairs_and_the_margin_where_the_spreads_are_equal():
    spread, std = np.array([5.0, 5.0, 9.0]), np.array([1.0, 1.4, 1.41])
    batch = batch_of([1.0, 2.0, 3.0], spread, [0, 0, 0])
    score = jnp.zeros((3, 1))

    def loss(std, weight=1.0):
        return fidelity(score, {'std': std[:, None]}, batch, OPTIONS | {'hinge_weight': weight})

    # Pairs (0,1): margin, (0,2): -1 (s0 - s2) = 0.41 above it, (1,2): 0.01 of 0.025.
    np.testing.assert_allclose(
        loss(jnp.array(std)) - loss(jnp.array(std), 0.0), (0.025 + 0 + 0.015) / 3, atol=1e-6
    )
    slope = jax.grad(loss)(jnp.array(std, jnp.float32))
    np.testing.assert_allclose(slope, [0, 1 / 3, -1 / 3], atol=1e-6)


def test_extreme_scores_keep_a_finite_gradient():
    batch = batch_of([100.0, 0.0, 50.0], [0.0, 0.0, 0.0], [0, 0, 0])
    loss = lambda s: fidelity(s, {}, batch, OPTIONS)  # noqa: E731
    assert np.isfinite(jax.grad(loss)(jnp.array([[-200.0], [200.0], [0.0]]))).all()


def test_mse_and_unknown_names():
    target = {'target': jnp.array([[0.0, 1.0], [1.0, 1.0]])}
    value = mse(jnp.array([[0.5, 1.0], [1.0, 0.0]]), {}, target, {})
    np.testing.assert_allclose(value, (0.25 + 1) / 4)
    with pytest.raises(
        ValueError, match="config.loss='hinge' is unknown; use one of mse, fidelity"
    ):
        losses.get('hinge')
