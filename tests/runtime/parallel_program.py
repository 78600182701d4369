"""Trains a small network five steps and writes what happened; the tests run it in processes.

Arguments: output folder, then optionally coordinator address, number of processes, process number.
"""

import json
import pathlib
import sys
import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from iqa_jax.runtime import checkpoints, parallel

BATCH, STEPS = 16, 5


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(8, (3, 3))(x)
        x = nn.BatchNorm(not train, momentum=0.9, axis_name=parallel.AXIS if train else None)(x)
        return nn.Dense(1)(nn.relu(x).mean((1, 2)))[:, 0]


def make_step(model, tx):
    def step(state, batch, key):
        def loss_fn(params):
            variables = {'params': params, 'batch_stats': state['batch_stats']}
            y, updated = model.apply(variables, batch['x'], True, mutable=['batch_stats'])
            return jnp.mean((y - batch['y']) ** 2), updated['batch_stats']

        (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state['params'])
        updates, opt_state = tx.update(parallel.mean(grads), state['opt_state'])
        key = jax.random.fold_in(key, state['step'])
        state = {
            'params': optax.apply_updates(state['params'], updates),
            'batch_stats': parallel.mean(stats),
            'opt_state': opt_state,
            'step': state['step'] + 1,
        }
        noise = parallel.draw(lambda shape: jax.random.uniform(key, shape), batch['i'].shape)
        metrics = {'loss': parallel.mean(loss), 'index': parallel.gather(batch['i'])}
        return state, metrics | {'noise': parallel.gather(noise)}

    return step


def placed_report(train_step, state, batch) -> dict:
    """What a batch that is placed beforehand changes: nothing; and that its step copies nothing."""
    placed, key = parallel.place_batch(batch), parallel.place(np.array([0, 7], np.uint32))
    one, two = (parallel.place(parallel.fetch(state)) for _ in range(2))
    one, _ = train_step(one, batch, key)
    with jax.transfer_guard('disallow_explicit'):
        two, _ = train_step(two, placed, key)
    one, two = (jax.tree.leaves(parallel.fetch(tree)) for tree in (one, two))
    return {
        'shape': placed['x'].shape,
        'again': parallel.place_batch(placed) is placed,
        'equal': [bool(np.array_equal(a, b)) for a, b in zip(one, two, strict=True)],
    }


def main(folder: pathlib.Path, cluster: list[str]) -> None:
    if cluster:
        parallel.initialize(True, cluster[0], int(cluster[1]), int(cluster[2]))
    compiled, ahead = [], []

    def listen(event: str, seconds: float, **_: object) -> None:
        if 'backend_compile' in event:
            in_main = threading.current_thread() is threading.main_thread()
            (compiled if in_main else ahead).append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    model, tx = Net(), optax.sgd(0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, BATCH, 12, 12, 3)).astype(np.float32)
    contrast = rng.uniform(0.5, 1.5, (STEPS, BATCH)).astype(np.float32)
    x *= contrast[..., None, None, None]
    data = {'x': x, 'y': contrast, 'i': np.arange(STEPS * BATCH).reshape(STEPS, BATCH)}
    variables = model.init(jax.random.key(0), x[0, :1], False)
    state = dict(variables) | {'opt_state': tx.init(variables['params']), 'step': jnp.int32(0)}
    state = parallel.place(state)
    train_step = parallel.TrainStep(make_step(model, tx))
    rows, key = parallel.local_rows(BATCH), np.array([0, 7], np.uint32)
    shapes = jax.eval_shape(lambda: state)
    train_step.begin(lambda: (shapes, {k: v[0, rows] for k, v in data.items()}, key))
    result = {'losses': [], 'compiled': [], 'deleted': [], 'index': [], 'noise': []}
    for step in range(STEPS):
        old, before = jax.tree.leaves(state), len(compiled)
        batch = {k: v[step, rows] for k, v in data.items()}
        if step % 2:  # both forms of a batch are one compilation
            batch = parallel.place_batch(batch)
        state, metrics = train_step(state, batch, key)
        result['compiled'].append(len(compiled) - before)
        result['deleted'].append(all(leaf.is_deleted() for leaf in old))
        for name in ('index', 'noise'):
            result[name].append(np.asarray(metrics[name]).tolist())
        result['losses'].append(float(metrics['loss']))

    result['ahead'] = len(ahead)
    result['placed'] = placed_report(train_step, state, {k: v[0, rows] for k, v in data.items()})

    def score(variables, batch):
        return {'y': model.apply(variables, batch['x'], False), 'x': batch['x'][:, 0, 0]}

    variables = {k: state[k] for k in ('params', 'batch_stats')}
    expected = jax.device_get(score(parallel.fetch(variables), {'x': x[0]}))
    mapped = parallel.eval_step(score)
    result['eval_compiled'], result['eval_error'] = [], []
    for n in (16, 16, 5, 1, 15):
        before = len(compiled)
        found = mapped(variables, {'x': x[0, :n]})
        result['eval_compiled'].append(len(compiled) - before)
        errors = {k: float(np.abs(found[k] - expected[k][:n]).max()) for k in found}
        result['eval_error'].append(errors)
        assert isinstance(found['y'], np.ndarray)
    # Processes score by themselves: only one of them does so here.
    if parallel.is_main():
        mapped(variables, {'x': x[1]})

    saved = checkpoints.Checkpoints(folder / 'checkpoints')
    saved.save(STEPS, state, {'seed': 1})
    restored = saved.restore(jax.eval_shape(lambda: state))
    saved.close()
    pairs = zip(jax.tree.leaves(restored[1]), jax.tree.leaves(state), strict=True)
    result['restored'] = bool(all(np.array_equal(a, np.asarray(b)) for a, b in pairs))
    name = f'process{parallel.process_index()}'
    flat = {jax.tree_util.keystr(k): v for k, v in jax.tree.leaves_with_path(parallel.fetch(state))}
    np.savez(folder / f'{name}.npz', **flat)
    result['sentences'] = []
    for call in (  # last, because on one device the first call donates the state
        lambda: train_step(state, {k: v[0, :3] for k, v in data.items()}, key),
        lambda: parallel.check_batch_size(BATCH + 1),
        lambda: mapped(variables, {'x': x[0, :0]}),
        lambda: mapped(variables, {'x': x[0], 'y': x[0, :1]}),
    ):
        try:
            call()
            result['sentences'].append('')
        except ValueError as error:
            result['sentences'].append(str(error))
    result |= {'devices': parallel.device_count(), 'rows': [rows.start, rows.stop]}
    (folder / f'{name}.json').write_text(json.dumps(result))


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
