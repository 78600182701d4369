"""Scoring by two processes of one thread against one process of two, and how soon runs begin.

    python benchmarks/score_processes.py score      # throughput, ratio; bar: 0.9
    python benchmarks/score_processes.py startup    # seconds to the first batch; bar: 20

`score` runs `iqa_jax.main` on `--many` and on `--few` JPEG files of 512x384 through
EfficientNet-Lite0 with random weights; the difference of the times is that of scoring alone,
without start and compilation. Both sides have two cores: one process, and
`BIND=1 launch/local_processes.sh 2`, which gives each process one. They take turns `--repeats`
times; medians of images per second and their ratio are printed, and the same per second of
processor time, which a busy machine changes less.

`startup` is the time from the start of the command to its first batch, and the processor time up to
then, with an empty compilation cache and with a full one. Training: the first line of
metrics.jsonl, which step 1 writes, of configs/train_proxies.py without its ImageNet weights.
Scoring: the first shard, of 8 of the same pictures and by the same model as above.
"""

import argparse
import io
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEIGHT, WIDTH = 384, 512
MODEL = {'backbone': 'efficientnet_lite0', 'head': 'mlsp', 'hidden': (256,), 'dropout': 0.25}
METRICS = ('ssim', 'gmsd')


def environment(cache: pathlib.Path, **changes: str) -> dict[str, str]:
    """The CPU, two cores, and a folder of compiled programs."""
    found = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHON': sys.executable}
    found |= {'JAX_COMPILATION_CACHE_DIR': str(cache)}
    return found | {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2'} | changes


def make_model(folder: pathlib.Path) -> None:
    """A saved model with random weights."""
    import jax

    from iqa_jax.training import saved_model

    model = saved_model.build(MODEL, 1)
    image = np.zeros((1, 64, 64, 3), np.float32)
    variables = jax.jit(lambda key: model.init(key, image, False))(jax.random.key(0))
    state = types.SimpleNamespace(mask={}, twin_batch_stats={}, opt_state=None, **variables)
    saved_model.save(folder, state, MODEL, ['mos'], {}, '')


def make_pictures(folder: pathlib.Path, few: int, many: int) -> None:
    """JPEG files of noise on a slope and the manifests few.csv and many.csv."""
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    slope = np.linspace(0, 255, WIDTH)[None, :, None]
    for number in range(many):
        pixels = np.clip(slope + rng.normal(0, 20, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, 'jpeg', quality=90)
        (folder / f'{number}.jpg').write_bytes(data.getvalue())
        lines.append(f'{number},{folder}/{number}.jpg\n')
    for name, count in (('few', few), ('many', many)):
        (folder / f'{name}.csv').write_text('image_id,file\n' + ''.join(lines[:count]))


def seconds(
    command: list[str], base: pathlib.Path, name: str, number: int, **changes
) -> np.ndarray:
    """Wall time and processor time of scoring one of the manifests."""
    arguments = [
        '--config=configs/score.py', f'--config.root={base}', '--config.splits=("pool",)',
        f'--config.manifest=pictures/{name}.csv', f'--config.shard_size={8}',
        f'--workdir={base}/out_{name}_{number}_{len(command)}',
    ]  # fmt: skip
    begin = np.array([time.monotonic(), processor_seconds()])
    subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment(base / 'cache', **changes), check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return np.array([time.monotonic(), processor_seconds()]) - begin


def processor_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def score(few: int, many: int, repeats: int) -> dict:
    """Medians of images per second, and per processor second, of both sides, and their ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        base = pathlib.Path(scratch)
        make_model(base / 'model')
        make_pictures(base / 'pictures', few, many)
        one = ['taskset', '-c', '0,1', sys.executable, '-m', 'iqa_jax.main']
        two = ['taskset', '-c', '0,1', 'launch/local_processes.sh', '2']
        sides = {'one process, two threads': (one, {}), 'two processes': (two, {'BIND': '1'})}
        rates: dict[str, list[np.ndarray]] = {name: [] for name in sides}
        for number in range(-1, repeats):  # the first turn compiles
            for label, (command, changes) in sides.items():
                taken = [seconds(command, base, n, number, **changes) for n in ('few', 'many')]
                rate = (many - few) / (taken[1] - taken[0])
                print(f'{label}: {taken[0]} and {taken[1]} s, {rate} images/s', flush=True)
                if number >= 0:
                    rates[label].append(rate)
    found = {}
    for i, of in enumerate(('second', 'processor_second')):
        medians = {k: statistics.median(float(r[i]) for r in found) for k, found in rates.items()}
        first, second = medians.values()
        found |= {f'images_per_{of}': medians, f'ratio_per_{of}': second / first}
    return found


def startup(repeats: int) -> dict:
    """Median (seconds, processor seconds) to the first batch by task and state of the cache."""
    found: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        base = pathlib.Path(scratch)
        make_model(base / 'model')
        make_pictures(base / 'pictures', 8, 8)
        subprocess.run(
            [sys.executable, '-m', 'iqa_jax.main', '--config=configs/make_data.py:smoke',
             '--config.size=(192, 256)', f'--config.metrics={METRICS}', f'--workdir={base}/data'],
            cwd=ROOT, env=environment(base / 'data_cache'), check=True,
        )  # fmt: skip
        training = ['--config=configs/train_proxies.py', f'--config.targets={METRICS}',
                    '--config.init_from=', '--config.log_steps=1']  # fmt: skip
        scoring = ['--config=configs/score.py', '--config.splits=("pool",)',
                   '--config.manifest=pictures/few.csv', '--config.shard_size=8']  # fmt: skip
        runs = {'training': (training, 'metrics.jsonl'), 'scoring': (scoring, 'shards/*')}
        for number in range(repeats):
            for task, (arguments, written) in runs.items():
                for state in ('empty', 'full'):
                    workdir = base / f'{task}_{state}_{number}'
                    taken = first_batch(
                        [*arguments, f'--config.root={base}', f'--workdir={workdir}'],
                        workdir, written, base / f'cache_{task}_{number}',
                    )  # fmt: skip
                    print(f'{task}, {state} cache: {taken} s', flush=True)
                    found.setdefault(f'{task}, {state} cache', []).append(taken)
    return {label: np.median(times, axis=0).round(1).tolist() for label, times in found.items()}


def first_batch(
    arguments: list[str], workdir: pathlib.Path, written: str, cache: pathlib.Path
) -> np.ndarray:
    """(Seconds, processor seconds) until such a file of the run is there; it is then ended."""
    begin, used = time.monotonic(), processor_seconds()
    child = subprocess.Popen(
        [sys.executable, '-m', 'iqa_jax.main', *arguments],
        cwd=ROOT, env=environment(cache), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not any(workdir.glob(written)):
        if child.poll() is not None:
            raise SystemExit('The run ended before its first batch.')
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    child.kill()
    child.wait()
    return np.array([seconds, processor_seconds() - used])


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=('score', 'startup'))
    parser.add_argument('--few', type=int, default=32)
    parser.add_argument('--many', type=int, default=160)
    parser.add_argument('--repeats', type=int, default=3)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    if given.what == 'score':
        found = score(given.few, given.many, given.repeats)
    else:
        found = startup(given.repeats)
    print(json.dumps(found | {'cores': os.cpu_count(), 'load': [load, os.getloadavg()[0]]}))


if __name__ == '__main__':
    main()
