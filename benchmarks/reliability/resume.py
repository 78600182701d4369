"""R2: restarts a training from every one of its steps and compares the ends bit for bit.

    python benchmarks/reliability/resume.py

Each variant of `tiny_world` trains 12 steps undisturbed, with a checkpoint at every step. Just
before and just after each save the workdir is copied: what a kill there would leave. Every copy is
then trained to its end by the same `train.run`, in this process, and everything that it leaves is
compared with the undisturbed run by `compare`: parameters, optimiser, batch statistics, masks,
per-image counters and the state of the loss in the last checkpoint, the model's files, hard
examples, the metric log. Every batch that a restart loads is compared with that of the same step.
Keys are a function of (seed, step), and the variants draw dropout, crops and masks from them.
`--processes 2` does the same with processes that train together: they are killed after three of
their checkpoints and started again.

The line counts
* restarts: copies trained to the end; steps: that they took;
* leaves: arrays compared; leaves_different: of them not equal in type, shape and every bit;
* files: files and checkpoints compared; different: of them not equal, see `compare`;
* batches, batches_different: batches loaded by restarts, and those unlike the undisturbed ones;
* wrong_starts: restarts that did not go on at the newest checkpoint of their copy.
Zero must be: leaves_different, different, batches_different, wrong_starts, failed.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import compare
import drill
import tiny_world

from iqa_jax.data.pipeline import Pipeline
from iqa_jax.runtime import checkpoints
from iqa_jax.tasks import score, train

ZERO = ('leaves_different', 'different', 'batches_different', 'wrong_starts', 'failed')
COUNTS = (
    'restarts', 'steps', 'leaves', 'leaves_different', 'files', 'different', 'batches',
    'batches_different', 'wrong_starts', 'failed',
)  # fmt: skip


class Watch:
    """Copies a workdir around every save of its training and hashes the batches that it loads."""

    def __init__(self, folder: pathlib.Path):
        self.workdir, self.copies = folder, []
        self.batches: dict[int, str] = {}
        self._save, self._batch = checkpoints.Checkpoints.save, Pipeline.batch

    def start(self, copying: bool) -> None:
        """Watches from now on; the batches seen before are forgotten."""
        self.batches.clear()
        watch = self

        def save(checkpoint, step, state, metadata, **options):
            is_main = checkpoint._directory.name != 'best'
            if copying and is_main:
                watch.copy(step - 1, 'before_next')
            watch._save(checkpoint, step, state, metadata, **options)
            if copying and is_main:
                watch.copy(step, 'after')

        def batch(pipeline, step, *rest):
            found = watch._batch(pipeline, step, *rest)
            digest = hashlib.sha256()
            for name in sorted(found):
                digest.update(name.encode() + found[name].tobytes())
            watch.batches[step] = digest.hexdigest()
            return found

        checkpoints.Checkpoints.save, Pipeline.batch = save, batch

    def copy(self, step: int, when: str) -> None:
        copy = self.workdir.with_name(f'{self.workdir.name}_{step:02d}_{when}')
        shutil.copytree(self.workdir, copy)
        self.copies.append((step, copy))

    def stop(self) -> None:
        checkpoints.Checkpoints.save, Pipeline.batch = self._save, self._batch


def one_variant(world: pathlib.Path, variant: str, steps: int, every: int, counts: dict) -> None:
    """The undisturbed training and a restart from every copy of it, of each `every`-th step."""
    config = tiny_world.training(world, variant, total_steps=steps)
    workdir = world / variant
    watch = Watch(workdir)
    watch.start(copying=True)
    try:
        train.run(config, workdir)
        wanted_batches = dict(watch.batches)
        leaves = last_leaves(workdir)
        for first, copy in watch.copies:
            if first % every == 0:
                watch.start(copying=False)
                train.run(config, copy)
                judge(copy, workdir, first, leaves, counts)
                counts['steps'] += steps - first
                counts['batches'] += len(watch.batches)
                counts['batches_different'] += sum(
                    wanted_batches.get(step) != digest for step, digest in watch.batches.items()
                )
                counts['wrong_starts'] += {*watch.batches} != {*range(first, steps)}
            shutil.rmtree(copy)
    finally:
        watch.stop()


def last_leaves(workdir: pathlib.Path) -> dict:
    """Every array of the newest checkpoints of a workdir, the best one's included."""
    return {
        f'{file.parent.name}/{name}': leaf
        for file in sorted(workdir.rglob('step_*.json'))
        for name, leaf in compare.newest_leaves(file.parent).items()
    }


def judge(copy: pathlib.Path, wanted: pathlib.Path, first: int, leaves: dict, counts: dict) -> None:
    """Adds what one finished restart has and what differs."""
    counts['restarts'] += 1
    counts['leaves'] += len(leaves)
    counts['files'] += compare.count(wanted)
    different = compare.unequal(last_leaves(copy), leaves)
    different_files = compare.differences(copy, wanted)
    counts['leaves_different'] += len(different)
    counts['different'] += len(different_files)
    for name in different + different_files:
        print(f'{wanted.name} from step {first}: {name} differs', file=sys.stderr)


def several(world: pathlib.Path, processes: int, steps: int, counts: dict) -> None:
    """The variant 'twin' by processes that train together, killed at three of their checkpoints."""
    config = tiny_world.training(world, 'twin', total_steps=steps)
    file = tiny_world.config_file(world, config)

    def run(workdir: pathlib.Path, **changes: str) -> int:
        environment = drill.environment(PYTHON=sys.executable, **changes)
        command = [drill.ROOT / 'launch/local_processes.sh', str(processes)]
        command += [f'--config={file}', f'--workdir={workdir}']
        return subprocess.run(
            command, cwd=drill.ROOT, env=environment, capture_output=True, check=False
        ).returncode

    workdir = world / 'together'
    counts['failed'] += run(workdir) != 0
    leaves = last_leaves(workdir)
    for ordinal in (1, steps // 2, steps - 1):
        copy = world / f'together_{ordinal}'
        counts['failed'] += run(copy, IQA_JAX_CRASH_AT=f'train.checkpoint:{ordinal}') == 0
        counts['failed'] += run(copy) != 0
        counts['steps'] += steps - ordinal
        judge(copy, workdir, ordinal, leaves, counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--steps', type=int, default=12)
    parser.add_argument('--every', type=int, default=1, help='restarts from each n-th step only')
    parser.add_argument('--processes', type=int, default=2, help='1: none that train together')
    parser.add_argument('--variants', nargs='*', default=list(tiny_world.VARIANTS))
    args = parser.parse_args()
    os.environ |= drill.environment()
    counts = dict.fromkeys(COUNTS, 0)
    world = pathlib.Path(tempfile.mkdtemp())
    try:
        tiny_world.make(world)
        if 'features' in args.variants:
            first = tiny_world.training(world, 'proxies', total_steps=4, checkpoint_steps=4)
            train.run(first, world / 'first')
            shutil.copytree(world / 'first' / 'model', world / 'model')
            score.run(tiny_world.extraction(world, 'model'), world / 'features')
        for variant in args.variants:
            one_variant(world, variant, args.steps, args.every, counts)
        if args.processes > 1:
            several(world, args.processes, args.steps, counts)
    finally:
        shutil.rmtree(world)
    counts |= {'variants': len(args.variants), 'processes': args.processes}
    drill.finish('R2', args.seed, counts, list(ZERO))


if __name__ == '__main__':
    main()
