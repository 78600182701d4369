"""R3: damaged checkpoints, tables, shards, features, pictures and caches are never used silently.

    python benchmarks/reliability/damaged_checkpoints.py --cases 1000 --files 300

Checkpoints: of a folder with three committed steps a copy is damaged (KINDS, in one file of the
newest step, its record or sidecar, in several, in older steps too, or a whole step put in place of
another, or all files of a step gone) and restored. Damage that changes no byte is drawn again.

Files of stages: a finished stage of the tiny world has one file damaged; `lost_record` removes a
sidecar and changes the data that it vouched for, in tables one value, so that they stay readable.
Then, half of the time and always after `lost_record`, only a reader runs (`files_read_alone`): of
all tables of the stage, whole and in a stream, and of what was made: scores of its pictures or by
its model, its features. Else the stage runs again (a training half of the time without its
stage.json, so that it goes on from its checkpoint, log and best weights), and then the reader.

The line counts, by kind of damage and
* exact: the newest step was restored bit for bit, as the damage changed nothing that counts;
  fell_back: an older one was, bit for bit; fresh: no committed step was left, and training would
  begin anew; refused: a ValueError with a sentence that names what is damaged;
* silent: anything restored that is not bit for bit a state that was saved at that step;
* not_said: older steps, or none, restored without a warning that names the newest step;
* not_newest: an older step restored although a newer one was intact;
* crashes: any other exception, or another sentence than that none of the checkpoints is intact;
* undamaged: cases in which no byte was changed after all;
* files_made_again, files_named (a sentence, a warning or a quarantine entry of the reader names
  the file), files_without_effect (bytes that nobody reads, such as a last line end);
* files_silent: results other than the undisturbed ones without a word; files_crashes.
Zero must be: silent, not_said, not_newest, crashes, undamaged, files_silent, files_crashes.
"""

import argparse
import contextlib
import hashlib
import io
import logging
import os
import pathlib
import random
import shutil
import sys
import tempfile

import compare
import damage
import drill
import numpy as np
import tiny_world

from iqa_jax.data import features, score_stream, tables
from iqa_jax.runtime import artifacts, noted_checkpoints
from iqa_jax.tasks import make_data, score, train

ZERO = (
    'silent', 'not_said', 'not_newest', 'crashes', 'undamaged', 'files_silent', 'files_crashes'
)  # fmt: skip
KINDS = ('flip', 'truncate', 'zero', 'delete', 'append', 'swap', 'other_step', 'whole_step',
         'vanish')  # fmt: skip
LOST = 'lost_record'
FILE_KINDS = ('flip', LOST, 'truncate', 'zero', 'delete', 'append', 'swap')


def state_of(step: int) -> dict:
    """A small state of a step: all types that ours has."""
    rng = np.random.default_rng(step)
    return {
        'params': {'kernel': rng.normal(size=(8, 3)).astype(np.float32), 'bias': np.float32(step)},
        'mask': rng.random((8, 3)) > 0.5,
        'count': np.int32(step),
        'nothing': np.zeros((0, 3), np.float32),
    }


class Log(logging.Handler):
    """The warnings of a case."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


class Judge:
    """The cases and what came of them."""

    def __init__(self, folder: pathlib.Path, rng: random.Random):
        self._folder, self._rng, self._log = folder, rng, Log()
        # Apart, as the number of redraws hangs on names that Orbax draws.
        self._choice = random.Random(rng.random())
        names = ('cases', *KINDS, 'exact', 'fell_back', 'fresh', 'refused', 'files', LOST,
                 'files_read_alone', 'files_made_again', 'files_named', 'files_without_effect',
                 *ZERO)  # fmt: skip
        self.counts = dict.fromkeys(names, 0)
        logging.getLogger('absl').addHandler(self._log)

    def checkpoint(self, base: pathlib.Path, kind: str) -> None:
        """One damaged copy of the checkpoints and what is restored from it."""
        copy = self._folder / 'case'
        shutil.copytree(base, copy)
        rng = self._rng
        some = ([30], [30] * 3, [30, 20], [30, 20, 10])
        for step in self._choice.choices(some, (7, 2, 2, 1))[0]:
            damage.of_step(copy, step, kind, rng)
        self._log.said.clear()
        self.counts['cases'] += 1
        self.counts[kind] += 1
        self._wrong(
            'undamaged', damage.bytes_of(copy) == damage.bytes_of(base), kind, 'no byte differs'
        )
        saved = noted_checkpoints.NotedCheckpoints(copy, keep=3)
        try:
            found = saved.restore(state_of(0))
            self._restored(base, copy, found, kind)
        except ValueError as error:
            whole = [s for s in damage.STEPS if self._is_whole(base, copy, s)]
            sentence = f'None of the checkpoints in {copy} is intact (step '
            named = str(error).startswith(sentence)
            self.counts['refused'] += named
            self._wrong('crashes', not named, kind, repr(error))
            self._wrong('not_newest', bool(whole), kind, repr(error))
        except Exception as error:
            self._wrong('crashes', True, kind, repr(error))
        finally:
            saved.close()
            shutil.rmtree(copy)

    def _restored(self, base, copy, found: tuple | None, kind: str) -> None:
        step = found[0] if found else 0
        newest = max((s for s in damage.STEPS if self._is_whole(base, copy, s)), default=0)
        self._wrong('not_newest', step < newest, kind, f'{step} instead of {newest}')
        self.counts['exact' if step == damage.STEPS[-1] else 'fell_back' if step else 'fresh'] += 1
        said = any(f'{damage.STEPS[-1]}' in text for text in self._log.said)
        self._wrong('not_said', step < damage.STEPS[-1] and not said, kind, str(self._log.said))
        if found:
            same = compare.unequal(flat(found[1]), flat(state_of(step))) == []
            self._wrong('silent', not same or found[2] != {'step': step}, kind, str(step))

    @staticmethod
    def _is_whole(base: pathlib.Path, copy: pathlib.Path, step: int) -> bool:
        return all(
            (copy / file).is_file() and (copy / file).read_bytes() == (base / file).read_bytes()
            for file in damage.files_of(base, step)
        )

    def file(self, stage: 'Stage', kind: str) -> None:
        """One damaged file of a finished stage; then a reader, perhaps after the stage itself."""
        before = damage.bytes_of(stage.workdir)
        for _ in range(damage.REDRAWS):
            victim = self._damaged(stage, kind)
            if damage.bytes_of(stage.workdir) != before:
                break
        alone = kind == LOST or self._rng.random() < 0.5
        if stage.is_training and not alone and self._rng.random() < 0.5:
            (stage.workdir / 'stage.json').unlink(missing_ok=True)
        self.counts['files'] += 1
        self.counts[LOST] += kind == LOST
        self.counts['files_read_alone'] += alone
        where = f'{stage.name} {victim.relative_to(stage.workdir)} {kind}' + ' alone' * alone
        self._wrong('undamaged', damage.bytes_of(stage.workdir) == before, where, 'no byte differs')
        self._log.said.clear()
        try:
            if alone:
                self._effect_on_reader(stage, victim, where)
            else:
                self._effect(stage, victim, where)
        except ValueError as error:
            named = any(name in str(error) for name in names_of(victim, stage.workdir))
            self.counts['files_named'] += named
            self._wrong('files_crashes', not named, where, repr(error))
        except Exception as error:
            self._wrong('files_crashes', True, where, repr(error))
        stage.restore()

    def _damaged(self, stage: 'Stage', kind: str) -> pathlib.Path:
        """Damages one file of a stage and returns it."""
        rng = self._rng
        files = [f for f in sorted(stage.workdir.rglob('*')) if f.is_file()]
        victim = rng.choice(files)
        if kind == LOST:
            vouched = [f for f in files if artifacts.sidecar_path(f) in files]
            told = [f for f in vouched if f.suffix in ('.csv', '.parquet')]
            victim = rng.choice(told if rng.random() < 0.7 else vouched)
            new = damage.of_table(victim, rng) if victim in told else b''
            victim.write_bytes(new or damage.of_bytes(victim.read_bytes(), 'flip', rng))
            artifacts.sidecar_path(victim).unlink()
        elif kind == 'delete':
            victim.unlink()
        elif kind == 'swap':
            victim.write_bytes(rng.choice(files).read_bytes())
        else:
            victim.write_bytes(damage.of_bytes(victim.read_bytes(), kind, rng))
        return victim

    def _effect_on_reader(self, stage: 'Stage', victim: pathlib.Path, where: str) -> None:
        result = stage.read(stage.workdir)
        said = self._is_said(victim, stage.workdir, result)
        self.counts['files_named'] += said
        self.counts['files_without_effect'] += not said and result == stage.result
        silent = not said and result != stage.result
        self._wrong('files_silent', silent, where, f'{result} {self._log.said}')

    def _effect(self, stage: 'Stage', victim: pathlib.Path, where: str) -> None:
        stage.run()
        different = compare.differences(stage.workdir, stage.wanted)
        whole = victim.is_file() and victim.read_bytes() == stage.original(victim)
        result = stage.read(stage.workdir)
        if self._is_said(victim, stage.workdir, result):
            self.counts['files_named'] += 1
        elif whole and not different:
            self.counts['files_made_again'] += 1
        else:
            # Only what nobody reads may stay as it is.
            name = str(victim.relative_to(stage.workdir))
            at = name.partition('/steps/')[0].partition('/step_')[0]
            rest = [d for d in different if d != name and not d.startswith((f'{at}: ', f'{at}/'))]
            silent = bool(rest) or result != stage.result
            self.counts['files_without_effect'] += not silent
            self._wrong('files_silent', silent, where, f'{different} {self._log.said}')

    def _is_said(self, victim: pathlib.Path, workdir: pathlib.Path, result: list[str]) -> bool:
        said = [*self._log.said, *result]
        return any(name in text for text in said for name in names_of(victim, workdir))

    def _wrong(self, count: str, is_wrong: bool, where: str, said: str) -> None:
        self.counts[count] += is_wrong
        if is_wrong:
            print(f'{count}: {where}: {said[:1500]}', file=sys.stderr)


def names_of(victim: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    """What a sentence may call a file: its path, that of its data, the folder of a step."""
    data = str(victim).removesuffix(artifacts.SIDECAR_SUFFIX)
    steps = [str(p) for p in victim.parents if p.parent.name == 'steps']
    checkpoint = [str(p) for p in victim.parents if 'checkpoints' in (p.name, p.parent.name)]
    return [data, *steps, *checkpoint]


def flat(state: dict) -> dict[str, np.ndarray]:
    """Leaves of a state of two levels by name."""
    inner = {f'params/{name}': leaf for name, leaf in state['params'].items()}
    rest = {name: leaf for name, leaf in state.items() if name != 'params'}
    return {name: np.asarray(leaf) for name, leaf in (inner | rest).items()}


def read_table(file: pathlib.Path) -> str:
    """Digest of what the two readers of tables make of one."""
    columns, meta = tables.read(file)
    found = [[name, column.tolist()] for name, column in columns.items()]
    if 'image_id' in columns and len(columns['image_id']):
        stream = score_stream.Table(file)
        batches = stream.batches(stream.columns(), 7)
        found += [[b.ids.to_pylist(), b.scores.tobytes().hex()] for b in batches]
        found.append(stream.described())
    return hashlib.sha256(repr([found, meta]).encode()).hexdigest()


class Stage:
    """A finished stage, its unharmed copy, and a stage that reads what it made."""

    def __init__(self, name: str, run, read, folder: pathlib.Path):
        self.name, self._run = name, run
        self._read = read
        self.workdir, self.wanted = folder / name, folder / f'{name}_wanted'
        if not self.workdir.exists():
            self.run()
        shutil.copytree(self.workdir, self.wanted)
        files = sorted(f.relative_to(self.wanted) for f in self.wanted.rglob('*') if f.is_file())
        self._tables = [file for file in files if file.suffix in ('.csv', '.parquet')]
        self.result = self.read(self.workdir)
        self.is_training = (self.wanted / 'checkpoints').is_dir()

    def run(self) -> None:
        """The stage, silently."""
        with contextlib.redirect_stderr(io.StringIO()):
            self._run(self.workdir)

    def read(self, workdir: pathlib.Path) -> list[str]:
        """What the readers make of it and have quarantined; raises what they raise."""
        with contextlib.redirect_stderr(io.StringIO()):
            found = [read_table(workdir / name) for name in self._tables]
            return found + self._read(workdir)

    def original(self, file: pathlib.Path) -> bytes:
        """The unharmed bytes of a file."""
        return (self.wanted / file.relative_to(self.workdir)).read_bytes()

    def restore(self) -> None:
        """Puts the unharmed copy back."""
        shutil.rmtree(self.workdir)
        shutil.copytree(self.wanted, self.workdir)


def stages(folder: pathlib.Path) -> list[Stage]:
    """Data with files and with records, scores, features and trainings of the tiny world."""
    tiny_world.make(folder)
    first = tiny_world.training(folder, 'proxies', total_steps=3)
    train.run(first, folder / 'first')
    shutil.copytree(folder / 'first' / 'model', folder / 'model')

    def scored_by(model: pathlib.Path, manifest: pathlib.Path) -> list[str]:
        out = folder / 'reading'
        shutil.rmtree(out, ignore_errors=True)
        config = tiny_world.scoring(folder, str(model))
        splits = ('train', 'val', 'test', 'pool')
        score.run(config | {'manifest': str(manifest), 'splits': splits}, out)
        bad = tables.read(out / 'quarantine.csv')[0].get('reason', np.array([])).tolist()
        return [hashlib.sha256((out / 'scores.parquet').read_bytes()).hexdigest(), *map(str, bad)]

    def data(**changes: object):
        config = tiny_world.data(folder) | changes
        return lambda workdir: make_data.run(config, workdir)

    def training(variant: str, **changes: object):
        config = tiny_world.training(folder, variant, total_steps=3, **changes)
        return lambda workdir: train.run(config, workdir)

    def read_pictures(workdir: pathlib.Path) -> list[str]:
        return scored_by(folder / 'model', workdir / 'manifest.parquet')

    def read_model(workdir: pathlib.Path) -> list[str]:
        return scored_by(workdir / 'model', folder / 'rated.parquet')

    def read_features(workdir: pathlib.Path) -> list[str]:
        ids = np.array([f'p{i:02d}' for i in range(tiny_world.PICTURES)], object)
        store = features.FeatureStore([(str(workdir / features.INDEX), ids)])
        return [hashlib.sha256(store.load(np.arange(len(store))).tobytes()).hexdigest()]

    def read_no_more(workdir: pathlib.Path) -> list[str]:
        return []

    extracted = tiny_world.extraction(folder, 'model')
    scored = tiny_world.scoring(folder, 'model')
    return [
        Stage('data_png', data(), read_pictures, folder),
        Stage('data_records', data(images='array_record'), read_pictures, folder),
        Stage('features', lambda workdir: score.run(extracted, workdir), read_features, folder),
        Stage('scores', lambda workdir: score.run(scored, workdir), read_no_more, folder),
        Stage('proxies', training('proxies'), read_model, folder),
        Stage('twin', training('twin', eval_steps=1), read_model, folder),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (('seed', 0), ('cases', 1000), ('files', 300)):
        parser.add_argument(f'--{name}', type=int, default=default)
    args = parser.parse_args()
    os.environ |= drill.environment()
    rng = random.Random(args.seed)
    folder = pathlib.Path(tempfile.mkdtemp())
    judge = Judge(folder, rng)
    try:
        base = folder / 'base'
        saved = noted_checkpoints.NotedCheckpoints(base, keep=3)
        for step in damage.STEPS:
            saved.save(step, state_of(step), {'step': step})
        saved.close()
        for number in range(args.cases):
            judge.checkpoint(base, KINDS[number % len(KINDS)])
        found = stages(folder) if args.files else []
        for number in range(args.files):
            judge.file(
                found[number % len(found)], FILE_KINDS[number // len(found) % len(FILE_KINDS)]
            )
    finally:
        shutil.rmtree(folder)
    drill.finish('R3', args.seed, judge.counts, list(ZERO))


if __name__ == '__main__':
    main()
