"""SIGTERM and Ctrl-C in any phase: how fast a run ends, how it says so, and what it leaves.

    python benchmarks/reliability/stop_signals.py --signals 40

The smoke quickstart is begun over and over and told to stop (SIGTERM, every fourth time SIGINT) at
seeded random instants, spread over the run's time and its start, the very first 0.1 s included;
the same command is given again until the run ends, and what it leaves is compared with an
undisturbed run by `compare`. `--page N` stops N runs that serve the rating page, and
`--compiling N` N trainings of EfficientNet-Lite0, which compile for most of their first 20 s, as
the quickstart with its stored programs never does.

The line counts, beside signals, early ones (before the first stage), pages and compiling
* seconds_median, seconds_max: from the signal to the end of the process;
* too_slow: endings that took more than `--limit` seconds;
* wrong_code: exit codes other than 143 (SIGTERM) and 130 (SIGINT), but for signals that come before
  Python runs the program and catches them, of which the system's own ending counts as right;
* not_one_sentence: stderr without exactly one sentence of the stop, last, or with a traceback;
* finished_first: runs that ended with 0 before the signal came, or were already ending;
* different: files of finished runs unlike the undisturbed ones; failed: other exit codes.
Zero must be: too_slow, wrong_code, not_one_sentence, different, failed.
"""

import argparse
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import compare
import drill
import tiny_world

from iqa_jax.runtime import signals

ZERO = ('too_slow', 'wrong_code', 'not_one_sentence', 'different', 'failed')
FIRST_MOMENTS = 0.5  # seconds in which Python itself starts
START_SECONDS = 5.0
COMPILING_SECONDS = 3.0, 16.0  # in which XLA compiles


class Drill:
    """One quickstart after the other, each stopped several times."""

    def __init__(self, folder: pathlib.Path, stages: list[str], limit: float, is_tiny: bool):
        self._folder, self._limit = folder, limit
        self._config = ['--config=configs/quickstart.py:smoke']
        if stages:
            self._config.append(f'--config.order={tuple(stages)!r}')
        if is_tiny:
            tiny_world.make(folder / 'world')
            config = tiny_world.training(folder / 'world', 'proxies')
            self._config = [f'--config={tiny_world.config_file(folder, config)}']
        self.counts = dict.fromkeys(
            ('signals', 'early', 'pages', 'compiling', 'finished_first', *ZERO), 0
        )
        self.seconds: list[float] = [0.0]
        start = time.monotonic()
        done = drill.run_main(*self._config, f'--workdir={folder}/wanted')
        if done.returncode:
            raise RuntimeError(f'The undisturbed run failed: {done.stderr[-2000:]}')
        self.total = time.monotonic() - start

    def run(self, instants: list[float], number: int) -> None:
        """A quickstart that is stopped at instants (ascending) of its time, then finished."""
        workdir, done = self._folder / f'run_{number}', 0.0
        for k, instant in enumerate(instants):
            delay = instant if instant < START_SECONDS else max(0.0, instant - done)
            kind = signal.SIGINT if k % 4 == 3 else signal.SIGTERM
            child = self.start(*self._config, f'--workdir={workdir}')
            if not self.stop(child, delay, kind):
                break
            done = max(done, min(instant, done + delay - START_SECONDS))
        last = drill.run_main(*self._config, f'--workdir={workdir}')
        self.counts['failed'] += last.returncode != 0
        found = compare.differences(workdir, self._folder / 'wanted')
        self.counts['different'] += len(found)
        for name in found:
            print(f'{name} differs', file=sys.stderr)
        shutil.rmtree(workdir)

    def page(self, number: int, delay: float) -> None:
        """A run that serves the rating page, stopped after a while."""
        child = self.start(
            '--config=configs/study.py:smoke', f'--config.root={self._folder}/wanted',
            '--config.panel.kind=people', '--config.serve=page', '--config.people.port=0',
            f'--workdir={self._folder}/page_{number}',
        )  # fmt: skip
        self.counts['pages'] += 1
        self.stop(child, delay, signal.SIGTERM)

    def compile(self, number: int, delay: float) -> None:
        """A training of a large network that compiles all, stopped after a while."""
        child = self.start(
            '--config=configs/train_proxies.py:smoke', f'--config.root={self._folder}/wanted',
            '--config.model.backbone=efficientnet_lite0',
            f'--workdir={self._folder}/compiling_{number}', JAX_ENABLE_COMPILATION_CACHE='0',
        )  # fmt: skip
        self.counts['compiling'] += 1
        self.stop(child, delay, signal.SIGTERM)

    @staticmethod
    def start(*args: str, **changes: str) -> subprocess.Popen:
        return subprocess.Popen(
            drill.main_command(*args), cwd=drill.ROOT, env=drill.environment(**changes),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def stop(self, child: subprocess.Popen, delay: float, kind: int) -> bool:
        """Sends the signal and judges the end; whether the run was not over before."""
        try:
            said = child.communicate(timeout=delay)[1]
            self.counts['failed'] += child.returncode != 0
            self.counts['finished_first'] += 1
            return False
        except subprocess.TimeoutExpired:
            catches = is_caught(child.pid, kind)
            child.send_signal(kind)
        start = time.monotonic()
        said = child.communicate()[1]
        seconds = time.monotonic() - start
        code = child.returncode
        self.counts['signals'] += 1
        self.counts['early'] += delay < START_SECONDS
        self.seconds.append(seconds)
        self.counts['too_slow'] += seconds > self._limit
        if code == 0:
            self.counts['finished_first'] += 1
            return False
        if not catches and code == -kind:
            return True
        right = code == 128 + kind
        self.counts['wrong_code'] += not right
        lines = said.strip().splitlines()
        once = lines.count(signals.STOPPED) == 1 and lines[-1] == signals.STOPPED
        once = once and 'Traceback' not in said and 'Error' not in said
        self.counts['not_one_sentence'] += not once
        if not (right and once) or seconds > self._limit:
            name = signal.Signals(kind).name
            print(f'{name} after {delay:.2f} s: {code} in {seconds:.1f} s: {said[-3000:]}',
                  file=sys.stderr)  # fmt: skip
        return True


def is_caught(process: int, kind: int) -> bool:
    """Whether a process has a handler of a signal."""
    lines = pathlib.Path(f'/proc/{process}/status').read_text().splitlines()
    mask = next(line for line in lines if line.startswith('SigCgt')).split()[1]
    return bool(int(mask, 16) >> (kind - 1) & 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (('seed', 0), ('signals', 40), ('per-run', 8), ('page', 3)):
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--compiling', type=int, default=8)
    parser.add_argument('--limit', type=float, default=signals.GRACE + 2)
    parser.add_argument('--stages', nargs='*', default=[])
    parser.add_argument('--tiny', action='store_true', help='a short training, for tests')
    args = parser.parse_args()
    # Or runs inherit that it is ignored, where a background job of a shell drills them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(args.seed)
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        runs = Drill(folder, args.stages, args.limit, args.tiny)
        number = 0
        while runs.counts['signals'] < args.signals:
            count = min(args.per_run, args.signals - runs.counts['signals'])
            instants = [rng.uniform(0, runs.total) for _ in range(count)]
            instants[0] = rng.uniform(0, FIRST_MOMENTS) if count > 1 else instants[0]
            runs.run(sorted(instants), number)
            number += 1
        for number in range(args.page):
            runs.page(number, rng.uniform(2, 12))
        for number in range(args.compiling):
            runs.compile(number, rng.uniform(*COMPILING_SECONDS))
    finally:
        shutil.rmtree(folder)
    times = {'seconds_median': statistics.median(runs.seconds), 'seconds_max': max(runs.seconds)}
    times = {name: round(value, 2) for name, value in times.items()}
    drill.finish('stop signals', args.seed, runs.counts | times, list(ZERO))


if __name__ == '__main__':
    main()
