"""Several heads on the same features: their mean is the prediction, each has its own loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import models
from iqa_jax.training import first_outputs, losses, steps

KEY = jax.random.key(0)
FEATURES = jax.random.normal(jax.random.key(1), (6, 9))
HEAD = {'backbone': 'tiny', 'head': 'gap', 'hidden': (4,), 'normalise': 'none'}


def build(members, outputs=2, **changes):
    model = models.build(**HEAD | changes, outputs=outputs, members=members)
    return model, model.init(KEY, FEATURES, False, method='regress')


def test_the_prediction_is_the_mean_of_members_that_differ():
    model, variables = build(3)
    prediction, out = model.apply(variables, FEATURES, False, method='regress')
    assert prediction.shape == (6, 2) and out['members'].shape == (6, 3, 2)
    np.testing.assert_allclose(prediction, out['members'].mean(1), rtol=1e-6)
    assert (np.ptp(out['members'], axis=1) > 1e-3).all()


def test_a_model_of_one_member_is_as_ever():
    model, variables = build(1)
    _, out = model.apply(variables, FEATURES, False, method='regress')
    assert out == {} and 'output' in variables['params']['regressor']


def test_members_start_at_the_targets():
    model, variables = build(3)
    targets = np.random.default_rng(0).normal([60, 3], [10, 1], (500, 2))
    variables = first_outputs.at_targets(variables, targets)
    _, out = model.apply(variables, FEATURES, False, method='regress')
    distance = np.abs(out['members'] - targets.mean(0)) / targets.std(0)
    assert distance.max() < 1 and distance.max() > 0


def test_each_member_learns_from_its_own_loss():
    model, variables = build(2, outputs=1)
    batch = {'features': FEATURES, 'target': jnp.arange(6.0)[:, None]}
    objective = steps._make_objective(
        steps._make_forward(model), losses.LOSSES['mse'], {}, None, ()
    )
    state = type('State', (), {'batch_stats': {}, 'loss_state': {}})
    loss, _ = objective(variables['params'], state, None, batch, KEY)
    _, out = model.apply(variables, FEATURES, False, method='regress')
    errors = np.square(out['members'][..., 0] - batch['target']).mean(0)
    assert loss == pytest.approx(float(errors.mean()), rel=1e-5)
    assert loss > float(np.square(out['members'].mean(1) - batch['target']).mean())
    gradient = jax.grad(lambda p: objective(p, state, None, batch, KEY)[0])(variables['params'])

    def alone(kernel):
        params = variables['params'] | {'regressor': variables['params']['regressor'] | kernel}
        found = model.apply({'params': params}, FEATURES, False, method='regress')[1]['members']
        return jnp.square(found[:, 0] - batch['target']).mean() / 2

    own = jax.grad(lambda k: alone({'kernel_1': k}))(variables['params']['regressor']['kernel_1'])
    np.testing.assert_allclose(gradient['regressor']['kernel_1'][0], own[0], rtol=1e-4)


@pytest.mark.parametrize(
    'changes', [{'members': 0}, {'uncertainty': 'exp'}, {'hidden_norm': 'batch'}]
)
def test_members_that_cannot_be_are_a_sentence(changes):
    with pytest.raises(ValueError, match=r'config\.model\.(members|hidden_norm)='):
        models.build(**HEAD | {'members': 2} | changes, outputs=1)
