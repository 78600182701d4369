"""The two CPU forms of a convolution against lax.conv, forward and with both gradients.

    python benchmarks/conv_forms.py [--rounds=7]

Prints median milliseconds of both sides and their ratio for layers of EfficientNet-Lite0.
"""

import argparse
import functools
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.models import convolution

# (name, input shape, kernel shape, stride)
LAYERS = (
    ('depthwise 3x3', (8, 64, 64, 144), (3, 3, 1, 144), 1),
    ('depthwise 5x5', (8, 32, 32, 240), (5, 5, 1, 240), 1),
    ('depthwise 5x5', (8, 16, 16, 672), (5, 5, 1, 672), 1),
    ('depthwise 3x3 stride 2', (8, 64, 64, 96), (3, 3, 1, 96), 2),
    ('1x1', (16, 56, 56, 64), (1, 1, 64, 256), 1),
    ('1x1', (16, 8, 8, 1152), (1, 1, 1152, 192), 1),
)


def forms(kernel: tuple[int, ...], stride: int) -> dict:
    """Our form and the one that XLA's convolution gives, as functions of (x, kernel)."""
    if kernel[2] == 1:
        ours, reference = convolution.depthwise_shifted, convolution.depthwise_lax
        return {
            'ours': lambda x, k: ours(x, k, stride),
            'lax': lambda x, k: reference(x, k, stride),
        }
    dense = functools.partial(convolution.dense, stride=stride, padding='VALID')
    return {'ours': convolution.pointwise, 'lax': dense}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=7)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    for name, shape, kernel_shape, stride in LAYERS:
        x = jnp.asarray(rng.normal(size=shape), jnp.float32)
        kernel = jnp.asarray(rng.normal(size=kernel_shape), jnp.float32)
        row = {'layer': name, 'input': shape, 'device': jax.default_backend()}
        for what in ('forward', 'gradient'):
            times: dict[str, list[float]] = {'ours': [], 'lax': []}
            compiled = {}
            for form, fn in forms(kernel_shape, stride).items():
                slope = jax.grad(lambda x, k, fn=fn: jnp.sum(jnp.square(fn(x, k))), (0, 1))
                compiled[form] = jax.jit(fn if what == 'forward' else slope)
                jax.block_until_ready(compiled[form](x, kernel))
            for _ in range(rounds):  # alternate, so that a busy machine does not favour one
                for form, fn in compiled.items():
                    start = time.perf_counter()
                    jax.block_until_ready(fn(x, kernel))
                    times[form].append(1e3 * (time.perf_counter() - start))
            medians = {form: statistics.median(t) for form, t in times.items()}
            row |= {f'{what}_{form}_ms': round(t, 2) for form, t in medians.items()}
            row[f'{what}_ratio'] = round(medians['lax'] / medians['ours'], 1)
        print(json.dumps(row))


if __name__ == '__main__':
    main()
