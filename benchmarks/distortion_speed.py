"""Milliseconds per image of every distortion type: batch of 8, 512x384, 8 bits in and out.

    python benchmarks/distortion_speed.py [name ...]

The columns are levels 1..5; compilation is not counted, the copy to and from the device is.
"""

import sys
import time

import numpy as np

from iqa_jax import distortions

BATCH, HEIGHT, WIDTH = 8, 384, 512
ROUNDS = 3


def grainy_squares() -> np.ndarray:
    """Squares of colour with grain, uint8 [8, 384, 512, 3]: codecs find edges, areas and noise."""
    noise = np.random.default_rng(0)
    coarse = noise.uniform(0, 255, (BATCH, HEIGHT // 32, WIDTH // 32, 3))
    squares = coarse.repeat(32, axis=1).repeat(32, axis=2)
    return np.clip(squares + noise.normal(0, 8, squares.shape), 0, 255).astype(np.uint8)


def milliseconds_per_image(images: np.ndarray, number: int, level: int) -> float:
    """The best of a few rounds of `distort_batch` after one that compiles."""
    levels, seeds = np.full(BATCH, level), np.arange(BATCH)
    distortions.distort_batch(images, number, levels, seeds)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        distortions.distort_batch(images, number, levels, seeds)
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / BATCH


def main() -> None:
    """Prints one row per type named on the command line, or per type there is."""
    images = grainy_squares()
    print(f'{"type":28s}' + ''.join(f'{f"level {level}":>9s}' for level in range(1, 6)))
    for name in sys.argv[1:] or distortions.DISTORTIONS:
        entry = distortions.get(name)
        row = [milliseconds_per_image(images, entry.number, level) for level in range(1, 6)]
        print(f'{entry.number:2d} {name:25s}' + ''.join(f'{x:9.1f}' for x in row), flush=True)


if __name__ == '__main__':
    main()
