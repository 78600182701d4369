"""R6: disks that are full, read-only, forbidden, failing or slow, during every stage.

    python benchmarks/reliability/full_disk.py --cases 300

Every stage of STAGES is done undisturbed, then over and over in this process while its workdir's
disk fails from a seeded random byte or call on (faults.c: ENOSPC, EROFS, EACCES, EIO of fsync and
of write, and calls that take 3 ms). `main.main` turns the failure into a sentence and an exit code
as it does for a command. Then the disk works again and the same stage is run to its end. Some
cases are whole commands in a process of their own (`--commands`), and, where it can be mounted,
some on a tmpfs of a few hundred kilobytes that is then made larger (`--tmpfs`). In others
(`--reads`) the workdir's disk works, but the pictures that READERS take in cannot be read from a
random one on: EIO of read, EMFILE of open. That says nothing about a picture.

What a run commits and forgets is noted by path and digest while it runs (commits.py).

The line counts, beside the cases of each kind and those in which a call failed (`hit`)
* committed: files of finished commits that were looked for after a failure;
* lost: such files that were gone, without their record, or that had other bytes than committed;
* not_intact: committed files or checkpoints that did not verify after the failure;
* zero_exit: exit code 0 although calls failed and the results are not those of the undisturbed
  run, or although an fsync failed; tolerated: exit code 0, as only removals of old files failed;
* not_one_sentence: endings without exactly one line `Error: ...`, last, or with a traceback;
* no_mend: sentences that do not name the workdir's file, or the picture, or do not say what to do;
* quarantined: runs that took a failing read for a bad picture;
* not_continued: stages that, with the disk working again, did not end like the undisturbed ones.
Zero must be: lost, not_intact, zero_exit, not_one_sentence, no_mend, quarantined, not_continued.
"""

import argparse
import contextlib
import io
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
import types

import shim

if __name__ == '__main__':
    shim.load()  # starts this program again, before the imports that take seconds

import commits
import compare
import drill
import tiny_world
from ml_collections import ConfigDict

from iqa_jax import main as program
from iqa_jax.runtime import artifacts, checkpoints

ZERO = (
    'lost', 'not_intact', 'zero_exit', 'not_one_sentence', 'no_mend', 'quarantined',
    'not_continued',
)  # fmt: skip
TINY = ('proxies', 'twin', 'features', 'scores')
READERS = ('features', 'scores', 'pairs')
OF_QUICKSTART = (
    'data',
    'records',
    'rate',
    'people',
    'active',
    'evaluate_rated',
    'export',
    'report',
)


class Stage:
    """A stage, what it leaves undisturbed, and how many bytes and calls of each kind that takes."""

    def __init__(self, name: str, config: dict, folder: pathlib.Path):
        self.name, self.config, self.workdir = name, config, folder / name / 'work'
        self.wanted = folder / name / 'wanted'
        self.clear()
        shim.begin(self.workdir, shim.COUNT, 0)
        code, said = self.run()
        shim.end()
        self.totals = shim.counted()
        if code:
            raise RuntimeError(f'The undisturbed stage {name} failed: {said}')
        self.wanted.parent.mkdir(parents=True, exist_ok=True)
        self.workdir.rename(self.wanted)
        # Tables name the pictures where they lie.
        self.clear()
        shutil.copytree(self.wanted, self.workdir)

    def clear(self) -> None:
        """Removes what the last run left."""
        shutil.rmtree(self.workdir, ignore_errors=True)
        self.workdir.parent.mkdir(parents=True, exist_ok=True)

    def run(self) -> tuple[int, str]:
        """The stage by `main.main`: exit code, or -1 for any other exception, and its stderr."""
        flags = types.SimpleNamespace(
            verbosity=0, distributed=False, coordinator_address=None, num_processes=None,
            process_id=None, config=ConfigDict(self.config), workdir=str(self.workdir),
        )  # fmt: skip
        program.FLAGS = flags
        program.signals.leave = sys.exit  # for many runs in one process
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = program.main([])
            except SystemExit as end:
                code = end.code
            except Exception:
                traceback.print_exc()
                code = -1
        return code, said.getvalue()


def stages(folder: pathlib.Path, names: list[str]) -> dict[str, Stage]:
    """The stages by name; the tiny world and, where needed, a quickstart are made first."""
    world, base = folder / 'world', folder / 'base'
    tiny_world.make(world)
    model = Stage('proxies', tiny_world.training(world, 'proxies', total_steps=3), folder)
    shutil.copytree(model.wanted / 'model', world / 'model')
    configs = {
        'twin': tiny_world.training(world, 'twin', total_steps=3),
        'features': tiny_world.extraction(world, 'model'),
        'scores': tiny_world.scoring(world, 'model'),
        'pairs': tiny_world.pairing(world),
    }
    if {*names} & {*OF_QUICKSTART}:
        done = drill.run_main('--config=configs/quickstart.py:smoke', f'--workdir={base}')
        if done.returncode:
            raise RuntimeError(f'The quickstart failed: {done.stderr}')
        configs |= of_quickstart(base)
    found = {'proxies': model}
    found |= {n: Stage(n, configs[n], folder) for n in names if n != 'proxies'}
    return found


def of_quickstart(base: pathlib.Path) -> dict[str, dict]:
    """Configs of the stages of the smoke quickstart, which read the others from `base`."""
    from configs import quickstart

    whole = quickstart.get_config('smoke').to_dict()['stages']
    configs = {name: stage | {'root': str(base)} for name, stage in whole.items()}
    for config in configs.values():
        del config['folder']
    few = base / 'few'
    few.mkdir()
    for file in sorted((drill.ROOT / 'iqa_jax/data/photos').glob('*.png'))[:6]:
        shutil.copy(file, few)
    few_photos = configs['data'] | {'photos': str(few), 'split_shares': (1, 1, 1, 0)}
    configs['data'] = few_photos
    configs['records'] = few_photos | {'images': 'array_record'}
    people = configs['rate']['people'] | {'raters': 3, 'votes_per_item': 1, 'per_session': 60}
    panel = configs['rate']['panel'] | {'kind': 'people'}
    configs['people'] = configs['rate'] | {'panel': panel, 'people': people}
    return configs


class Judge:
    """Counts what happens in the cases; `folder`, for its journal, is on no disk that fails."""

    def __init__(self, folder: pathlib.Path):
        kinds = (*shim.KINDS, 'slow', *shim.READS)
        self.counts = dict.fromkeys(
            ('cases', 'hit', 'tolerated', *kinds, 'commands', 'tmpfs', 'committed', *ZERO), 0
        )
        self.journal = commits.Journal(folder / 'journal')

    def case(self, stage: Stage, kind: str, after: int) -> None:
        """One failure of the workdir's disk during a stage, and the same again without."""
        number = shim.KINDS.get(kind, shim.SLOW)
        code, said, hits = self._failing(stage, kind, stage.workdir, number, after)
        where = f'{stage.name}, {kind} after {after}'
        if hits and kind != 'slow':
            self.ending(code, said, stage.workdir, where, lambda: self._same(stage, kind))
        elif code:
            self.wrong('not_continued', where, said)
        self.intact(stage.workdir, where)
        self.goes_on(stage, where)

    def reading(self, stage: Stage, kind: str, pictures: pathlib.Path, after: int) -> None:
        """One case in which pictures cannot be read, and the same again with all of them."""
        number = shim.READS[kind]
        code, said, hits = self._failing(stage, kind, pictures, number, after)
        where = f'{stage.name}, {kind} after {after}'
        if code == 3:
            self.wrong('quarantined', where, said)
        elif hits:
            self.ending(code, said, pictures, where, lambda: self._same(stage, kind))
        self.intact(stage.workdir, where)
        self.goes_on(stage, where)

    def _failing(
        self, stage: Stage, kind: str, root: pathlib.Path, number: int, after: int
    ) -> tuple[int, str, int]:
        """Runs a stage while calls below `root` fail: exit code, stderr and how many failed."""
        self.clear(stage)
        with self.journal.kept():
            shim.begin(root, number, after)
            code, said = stage.run()
            hits = shim.end()
        self.counts['cases'] += 1
        self.counts[kind] += 1
        self.counts['hit'] += hits > 0
        return code, said, hits

    def clear(self, stage: Stage) -> None:
        """Removes what the last run of a stage left, and what was noted of it."""
        stage.clear()
        self.journal.clear()

    def ending(self, code: int, said: str, root: pathlib.Path, where: str, same) -> None:
        """Judges how a run ended of which calls on files below `root` failed."""
        if code == 0 and same():
            self.counts['tolerated'] += 1
            return
        if code == 0:
            self.wrong('zero_exit', where, said)
            return
        lines = said.strip().splitlines()
        errors = [line for line in lines if line.startswith('Error: ')]
        if code != 1 or len(errors) != 1 or lines[-1:] != errors or 'Traceback' in said:
            self.wrong('not_one_sentence', where, said)
        elif str(root) not in errors[0] or not errors[0].endswith('.') or ';' not in errors[0]:
            self.wrong('no_mend', where, errors[0])

    def goes_on(self, stage: Stage, where: str) -> None:
        """Runs the stage with the disk working again."""
        code, said = stage.run()
        different = [] if code else compare.differences(stage.workdir, stage.wanted)
        if code or different:
            self.wrong('not_continued', where, f'{different} {said}')

    def intact(self, workdir: pathlib.Path, where: str) -> None:
        """Looks for everything that was committed, and verifies all files of checkpoints."""
        for path, allowed in self.journal.files().items():
            self.counts['committed'] += None not in allowed
            try:
                found = artifacts.meta(path)['sha256']
            except artifacts.MissingArtifact:
                found = None
            except artifacts.DamagedArtifact as error:
                self.wrong('not_intact', where, str(error))
                continue
            if found not in allowed:
                self.wrong('lost', where, f'{path} has {found} instead of {allowed}')
        for folder in {file.parent for file in workdir.rglob('step_*.json')}:
            saved = checkpoints.Checkpoints(folder)
            for step in saved.steps():
                if reason := saved._verify(step)[0]:
                    self.wrong('not_intact', where, reason)

    def wrong(self, count: str, where: str, said: str) -> None:
        """Counts something that must not be and prints what is known of it."""
        self.counts[count] += 1
        print(f'{count}: {where}: {said[-3000:]}', file=sys.stderr)

    @staticmethod
    def _same(stage: Stage, kind: str) -> bool:
        return kind != 'sync_fails' and not compare.differences(stage.workdir, stage.wanted)


def commands(judge: Judge, stage: Stage, rng: random.Random, number: int) -> None:
    """Whole commands whose disk fails."""
    file = tiny_world.config_file(stage.wanted.parent, stage.config)
    script = pathlib.Path(__file__).with_name('commits.py')
    command = [sys.executable, str(script), str(judge.journal.file), f'--config={file}']
    for _ in range(number):
        kind = rng.choice(list(shim.KINDS))
        # Orbax's number of calls varies; a command shall surely meet the failure.
        after = rng.randrange(stage.totals[kind] * 3 // 4)
        judge.clear(stage)
        environment = shim.environment(stage.workdir, shim.KINDS[kind], after)
        done = subprocess.run(
            [*command, f'--workdir={stage.workdir}'], cwd=drill.ROOT, text=True, timeout=600,
            env=drill.environment(**environment), capture_output=True, check=False,
        )  # fmt: skip
        judge.counts['commands'] += 1
        where = f'command {stage.name}, {kind} after {after}'
        judge.ending(done.returncode, done.stderr, stage.workdir, where,
                     lambda kind=kind: judge._same(stage, kind))  # fmt: skip
        judge.intact(stage.workdir, where)
        judge.goes_on(stage, where)


def reads(
    judge: Judge, found: list[Stage], pictures: pathlib.Path, rng: random.Random, number: int
) -> None:
    """Cases of pictures that cannot be read; every stage opens and reads each at least once."""
    kinds = list(shim.READS)
    for i in range(number):
        stage, kind = found[i % len(found)], kinds[i // len(found) % len(kinds)]
        judge.reading(stage, kind, pictures, rng.randrange(tiny_world.PICTURES))


def on_tmpfs(judge: Judge, stage: Stage, rng: random.Random, number: int) -> None:
    """Whole stages on a file system that is really full; none where it cannot be mounted."""
    for _ in range(number):
        judge.clear(stage)
        stage.workdir.mkdir()
        size = rng.randrange(100, stage.totals['full'] // 1024)
        mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}k', 'tmpfs', str(stage.workdir)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return
        try:
            with judge.journal.kept():
                code, said = stage.run()
            judge.counts['tmpfs'] += 1
            where = f'{stage.name} on {size} KiB'
            if code:
                judge.ending(code, said, stage.workdir, where, lambda: True)
            judge.intact(stage.workdir, where)
            mount = ['mount', '-o', 'remount,size=100m', str(stage.workdir)]
            subprocess.run(mount, check=True)
            judge.goes_on(stage, where)
        finally:
            subprocess.run(['umount', str(stage.workdir)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    numbers = {'seed': 0, 'cases': 300, 'commands': 10, 'tmpfs': 5, 'reads': 60}
    for name, default in numbers.items():
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--stages', nargs='*', default=[*TINY, *OF_QUICKSTART])
    parser.add_argument('--readers', nargs='*', choices=READERS, default=READERS)
    args = parser.parse_args()
    os.environ |= drill.environment()
    rng, folder = random.Random(args.seed), pathlib.Path(tempfile.mkdtemp())
    judge = Judge(folder)
    try:
        readers = [name for name in args.readers if args.reads]
        made = stages(folder, list(dict.fromkeys([*args.stages, *readers])))
        found = [made[name] for name in args.stages]
        kinds = [*shim.KINDS, 'slow']
        for number in range(args.cases):
            stage, kind = found[number % len(found)], kinds[number // len(found) % len(kinds)]
            judge.case(stage, kind, rng.randrange(stage.totals.get(kind, 1)))
        pictures = folder / 'world' / 'pictures'
        reads(judge, [made[name] for name in readers], pictures, rng, args.reads)
        for stage in found[:1]:
            commands(judge, stage, rng, args.commands)
            on_tmpfs(judge, stage, rng, args.tmpfs)
    finally:
        shutil.rmtree(folder)
    drill.finish('R6', args.seed, judge.counts, list(ZERO))


if __name__ == '__main__':
    main()
