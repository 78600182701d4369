"""Do the intervals of a gMAD ranking cover, does the planner foresee them, and how long it takes.

    python benchmarks/gmad_rank.py              # coverage and planner: 200 competitions per line
    python benchmarks/gmad_rank.py --repeats=20
    python benchmarks/gmad_rank.py speed        # 16 models, 6 levels, 20 raters, 1,000 resamples

Everything is SIMULATED: answers are 20 points + pair + rater + noise, with known spreads.
"""

import argparse
import time

import numpy as np

from iqa_jax.competition import budget, ranking
from iqa_jax.data import tables

TRUTH = 20.0  # aggressiveness of everybody against everybody, points of 100
# Pairs per level, levels, raters, and the spreads.
CASES = (
    (1, 3, 20, (20.0, 20.0, 5.0)),
    (1, 6, 20, (20.0, 20.0, 5.0)),
    (2, 6, 20, (20.0, 20.0, 5.0)),
    (4, 6, 20, (20.0, 20.0, 5.0)),
    (3, 4, 15, (10.0, 15.0, 10.0)),
    (2, 6, 8, (20.0, 20.0, 10.0)),
)


def competition(rng, models, levels, per_level, raters, spreads) -> dict:
    """Preferences of all raters in all contests; spreads: noise, pair, rater."""
    noise, pair, rater = spreads
    shape = (models, models, levels, per_level, raters)
    values = TRUTH + noise * rng.standard_normal(shape)
    values += pair * rng.standard_normal((*shape[:-1], 1))
    values += rater * rng.standard_normal((models, models, 1, 1, raters))
    i, j, k, n, r = (x.reshape(-1) for x in np.indices(shape))
    name = np.array([f'm{x:02d}' for x in range(models)], object)
    image = np.ravel_multi_index((i, j, k, n), shape[:-1]).astype(str).astype(object)
    table = {
        'rater_id': np.array([f'r{x:02d}' for x in range(raters)], object)[r],
        'attacker': name[i], 'defender': name[j], 'level': k.astype(np.int32),
        'image_id_best': image + 'b', 'image_id_worst': image + 'w',
        'preference': values.reshape(-1).clip(-100, 100),
    }  # fmt: skip
    return tables.select(table, i != j)


def coverage(repeats: int) -> None:
    """Share of intervals of A that hold the truth, and half widths against the planner's."""
    print('pairs raters noise pair rater | A covered | half width  planned')
    names = ['m00', 'm01', 'm02']
    for per_level, levels, raters, spreads in CASES:
        rng, hits, widths = np.random.default_rng(1), [], []
        for _ in range(repeats):
            table = competition(rng, 3, levels, per_level, raters, spreads)
            found = ranking.rank(table, names, np.ones((3, levels)), resamples=400, methods=())
            met = found['aggressiveness']['matrix'][~np.eye(3, dtype=bool)]
            hits += ((met[:, 1] <= TRUTH) & (met[:, 2] >= TRUTH)).tolist()
            widths += ((met[:, 2] - met[:, 1]) / 2).tolist()
        known = dict(zip(budget.SPREADS, spreads, strict=True))
        planned = budget.half_width(per_level * levels, raters, known)
        about = ' '.join(f'{x:5.0f}' for x in (per_level * levels, raters, *spreads))
        print(f'{about} | {np.mean(hits):9.3f} | {np.mean(widths):10.2f} {planned:8.2f}')


def speed() -> None:
    """Seconds of all statistics with intervals, and of a plan of 16 cells."""
    names = [f'm{i:02d}' for i in range(16)]
    table = competition(np.random.default_rng(0), 16, 6, 1, 20, (20.0, 20.0, 5.0))
    start = time.perf_counter()
    found = ranking.rank(table, names, np.ones((16, 6)), resamples=1000)
    middle = time.perf_counter()
    matrix = found['aggressiveness']['matrix'][..., 0]
    budget.plan(matrix, budget.spreads(table), (6, 12, 24, 48), (5, 10, 20, 40))
    end = time.perf_counter()
    print(f'{len(table["level"]):,} answers: statistics {middle - start:.2f} s, ', end='')
    print(f'plan {end - middle:.2f} s')


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('part', nargs='?', choices=('coverage', 'speed'), default='coverage')
    parser.add_argument('--repeats', type=int, default=200)
    given = parser.parse_args()
    speed() if given.part == 'speed' else coverage(given.repeats)


if __name__ == '__main__':
    main()
