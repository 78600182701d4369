"""Durations, rates and the optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from iqa_jax.training import schedules

CONFIG = {
    'schedule': 'cosine', 'learning_rate': 1.0, 'decay_at': (0.5,), 'decay_factor': 0.1,
    'weight_decay': 0.0, 'decoupled_weight_decay': True, 'clip_norm': 1e9, 'freeze': (),
    'rate_scales': {},
}  # fmt: skip


def test_durations_in_three_units():
    assert schedules.duration({'total_steps': 7}, 'total', 8, 10) == 7
    assert schedules.duration({'total_epochs': 1.5, 'total_steps': None}, 'total', 8, 10) == 15
    assert schedules.duration({'total_examples': 80}, 'total', 8, 10) == 10
    with pytest.raises(ValueError, match='Set exactly one of config.total_steps'):
        schedules.duration({'total_steps': 7, 'total_epochs': 1}, 'total', 8, 10)


def test_rates_warm_up_and_decay():
    rate = schedules.learning_rate(CONFIG, 110, 10)
    assert np.isclose(rate(0), 0.1) and np.isclose(rate(10), 1.0) and np.isclose(rate(60), 0.5)
    assert np.isclose(rate(110), 0.0, atol=1e-6)
    steps = schedules.learning_rate(CONFIG | {'schedule': 'steps'}, 100, 0)
    assert np.isclose(steps(10), 1.0) and np.isclose(steps(60), 0.1)
    with pytest.raises(ValueError, match='use one of constant, cosine, steps'):
        schedules.learning_rate(CONFIG | {'schedule': 'linear'}, 10, 0)


def update(config, steps=1):
    params = {'backbone': {'w': jnp.ones(3)}, 'head': {'w': jnp.ones(3)}}
    tx = schedules.optimizer(CONFIG | config, optax.constant_schedule(0.1))
    state, grads = tx.init(params), jax.tree.map(jnp.ones_like, params)
    for _ in range(steps):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_frozen_parts_stay_and_scaled_parts_move_less():
    frozen = update({'freeze': ('backbone',)})
    np.testing.assert_array_equal(frozen['backbone']['w'], 1)
    np.testing.assert_allclose(frozen['head']['w'], 0.9, rtol=1e-5)
    scaled = update({'rate_scales': {'backbone': 0.5}})
    np.testing.assert_allclose(scaled['backbone']['w'], 0.95, rtol=1e-5)


def test_frozen_parts_do_not_enter_the_clipping_norm():
    params = {'backbone': {'w': jnp.ones(3)}, 'head': {'w': jnp.ones(1)}}
    grads = {'backbone': {'w': jnp.full(3, 1e6)}, 'head': {'w': jnp.ones(1)}}
    config = CONFIG | {'freeze': ('backbone',), 'clip_norm': 1.0, 'weight_decay': 0.0}
    tx = schedules.optimizer(config, optax.constant_schedule(0.1))
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates['head']['w'], -0.1, rtol=1e-4)


def test_coupled_decay_is_torch_adam():
    torch_like = update({'weight_decay': 0.5, 'decoupled_weight_decay': False})
    # Adam's first step is lr * sign(g + wd * w), whatever the size of the gradient.
    np.testing.assert_allclose(torch_like['head']['w'], 0.9, rtol=1e-5)
    decoupled = update({'weight_decay': 0.5})
    np.testing.assert_allclose(decoupled['head']['w'], 1 - 0.1 * 1.5, rtol=1e-5)


@pytest.mark.parametrize('decoupled', [True, False])
def test_parameters_of_the_loss_are_not_decayed(decoupled):
    params = {'head': {'w': jnp.ones(2)}, 'loss': {'hit': jnp.ones(2)}}
    config = CONFIG | {'weight_decay': 0.5, 'decoupled_weight_decay': decoupled}
    tx = schedules.optimizer(config | {'rate_scales': {'loss': 10.0}}, optax.constant_schedule(0.1))
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(still, tx.init(params), params)
    assert (updates['head']['w'] < 0).all()
    np.testing.assert_array_equal(updates['loss']['hit'], 0)
