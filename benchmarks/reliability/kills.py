"""R1: SIGKILL at any instant and at every crash point, and what the repeated command leaves.

    python benchmarks/reliability/kills.py --kills 200 --ordinals 3

Each run of RUNS is first done undisturbed. Then the smoke quickstart (distort and label, pretrain,
score, evaluate, rate, fine-tune, active round with search and training, export, report) is begun
over and over, its process group killed at seeded random instants spread evenly over the run's time
(`--per-run` kills in each), and the same command given again until it ends, without a hand on the
workdir. Last, every name of `crash_points.ALL` kills at `--ordinals` of its passes, spread evenly
over all passes of a run. `--stages data pretrain` shortens the quickstart, `--points NAME...`
chooses crash points, and `--points` alone takes none. The server of the rating page has a drill of
its own, benchmarks/study_load.py.

The line counts
* kills, crashes: SIGKILLs at random instants and at crash points; runs: begun and ended;
* different: files and checkpoints of finished runs that `compare` finds to differ from the
  undisturbed run, of `compared` in all;
* manual_steps: restarts that ended with another exit code than 0 or SIGKILL's, so that somebody
  would have had to look; unfinished: runs that did not end within `--restarts` commands;
* points_not_reached: crash points that killed nothing;
* redone_intervals: most training steps done twice after one kill, in checkpoint intervals;
  redone_over_one: kills after which it was more than one interval.
Zero must be: different, manual_steps, unfinished, points_not_reached, redone_over_one.
"""

import argparse
import concurrent.futures
import contextlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import compare
import drill
import tiny_world

from iqa_jax.runtime import artifacts, crash_points

QUICKSTART = 'quickstart'
STEP_LOGS = [
    f'--config.stages.{stage}.log_steps=1' for stage in ('pretrain', 'finetune', 'active.train')
]
LONGER = '--config.stages.pretrain.total_steps=16'  # so that old checkpoints are removed
CHECKPOINT_STEPS = 4  # of the smoke configs
START_SECONDS = 4.0  # of a command until its first stage begins or goes on
# What passes the crash points that the quickstart does not; {base} is its undisturbed workdir.
RUNS = {
    QUICKSTART: ['--config=configs/quickstart.py:smoke', *STEP_LOGS, LONGER],
    'records': ['--config=configs/make_data.py:smoke', '--config.images=array_record'],
    'denoiser': ['--config=configs/train_denoiser.py:smoke', '--config.log_steps=1'],
    'pairs': [
        '--config=configs/score_pairs.py:smoke', '--config.references={base}/data/images',
        '--config.distorted={base}/data/images',
    ],
    'split': [
        '--config=configs/split.py:smoke', '--config.root={base}', '--config.shard_size=8',
    ],
}  # fmt: skip
ONLY_IN = {
    'records': crash_points.DRAFT,
    'denoiser': ('train_denoiser.checkpoint',),
    'pairs': ('score_pairs.shard',),
    'split': ('split.shard',),
}
# Runs a command undisturbed and writes down every crash point that it passes.
RECORD = """
import runpy, sys
from iqa_jax.runtime import artifacts
log = open(sys.argv.pop(1), 'a', buffering=1)
artifacts.crash_point = lambda name: print(name, file=log)
runpy.run_module('iqa_jax.main', run_name='__main__', alter_sys=True)
"""


class Drill:
    """The undisturbed runs, and what became of the disturbed ones.

    Args:
      folder: of all workdirs.
      stages: of the quickstart, in order; () for all.
      is_tiny: a training on the tiny world stands for the quickstart.
      restarts: commands after which a run is given up.
    """

    def __init__(
        self, folder: pathlib.Path, stages: tuple[str, ...], restarts: int, is_tiny: bool = False
    ):
        self._folder, self._restarts = folder, restarts
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self._arguments = {name: list(arguments) for name, arguments in RUNS.items()}
        if stages:
            first = self._arguments[QUICKSTART]
            kept = [a for a in first if not a.startswith('--config.stages.') or 'pretrain' in a]
            self._arguments[QUICKSTART] = [*kept, f'--config.order={stages!r}']
        if is_tiny:
            self._arguments[QUICKSTART] = [f'--config={tiny_training(folder)}']
        self.passes: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}
        self._done: dict[str, list[tuple[float, str]]] = {}
        self.counts = dict.fromkeys(
            ('runs', 'kills', 'crashes', 'compared', 'different', 'manual_steps', 'unfinished'), 0
        )
        self.redone: list[float] = [0.0]
        self.names: list[str] = []

    def command(self, run: str, workdir: pathlib.Path) -> list[str]:
        """The arguments of one run of `iqa_jax.main`."""
        base = self._folder / QUICKSTART
        return [*(a.format(base=base) for a in self._arguments[run]), f'--workdir={workdir}']

    def undisturbed(self, run: str) -> None:
        """Runs once to the end; remembers the passes of crash points and when stages ended."""
        workdir, log = self._folder / run, self._folder / f'{run}.passes'
        command = [sys.executable, '-c', RECORD, str(log), *self.command(run, workdir)]
        start = time.time()
        done = subprocess.run(
            command, cwd=drill.ROOT, env=drill.environment(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f'The undisturbed run {run} failed: {done.stderr[-2000:]}')
        self.seconds[run] = time.time() - start
        self.passes[run] = log.read_text().split()
        self._done[run] = [
            (file.stat().st_mtime - start, str(file.relative_to(workdir)))
            for file in workdir.rglob('stage.json')
        ]

    def progress(self, run: str, workdir: pathlib.Path) -> float:
        """Seconds of the undisturbed run until the last stage ended that ended in a workdir too."""
        return max((at for at, file in self._done[run] if (workdir / file).is_file()), default=0.0)

    def random_kills(self, instants: list[float], seed: int) -> None:
        """One run of the quickstart, killed at instants of the undisturbed run's time (ascending).

        An instant that was passed before the last kill falls into the next command's start instead.
        """
        rng, workdir = random.Random(seed), self._workdir()
        for instant in instants:
            before = self.progress(QUICKSTART, workdir)
            delay = instant - before + START_SECONDS * bool(before)
            delay = delay if delay > 0 else rng.uniform(0, START_SECONDS)
            if self._attempt(QUICKSTART, workdir, delay):
                self._finish(QUICKSTART, workdir)
                return
            self._add('kills')
        self._run_out(QUICKSTART, workdir)

    def crashes(self, run: str, targets: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """One run, crashed at passes of its crash points (ascending); those that killed nothing."""
        workdir, missed, before = self._workdir(), [], 0
        for k, (index, name) in enumerate(targets):
            # Passes repeated after the last crash come on top, so that the point is surely reached.
            ordinal = max(1, self.passes[run][before : index + 1].count(name))
            if self._attempt(run, workdir, None, f'{name}:{ordinal}'):
                missed = targets[k:]
                break
            self._add('crashes')
            before = index
        self._run_out(run, workdir)
        return missed

    def _add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self.counts[name] += number

    def _workdir(self) -> pathlib.Path:
        self._add('runs')
        return self._folder / f'run_{next(self._numbers):04d}'

    def _run_out(self, run: str, workdir: pathlib.Path) -> None:
        for _ in range(self._restarts):
            if self._attempt(run, workdir, None):
                self._finish(run, workdir)
                return
        self._add('unfinished')

    def _attempt(
        self, run: str, workdir: pathlib.Path, delay: float | None, crash: str = ''
    ) -> bool:
        """One command, killed after `delay` seconds or at a point; whether it ended itself."""
        changes = {artifacts.CRASH_VARIABLE: crash} if crash else {}
        child = subprocess.Popen(
            drill.main_command(*self.command(run, workdir)), cwd=drill.ROOT,
            env=drill.environment(**changes), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            said = child.communicate(timeout=delay)[1]
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            said = child.communicate()[1]
        if child.returncode == -signal.SIGKILL:
            self.redone.append(redone(workdir))
            return False
        if child.returncode:
            self._add('manual_steps')
            self.names.append(said.strip().splitlines()[-1])
        return True

    def _finish(self, run: str, workdir: pathlib.Path) -> None:
        wanted = self._folder / run
        found = compare.differences(workdir, wanted)
        self._add('compared', compare.count(wanted))
        self._add('different', len(found))
        self.names += found
        shutil.rmtree(workdir, ignore_errors=True)


def tiny_training(folder: pathlib.Path) -> pathlib.Path:
    """The config file of 12 steps of the twin, its best weights kept, and its world."""
    world = folder / 'world'
    tiny_world.make(world)
    config = tiny_world.training(world, 'twin', checkpoint_steps=CHECKPOINT_STEPS)
    return tiny_world.config_file(folder, config)


def redone(workdir: pathlib.Path) -> float:
    """Logged steps after the newest checkpoint of a stopped training, in checkpoint intervals."""
    most = 0.0
    for log in workdir.rglob('metrics.jsonl'):
        if (log.parent / 'stage.json').is_file():
            continue
        rows = [line for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b'\n')]
        saved = [int(file.stem[5:]) for file in log.parent.glob('checkpoints/*/step_*.json')
                 if artifacts.is_current(file, '')]  # fmt: skip
        last = json.loads(rows[-1])['step'] if rows else 0
        most = max(most, (last - max(saved, default=0)) / CHECKPOINT_STEPS)
    return most


def spread(rng: random.Random, passes: list[str], names: list[str], count: int) -> list:
    """(index into the passes, name): for each name `count` of its passes, one of each part."""
    found = []
    for name in names:
        at = [i for i, passed in enumerate(passes) if passed == name]
        for part in range(count if at else 0):
            low, high = part * len(at) // count, (part + 1) * len(at) // count
            found.append((at[rng.randrange(low, max(low + 1, high))], name))
    return found


def chains(rng: random.Random, targets: list, length: int) -> list[list]:
    """Targets dealt to runs of about `length` crashes each, ascending within a run."""
    rng.shuffle(targets)
    count = -(-len(targets) // length)
    return [sorted(targets[k::count]) for k in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (('seed', 0), ('kills', 200), ('per-run', 10), ('ordinals', 3),
                          ('restarts', 5), ('workers', 2)):  # fmt: skip
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--points', nargs='*', default=crash_points.ALL)
    parser.add_argument('--stages', nargs='*', default=())
    parser.add_argument('--tiny', action='store_true', help='a short training, for tests')
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        counts = drive(args, folder)
    finally:
        shutil.rmtree(folder)
    zero = ('different', 'manual_steps', 'unfinished', 'points_not_reached', 'redone_over_one')
    drill.finish('R1', args.seed, counts, list(zero))


def drive(args: argparse.Namespace, folder: pathlib.Path) -> dict:
    """All runs, `args.workers` at once; the counts of the line."""
    rng = random.Random(args.seed)
    runs = Drill(folder, tuple(args.stages), args.restarts, args.tiny)
    special = {name for names in ONLY_IN.values() for name in names}
    points = {run: [n for n in ONLY_IN[run] if n in args.points] for run in ONLY_IN}
    points = {run: names for run, names in points.items() if names}
    points[QUICKSTART] = [name for name in args.points if name not in special]
    for run in sorted(points, key=list(RUNS).index):
        runs.undisturbed(run)
    total = runs.seconds[QUICKSTART]
    with concurrent.futures.ThreadPoolExecutor(args.workers) as pool:
        crashed, killed = [], []
        for run, names in points.items():
            targets = spread(rng, runs.passes[run], names, args.ordinals)
            crashed += [(run, pool.submit(runs.crashes, run, chain))
                        for chain in chains(rng, targets, args.per_run)]  # fmt: skip
        for first in range(0, args.kills, args.per_run):
            count = min(args.per_run, args.kills - first)
            instants = sorted(rng.uniform(0, total) for _ in range(count))
            killed.append(pool.submit(runs.random_kills, instants, rng.random()))
        again = [(run, target) for run, job in crashed for target in job.result()]
        again = [(target, pool.submit(runs.crashes, run, [target])) for run, target in again]
        missed = [target[1] for target, job in again if job.result()]
        for job in killed:
            job.result()
    while runs.counts['kills'] < args.kills:  # some runs end before their last kill
        runs.random_kills([rng.uniform(0, total)], rng.random())
    reached = {name for run in points for name in runs.passes[run]}
    missed += [name for names in points.values() for name in names if name not in reached]
    return runs.counts | {
        'points': sum(map(len, points.values())),
        'points_not_reached': len(set(missed)),
        'redone_intervals': max(runs.redone),
        'redone_over_one': sum(value > 1 for value in runs.redone),
        'undisturbed_seconds': round(total, 1),
        'names': sorted({*runs.names, *missed})[:20],
    }


if __name__ == '__main__':
    main()
