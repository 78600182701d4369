"""What the mapped train step costs over plain jit, on one device.

    python benchmarks/parallel_step.py [--steps=200] [--rounds=5]

Prints milliseconds per step of `parallel.TrainStep` and of `jax.jit(..., donate_argnums=0)` and
their ratio, for a state of 300 small arrays (overhead only) and for a small convolutional network.
Rounds alternate and the fastest round of each counts.
"""

import argparse
import json
import os
import time

os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=1')

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from iqa_jax.runtime import parallel


class Net(nn.Module):
    """Three 3x3 convolutions with synchronised batch normalisation and a linear head."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (16, 32, 32):
            x = nn.Conv(features, (3, 3), strides=2)(x)
            x = nn.relu(nn.BatchNorm(False, axis_name=self.axis_name)(x))
        return nn.Dense(1)(x.mean((1, 2)))[:, 0]


def many_leaves():
    """(step function of an axis name, state, batch) that only touches 300 arrays."""
    state = {f'leaf{i:03d}': np.ones(64, np.float32) for i in range(300)}

    def make(axis_name):
        def step(state, batch, key):
            loss = parallel.mean(batch['x'].mean())
            return jax.tree.map(lambda p: p - 1e-3 * loss, state), {'loss': loss}

        return step

    return make, state, {'x': np.ones((16, 4), np.float32)}


def network():
    """(step function of an axis name, state, batch) of a small network at 64x64, batch 16."""
    tx = optax.adam(1e-3)
    batch = {'x': np.random.default_rng(0).random((16, 64, 64, 3), np.float32)}
    variables = Net().init(jax.random.key(0), batch['x'][:1])
    state = parallel.fetch(dict(variables) | {'opt_state': tx.init(variables['params'])})

    def make(axis_name):
        model = Net(axis_name)

        def loss_fn(params, stats, x):
            variables = {'params': params, 'batch_stats': stats}
            y, updated = model.apply(variables, x, mutable=['batch_stats'])
            return jnp.mean((y - x.mean((1, 2, 3))) ** 2), updated['batch_stats']

        def step(state, batch, key):
            differentiate = jax.value_and_grad(loss_fn, has_aux=True)
            (loss, stats), grads = differentiate(state['params'], state['batch_stats'], batch['x'])
            updates, opt_state = tx.update(parallel.mean(grads), state['opt_state'])
            state = {
                'params': optax.apply_updates(state['params'], updates),
                'batch_stats': parallel.mean(stats),
                'opt_state': opt_state,
            }
            return state, {'loss': parallel.mean(loss)}

        return step

    return make, state, batch


def milliseconds(step, state, batch, key, steps: int, rounds: int) -> list[float]:
    """Milliseconds per step of every round, the first call left out."""
    state, _ = step(state, batch, key)
    found = []
    for _ in range(rounds):
        jax.block_until_ready(state)
        start = time.perf_counter()
        for _ in range(steps):
            state, _ = step(state, batch, key)
        jax.block_until_ready(state)
        found.append(1e3 * (time.perf_counter() - start) / steps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--rounds', type=int, default=5)
    options = parser.parse_args()
    key = np.zeros(2, np.uint32)
    for case in (many_leaves, network):
        make, state, batch = case()
        steps = options.steps if case is many_leaves else max(1, options.steps // 10)
        runs = {
            'pmap': parallel.TrainStep(make(parallel.AXIS)),
            'jit': jax.jit(make(None), donate_argnums=0),
        }
        best = dict.fromkeys(runs, float('inf'))
        for _ in range(2):  # alternate, so that a busy machine does not favour one of them
            for name, step in runs.items():
                placed = parallel.place(state) if name == 'pmap' else jax.device_put(state)
                times = milliseconds(step, placed, batch, key, steps, options.rounds)
                best[name] = min(best[name], *times)
        row = {'case': case.__name__, 'devices': parallel.device_count()}
        row |= {f'{name}_ms': round(value, 3) for name, value in best.items()}
        print(json.dumps(row | {'ratio': round(best['pmap'] / best['jit'], 3)}))


if __name__ == '__main__':
    main()
