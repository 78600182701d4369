"""Speed, compilation and memory of the full-reference metrics, beside piq's in the same run.

    pip install -e '.[bench]'
    python benchmarks/fr_speed.py            # a minute and a half on two cores
    python benchmarks/fr_speed.py --no-piq   # our side alone

Pairs of 512x384 as float32 in [0, 1], batches of 1 and 8, both sides on `--threads` CPU threads
(2), by turns, medians. piq is called as its users call it, on RGB. `fused nine` are the nine
metrics that DeepFL-IQA names and that have a public definition, in one pass; `nine in turn` the
same ones called one after another; `piq eight` are piq's of them. Peak memory and first calls are
measured in processes of their own. On an accelerator it prints instead the fused pass by batch size
and the share of the device's copy bandwidth that it uses; its accuracy there is what
fr_conformance.py prints. docs/fr_metrics.md has figures.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from peak_memory import peak_memory

import iqa_jax
from iqa_jax.data import sources
from iqa_jax.images import io

NINE = ('ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'vsi', 'fsimc', 'gmsd', 'sff', 'sr_sim')
PIQ = {
    'ssim': 'ssim',
    'ms_ssim': 'multi_scale_ssim',
    'iw_ssim': 'information_weighted_ssim',
    'mdsi': 'mdsi',
    'vsi': 'vsi',
    'fsimc': 'fsim',
    'gmsd': 'gmsd',
    'sr_sim': 'srsim',
    'psnr': 'psnr',
    'haarpsi': 'haarpsi',
    'vifp': 'vif_p',
}
HEIGHT, WIDTH = 384, 512


def pairs(count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Bundled photographs, mirrored where too small, and noisy copies, float32 [count,H,W,3]."""
    files, reference = sources.photo_files(''), np.empty((count, height, width, 3), np.float32)
    for i in range(count):
        photo = io.decode(files[i % len(files)])
        missing = [(0, max(0, n - m)) for n, m in zip((height, width), photo.shape, strict=False)]
        reference[i] = np.pad(photo, [*missing, (0, 0)], 'symmetric')[:height, :width]
    noise = np.random.default_rng(0).normal(0, 12, reference.shape)
    distorted = np.clip(reference + noise, 0, 255).round().astype(np.float32)
    return reference / 255, distorted / 255


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, after one that is not counted; by turns, so noise is shared."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: sorted(found)[len(found) // 2] for name, found in times.items()}


def compare(batch: int, rounds: int, threads: int, with_piq: bool) -> None:
    """Prints the table of one batch size."""
    reference, distorted = pairs(batch, HEIGHT, WIDTH)
    names = [*PIQ, *(name for name in NINE if name not in PIQ)]

    def ours(score):
        return lambda: jax.block_until_ready(score(reference, distorted))

    calls = {name: ours(iqa_jax.metric(name)) for name in names}
    calls['fused nine'] = ours(iqa_jax.metrics(NINE))
    if with_piq:
        import piq
        import torch

        torch.set_num_threads(threads)
        tensors = [
            torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
            for x in (distorted, reference)  # piq's order where it matters
        ]
        for name, function in PIQ.items():
            call = functools.partial(getattr(piq, function), *tensors, reduction='none')
            calls[f'piq {name}'] = torch.no_grad()(call)
    found = {name: 1000 * seconds / batch for name, seconds in medians(calls, rounds).items()}
    print(f'\nbatch {batch}: milliseconds per pair')
    print(f'{"":14s}{"iqa_jax":>9s}{"piq":>9s}{"ratio":>8s}')
    for name in names:
        theirs = found.get(f'piq {name}')
        beside = f'{theirs:9.2f}{theirs / found[name]:8.1f}' if theirs else ''
        print(f'{name:14s}{found[name]:9.2f}{beside}')
    fused, turn = found['fused nine'], sum(found[name] for name in NINE)
    print(
        f'fused nine    {fused:9.2f}\nnine in turn  {turn:9.2f}, {turn / fused:.2f} times as long'
    )
    if with_piq:
        eight = sum(found[f'piq {name}'] for name in NINE if name in PIQ)
        print(f'piq eight     {eight:9.2f}, {eight / fused:.1f} times as long')


def one_pass(batch: int, height: int, width: int) -> None:
    """Runs in a process of its own: JSON of first call [s] and peak memory [MiB]."""
    images = pairs(batch, height, width)
    start = time.perf_counter()
    jax.block_until_ready(iqa_jax.metrics(NINE)(*images))
    first = time.perf_counter() - start
    for _ in range(2):
        jax.block_until_ready(iqa_jax.metrics(NINE)(*images))
    print(json.dumps({'first': first, 'peak': peak_memory()}))


def in_own_process(batch: int, height: int, width: int, cache: str) -> dict[str, float]:
    """`one_pass` with a persistent compilation cache in the folder `cache`."""
    environment = os.environ | {
        'JAX_COMPILATION_CACHE_DIR': cache,
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    arguments = [sys.executable, __file__, '--one-pass', f'{batch}x{height}x{width}']
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def accelerator(rounds: int) -> None:
    """Prints pairs/s of the fused pass by batch size, and bytes moved against a plain copy."""
    score = jax.jit(iqa_jax.metrics(NINE))
    block = jnp.zeros(2**28, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    seconds = medians({'copy': lambda: jax.block_until_ready(copy(block))}, rounds)['copy']
    bandwidth = 2 * block.nbytes / seconds
    print(f'{jax.devices()[0].device_kind}: a copy moves {bandwidth / 1e9:.0f} GB/s')
    for batch in (1, 2, 4, 8, 16, 32, 64):
        images = jax.device_put(pairs(batch, HEIGHT, WIDTH))
        moved = score.lower(*images).compile().cost_analysis()['bytes accessed']
        call = functools.partial(lambda x: jax.block_until_ready(score(*x)), images)
        seconds = medians({'fused': call}, rounds)['fused']
        print(
            f'batch {batch:2d}: {batch / seconds:8.1f} pairs/s, {moved / seconds / 1e9:.0f} GB/s, '
            f'{100 * moved / seconds / bandwidth:.0f} % of a copy'
        )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--no-piq', action='store_true')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--one-pass', default='', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_pass:
        one_pass(*map(int, options.one_pass.split('x')))
        return
    if jax.default_backend() != 'cpu':
        accelerator(options.rounds)
        return
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    for batch in (1, 8):
        compare(batch, options.rounds, options.threads, not options.no_piq)
    print('\nfused nine in a process of its own')
    for batch, height, width in [(8, HEIGHT, WIDTH), (1, 1080, 1920)]:
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = (in_own_process(batch, height, width, cache) for _ in range(2))
        print(
            f'{batch} x {width}x{height}: first call {cold["first"]:.1f} s, peak memory '
            f'{cold["peak"]:.0f} MiB; with a filled compilation cache {warm["first"]:.1f} s, '
            f'{warm["peak"]:.0f} MiB'
        )


if __name__ == '__main__':
    main()
