"""Time of the gMAD candidate search against NumPy's sort and per-level argmax.

    python benchmarks/gmad_speed.py [--images 100000 1000000] [--repeats 7]

One role, 11 attackers, 100 adjoining equal-width levels. Both sides start from the same host arrays
and return the same best and worst image of every (attacker, level), which is checked. The kernel is
timed with 1 candidate per list (the same work) and with 8 (what a search with caps asks for), and
`search` as a whole with one pair per contest. Prints a JSON line per number of images.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from iqa_jax.competition.search import search
from iqa_jax.competition.windows import candidate_lists, level_windows

LEVELS, ATTACKERS = 100, 11


def scores(images: int) -> tuple[np.ndarray, np.ndarray]:
    """A defender [N] and attackers [N, M], float32, correlated as quality models are."""
    rng = np.random.default_rng(0)
    quality = rng.random(images)
    defender = quality + 0.1 * rng.standard_normal(images)
    attackers = quality[:, None] + 0.2 * rng.standard_normal((images, ATTACKERS))
    return defender.astype(np.float32), attackers.astype(np.float32)


def numpy_search(defender, attackers, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst image of each window, int [M, levels], -1 if empty: sort once, then argmax."""
    order = np.argsort(defender)
    placed = defender[order]
    begin, end = np.searchsorted(placed, low, 'right'), np.searchsorted(placed, high, 'left')
    best, worst = np.full((2, attackers.shape[1], len(low)), -1)
    for level, (a, b) in enumerate(zip(begin, end, strict=True)):
        if a < b:
            members = order[a:b]
            inside = attackers[members]
            best[:, level] = members[inside.argmax(0)]
            worst[:, level] = members[inside.argmin(0)]
    return best, worst


def milliseconds(runs: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Median time of each run; the runs take turns, so that a busy moment hits all of them."""
    times = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first turn compiles
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(values), 1) for name, values in times.items()}


def measure(images: int, repeats: int) -> dict:
    """Times in milliseconds and the ratios NumPy / kernel for one number of images."""
    defender, attackers = scores(images)
    low, high = level_windows(defender, LEVELS, half_width=0.5 / LEVELS)
    expected = numpy_search(defender, attackers, low, high)
    for candidates in (1, 8):
        found = candidate_lists(defender, attackers, low, high, candidates)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours[..., 0], theirs)
    rules = {'levels': LEVELS, 'half_width': 0.5 / LEVELS}
    times = milliseconds(
        {
            'numpy': lambda: numpy_search(defender, attackers, low, high),
            'kernel_1': lambda: candidate_lists(defender, attackers, low, high, 1),
            'kernel_8': lambda: candidate_lists(defender, attackers, low, high, 8),
            'search': lambda: search(defender, attackers, **rules),
        },
        repeats,
    )
    ratios = {f'ratio_{k}': round(times['numpy'] / times[f'kernel_{k}'], 2) for k in (1, 8)}
    return {'images': images, **times, **ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, nargs='+', default=[100_000, 1_000_000])
    parser.add_argument('--repeats', type=int, default=7)
    flags = parser.parse_args()
    for images in flags.images:
        device = jax.devices()[0].device_kind
        print(json.dumps(measure(images, flags.repeats) | {'device': device}), flush=True)


if __name__ == '__main__':
    main()
