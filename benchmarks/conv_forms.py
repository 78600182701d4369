"""The CPU forms of convolutions and max pooling against XLA's own, forward and with gradients.

    python benchmarks/conv_forms.py [--rounds=7]

Prints median milliseconds of both sides and their ratio, and the ratio of processor time, for
layers of EfficientNet-Lite0 and ResNet-18. Gradients are those of input and kernel; of the first
layer, whose input needs none, the kernel's alone.
"""

import argparse
import functools
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.models import convolution, pooling

# (name, input shape, kernel shape, stride)
LAYERS = (
    ('depthwise 3x3', (8, 64, 64, 144), (3, 3, 1, 144), 1),
    ('depthwise 5x5', (8, 32, 32, 240), (5, 5, 1, 240), 1),
    ('depthwise 5x5', (8, 16, 16, 672), (5, 5, 1, 672), 1),
    ('depthwise 3x3 stride 2', (8, 64, 64, 96), (3, 3, 1, 96), 2),
    ('1x1', (16, 56, 56, 64), (1, 1, 64, 256), 1),
    ('1x1', (16, 8, 8, 1152), (1, 1, 1152, 192), 1),
    ('3x3', (16, 56, 56, 64), (3, 3, 64, 64), 1),
    ('3x3', (16, 28, 28, 128), (3, 3, 128, 128), 1),
    ('3x3', (16, 14, 14, 256), (3, 3, 256, 256), 1),
    ('3x3', (16, 7, 7, 512), (3, 3, 512, 512), 1),
    ('3x3 stride 2', (16, 56, 56, 64), (3, 3, 64, 128), 2),
    ('3x3 stride 2', (16, 14, 14, 256), (3, 3, 256, 512), 2),
    ('first 7x7 stride 2', (16, 224, 224, 3), (7, 7, 3, 64), 2),
    ('max pool 3x3 stride 2', (16, 112, 112, 64), (), 2),
)


def forms(kernel: tuple[int, ...], stride: int) -> dict:
    """Our form and XLA's own, as functions of (x, kernel)."""
    if not kernel:
        pads = ((1, 1), (1, 1))
        return {
            'ours': lambda x, k: pooling.max_pool(x, 3, stride, pads),
            'lax': lambda x, k: pooling.max_pool_lax(x, 3, stride, pads),
        }
    if kernel[2] == 1:
        ours, reference = convolution.depthwise_shifted, convolution.depthwise_lax
        return {
            'ours': lambda x, k: ours(x, k, stride),
            'lax': lambda x, k: reference(x, k, stride),
        }
    options = {'stride': stride, 'padding': 'SAME'}
    return {
        'ours': functools.partial(convolution.convolve, depthwise=False, **options),
        'lax': functools.partial(convolution.dense, **options),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=7)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    for name, shape, kernel_shape, stride in LAYERS:
        x = jnp.asarray(rng.normal(size=shape), jnp.float32)
        kernel = jnp.asarray(rng.normal(size=kernel_shape), jnp.float32)
        row = {'layer': name, 'input': shape, 'device': jax.default_backend()}
        inputs = (1,) if name.startswith('first') else (0, 1)
        for what in ('forward', 'gradient'):
            times: dict[str, list[float]] = {'ours': [], 'lax': []}
            processor: dict[str, list[float]] = {'ours': [], 'lax': []}
            compiled = {}
            for form, fn in forms(kernel_shape, stride).items():
                slope = jax.grad(lambda x, k, fn=fn: jnp.sum(jnp.square(fn(x, k))), inputs)
                compiled[form] = jax.jit(fn if what == 'forward' else slope)
                jax.block_until_ready(compiled[form](x, kernel))
            for _ in range(rounds):  # alternate, so that a busy machine does not favour one
                for form, fn in compiled.items():
                    start, cpu = time.perf_counter(), time.process_time()
                    jax.block_until_ready(fn(x, kernel))
                    times[form].append(1e3 * (time.perf_counter() - start))
                    processor[form].append(time.process_time() - cpu)
            medians = {form: statistics.median(t) for form, t in times.items()}
            row |= {f'{what}_{form}_ms': round(t, 2) for form, t in medians.items()}
            row[f'{what}_ratio'] = round(medians['lax'] / medians['ours'], 1)
            medians = {form: statistics.median(t) for form, t in processor.items()}
            row[f'{what}_processor_ratio'] = round(medians['lax'] / medians['ours'], 2)
        print(json.dumps(row))


if __name__ == '__main__':
    main()
