"""Speed of making data, part by part.

    python benchmarks/data_speed.py distortions [name or number ...]
    python benchmarks/data_speed.py kadis [--photos=400] [--images=recipe]
    python benchmarks/data_speed.py input [--steps=30]

`distortions`: milliseconds per image of every type, batches of 8 photographs of 512x384, 8 bits in
and out, all cores; compilation is not counted, the copy to and from the device is. A level's time
is the best of a few rounds; a row gives the median and the worst of the five levels, and beside
them the processor time of the worst, which is that of all cores together and suffers less from
whatever else the machine does. Codecs, whose time depends on the picture, have a second row for
squares of colour with grain, a hard case.

The other side cannot run here, as its PyTorch code is not part of this project: `ARNIQA` holds its
functions' times of the same operations, one image at a time on one thread of another machine with
two cores, best of 2, +-50 %. The bar is a fifth of its time where that is over 10 ms, and its time
elsewhere; the worst level is held against it. No type may take more than 40 ms except those in
`UNLIMITED`.

`kadis`: distorting alone and the eleven metrics alone, every type once, against `make_data` with
configs/kadis_make.py doing both; resident memory while it goes on; and the time for 700,000 images
that a run of a quarter of the photographs prints, against the clock of the last three quarters of
the whole run. `--images=array_record` (or png, webp) also stores the pictures.

`input`: the network of configs/train_proxies.py from random weights on distorted versions of the
first bundled photographs. The median step, and the share of all step time spent waiting for the
next batch; the first step, which compiles, is not counted. Each kind starts with an empty cache.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from benchmarks import data_speed_input, data_speed_kadis
from iqa_jax import distortions
from iqa_jax.data import sources

BATCH, HEIGHT, WIDTH = 8, 384, 512
LEVELS = range(1, 6)

# Milliseconds per 512x384 image by KADID number; 23 was measured as less than half a millisecond.
ARNIQA = {
    **{1: 40, 2: 39, 3: 20, 4: 294, 5: 33, 7: 9, 8: 13, 9: 64, 10: 3, 11: 3, 12: 4, 13: 1, 14: 3},
    **{16: 23, 17: 14, 18: 1, 19: 122, 20: 1, 21: 1, 22: 8, 23: 0.5, 24: 24, 25: 17},
}
MOST_MILLISECONDS = 40
# Colour quantization and the denoiser are heavy by nature, and JPEG2000 is OpenJPEG's own time.
UNLIMITED = (6, 9, 15)


def photographs() -> np.ndarray:
    """The first of the bundled photographs, uint8 [8, 384, 512, 3]."""
    files = sources.photo_files('')[:BATCH]
    return np.stack([sources.load_photo(file, (HEIGHT, WIDTH)) for file in files])


def grainy_squares() -> np.ndarray:
    """Squares of colour with grain, uint8 [8, 384, 512, 3]: codecs find edges, areas and noise."""
    noise = np.random.default_rng(0)
    coarse = noise.uniform(0, 255, (BATCH, HEIGHT // 32, WIDTH // 32, 3))
    squares = coarse.repeat(32, axis=1).repeat(32, axis=2)
    return np.clip(squares + noise.normal(0, 8, squares.shape), 0, 255).astype(np.uint8)


def milliseconds_per_image(
    images: np.ndarray, number: int, level: int, rounds: int
) -> tuple[float, float]:
    """Wall and processor time of `distort_batch`, each the best of its rounds after compilation."""
    levels, seeds = np.full(BATCH, level), np.arange(BATCH)
    call = functools.partial(distortions.distort_batch, images, number, levels, seeds)
    call()
    walls, processors = [], []
    for _ in range(rounds):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return 1000 * min(walls) / BATCH, 1000 * min(processors) / BATCH


def verdict(number: int, worst: float) -> tuple[str, bool]:
    """ARNIQA's time, the ratio, the bar and whether it is met, as columns; and the last again."""
    theirs = ARNIQA.get(number)
    met = worst <= MOST_MILLISECONDS or number in UNLIMITED
    if theirs is None:
        return f'{"-":>8s}{"-":>8s}{"-":>6s}  {"met" if met else "NOT MET"}', met
    bar = 5 if theirs > 10 else 1
    met = met and theirs / worst >= bar
    return f'{theirs:8.1f}{theirs / worst:8.1f}{bar:5d}x  {"met" if met else "NOT MET"}', met


def run_distortions(args: argparse.Namespace) -> None:
    """Prints one row per type named on the command line, or per type there is."""
    named = [distortions.get(int(n) if n.isdigit() else n) for n in args.names]
    pictures = {'': photographs(), ', squares': grainy_squares()}
    columns = [f'{title:>8s}' for title in ('median', 'worst', 'cpu', 'ARNIQA', 'ratio')]
    print(f'{"milliseconds per image":36s}' + ''.join(columns) + '  bar')
    missed = []
    for entry in named or distortions.DISTORTIONS.values():
        for suffix, images in pictures.items():
            if suffix and not entry.host:
                continue
            number, title = entry.number, entry.name + suffix
            times = [milliseconds_per_image(images, number, n, args.rounds) for n in LEVELS]
            worst, cpu = max(times)
            columns, met = verdict(number, worst)
            ours = (statistics.median(wall for wall, _ in times), worst, cpu)
            print(f'{number:2d} {title:33s}' + ''.join(f'{x:8.2f}' for x in ours) + columns)
            missed += [] if met else [title]
    print('bar not met by: ' + (', '.join(missed) or 'none'))


def main() -> None:
    """Runs the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser('distortions', help='milliseconds per image of every type')
    part.add_argument('names', nargs='*', help='names or KADID numbers; all types if none')
    part.add_argument('--rounds', type=int, default=20)
    part.set_defaults(run=run_distortions)
    for name, module in (('kadis', data_speed_kadis), ('input', data_speed_input)):
        part = parts.add_parser(name, help=module.__doc__.partition(': ')[2])
        module.add_arguments(part)
        part.set_defaults(run=module.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == '__main__':
    main()
