"""The real train step: 4 devices equal 1, the twin's gradients, what is logged."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from iqa_jax import models
from iqa_jax.training import losses, pruning, steps

OHEM = {'ratio': 0.6, 'refresh': 'fixed', 'twin_weight': 1.0, 'consistency_weight': 0.5}
OHEM |= {'batch_stats': 'shared', 'crops': 'same'}
OPTIONS = {'labels': 'soft', 'hinge_weight': 1.0, 'hinge_margin': 0.025}
# Runs three steps of ranking with the twin and prints what must not depend on the devices.
PROGRAM = """
import jax, numpy as np, optax
from iqa_jax import models
from iqa_jax.runtime import parallel
from iqa_jax.training import losses, steps
ohem = {ohem}
model = models.build('tiny', head='mlsp', outputs=1, hidden=(8,), axis_name=parallel.AXIS)
tx = optax.sgd(0.01)
variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), train=False)
state = parallel.place(steps.create_state(variables, tx, ohem, 16))
loss = losses.get('fidelity')
step = parallel.train_step(steps.make_train_step(model, tx, loss, {options}, ohem))
rng = np.random.default_rng(0)
key = jax.random.key_data(jax.random.key(1))
losses = []
for i in range(3):
    batch = dict(
        image=rng.integers(0, 255, (8, 32, 32, 3), np.uint8),
        target=rng.uniform(0, 100, (8, 1)).astype(np.float32),
        target_std=np.full(8, 10, np.float32),
        database=np.repeat([0, 1], 4).astype(np.int32),
        index=rng.permutation(16)[:8].astype(np.int32),
    )
    state, metrics = step(state, batch, key)
    losses.append(float(metrics['loss']))
state = parallel.fetch(state)
leaves = jax.tree.leaves((state.params, state.batch_stats, state.hard_sum, state.hard_count))
np.savez('{path}', *leaves, losses=losses, devices=jax.local_device_count())
"""


def run_on(devices: int, ohem: dict, path) -> dict:
    flags = f'--xla_force_host_platform_device_count={devices}'
    program = PROGRAM.format(path=path, ohem=ohem, options=OPTIONS)
    subprocess.run(
        [sys.executable, '-c', program], env=os.environ | {'XLA_FLAGS': flags}, check=True
    )
    return dict(np.load(path))


@pytest.mark.parametrize('batch_stats', ['shared', 'separate'])
def test_four_devices_equal_one_with_pairs_and_the_twin(tmp_path, batch_stats):
    ohem = OHEM | {'batch_stats': batch_stats}
    one, four = (run_on(n, ohem, tmp_path / f'{n}.npz') for n in (1, 4))
    assert one.pop('devices') == 1 and four.pop('devices') == 4
    assert one.keys() == four.keys()
    for name in one:
        np.testing.assert_allclose(four[name], one[name], atol=1e-5, rtol=1e-5, err_msg=name)


def setup(ohem, tx=None):
    model = models.build('tiny', head='mlsp', outputs=1, hidden=(8,))
    tx = tx or optax.sgd(0.1)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    state = steps.create_state(variables, tx, ohem, 16)
    step = jax.jit(steps.make_train_step(model, tx, losses.get('mse'), {}, ohem))
    rng = np.random.default_rng(0)
    batch = {
        'image': rng.integers(0, 255, (4, 32, 32, 3), np.uint8),
        'target': rng.uniform(0, 1, (4, 1)).astype(np.float32),
        'target_std': np.ones(4, np.float32),
        'database': np.zeros(4, np.int32),
        'index': np.array([3, 5, 0, 9], np.int32),
    }
    return state, step, batch, jax.random.key_data(jax.random.key(0))


def test_a_twin_without_pruning_agrees_exactly_and_doubles_the_loss():
    state, step, batch, key = setup(OHEM | {'ratio': 0.0, 'batch_stats': 'separate'})
    state, metrics = step(state, batch, key)
    np.testing.assert_allclose(metrics['disagreement'], 0, atol=1e-6)
    np.testing.assert_allclose(metrics['loss'], 2 * metrics['loss_full'], rtol=1e-5)


def test_disagreement_is_counted_for_the_images_of_the_batch():
    state, step, batch, key = setup(OHEM)
    state, metrics = step(state, batch, key)
    assert np.flatnonzero(state.hard_count).tolist() == [0, 3, 5, 9]
    np.testing.assert_allclose(state.hard_sum.sum() / 4, metrics['disagreement'], rtol=1e-5)
    assert metrics['disagreement'] > 0


def test_masked_weights_get_no_gradient_from_the_twin():
    calls = []

    def only_the_twin(prediction, out, batch, options, own, state):
        """Zero for the full model, which the step asks first, squared error for the twin."""
        calls.append(prediction)
        value, state = losses.mse(prediction, out, batch, options, own, state)
        return value * (len(calls) == 2), state

    ohem = OHEM | {'consistency_weight': 0.0}
    state, _, batch, key = setup(ohem)
    model = models.build('tiny', head='mlsp', outputs=1, hidden=(8,))
    step = jax.jit(
        steps.make_train_step(model, optax.sgd(0.1), losses.Loss(only_the_twin), {}, ohem)
    )
    after, _ = step(state, batch, key)
    assert len(calls) == 2
    moved, masked = 0, 0
    for (path, old), new, mask in zip(
        jax.tree_util.tree_leaves_with_path(state.params),
        jax.tree.leaves(after.params),
        jax.tree.leaves(state.mask),
        strict=True,
    ):
        if pruning.prunable(path, old):
            same = np.asarray(old == new)
            assert same[~np.asarray(mask)].all()
            moved, masked = moved + np.sum(~same), masked + np.sum(~np.asarray(mask))
    assert moved > 0 and masked > 0


def test_refresh_every_step_prunes_the_latest_weights():
    state, step, batch, key = setup(OHEM | {'refresh': 'step'}, optax.sgd(5.0))
    first = state.mask
    for _ in range(3):
        previous = state.params
        state, _ = step(state, batch, key)
    want = pruning.magnitude_mask(previous, OHEM['ratio'])
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), state.mask, want)
    assert all(jax.tree.leaves(same))
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.mask, first)
    assert any(jax.tree.leaves(changed))


def test_the_loss_falls_on_one_batch():
    state, step, batch, key = setup(None, optax.adam(3e-3))
    found = []
    for _ in range(30):
        state, metrics = step(state, batch, key)
        found.append(float(metrics['loss']))
    assert found[-1] < 0.5 * found[0]
