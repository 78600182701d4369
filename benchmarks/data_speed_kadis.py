"""The part `kadis` of data_speed.py: time, memory and estimate of a KADIS-like data set."""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from configs import kadis_make
from iqa_jax import distortions, fr_metrics
from iqa_jax.data import shards, sources
from iqa_jax.images import io
from iqa_jax.tasks import make_data

LEVELS = np.arange(1, 6)
ROUNDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its command line."""
    parser.add_argument('--photos', type=int, default=400, help='mirrored and shifted bundled ones')
    parser.add_argument('--images', default='recipe', help='config.images of the run')


def run(args: argparse.Namespace) -> None:
    """Prints what a labelled image costs, the memory on the way, and how good the estimate is."""
    count = args.photos
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_photos(folder / 'few', count // 4)
        write_photos(folder / 'all', count)
        config = kadis_make.get_config().to_dict() | {'images': args.images}
        distorting, scoring = alone(config)
        print(f'distorting alone {distorting:.1f} ms per image, mean over types at batch 5')
        print(f'{len(config["metrics"])} metrics alone {scoring:.1f} ms per pair at batch 5')
        short, _ = label(config | {'photos': str(folder / 'few')}, folder / 'short')
        pace, passed = label(config | {'photos': str(folder / 'all')}, folder / 'whole')
        both = distorting + scoring
        print(
            f'make_data {pace:.1f} ms per labelled image over {5 * count} images, '
            f'{pace / both:.2f}x the sum of the two alone'
        )
        quarters = [passed[(len(passed) - 1) * i // 4] for i in range(5)]
        text = ' '.join(f'{mib:.0f}' for _, mib in quarters)
        print(f'MiB resident after the first shard, 1/4, 1/2, 3/4 and the last: {text}')
        # By the clock, from a quarter of the way, when most types are compiled.
        wall = (quarters[4][0] - quarters[1][0]) / (3 / 4 * 5 * count)
        hours = [700_000 * short / 3.6e6, 700_000 * wall / 3600]
        print(
            f'700,000 images: {hours[0]:.2f} h as the run of {5 * (count // 4)} images prints, '
            f'{hours[1]:.2f} h at the pace of the last three quarters of {5 * count} images by the '
            f'clock, ratio {hours[0] / hours[1]:.2f}'
        )


def write_photos(folder: Path, count: int) -> None:
    """`count` different pictures, 512x384 PNG."""
    folder.mkdir()
    bundled = [io.decode(file) for file in sources.photo_files('')]
    for i in range(count):
        image = bundled[i % len(bundled)]
        turn = i // len(bundled)
        image = image[:: 1 if turn & 1 else -1, :: 1 if turn & 2 else -1]
        image = np.roll(image, 24 * (turn // 4), axis=1)
        (folder / f'{i:04d}.png').write_bytes(io.encode_png(image))


def alone(config: dict) -> tuple[float, float]:
    """ms per image of distorting (mean over all types) and of scoring, medians of a few rounds."""
    photo = io.decode(sources.photo_files('')[0])
    batch = np.stack([photo] * len(LEVELS))
    score = fr_metrics.metrics(config['metrics'])
    times = []
    for row in distortions.DISTORTIONS.values():
        distort = lambda row=row: distortions.distort_batch(batch, row.number, LEVELS, LEVELS)  # noqa: E731
        times.append(milliseconds(distort))
    distorted = distortions.distort_batch(batch, 10, LEVELS, LEVELS)
    scoring = milliseconds(lambda: {k: np.asarray(v) for k, v in score(batch, distorted).items()})
    return float(np.mean(times)), scoring


def milliseconds(function) -> float:
    """Median ms per image of a function of a batch, after one call that compiles."""
    function()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times)) / len(LEVELS)


def label(config: dict, workdir: Path) -> tuple[float, list[tuple[float, float]]]:
    """Runs the stage: ms per labelled image as it prints it, (clock, MiB) after every shard."""
    found, passed = {}, []
    make, estimate = shards.make, shards.seconds_per_image

    def watched(*arguments):
        made = make(*arguments)
        passed.append((time.perf_counter(), psutil.Process().memory_info().rss / 2**20))
        return made

    def remembered(durations):
        found['pace'] = estimate(durations)
        return found['pace']

    shards.make, shards.seconds_per_image = watched, remembered
    try:
        make_data.run(config, workdir)
    finally:
        shards.make, shards.seconds_per_image = make, estimate
    return 1000 * found['pace'][0], passed
