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

OHEM = {'ratio': 0.6, 'mask': 'magnitude', 'refresh': 'fixed', 'layers': 'convolutions'}
OHEM |= {'twin_weight': 1.0, 'consistency_weight': 0.5, 'stop_gradient': False}
OHEM |= {'batch_stats': 'shared', 'crops': 'same'}
OPTIONS = {'labels': 'soft', 'hinge_weight': 1.0, 'hinge_margin': 0.025}
# Runs three steps of ranking with the twin and prints what must not depend on the devices.
PROGRAM = """
import jax, numpy as np, optax
from iqa_jax import models
from iqa_jax.runtime import parallel
from iqa_jax.training import losses, steps
ohem = {ohem}
model = models.build(
    'tiny', head='mlsp', outputs=1, hidden=(8,), dropout=0.25, axis_name=parallel.AXIS
)
tx = optax.sgd(0.01)
variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), train=False)
key = jax.random.key_data(jax.random.key(1))
state = parallel.place(steps.create_state(variables, tx, ohem, 16, (), key))
loss = losses.get('fidelity')
step = parallel.TrainStep(steps.make_train_step(model, tx, loss, {options}, ohem))
rng = np.random.default_rng(0)
losses = []
for i in range(3):
    batch = dict(
        image=rng.integers(0, 255, (8, 32, 32, 3), np.uint8),
        target=rng.uniform(0, 100, (8, 1)).astype(np.float32),
        target_std=np.full(8, 10, np.float32),
        database=np.repeat([0, 1], 4).astype(np.int32),
        index=rng.permutation(16)[:8].astype(np.int32),
    )
    if {pairs}:
        batch['pair'] = np.repeat(np.arange(4, dtype=np.int32), 2)
    state, metrics = step(state, batch, key)
    losses.append(float(metrics['loss']))
state = parallel.fetch(state)
leaves = jax.tree.leaves(
    (state.params, state.batch_stats, state.mask, state.hard_sum, state.hard_count)
)
np.savez('{path}', *leaves, losses=losses, devices=jax.local_device_count())
"""


def run_on(devices: int, ohem: dict, pairs: bool, path) -> dict:
    flags = f'--xla_force_host_platform_device_count={devices}'
    program = PROGRAM.format(path=path, ohem=ohem, options=OPTIONS, pairs=pairs)
    subprocess.run(
        [sys.executable, '-c', program], env=os.environ | {'XLA_FLAGS': flags}, check=True
    )
    return dict(np.load(path))


@pytest.mark.parametrize(
    ('changes', 'pairs'),
    [
        ({'batch_stats': 'shared'}, False),
        ({'batch_stats': 'dual', 'mask': 'random', 'refresh': 'step'}, True),
    ],
    ids=['all pairs', 'literal pairs'],
)
def test_four_devices_equal_one_with_pairs_and_the_twin(tmp_path, changes, pairs):
    ohem = OHEM | changes
    one, four = (run_on(n, ohem, pairs, tmp_path / f'{n}.npz') for n in (1, 4))
    assert one.pop('devices') == 1 and four.pop('devices') == 4
    assert one.keys() == four.keys()
    for name in one:
        np.testing.assert_allclose(four[name], one[name], atol=1e-5, rtol=1e-5, err_msg=name)


def build():
    return models.build('tiny', head='mlsp', outputs=1, hidden=(8,))


def setup(ohem, tx=None, loss=None, freeze=()):
    model, tx, key = build(), tx or optax.sgd(0.1), jax.random.key_data(jax.random.key(0))
    variables = jax.jit(lambda: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False))()
    state = steps.create_state(variables, tx, ohem, 16, (), key)
    made = steps.make_train_step(model, tx, loss or losses.get('mse'), {}, ohem, freeze)
    rng = np.random.default_rng(0)
    batch = {
        'image': rng.integers(0, 255, (4, 32, 32, 3), np.uint8),
        'target': rng.uniform(0, 1, (4, 1)).astype(np.float32),
        'target_std': np.ones(4, np.float32),
        'database': np.zeros(4, np.int32),
        'index': np.array([3, 5, 0, 9], np.int32),
    }
    return state, jax.jit(made), batch, key


def pruned_and_kept(before, after, mask):
    """(moved, all) numbers of weights, of the pruned ones and of the others."""
    counts = np.zeros((2, 2), int)
    for (path, old), new, kept in zip(
        jax.tree_util.tree_leaves_with_path(before),
        jax.tree.leaves(after),
        jax.tree.leaves(mask),
        strict=True,
    ):
        if pruning.prunable(path, old):
            moved, kept = np.asarray(old != new), np.asarray(kept)
            counts += [[moved[~kept].sum(), (~kept).sum()], [moved[kept].sum(), kept.sum()]]
    return counts.tolist()


@pytest.mark.parametrize('changes', [{'ratio': 0.0, 'batch_stats': 'dual'}, {'mask': 'none'}])
def test_a_twin_without_pruning_agrees_exactly_and_doubles_the_loss(changes):
    state, step, batch, key = setup(OHEM | changes)
    state, metrics = step(state, batch, key)
    np.testing.assert_allclose(metrics['disagreement'], 0, atol=1e-6)
    np.testing.assert_allclose(metrics['loss'], 2 * metrics['loss_full'], rtol=1e-5)


def test_disagreement_is_counted_for_the_images_of_the_batch():
    state, step, batch, key = setup(OHEM)
    state, metrics = step(state, batch, key)
    assert np.flatnonzero(state.hard_count).tolist() == [0, 3, 5, 9]
    np.testing.assert_allclose(state.hard_sum.sum() / 4, metrics['disagreement'], rtol=1e-5)
    assert metrics['disagreement'] > 0


def only_the_twin(calls):
    """A loss of zero for the full model, which the step asks first, squared error for the twin."""

    def apply(prediction, out, batch, options, own, state):
        calls.append(prediction)
        value, state = losses.mse(prediction, out, batch, options, own, state)
        return value * (len(calls) == 2), state

    return losses.Loss(apply)


def test_masked_weights_get_no_gradient_from_the_twin():
    calls = []
    state, step, batch, key = setup(OHEM | {'consistency_weight': 0.0}, loss=only_the_twin(calls))
    after, metrics = step(state, batch, key)
    assert len(calls) == 2 and metrics['consistency'] > 0
    np.testing.assert_allclose(metrics['loss'], metrics['loss_twin'])
    (moved, pruned), (others, _) = pruned_and_kept(state.params, after.params, state.mask)
    assert moved == 0 < pruned and others > 0


@pytest.mark.parametrize('stop', [True, False])
def test_a_weight_of_zero_asks_the_loss_once_and_the_full_branch_is_stopped_or_not(stop):
    calls = []
    ohem = OHEM | {'twin_weight': 0.0, 'stop_gradient': stop}
    state, step, batch, key = setup(ohem, loss=only_the_twin(calls))
    after, metrics = step(state, batch, key)
    assert len(calls) == 1 and 'loss_twin' not in metrics
    np.testing.assert_allclose(metrics['loss'], 0.5 * metrics['consistency'])
    # What moves is due to the consistency, and pruned weights take part in the full branch only.
    (moved, pruned), (others, _) = pruned_and_kept(state.params, after.params, state.mask)
    assert others > 0 and (moved == 0 if stop else 0 < moved <= pruned)


def test_statistics_are_updated_by_full_then_twin_or_by_one_branch_each():
    def statistics(params, batch_stats, batch):
        variables = {'params': params, 'batch_stats': batch_stats}
        images = steps.to_float(jnp.asarray(batch['image']))
        return build().apply(variables, images, train=True, mutable=['batch_stats'])[1]

    for kind in ('shared', 'dual'):
        state, step, batch, key = setup(OHEM | {'batch_stats': kind})
        after, _ = step(state, batch, key)
        full = statistics(state.params, state.batch_stats, batch)['batch_stats']
        twin = pruning.apply_mask(state.params, state.mask)
        start = full if kind == 'shared' else state.batch_stats
        pruned = statistics(twin, start, batch)['batch_stats']
        want = (pruned, {}) if kind == 'shared' else (full, pruned)
        got = (after.batch_stats, after.twin_batch_stats)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


@pytest.mark.parametrize('mask', ['magnitude', 'random'])
def test_refresh_every_step_prunes_the_latest_weights_or_draws_anew(mask):
    ohem = OHEM | {'refresh': 'step', 'mask': mask}
    state, step, batch, key = setup(ohem, optax.sgd(5.0))
    first = state.mask
    for _ in range(3):
        previous = state.params
        state, _ = step(state, batch, key)
    want = pruning.make_mask(previous, ohem, key, 2)
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), state.mask, want)
    assert all(jax.tree.leaves(same))
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.mask, first)
    assert any(jax.tree.leaves(changed))


def test_the_twin_trains_on_pooled_features_and_prunes_dense_layers():
    ohem = OHEM | {'layers': 'all'}
    state, step, batch, key = setup(ohem)
    width = state.params['regressor']['hidden_0']['kernel'].shape[0]
    batch['features'] = np.random.default_rng(1).normal(size=(4, width)).astype(np.float32)
    del batch['image']
    after, metrics = step(state, batch, key)
    assert metrics['disagreement'] > 0
    mask = state.mask['regressor']['hidden_0']['kernel']
    assert mask.shape == (width, 8) and 0 < int(jnp.sum(~mask)) < mask.size
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, after.params)
    assert all(jax.tree.leaves(moved['regressor']))
    assert not any(jax.tree.leaves(moved['backbone']))


def test_a_frozen_backbone_costs_no_pass_back_and_its_statistics_move():
    state, step, batch, key = setup(None, freeze=('backbone',))
    after, _ = step(state, batch, key)
    jax.tree.map(np.testing.assert_array_equal, after.params['backbone'], state.params['backbone'])
    for old, new in zip(
        jax.tree.leaves(state.batch_stats['backbone']),
        jax.tree.leaves(after.batch_stats['backbone']),
        strict=True,
    ):
        assert not np.array_equal(old, new)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, after.params)
    assert all(jax.tree.leaves(moved['regressor']))

    def cost(step):
        return step.lower(state, batch, key).compile().cost_analysis()['flops']

    forward = jax.jit(
        lambda state, batch, key: build().apply(
            {'params': state.params, 'batch_stats': state.batch_stats},
            steps.to_float(batch['image']),
            train=True,
            rngs={'dropout': key},
            mutable=['batch_stats'],
        )
    )
    assert cost(step) < 1.1 * cost(forward) < 0.6 * cost(setup(None)[1])


def test_the_loss_falls_on_one_batch():
    state, step, batch, key = setup(None, optax.adam(3e-3))
    found = []
    for _ in range(30):
        state, metrics = step(state, batch, key)
        found.append(float(metrics['loss']))
    assert found[-1] < 0.5 * found[0]
