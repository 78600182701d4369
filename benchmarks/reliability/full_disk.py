"""R6: disks that are full, read-only, forbidden, failing or slow, during every stage.

    python benchmarks/reliability/full_disk.py --cases 300

Every stage of STAGES is done undisturbed, then over and over in this process while its workdir's
disk fails from a seeded random byte or call on (faults.c: ENOSPC, EROFS, EACCES, EIO of fsync and
of write, and calls that take 3 ms). `main.main` turns the failure into a sentence and an exit code
as it does for a command. Then the disk works again and the same stage is run to its end. Some
cases are whole commands in a process of their own (`--commands`), and, where it can be mounted,
some on a tmpfs of a few hundred kilobytes that is then made larger (`--tmpfs`).

The line counts, beside the cases of each kind
* not_intact: committed files or newest checkpoints that did not verify after the failure;
* zero_exit: exit code 0 although calls failed and the results are not those of the undisturbed
  run, or although an fsync failed; tolerated: exit code 0, as only removals of old files failed;
* not_one_sentence: endings without exactly one line `Error: ...`, last, or with a traceback;
* no_mend: sentences that do not name the workdir's file or do not say what to do;
* not_continued: stages that, with the disk working again, did not end like the undisturbed ones.
Zero must be: not_intact, zero_exit, not_one_sentence, no_mend, not_continued.
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

import compare
import drill
import shim
import tiny_world
from ml_collections import ConfigDict

from iqa_jax import main as program
from iqa_jax.runtime import artifacts, checkpoints

ZERO = ('not_intact', 'zero_exit', 'not_one_sentence', 'no_mend', 'not_continued')
TINY = ('proxies', 'twin', 'features', 'scores')
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
        self.totals = {}
        for kind in [0, *shim.KINDS.values()]:
            self.clear()
            shim.begin(self.workdir, kind, shim.NEVER)
            code, said = self.run()
            self.totals[kind] = shim.end()[0]
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
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = program.main([])
            except Exception:
                traceback.print_exc()
                code = -1
        return code, said.getvalue()


def stages(folder: pathlib.Path, names: list[str]) -> list[Stage]:
    """The stages by name; the tiny world and, where needed, a quickstart are made first."""
    world, base = folder / 'world', folder / 'base'
    tiny_world.make(world)
    model = Stage('proxies', tiny_world.training(world, 'proxies', total_steps=3), folder)
    shutil.copytree(model.wanted / 'model', world / 'model')
    configs = {
        'twin': tiny_world.training(world, 'twin', total_steps=3),
        'features': tiny_world.extraction(world, 'model'),
        'scores': tiny_world.scoring(world, 'model'),
    }
    if {*names} & {*OF_QUICKSTART}:
        done = drill.run_main('--config=configs/quickstart.py:smoke', f'--workdir={base}')
        if done.returncode:
            raise RuntimeError(f'The quickstart failed: {done.stderr}')
        configs |= of_quickstart(base)
    found = {'proxies': model}
    found |= {n: Stage(n, configs[n], folder) for n in names if n != 'proxies'}
    return [found[name] for name in names]


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
    """Counts what happens in the cases."""

    def __init__(self):
        self.counts = dict.fromkeys(
            ('cases', 'hit', 'tolerated', *shim.KINDS, 'slow', 'commands', 'tmpfs', *ZERO), 0
        )
        self._commit, self._committed = artifacts.commit, {}

    def watch(self) -> None:
        """Remembers what is committed from now on."""
        self._committed.clear()

        def commit(path, data, **rest):
            self._commit(path, data, **rest)
            self._committed[pathlib.Path(path)] = True

        artifacts.commit = commit

    def case(self, stage: Stage, kind: str, after: int) -> None:
        """One failure of the disk during a stage, and the same again without."""
        stage.clear()
        self.watch()
        number = shim.KINDS.get(kind, shim.SLOW)
        shim.begin(stage.workdir, number, after)
        code, said = stage.run()
        hits = shim.end()[1]
        artifacts.commit = self._commit
        self.counts['cases'] += 1
        self.counts[kind] += 1
        self.counts['hit'] += hits > 0
        where = f'{stage.name}, {kind} after {after}'
        if hits and kind != 'slow':
            self.ending(code, said, stage.workdir, where, lambda: self._same(stage, kind))
        elif code:
            self.wrong('not_continued', where, said)
        self.intact(stage.workdir, where)
        self.goes_on(stage, where)

    def ending(self, code: int, said: str, workdir: pathlib.Path, where: str, same) -> None:
        """Judges how a run ended of which calls failed."""
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
        elif str(workdir) not in errors[0] or not errors[0].endswith('.') or ';' not in errors[0]:
            self.wrong('no_mend', where, errors[0])

    def goes_on(self, stage: Stage, where: str) -> None:
        """Runs the stage with the disk working again."""
        code, said = stage.run()
        different = [] if code else compare.differences(stage.workdir, stage.wanted)
        if code or different:
            self.wrong('not_continued', where, f'{different} {said}')

    def intact(self, workdir: pathlib.Path, where: str) -> None:
        """Verifies everything that was committed, the newest checkpoints in all their files."""
        for path in self._committed:
            if path.exists() and artifacts.sidecar_path(path).exists():
                try:
                    artifacts.read(path)
                except ValueError as error:
                    self.wrong('not_intact', where, str(error))
        for folder in {file.parent for file in workdir.rglob('step_*.json')}:
            saved = checkpoints.Checkpoints(folder)
            if saved.steps() and (reason := saved._verify(saved.steps()[-1])[0]):
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
    for _ in range(number):
        kind = rng.choice(list(shim.KINDS))
        after = rng.randrange(stage.totals[shim.KINDS[kind]])
        stage.clear()
        environment = shim.environment(stage.workdir, shim.KINDS[kind], after)
        done = drill.run_main(f'--config={file}', f'--workdir={stage.workdir}', **environment)
        judge.counts['commands'] += 1
        where = f'command {stage.name}, {kind} after {after}'
        judge.ending(done.returncode, done.stderr, stage.workdir, where,
                     lambda kind=kind: judge._same(stage, kind))  # fmt: skip
        judge.intact(stage.workdir, where)
        judge.goes_on(stage, where)


def on_tmpfs(judge: Judge, stage: Stage, rng: random.Random, number: int) -> None:
    """Whole stages on a file system that is really full; none where it cannot be mounted."""
    for _ in range(number):
        stage.clear()
        stage.workdir.mkdir()
        size = rng.randrange(100, stage.totals[shim.KINDS['full']] // 1024)
        mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}k', 'tmpfs', str(stage.workdir)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return
        try:
            judge.watch()
            code, said = stage.run()
            artifacts.commit = judge._commit
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
    for name, default in (('seed', 0), ('cases', 300), ('commands', 10), ('tmpfs', 5)):
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--stages', nargs='*', default=[*TINY, *OF_QUICKSTART])
    args = parser.parse_args()
    shim.load()
    os.environ |= drill.environment()
    rng, judge = random.Random(args.seed), Judge()
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        found = stages(folder, args.stages)
        kinds = [*shim.KINDS, 'slow']
        for number in range(args.cases):
            stage, kind = found[number % len(found)], kinds[number // len(found) % len(kinds)]
            total = stage.totals[shim.KINDS.get(kind, 0)]
            judge.case(stage, kind, rng.randrange(max(1, total)))
        commands(judge, found[0], rng, args.commands)
        on_tmpfs(judge, found[0], rng, args.tmpfs)
    finally:
        shutil.rmtree(folder)
    drill.finish('R6', args.seed, judge.counts, list(ZERO))


if __name__ == '__main__':
    main()
