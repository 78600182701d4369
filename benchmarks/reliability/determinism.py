"""R9: is the output of research the same on another day, in another folder, by another user?

    python benchmarks/reliability/determinism.py [--config=configs/quickstart.py:smoke]
        [--order data pretrain ...] [--seed=0]

Runs the same config and seed twice, in fresh processes that differ in what must not matter:
PYTHONHASHSEED, time zone, LC_ALL (UTF-8 against an ASCII locale without Python's help), HOME,
current directory, a working directory with spaces and letters beyond ASCII, the order in which the
photographs were copied and their times, an empty compilation cache against none. Then the same for
gMAD searches (both engines; score tables joined and streamed) in which most scores are equal, with
the rows of the tables in another order and one core against all. And the first stage once more
on one core.

Compared is every file that the runs leave, byte for byte, apart from this: values called one of
TIMED, headlines with a speed, and in report.html every number that is a time, the table of the
stages' times, its bars and the digest of metrics.jsonl; sidecars of such files without their
digests (beside the report, which is made from them, also without the fingerprint); and checkpoints,
which belong to the process (their folder is named by the fingerprint, and what they lead to is
compared: the model).

The line: files compared, values left out for being times, pairs in how many gMAD searches.
files_different (with their names in `different`), pairs_different, failed and, of one core,
one_core_files_different (pictures, their manifest and splits) must be 0.

Scope: one machine class with as many cores. XLA divides sums among the cores that it finds when it
compiles, so the last bit of a metric's score depends on their number (SSIM and MDSI: 6e-8 here, the
line has it as one_core_largest_difference), and with it all that is trained on the scores; so it
does on a CPU with other vector instructions and on a GPU. Distorted pictures, splits, and the pairs
that gMAD finds in given scores do not depend on it.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import drill

sys.path.insert(0, str(drill.ROOT))
PHOTOS = drill.ROOT / 'iqa_jax' / 'data' / 'photos'
TIMED = {'seconds', 'images_per_second', 'data_wait_fraction', 'total_time', 'milliseconds'}
SPEED = re.compile(r'[\d.]+ (images|pairs)/s|[\d.,]+ ms per labelled image[^"]*')
# Of the report: texts, the table of times as a base64 download, its bars, digests of timed files.
TIME = re.compile(
    r'\d[\d.,]*\s?(ms|s|min|h)\b|bmFtZSxzZWNvbmRzLGNvdW50cw[A-Za-z0-9+/=]*'
    r'|class="share" style="width:[\d.]+%" title="[\d.]+ %"'
    r'|metrics\.jsonl</th><td class="text"><code>[0-9a-f]{64}'
)
DIGESTS = {'sha256', 'size', 'check', 'previous'}

SEARCHES = [(engine, way) for engine in ('binned', 'exact') for way in ('streamed', 'joined')]
OTHER = {
    'PYTHONHASHSEED': '4711', 'TZ': 'Pacific/Kiritimati', 'LC_ALL': 'C', 'LANG': 'C',
    'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0',
}  # fmt: skip


def start(
    world: pathlib.Path, is_other: bool, config: str, *arguments: str, cores: int = 0
) -> subprocess.Popen:
    """A run in one of the two worlds; its workdir is given by the arguments; cores 0: all."""
    home = world / 'home'
    home.mkdir(parents=True, exist_ok=True)
    variables = {'PYTHONPATH': str(drill.ROOT), 'HOME': str(home)}
    variables |= OTHER if is_other else {'PYTHONHASHSEED': '0', 'TZ': 'UTC', 'LC_ALL': 'C.UTF-8'}
    environment = os.environ | {'JAX_PLATFORMS': 'cpu'} | variables
    for name in ('JAX_COMPILATION_CACHE_DIR', 'PYTHONUTF8') if not is_other else ():
        environment.pop(name, None)
    if is_other:
        environment['JAX_COMPILATION_CACHE_DIR'] = str(world / 'cache')
    chosen = sorted(os.sched_getaffinity(0))[-cores:]
    command = drill.main_command('--config', str(drill.ROOT / config), *arguments)
    log = open(world / 'log.txt', 'ab')  # noqa: SIM115
    return subprocess.Popen(
        command, cwd=world if is_other else drill.ROOT, env=environment, stdout=log, stderr=log,
        preexec_fn=lambda: os.sched_setaffinity(0, chosen),
    )  # fmt: skip


def copy_photos(world: pathlib.Path, is_other: bool) -> pathlib.Path:
    """The bundled photographs, copied in another order and with other times."""
    folder = world / 'photos'
    folder.mkdir(parents=True)
    for number, file in enumerate(sorted(PHOTOS.glob('*.png'), reverse=is_other)):
        shutil.copyfile(file, folder / file.name)
        if is_other:
            os.utime(folder / file.name, (10**9 + number, 10**9 - number))
    return folder


def without_times(value: object, left_out: list[str], key: str = '') -> object:
    """JSON without values that are times; what is left out is noted."""
    if key in TIMED:
        left_out.append(key)
        return None
    if isinstance(value, dict):
        return {k: without_times(v, left_out, k) for k, v in value.items()}
    if isinstance(value, list):
        return [without_times(v, left_out) for v in value]
    if isinstance(value, str) and SPEED.search(value):
        left_out.append(key)
        return SPEED.sub('', value)
    return value


def comparable(file: pathlib.Path, timed: set[str], left_out: list[str]) -> object:
    """What of a file must be equal."""
    data = file.read_bytes()
    if file.name.endswith('.meta.json'):
        record = json.loads(data)
        if file.name.removesuffix('.meta.json') in timed:
            is_marked = (file.parent / 'report.html').exists()
            dropped = DIGESTS | ({'fingerprint'} if is_marked else set())
            record = {k: v for k, v in record.items() if k not in dropped}
        return without_times(record, left_out)
    if file.suffix == '.json':
        return without_times(json.loads(data), left_out)
    if file.suffix == '.jsonl':
        return [without_times(json.loads(line), left_out) for line in data.splitlines()]
    if file.name == 'report.html':
        text, count = TIME.subn('', data.decode())
        left_out += ['report.html'] * count
        return text
    return data


def compare(ours: pathlib.Path, theirs: pathlib.Path) -> tuple[int, list[str], int]:
    """Files compared, names of those that differ or that one side lacks, times left out."""
    names = {
        str(file.relative_to(folder))
        for folder in (ours, theirs)
        for file in folder.rglob('*')
        if file.is_file() and 'checkpoints' not in file.relative_to(folder).parts
    }
    timed = {'stage.json', 'summary.json', 'metrics.jsonl', 'report.html', 'results.json'}
    timed |= {'active.json', 'state.json'}
    different, left_out = [], []
    for name in sorted(names):
        if not ((ours / name).is_file() and (theirs / name).is_file()):
            different.append(f'{name} (on one side only)')
        elif comparable(ours / name, timed, left_out) != comparable(theirs / name, timed, []):
            different.append(name)
    return len(names), different, len(left_out)


def write_ties(folder: pathlib.Path, seed: int, is_other: bool) -> None:
    """Two score tables of 300 images with five or seven different scores, rows in another order."""
    import numpy as np

    rng = np.random.default_rng(seed)
    n = 300
    columns = {'a': rng.integers(0, 5, n), 'b': rng.integers(0, 7, n), 'c': rng.integers(0, 5, n)}
    order = np.random.default_rng(seed + 1).permutation(n) if is_other else np.arange(n)
    for name, members in {'one': 'abc', 'first': 'a', 'second': 'bc'}.items():
        lines = [','.join(['image_id', *members])]
        lines += [','.join([f'i{k:03d}', *(str(columns[m][k]) for m in members)]) for k in order]
        (folder / f'{name}.csv').write_text('\n'.join(lines) + '\n')


def start_searches(world: pathlib.Path, seed: int, is_other: bool) -> subprocess.Popen:
    """All gMAD searches of a world as the stages of one run; they go to its folder gmad."""
    write_ties(world, seed, is_other)
    stages = {}
    for engine, way in SEARCHES:
        first, second = ('one', 'one') if way == 'streamed' else ('first', 'second')
        columns = {
            name: {'scores': f'../{table}.csv', 'column': name, 'higher_is_better': True}
            for name, table in (('a', first), ('b', second), ('c', second))
        }
        models = {'a': columns.pop('a')}
        changes = {'manifest': '', 'levels': 4, 'top_k': 3, 'engine': engine, 'figures': 0}
        changes |= {'sheets': False, 'models': models, 'rivals': columns}
        stages[f'{engine} {way}'] = changes | {'folder': f'{engine} {way}'}
    file = world / 'searches.py'
    file.write_text(
        f'import sys\nsys.path.insert(0, {str(drill.ROOT)!r})\n'
        'from ml_collections import ConfigDict\nfrom configs import gmad\n'
        'def get_config():\n'
        '    plain = gmad.get_config().to_dict()\n    del plain["root"]\n'
        f'    stages = {{name: plain | changes for name, changes in {stages!r}.items()}}\n'
        '    return ConfigDict({"task": "pipeline", "root": "", "order": tuple(stages),\n'
        '        "stages": stages, "headlines": {}})\n',
        encoding='utf-8',
    )
    return start(world, is_other, str(file), '--workdir', str(world / 'gmad'), cores=int(is_other))


def on_one_core(worlds: list[pathlib.Path], config: str) -> dict:
    """Pictures and splits that differ when the first stage has one core, and by how much scores."""
    import numpy as np

    from iqa_jax.data import tables

    again = worlds[1] / 'one core'
    arguments = [f'--config.photos={worlds[1] / "photos"}', '--workdir', str(again)]
    arguments += ["--config.order=('data',)", '--config.headlines={}']
    if start(worlds[1], True, config, *arguments, cores=1).wait():
        return {'failed': 1}
    ours, theirs = worlds[0] / 'run' / 'data', again / 'data'
    kept = [file.relative_to(ours) for file in ours.rglob('*.png')] + [
        pathlib.Path('manifest.parquet')
    ]
    different = [str(f) for f in kept if (ours / f).read_bytes() != (theirs / f).read_bytes()]
    scores = [tables.read(folder / 'scores.parquet')[0] for folder in (ours, theirs)]
    gap = max(
        float(np.abs(scores[0][n] - scores[1][n]).max()) for n in scores[0] if n != 'image_id'
    )
    return {
        'one_core_files': len(kept),
        'one_core_files_different': len(different),
        'one_core_largest_difference': gap,
    }


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='configs/quickstart.py:smoke')
    parser.add_argument('--order', nargs='*', help='stages of the pipeline; all by default')
    parser.add_argument('--no-pipeline', action='store_true', help='gMAD searches only')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--keep', type=pathlib.Path, help='folder that the runs are left in')
    options = parser.parse_args()
    made = options.keep or pathlib.Path(tempfile.mkdtemp())
    worlds = [made / 'plain', made / 'wörld ünd möre 図']
    counts = {
        'failed': 0,
        'one_core_files_different': 0,
        'files': 0,
        'files_different': 0,
        'different': [],
        'times_left_out': 0,
    }
    runs = []
    for world in worlds:
        is_other = world is worlds[1]
        photos = copy_photos(world, is_other)
        if options.no_pipeline:
            continue
        arguments = [f'--config.photos={photos}', '--workdir', str(world / 'run')]
        if options.order:
            arguments += [f'--config.order={tuple(options.order)!r}', '--config.headlines={}']
        runs.append(start(world, is_other, options.config, *arguments))
    counts['failed'] += sum(run.wait() != 0 for run in runs)
    if runs and not counts['failed']:
        counts |= on_one_core(worlds, options.config)
        files, different, left_out = compare(*(world / 'run' for world in worlds))
        counts |= {'files': files, 'different': different, 'times_left_out': left_out}
        counts['files_different'] = len(different)
    runs = [start_searches(world, options.seed, world is worlds[1]) for world in worlds]
    counts['failed'] += sum(run.wait() != 0 for run in runs)
    pairs = [
        [(world / 'gmad' / ' '.join(x) / 'pairs.csv').read_bytes() for x in SEARCHES]
        for world in worlds
        if not counts['failed']
    ]
    counts |= {'gmad_searches': len(pairs[0]) if pairs else 0, 'gmad_pairs': 0}
    if pairs:
        counts['gmad_pairs'] = sum(len(text.splitlines()) - 1 for text in pairs[0])
    together = zip(SEARCHES, *pairs, strict=True) if pairs else ()
    counts['gmad_different'] = [' '.join(x) for x, ours, theirs in together if ours != theirs]
    counts['pairs_different'] = len(counts['gmad_different'])
    if counts['failed']:
        for world in worlds:
            print((world / 'log.txt').read_text(errors='replace')[-1500:], file=sys.stderr)
    elif not options.keep:
        shutil.rmtree(made)
    zero = ['failed', 'files_different', 'pairs_different', 'one_core_files_different']
    drill.finish('R9', options.seed, counts, zero)


if __name__ == '__main__':
    main()
