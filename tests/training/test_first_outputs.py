"""Fresh outputs start around the targets; those of a saved model stay as they are."""

import functools

import jax
import numpy as np
import pytest

from configs import train_proxies
from iqa_jax import models
from iqa_jax.data.pipeline import Source
from iqa_jax.tasks import train_setup
from iqa_jax.training import first_outputs, saved_model, steps

TARGETS = np.random.default_rng(0).normal([60, -3, 0.5], [20, 2, 0.1], (400, 3)).astype(np.float32)


def variables_of(model, key: int = 0) -> dict:
    init = jax.jit(functools.partial(model.init, train=False))
    return init(jax.random.key(key), np.zeros((1, 32, 32, 3), np.float32))


@pytest.mark.parametrize('head', ['mlsp', 'gap', 'multitask'])
@pytest.mark.parametrize('hidden', [(), (16, 8)])
def test_outputs_start_at_the_mean_with_a_tenth_of_the_spread(head, hidden):
    model = models.build('tiny', head=head, hidden=hidden, outputs=3)
    before = variables_of(model)
    after = first_outputs.at_targets(before, TARGETS)
    images = np.random.default_rng(1).uniform(0, 1, (64, 32, 32, 3)).astype(np.float32)
    apply = jax.jit(functools.partial(model.apply, train=False))
    was, now = (np.asarray(apply(v, images)[0], np.float64) for v in (before, after))
    expected = TARGETS.mean(0) + 0.1 * TARGETS.std(0) * was
    np.testing.assert_allclose(now, expected, rtol=1e-5)
    assert np.abs(was - was.mean(0)).max() > 1e-3  # there was a spread to scale


def config_of(init_from, loss: str) -> dict:
    config = train_proxies.get_config('smoke').to_dict()
    model = {'backbone': 'tiny', 'head': 'gap'}
    return config | {'init_from': str(init_from), 'model': model, 'loss': loss, 'targets': ('mos',)}


def test_only_fresh_outputs_of_squared_errors_are_moved(tmp_path):
    spec = {'backbone': 'tiny', 'head': 'gap'}
    model = saved_model.build(spec, 1)
    source = Source({}, TARGETS[:, :1], np.zeros(400), 1.0, '')

    def bias(init_from, loss):
        config = config_of(init_from, loss)
        init = train_setup.initializer(model, config)
        found, _ = train_setup.initial_variables(init, config, [source])
        return float(found['params']['regressor']['output']['bias'][0])

    assert bias('', 'mse') == pytest.approx(TARGETS[:, 0].mean(), rel=1e-5)
    assert bias('', 'fidelity') == 0
    variables = variables_of(model)
    variables['params']['regressor']['output']['bias'] += 7.0
    state = steps.create_state(variables, _NoOptimiser(), None, 0)
    meta = {'origin': '', 'simulated': False}
    saved_model.save(tmp_path / 'model', state, spec, ['mos'], meta, '')
    assert bias(tmp_path / 'model', 'mse') == 7.0


class _NoOptimiser:
    """State of the optimiser is no part of a saved model."""

    def init(self, params):
        return ()
