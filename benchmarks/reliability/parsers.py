"""R11: what a stranger may write, given to every reader of the program.

    python benchmarks/reliability/parsers.py --inputs 1000000

Inputs are made from one seed: words of each format in a wrong order, and intact files with flipped,
lost, repeated and inserted bytes. `parsers` counts for each reader how many inputs it `accepted`
and how many it `refused` with a ValueError or an OSError (of the command line, with exit code 2);
`resident_mb` is the largest memory of the process. Must be zero: `others` (any other exception),
`hangs` (an input that takes 5 s of the processor or, since waiting for a child takes none of it,
30 s of the clock), `executed` (pickles in weight files that got something called) and `over_memory`
(more than `--megabytes`).
"""

import argparse
import contextlib
import io
import json
import logging
import os
import pathlib
import pickle
import signal
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator

import drill
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz import WORDS, Fuzz

SECONDS = 5.0  # of this process's processor
CLOCK_SECONDS = 30.0  # less than what the readers themselves grant a child


class Hang(BaseException):
    """An input took too long."""


def tables_of(fuzz: Fuzz) -> dict[str, tuple[int, Callable]]:
    """Readers of tables: name -> (share, call)."""
    from iqa_jax.data import manifest, pairs, score_columns, score_stream, tables

    small = {
        'image_id': np.array(['a', 'b', 'c'], object), 'file': np.array(['x', 'y', ''], object),
        'mos': np.array([1, 2, np.nan], np.float32), 'type': np.array([0, 1, 2], np.int32),
    }  # fmt: skip
    tables.write(fuzz.folder / 'whole.parquet', small, {'columns': {'mos': {}}})
    whole = (fuzz.folder / 'whole.parquet').read_bytes()
    theirs = pa.table([*small.values(), small['mos']], names=[*small, 'gmsd'])
    pq.write_table(theirs, fuzz.folder / 'theirs.parquet')
    foreign = (fuzz.folder / 'theirs.parquet').read_bytes()  # nothing but Arrow looks at it
    names, scores = [*manifest.COLUMNS], ['image_id', 'mos', 'gmsd', 'split']
    ids = small['image_id']

    def parquet() -> pathlib.Path:
        return fuzz.file('t.parquet', fuzz.broken(fuzz.one([whole, foreign])))

    def stream(path: pathlib.Path) -> None:
        table = score_stream.Table(path, content_column=fuzz.one([None, 'content', 'file']))
        columns = table.columns()
        table.described()
        if not fuzz.below(50):  # which starts a process
            table.extremes(columns)
        for _ in table.batches(columns, 2):
            pass

    def column() -> None:
        path = str(fuzz.file('s.csv', fuzz.csv(scores)))
        asked = {'x': {'scores': path, 'column': fuzz.one(scores), 'higher_is_better': True}}
        score_columns.oriented(ids, asked, score_columns.opened(asked))

    return {
        'manifest csv': (120, lambda: manifest.read(fuzz.file('m.csv', fuzz.csv(names)))),
        'manifest parquet': (12, lambda: manifest.read(parquet())),
        'table csv': (120, lambda: tables.read(fuzz.file('t.csv', fuzz.broken(fuzz.csv(scores))))),
        'quarantine csv': (
            60,
            lambda: tables.read(fuzz.file('q.csv', fuzz.csv(['file', 'reason']))),
        ),
        'pairs csv': (
            60,
            lambda: pairs.read_table(
                fuzz.file('p.csv', fuzz.csv(['image_id', 'reference', 'distorted']))
            ),
        ),
        'score column': (30, column),
        'score stream csv': (8, lambda: stream(fuzz.file('s.csv', fuzz.csv(scores)))),
        'score stream parquet': (6, lambda: stream(parquet())),
    }


def records_of(fuzz: Fuzz) -> dict[str, tuple[int, Callable]]:
    """Readers of what the program itself wrote."""
    from iqa_jax.runtime import artifacts, checkpoints

    target = {'w': np.zeros(3, np.float32)}
    artifacts.commit(fuzz.folder / 'data.bin', b'content', meta={'a': [1, {'b': 'c'}]})
    sidecar = (fuzz.folder / 'data.bin.meta.json').read_bytes()
    steps = fuzz.folder / 'checkpoints'
    record = {'files': {'a/b': ['0' * 64, 3]}, 'leaves': {"['w']": 'float32[3]'}}
    artifacts.commit(steps / 'step_1.json', artifacts.canonical_json(record).encode())
    whole = [(steps / name).read_bytes() for name in ('step_1.json', 'step_1.json.meta.json')]

    def side() -> None:
        data = json.dumps(fuzz.value()).encode() if not fuzz.below(4) else fuzz.broken(sidecar)
        fuzz.file('data.bin.meta.json', data)
        artifacts.read(fuzz.folder / 'data.bin')

    def checkpoint() -> None:
        names = ('step_1.json', 'step_1.json.meta.json')
        for name, data in zip(names, whole, strict=True):
            (steps / name).write_bytes(fuzz.broken(data) if fuzz.below(2) else data)
        if not fuzz.below(4):  # intact, but not what this version writes
            artifacts.commit(
                steps / 'step_1.json', artifacts.canonical_json(fuzz.value(2)).encode()
            )
        checkpoints.Checkpoints(steps).restore(target)

    return {'sidecar': (80, side), 'checkpoint record': (20, checkpoint)}


def configs_of(fuzz: Fuzz) -> dict[str, tuple[int, Callable]]:
    """Configs, overrides, study plans and texts."""
    from absl import flags

    from configs import make_data, score, score_pairs
    from iqa_jax import main
    from iqa_jax.images import guarded
    from iqa_jax.runtime import sharing, stages
    from iqa_jax.study import plan, texts
    from iqa_jax.tasks import make_data as task_of_data
    from iqa_jax.tasks import make_data_setup, opening
    from iqa_jax.tasks import score as task

    known = {m.__name__: m.get_config('smoke').to_dict() for m in (make_data, score, score_pairs)}
    bundled = texts._bundled().read_text(encoding='utf-8').encode()
    contents = [frozenset('ab'), frozenset('c'), frozenset('d')]

    def nested() -> None:
        allowed = fuzz.one([*known.values()])
        key = fuzz.one([*allowed]) if fuzz.below(2) else fuzz.text(3)
        stages.check_config({key: fuzz.value(), fuzz.one(WORDS): fuzz.value(1)}, allowed, 'config')

    def begin() -> None:
        config = dict(known['configs.score'])
        for _ in range(1 + fuzz.below(3)):
            key = fuzz.one([*config]) if fuzz.below(4) else fuzz.text(2)
            config[key] = fuzz.value()
        config['root'] = ''
        if not fuzz.below(4):
            del config[fuzz.one([*config])]
        opening.begin(config, task.KEYS)

    def settings() -> None:
        config = dict(known['configs.make_data'])
        config[fuzz.one([*config])] = fuzz.value()
        config |= {'photos': '', 'root': ''}
        make_data_setup.settings(opening.begin(config, task_of_data.KEYS)[0], fuzz.folder)

    def decode() -> None:
        given = {key: fuzz.value(1) for key in guarded.KEYS if fuzz.below(9)}
        guarded.check(given)

    def planned() -> None:
        few = [*range(-1, 5), 40]
        numbers = {
            key: fuzz.one(few)
            for key in ('raters', 'votes_per_item', 'per_session', 'break_every', 'seed')
        }
        items = {
            key: [fuzz.below(3) for _ in range(fuzz.below(4))]
            for key in ('rated', 'training', 'gold')
        }
        share = fuzz.one([0, 0.1, 0.5, 0.7, -1, float('nan'), float('inf')])
        numbers['seed'] = abs(numbers['seed'])
        plan.make(contents, **items, **numbers, gold_share=share)

    def words() -> None:
        data = fuzz.broken(bundled) if fuzz.below(2) else '\n'.join(
            str(fuzz.one(WORDS)) for _ in range(20)
        ).encode()  # fmt: skip
        found = texts.read(fuzz.file('texts.txt', data))
        answers = {q['name']: fuzz.one(WORDS) for q in found['questionnaire']}
        texts.check_answers(found['questionnaire'], answers)

    def command() -> None:
        config = str(drill.ROOT / 'configs/score.py')
        keys = [*known['configs.score'], 'decode.seconds', 'decode.processes', 'decode.x', 'x.y']
        overrides = [
            f'--config.{fuzz.one(keys)}={fuzz.one(WORDS)}'.replace('\0', '') for _ in range(2)
        ]
        argv = [
            'main',
            f'--config={config}',
            '--workdir=w',
            *overrides,
            *[fuzz.text(3)] * fuzz.below(2),
        ]
        quiet = io.StringIO()
        try:
            with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet):
                main._parse(argv)
        except SystemExit as end:
            if end.code != 2:
                raise RuntimeError(f'exit code {end.code}') from None
            raise ValueError(quiet.getvalue()) from None
        finally:
            flags.FLAGS.unparse_flags()

    return {
        'check_config': (200, nested), 'stage config': (100, begin),
        'make_data config': (20, settings),
        'config.decode': (60, decode), 'shard': (30, lambda: sharing.share(fuzz.text(4))),
        'study plan': (15, planned), 'study texts': (60, words), 'command line': (1, command),
    }  # fmt: skip


class _Call:
    """Pickles as a call of os.mkdir on the marker."""

    def __init__(self, name: str):
        self._name = name

    def __reduce__(self) -> tuple:
        return os.mkdir, (self._name,)


def weights_of(fuzz: Fuzz) -> dict[str, tuple[int, Callable]]:
    """Files of weights of other programs."""
    import h5py
    import safetensors.numpy

    from iqa_jax.models import torch_file, weight_files

    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    safe = safetensors.numpy.save({'a': array, 'b': array.astype(np.float16)})
    with h5py.File(fuzz.folder / 'whole.h5', 'w') as file:
        file['conv2d/conv2d/kernel:0'] = array
        file['dense/bias:0'] = array
    keras = (fuzz.folder / 'whole.h5').read_bytes()
    evil = pickle.dumps(_Call(str(fuzz.folder / 'executed')), 2)
    storage = b'(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\6tQ'
    tensor = (
        b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + b'K\x00(K\x02K\x03t(K\x03K\x01t\x89NtR'
    )
    plain = b'\x80\x02}(X\x01\x00\x00\x00w' + tensor + b'u.'
    sneaky = b'\x80\x02}(X\x01\x00\x00\x00w' + evil[2:-1] + b'u.'
    codes = [
        bytes([c])
        for c in b'().0123456789IKLMNQRSTUVX]abcdeghjloprstuq}\x80\x81\x85\x86\x87\x88\x8c\x94'
    ]
    names = [b'cos\nmkdir\n', b'cbuiltins\nexec\n', b'ccollections\nOrderedDict\n', tensor, storage]

    def code() -> bytes:
        kind = fuzz.below(4)
        if kind == 0:
            return fuzz.one([plain, sneaky, evil])
        if kind == 1:
            parts = [fuzz.one(codes if fuzz.below(3) else names) for _ in range(fuzz.below(20))]
            return b'\x80\x02' + b''.join(parts) + b'.'
        return fuzz.broken(fuzz.one([plain, plain, sneaky]))

    def zipped(data: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(
            buffer, 'w', fuzz.one([zipfile.ZIP_STORED] * 5 + [zipfile.ZIP_DEFLATED])
        ) as z:
            z.writestr('x/data.pkl', data)
            z.writestr('x/data/0', array.tobytes()[: fuzz.one([24, 24, 24, 20])])
        return buffer.getvalue()

    def legacy(data: bytes) -> bytes:
        numbers = [torch_file.LEGACY_MAGIC, torch_file.LEGACY_PROTOCOL, {'little_endian': True}]
        head = b''.join(pickle.dumps(number, 2) for number in numbers)
        rest = pickle.dumps(['0'], 2) + (6).to_bytes(8, 'little') + array.tobytes()
        return head + data + rest

    def torch() -> None:
        data = zipped(code()) if fuzz.below(2) else legacy(code())
        weight_files.read(fuzz.file('w.pth', fuzz.broken(data) if not fuzz.below(4) else data))

    return {
        'safetensors': (
            60,
            lambda: weight_files.read(fuzz.file('w.safetensors', fuzz.broken(safe))),
        ),
        'torch': (40, torch),
        'keras': (6, lambda: weight_files.read(fuzz.file('w.h5', fuzz.broken(keras)))),
    }


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """Lets the timers of `measured` raise Hang."""

    def hang(*_: object) -> None:
        raise Hang

    before = [(sign, signal.signal(sign, hang)) for sign in (signal.SIGPROF, signal.SIGALRM)]
    try:
        yield
    finally:
        for sign, handler in before:
            signal.signal(sign, handler)


def measured(call: Callable, inputs: int, found: Counter, kept: list[str], name: str) -> None:
    """Calls a reader on so many inputs and counts what came of them."""
    for _ in range(inputs):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, CLOCK_SECONDS)
        try:
            call()
            found['accepted'] += 1
        except (ValueError, OSError):
            found['refused'] += 1
        except Hang:
            found['hangs'] += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            found['others'] += 1
            if len(kept) < 40:
                kept.append(f'{name}: {error!r}'[:300])
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--inputs', type=int, default=1_000_000)
    parser.add_argument('--only', default='', help='readers whose names hold this')
    parser.add_argument('--megabytes', type=float, default=1500)
    flags = parser.parse_args()
    os.environ['JAX_PLATFORMS'] = 'cpu'
    sys.path[:0] = [str(drill.ROOT), str(drill.ROOT / 'benchmarks')]
    from peak_memory import peak_memory

    logging.disable(logging.CRITICAL)
    warnings.simplefilter('ignore')

    memory = '/dev/shm' if os.path.isdir('/dev/shm') else None
    with tempfile.TemporaryDirectory(dir=memory) as name, timed():
        fuzz = Fuzz(flags.seed, pathlib.Path(name))
        readers = tables_of(fuzz) | records_of(fuzz) | configs_of(fuzz) | weights_of(fuzz)
        readers = {name: reader for name, reader in readers.items() if flags.only in name}
        total, counts, kept = sum(share for share, _ in readers.values()), {}, []
        for name, (share, call) in readers.items():
            counts[name] = Counter(accepted=0, refused=0)
            inputs = max(1, -(-flags.inputs * share // total))
            measured(call, inputs, counts[name], kept, name)
        executed = int((fuzz.folder / 'executed').exists())
    for line in kept:
        print(line, file=sys.stderr)
    resident = peak_memory() * 2**20 / 1e6
    line = {
        'inputs': sum(sum(c.values()) for c in counts.values()),
        'others': sum(c['others'] for c in counts.values()),
        'hangs': sum(c['hangs'] for c in counts.values()), 'executed': executed,
        'over_memory': int(resident > flags.megabytes), 'resident_mb': round(resident),
        'parsers': {name: dict(c) for name, c in counts.items()},
    }  # fmt: skip
    drill.finish('R11', flags.seed, line, ['others', 'hangs', 'executed', 'over_memory'])


if __name__ == '__main__':
    main()
