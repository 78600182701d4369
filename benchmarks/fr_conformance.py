"""How far every full-reference metric is from the authors' code, and what it costs here.

    python benchmarks/fr_conformance.py
    python benchmarks/fr_conformance.py --golden DIR   # with golden*.csv and the images they name

Prints one row per metric: pairs compared, largest and median absolute error, rank correlation with
the original values, and milliseconds per 384x512 pair in batches of 8. Takes four minutes on two
cores. NaN and infinite values of the original are compared too, and counted where they differ.
"""

import argparse
import collections
import csv
import pathlib
import time

import jax
import numpy as np
from scipy import stats

from iqa_jax import fr_metrics
from iqa_jax.images import io

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / 'tests' / 'golden' / 'fr'
TOGETHER = (
    'ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'vsi', 'fsimc', 'gmsd', 'sff', 'sr_sim', 'haarpsi',
    'nlpd',
)  # fmt: skip


def read_rows(folder: pathlib.Path) -> list[dict[str, str]]:
    """Rows of every golden*.csv with a value of a metric that exists here."""
    files = sorted(folder.glob('golden*.csv'))
    if not files:
        raise SystemExit(f'no golden*.csv in {folder}')
    rows = [row for file in files for row in csv.DictReader(file.open())]
    return [
        row
        for row in rows
        if row['metric'] in fr_metrics.METRICS and row['source'] in ('original', 'original_error')
    ]


def compare(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """For every metric, original and own values as float64 [2, pairs]."""
    rows_of_pair = collections.defaultdict(list)
    for row in read_rows(folder):
        rows_of_pair[row['ref_path'], row['dist_path']].append(row)
    values = collections.defaultdict(list)
    for paths, rows in rows_of_pair.items():
        images = [io.decode(folder / path) for path in paths]
        # In the order of the table, so that all pairs of a size use one program.
        names = sorted({row['metric'] for row in rows}, key=list(fr_metrics.METRICS).index)
        scores = fr_metrics.metrics(names, policy='parity')(*images)
        for row in rows:
            values[row['metric']].append((float(row['value']), float(scores[row['metric']][0])))
    return {name: np.array(pairs).T for name, pairs in values.items()}


def milliseconds(names: tuple[str, ...], repeats: int = 9) -> float:
    """Median time per 384x512 pair in a batch of 8 on the default device, compilation aside."""
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (8, 384, 512, 3), dtype=np.uint8)
    noise = rng.normal(0, 10, reference.shape)
    distorted = np.clip(reference + noise, 0, 255).astype(np.uint8)
    pair = jax.device_put((reference, distorted))
    score = fr_metrics.metrics(names)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(score(*pair))
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:])) * 1000 / len(reference)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--golden', type=pathlib.Path, default=GOLDEN)
    parser.add_argument('--no-times', action='store_true', help='leave out the timings')
    options = parser.parse_args()
    values = compare(options.golden)
    print(f'{"metric":18s} pairs  max error  median error  srcc      not finite  ms per pair')
    for name in fr_metrics.METRICS:
        if name not in values:
            print(f'{name:18s}     0  no value of the original in {options.golden}')
            continue
        original, own = values[name]
        finite = np.isfinite(original)
        same = (original == own) | (np.isnan(original) & np.isnan(own))
        alike, odd = same[~finite].sum(), (~finite).sum()
        original, own = original[finite], own[finite]
        error = np.abs(own - original)
        srcc = stats.spearmanr(original, own).statistic if len(error) > 2 else np.nan
        cost = '' if options.no_times else f'{milliseconds((name,)):.2f}'
        print(
            f'{name:18s} {len(error):5d}  {error.max():9.1e}  {np.median(error):12.1e}'
            f'  {srcc:.6f}  {alike:3d} of {odd:3d}  {cost:>11s}'
        )
    if not options.no_times:
        device = jax.devices()[0].device_kind
        print(f'{" + ".join(TOGETHER)}: {milliseconds(TOGETHER):.2f} ms per pair on {device}')


if __name__ == '__main__':
    main()
