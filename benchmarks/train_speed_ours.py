"""Our side of train_speed.py: the steps of the one trainer, mapped and under plain jit."""

import functools
import json
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax import models
from iqa_jax.runtime import parallel
from iqa_jax.training import losses, schedules, steps

# What the twin of the benchmark does; the torch side reads ratio and weights from here.
OHEM = {
    'mask': 'magnitude',
    'ratio': 0.3,
    'layers': 'convolutions',
    'refresh': 'epoch',
    'crops': 'same',
    'twin_weight': 1.0,
    'consistency_weight': 0.1,
    'stop_gradient': False,
    'batch_stats': 'shared',
}
LOSS_OPTIONS = {'labels': 'soft', 'hinge_weight': 1.0, 'hinge_margin': 0.025}
OPTIMIZER = {
    'weight_decay': 5e-4,
    'decoupled_weight_decay': False,
    'clip_norm': float('inf'),
    'freeze': (),
    'rate_scales': {},
}
RATE = 1e-4


def batch(images: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Random pictures uint8 [images,H,W,3] of one database with random opinions."""
    rng = np.random.default_rng(0)
    return {
        'image': rng.integers(0, 256, (images, height, width, 3), np.uint8),
        'target': rng.normal(size=(images, 1)).astype(np.float32),
        'target_std': np.ones(images, np.float32),
        'database': np.zeros(images, np.int32),
        'index': np.arange(images, dtype=np.int32),
    }


def network(axis_name: str | None = None, dtype: jnp.dtype = jnp.float32) -> models.QualityModel:
    """ResNet-18, global average, unit length, one linear output."""
    return models.build(
        'resnet18',
        head='gap',
        outputs=1,
        normalise='l2',
        axis_name=axis_name,
        dtype=jnp.dtype(dtype).name,
    )


def train_step(ohem: dict | None, mapped: bool, data: dict, dtype: jnp.dtype = jnp.float32):
    """(step function, its first state, its batch), the state and the batch on the device."""
    axis_name = parallel.AXIS if mapped else None
    model = network(axis_name, dtype)
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), steps.to_float(data['image'][:1])
    )
    tx = schedules.optimizer(OPTIMIZER, lambda step: RATE)
    step = steps.make_train_step(model, tx, losses.get('fidelity'), LOSS_OPTIONS, ohem)
    state = steps.create_state(variables, tx, ohem, len(data['image']))
    if mapped:
        return parallel.TrainStep(step), parallel.place(state), parallel.place_batch(data)
    return jax.jit(step, donate_argnums=0), jax.device_put(state), jax.device_put(data)


def stepper(ohem: dict | None, mapped: bool, data: dict, dtype: jnp.dtype = jnp.float32):
    """A function of nothing that takes one more step and waits for it."""
    step, state, placed = train_step(ohem, mapped, data, dtype)
    key = np.zeros(2, np.uint32)

    def call() -> float:
        nonlocal state
        state, metrics = step(state, placed, key)
        jax.block_until_ready(state)
        return float(metrics['loss'])

    return call


def calls(pairs: int, side: int, scored: tuple[int, int, int]) -> dict[str, Callable]:
    """The calls of the comparison by name; each runs once and waits for its result."""
    data = batch(2 * pairs, side, side)
    model, images = network(), jnp.asarray(steps.to_float(batch(*scored)['image']))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images[:1])
    score = jax.jit(steps.make_score_step(model, twin=False))
    return {
        'step': stepper(None, True, data),
        'step_jit': stepper(None, False, data),
        'twin': stepper(OHEM, True, data),
        'score': lambda: jax.block_until_ready(score(variables, {'image': images})),
    }


def seconds(call: Callable, rounds: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_rate(dtype: jnp.dtype, rounds: int) -> float:
    """Operations per second of a product of two square matrices of 8192."""
    a = jnp.ones((8192, 8192), dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * 8192**3 / seconds(lambda: jax.block_until_ready(product(a)), rounds)


def step_operations(images: int, side: int) -> float:
    """Operations of a step: three times the forward pass, as each layer has two gradients."""
    shape = jax.ShapeDtypeStruct((images, side, side, 3), jnp.float32)
    model = network()
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), shape)
    forward = jax.jit(functools.partial(model.apply, train=False)).lower(variables, shape)
    return 3 * forward.cost_analysis()['flops']


def accelerator(rounds: int) -> None:
    """Prints pictures per second of the mapped step by side, batch and type, and one JSON line."""
    rows = []
    print(f'{jax.devices()[0].device_kind}, {parallel.device_count()} of them')
    for dtype in (jnp.float32, jnp.bfloat16):
        rate, name = matmul_rate(dtype, rounds), jnp.dtype(dtype).name
        print(f'{name}: a product of matrices makes {rate / 1e12:.1f} TFLOP/s on one of them')
        for side in (224, 384):
            for images in (32, 128, 256):
                data = batch(images, side, side)
                operations = step_operations(images, side)
                for what, ohem in (('plain', None), ('twin', OHEM)):
                    time_taken = seconds(stepper(ohem, True, data, dtype), rounds)
                    done = operations * (1 if ohem is None else 2) / time_taken
                    share = done / (rate * parallel.device_count())
                    row = {'dtype': name, 'side': side, 'batch': images, 'step': what}
                    row |= {'images_per_second': images / time_taken, 'matmul_share': share}
                    rows.append(row)
                    print(
                        f'{name:9s}{side:5d}{images:5d} {what:6s}'
                        f'{images / time_taken:9.0f} pictures/s, {100 * share:.0f} % of it'
                    )
    print(json.dumps(rows))
