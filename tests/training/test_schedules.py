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


def test_rates_decay_at_epochs_of_the_run():
    config = CONFIG | {'schedule': 'epochs', 'learning_rate': 1e-5, 'decay_at': (3, 6)}
    for warmup in (0, 5):
        rate = schedules.learning_rate(config, 90, warmup, 10)
        found = [float(rate(step)) for step in (29, 30, 59, 60, 89)]
        np.testing.assert_allclose(found, [1e-5, 1e-6, 1e-6, 1e-7, 1e-7], rtol=1e-6)
    with pytest.raises(ValueError, match=r'decay_at=\(3, 6\) begins before the warm-up ends'):
        schedules.learning_rate(config, 90, 30, 10)


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


def torch_adam(gradients, start, rate, decay):
    """float64: parameter after each step of Adam with the decay added to the gradient."""
    w, m, v, found = start, 0.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        g = g + decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        found.append(w)
    return found


def test_a_second_stage_continues_adam_of_the_head_and_starts_the_backbone_as_torch_does():
    gradients = np.random.default_rng(0).normal(size=12)
    config = CONFIG | {'weight_decay': 5e-4, 'decoupled_weight_decay': False}
    params, saved = {'backbone': {'w': jnp.ones(1)}, 'head': {'w': jnp.ones(1)}}, {}
    for freeze, steps in ((('backbone',), gradients[:7]), ((), gradients[7:])):
        tx = schedules.optimizer(config | {'freeze': freeze}, optax.constant_schedule(0.1))
        state = tx.init(params)
        state = schedules.continue_adam(state, saved) if saved else state
        for g in steps:
            grads = jax.tree.map(lambda w, g=g: jnp.full_like(w, g), params)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        saved = schedules.adam_states(state)
        assert saved.keys() == {'head/w'} | ({'backbone/w'} if not freeze else set())
    assert [int(saved[name]['count']) for name in ('head/w', 'backbone/w')] == [12, 5]
    whole = torch_adam(gradients, 1.0, 0.1, 5e-4)
    np.testing.assert_allclose(params['head']['w'], whole[-1], rtol=1e-5)
    fresh = torch_adam(gradients[7:], 1.0, 0.1, 5e-4)
    np.testing.assert_allclose(params['backbone']['w'], fresh[-1], rtol=1e-5)
    with pytest.raises(ValueError, match='no parameter that trains has a saved optimiser state'):
        schedules.continue_adam(tx.init(params), {'head/w': {'mu': np.zeros(2)}})


@pytest.mark.parametrize('decoupled', [True, False])
def test_the_parameters_of_a_loss_never_decay(decoupled):
    params = {'loss': {'a': jnp.full(2, 3.0)}, 'head': {'w': jnp.full(2, 3.0)}}
    config = CONFIG | {'weight_decay': 0.5, 'decoupled_weight_decay': decoupled}
    tx = schedules.optimizer(config, optax.constant_schedule(0.1))
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_array_equal(updates['loss']['a'], 0)
    assert (updates['head']['w'] < 0).all()
