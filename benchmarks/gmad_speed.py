"""Time and memory of the gMAD search against NumPy, pandas and brute force.

    python benchmarks/gmad_speed.py memory [--rows 1000000 10000000] [--repeats 3]
    python benchmarks/gmad_speed.py exact [--rows 1000000]
    python benchmarks/gmad_speed.py stream [--rows 1000000 100000000] [--folder DIR]
    python benchmarks/gmad_speed.py kernel [--rows 10000000]

`memory`: one role, 11 attackers, 100 adjoining equal-width levels. All sides start from the same
host arrays and return the best and worst image of every (attacker, level), which is checked: NumPy
sorts once and takes argmax and argmin of each level, pandas groups by level and takes idxmax and
idxmin (and, cheaper, only the values, max and min).
`exact`: the same contest with a tolerance of half a level, all pairs within it, the number of rows
that brute force can do (2,000) checked against it.
`stream`: a model and eleven metrics in a Parquet file of its own process, both roles, 6 levels;
seconds once compiled, peak memory and nanoseconds per row. The file is made once in --folder and
kept.
`kernel`: rows per second of the kernel on the default device with its data there already, and the
share of the bandwidth of a copy. Every line printed is JSON.
"""

import argparse
import functools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from peak_memory import peak_memory

from iqa_jax.competition import kernel, lists, windows
from iqa_jax.competition.candidates import collect
from iqa_jax.competition.reading import Column, as_it_is
from iqa_jax.competition.search import compete, search
from iqa_jax.data import score_stream

LEVELS, ATTACKERS = 100, 11
NAMES = ['model', *(f'metric_{i:02d}' for i in range(ATTACKERS))]
GROUP = 1 << 20  # rows per row group of the streamed file


def scores(rows: int, seed: int = 0) -> np.ndarray:
    """A defender and its attackers, float32 [1 + M, N], correlated as quality models are."""
    rng = np.random.default_rng(seed)
    quality = rng.random(rows, np.float32)
    found = rng.standard_normal((1 + ATTACKERS, rows), np.float32)
    found *= np.float32([0.1, *[0.2] * ATTACKERS])[:, None]
    found += quality
    return found


def numpy_search(defender, attackers, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst image of each window, int [M, levels], -1 if empty: sort once, then argmax."""
    order = np.argsort(defender)
    placed = defender[order]
    begin, end = np.searchsorted(placed, low, 'right'), np.searchsorted(placed, high, 'left')
    best, worst = np.full((2, len(attackers), len(low)), -1)
    for level, (a, b) in enumerate(zip(begin, end, strict=True)):
        if a < b:
            members = order[a:b]
            inside = attackers[:, members]
            best[:, level] = members[inside.argmax(1)]
            worst[:, level] = members[inside.argmin(1)]
    return best, worst


def pandas_search(defender, attackers, low, high, extremes: tuple[str, str]):
    """The same by pandas' groupby of the level that holds each image."""
    import pandas

    frame = pandas.DataFrame(dict(enumerate(attackers)), copy=False)
    level = np.searchsorted(low, defender, 'left') - 1
    level[(level >= 0) & (defender >= high[level])] = -1
    groups = frame.groupby(level, sort=True)
    return tuple(getattr(groups, name)() for name in extremes)


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


def candidate_lists(table, columns, levels, candidates: int):
    """The lists of one defender against the other columns."""
    meeting = lists.Meeting(0, tuple(range(1, len(columns))), levels)
    return collect(table, columns, [meeting], candidates)


def measure_memory(rows: int, repeats: int) -> dict:
    """Times in milliseconds and ratios for tables in memory."""
    held = scores(rows)
    defender, attackers = held[0], held[1:]
    ends = np.array([defender.min(), defender.max()])
    levels = windows.equal_width(ends, LEVELS, 0.5 / LEVELS)
    table = score_stream.of_columns(dict(zip(NAMES, held, strict=True)), None, None)
    columns = [Column(name, as_it_is) for name in NAMES]
    expected = numpy_search(defender, attackers, *levels)
    for candidates in (1, 8):
        found = candidate_lists(table, columns, levels, candidates)
        for ours, theirs in zip((found.highs[0], found.lows[0]), expected, strict=True):
            np.testing.assert_array_equal(ours[..., 0], theirs)
    best = pandas_search(defender, attackers, *levels, ('idxmax', 'idxmin'))[0]
    best = best.reindex(range(LEVELS), fill_value=-1)  # levels without an image
    np.testing.assert_array_equal(best.to_numpy().T, expected[0])
    plain = {'half_width': 0.5 / LEVELS, 'max_per_ref': None, 'each_image_once': False}
    times = milliseconds(
        {
            'numpy': lambda: numpy_search(defender, attackers, *levels),
            'pandas': lambda: pandas_search(defender, attackers, *levels, ('idxmax', 'idxmin')),
            'pandas_values': lambda: pandas_search(defender, attackers, *levels, ('max', 'min')),
            'lists_1': lambda: candidate_lists(table, columns, levels, 1),
            'lists_8': lambda: candidate_lists(table, columns, levels, 8),
            'search': lambda: search(defender, attackers.T, levels=LEVELS, **plain),
        },
        repeats,
    )
    return {'rows': rows, **times} | {
        f'{side}/lists_1': round(times[side] / times['lists_1'], 2)
        for side in ('numpy', 'pandas', 'pandas_values')
    }


def brute_force(defender, attacker, low, high, tolerance) -> float:
    """Largest gap of the attacker over all pairs of a level."""
    d = defender.astype(np.float64)
    mean = (d[:, None] + d) / 2
    near = (np.abs(d[:, None] - d) <= tolerance) & (mean > low) & (mean < high)
    gaps = attacker[:, None].astype(np.float64) - attacker
    return float(np.where(near, gaps, -np.inf).max())


def measure_exact(rows: int, repeats: int) -> dict:
    """Seconds of the exact engine, all pairs within half a level, and the check at 2,000 rows."""
    rules = {'levels': LEVELS, 'half_width': 0.5 / LEVELS, 'max_per_ref': None,
             'each_image_once': False, 'engine': 'exact'}  # fmt: skip

    def run(held):
        tolerance = 0.5 * float(np.ptp(held[0])) / LEVELS
        return search(held[0], held[1:].T, tolerance=tolerance, **rules), tolerance

    small = scores(2000, 1)
    found, tolerance = run(small)
    levels = windows.equal_width(np.array([small[0].min(), small[0].max()]), LEVELS, 0.5 / LEVELS)
    gaps = {}
    for text in found['reasons']:
        for reason in json.loads(text):
            gaps[reason['level'], reason['attacker']] = abs(reason['gap'])
    for level, (low, high) in enumerate(zip(*levels, strict=True)):
        for i in range(ATTACKERS):
            best = brute_force(small[0], small[1 + i], low, high, tolerance)
            assert gaps.get((level, f'attacker_{i}'), 0) == max(best, 0), (level, i)
    held = scores(rows)
    times = milliseconds({'exact': lambda: run(held)}, repeats)
    return {'rows': rows, 'equal to brute force at': 2000, 'seconds': times['exact'] / 1e3}


def write_table(path: pathlib.Path, rows: int) -> None:
    """The streamed file: image_id (text, ascending) and 12 float32 columns."""
    schema = pa.schema([('image_id', pa.string()), *((name, pa.float32()) for name in NAMES)])
    with pq.ParquetWriter(path, schema, compression='none', use_dictionary=False) as writer:
        for group, start in enumerate(range(0, rows, GROUP)):
            held = scores(min(GROUP, rows - start), 1000 + group)
            numbers = np.char.zfill(np.arange(start, start + held.shape[1]).astype(str), 9)
            writer.write_table(pa.table([pa.array(numbers), *held], schema=schema))


def stream_once(path: pathlib.Path) -> dict:
    """Both roles over all columns of a file, in this process, after a small one that compiles."""
    rules = {'scale': 'own', 'max_per_ref': None, 'each_image_once': False}
    better, times = dict.fromkeys(NAMES, True), []
    with tempfile.TemporaryDirectory() as folder:
        small = pathlib.Path(folder) / 'small.parquet'
        write_table(small, 2000)
        for file in (small, path):
            start = time.perf_counter()
            table = score_stream.Table(file)
            pairs = compete(table, better, NAMES[:1], NAMES[1:], **rules).pairs
            seconds = time.perf_counter() - start
            times.append(round(seconds, 2))
    return {
        'pairs': len(pairs['level']),
        'seconds': times[1],
        'seconds_compiling': times[0],
        'peak_memory_mb': round(peak_memory()),
        'device': jax.devices()[0].device_kind,
    }


def measure_stream(rows: int, folder: pathlib.Path) -> dict:
    """One run in a process of its own, whose peak memory is its own."""
    path = folder / f'scores_{rows}.parquet'
    if not path.exists():
        write_table(path, rows)
    done = subprocess.run(
        [sys.executable, __file__, 'one', '--folder', str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    return {'rows': rows, **found, 'ns_per_row': round(1e9 * found['seconds'] / rows, 1)}


def measure_kernel(rows: int, repeats: int) -> dict:
    """Rows per second of the kernel with its data on the device, beside a copy of the same data."""
    rows -= rows % (8 * 65536)
    held = jnp.asarray(scores(rows))
    ends = np.asarray([held[0].min(), held[0].max()])
    divided = windows.cells(windows.equal_width(ends, LEVELS, 0.5 / LEVELS))
    axes = kernel.Axes(
        jnp.zeros(1, jnp.int32), jnp.arange(1, ATTACKERS + 1, dtype=jnp.int32)[None],
        jnp.asarray(divided.cuts)[None], jnp.asarray(divided.cell_of)[None],
    )  # fmt: skip
    out, index = jnp.zeros(rows, bool), jnp.arange(rows, dtype=jnp.int32)

    @functools.partial(jax.jit, static_argnames='chunk')
    def search_all(held, chunk):
        def one(states, start):
            part = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=start)
            chunk_of = part(held, slice_size=chunk, axis=1), part(out, slice_size=chunk)
            return kernel.update(states, (axes,), *chunk_of, part(index, slice_size=chunk)), None

        states = (kernel.empty(1, divided.count, ATTACKERS, 1),)
        return jax.lax.scan(one, states, jnp.arange(0, rows, chunk))[0]

    copy = jax.jit(lambda x: x + 1)
    runs = {f'chunk_{c}': functools.partial(search_all, held, c) for c in (65536, 8 * 65536)}
    runs['copy'] = lambda: copy(held)
    times = milliseconds(
        {n: (lambda r=r: jax.block_until_ready(r())) for n, r in runs.items()}, repeats
    )
    best = min(value for name, value in times.items() if name != 'copy')
    return {
        'rows': rows, 'device': jax.devices()[0].device_kind, **times,
        'rows_per_second': round(1e3 * rows / best),
        'share_of_copy_bandwidth': round(times['copy'] / 2 / best, 4),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=['memory', 'exact', 'stream', 'kernel', 'one'])
    parser.add_argument('--rows', type=int, nargs='+')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--folder', default=str(pathlib.Path(tempfile.gettempdir()) / 'gmad_speed'))
    flags = parser.parse_args()
    if flags.what == 'one':
        print(json.dumps(stream_once(pathlib.Path(flags.folder))))
        return
    default = {'memory': [10**6, 10**7], 'exact': [10**6], 'stream': [10**6, 10**8],
               'kernel': [10**7]}  # fmt: skip
    for rows in flags.rows or default[flags.what]:
        if flags.what == 'stream':
            folder = pathlib.Path(flags.folder)
            folder.mkdir(parents=True, exist_ok=True)
            found = measure_stream(rows, folder)
        else:
            measure = globals()[f'measure_{flags.what}']
            found = measure(rows, flags.repeats)
        print(json.dumps({'what': flags.what} | found), flush=True)


if __name__ == '__main__':
    main()
