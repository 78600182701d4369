"""R12: what scoring, features, score_pairs, make_data and training do when memory runs out.

    python benchmarks/reliability/out_of_memory.py [--cases=25] [--limits=8] [--seed=0]

Three ways to run out, in child processes, for each stage: `capacity`, a seeded number of pixels
beyond which every computation raises what XLA raises; `once`, a seeded computation that fails the
first time, with XLA's error or with MemoryError, of images that come one by one in every second
case; and `limits`, RLIMIT_AS set a seeded 2 to 80 MiB
above what the process holds once its programs are compiled. Training fails at a seeded step.

Measured with jax 0.10.2 on a CPU: an array that does not fit raises RESOURCE_EXHAUSTED, and memory
that is short elsewhere MemoryError or "can't start new thread"; all three are met. A library that
is imported, or a program that is compiled, within the last few MiB may abort or hang instead: LLVM
ends the process by itself. So may the system's killer of processes, which asks nobody; the next
run then goes on from the last shard or checkpoint. Nothing of this is counted here.

The line: cases by way; halvings; quarantined (images too large alone); ended in a sentence (the
stage ended with an error of one line, and the same command without the shortage gave the
undisturbed result); largest relative difference of a model's score (another batch size is another
program; metrics and distortions are compared bit by bit); aborted_at_exit (all cases of a stage
were good and committed, but a library aborted its process, whose threads RLIMIT_AS had kept from
starting, as it ended: the exit code is the only harm, so this may be more than 0).

These must be 0: scores_different (beyond 1e-6 of the largest score, features beyond float16's
rounding, or an image that has none and no reason with the mend), quarantined_wrongly (the shortage
was `once`, or the image fits alone: computed once more at that moment it has a result),
lines_missing_or_extra (log lines that are not one per halving), half_written, died_without_sentence
and stopped_by_too_large (a stage that an injected shortage ended though it could go on).
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

import drill
from shortage import Shortage

sys.path.insert(0, str(drill.ROOT))
STAGES = ('score', 'features', 'score_pairs', 'make_data', 'train')
SHAPES = ((64, 96), (96, 128), (128, 160))
MUST_BE_ZERO = [
    'scores_different', 'quarantined_wrongly', 'lines_missing_or_extra', 'half_written',
    'died_without_sentence', 'stopped_by_too_large',
]  # fmt: skip
BATCH = 6


def prepare(folder: pathlib.Path, rng) -> None:
    """Pictures of three sizes as photographs, as pairs, as a manifest, and a model of noise."""
    import jax
    import numpy as np
    import optax

    from iqa_jax.data import tables
    from iqa_jax.images import io
    from iqa_jax.training import saved_model, steps

    rows = []
    for i in range(18):
        shape = SHAPES[i % 3]
        smooth = np.add.outer(np.linspace(0, 150, shape[0]), np.linspace(0, 60, shape[1]))
        photo = (smooth[..., None] + rng.integers(0, 40, (*shape, 3))).astype(np.uint8)
        noisy = np.clip(photo + rng.normal(0, 3 + i, photo.shape), 0, 255).astype(np.uint8)
        for name, image in (('photos', photo), ('distorted', noisy)):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / f'p{i:02d}.png').write_bytes(io.encode_png(image))
        rows.append((f'p{i:02d}', f'p{i:02d}', str(folder / f'distorted/p{i:02d}.png'), 'train'))
    columns = zip(*rows, strict=True)
    names = ('image_id', 'ref_id', 'file', 'split')
    table = {n: np.array(c, object) for n, c in zip(names, columns, strict=True)}
    tables.write(folder / 'manifest.csv', table, {}, 'drill')
    scores = {'image_id': table['image_id'], 'q': rng.uniform(0, 1, len(rows)).astype(np.float32)}
    about = {'columns': {'q': {'higher_is_better': True, 'origin': 'a generator'}}}
    tables.write(folder / 'scores.parquet', scores, about, 'drill')
    spec = {'backbone': 'tiny', 'head': 'mlsp', 'normalise': 'layer'}
    model = saved_model.build(spec, 1)
    start = np.zeros((1, 64, 64, 3), np.float32)
    variables = jax.jit(lambda: model.init(jax.random.key(0), start, train=False))()
    state = steps.create_state(variables, optax.sgd(0.1), None, 1)
    meta = {'config': {}, 'origin': '', 'simulated': False, 'step': 0, 'trainings': []}
    saved_model.save(folder / 'model', state, spec, ['mos'], meta, 'drill')


def config_of(stage: str, folder: pathlib.Path) -> dict:
    """The config of a stage on the prepared folder; its task is its 'task'."""
    from configs import extract_features, make_data, score, score_pairs, train_proxies

    modules = {'score': score, 'features': extract_features, 'score_pairs': score_pairs}
    modules |= {'make_data': make_data, 'train': train_proxies}
    config = modules[stage].get_config('smoke').to_dict()
    scored = {'manifest': 'manifest.csv', 'splits': ('train',), 'model': 'model', 'shard_size': 9}
    changes = {
        'score': scored | {'batch_size': BATCH, 'twin': False},
        'features': scored | {'batch_size': BATCH},
        'score_pairs': {
            'references': 'photos', 'distorted': 'distorted', 'metrics': ('gmsd', 'psnr'),
            'batch_size': BATCH, 'shard_size': 9,
        },
        'make_data': {
            'photos': str(folder / 'photos'), 'size': (), 'types': ('gaussian_blur', 'jpeg'),
            'metrics': ('gmsd', 'ssim'), 'split_shares': (3, 1, 1, 1),
        },
        'train': {
            'databases': {
                'drill': {'manifest': 'manifest.csv', 'scores': 'scores.parquet', 'weight': 1.0},
            },
            'targets': ('q',), 'crop': (48, 64), 'batch_size': 4, 'total_steps': 8,
            'checkpoint_steps': 2, 'keep': 'last',
        },
    }  # fmt: skip
    return config | {'root': str(folder)} | changes[stage]


def run(stage: str, folder: pathlib.Path, workdir: pathlib.Path) -> str:
    """Runs a stage to its end and returns the sentence of its error, or ''."""
    import importlib

    from iqa_jax.runtime import endings

    config = config_of(stage, folder)
    try:
        importlib.import_module(f'iqa_jax.tasks.{config["task"]}').run(config, workdir)
    except Exception as error:
        return endings.of(error)[1]
    return ''


def result_of(stage: str, workdir: pathlib.Path) -> tuple[dict, dict[str, str]]:
    """({image: its numbers}, {quarantined file: reason}) of a finished stage."""
    import numpy as np

    from iqa_jax.data import features, tables

    if stage == 'train':
        weights = np.frombuffer((workdir / 'model/weights.msgpack').read_bytes(), np.uint8)
        return {'model': weights.astype(np.float64)}, {}
    bad = tables.read(workdir / 'quarantine.csv')[0]
    reasons = dict(zip(bad['file'].tolist(), bad['reason'].tolist(), strict=True)) if bad else {}
    reasons = {pathlib.Path(file).stem: reason for file, reason in reasons.items()}
    if stage == 'features':
        ids = tables.read(workdir / features.INDEX)[0]['image_id'].tolist()
        store = features.FeatureStore([(str(workdir / features.INDEX), np.array(ids, object))])
        return dict(zip(ids, store.load(np.arange(len(ids))), strict=True)), reasons
    table = tables.read(workdir / 'scores.parquet')[0]
    names = [n for n in table if n != 'image_id' and not n.endswith('_seen')]
    rows = np.stack([table[n] for n in names], axis=1)
    return dict(zip(table['image_id'].tolist(), rows, strict=True)), reasons


def compare(stage: str, want: dict, found: dict, reasons: dict, capacity: float) -> dict:
    """Counts of one finished case: scores that differ, and the largest relative difference."""
    import numpy as np

    allowed = {'score': 1e-6, 'features': 2**-10}.get(stage, 0.0)
    scale = max(float(np.abs(x[np.isfinite(x)]).max()) for x in want.values())
    gap, different = 0.0, 0
    for image, numbers in want.items():
        if image not in found:
            expected = SHAPES[int(image[1:3]) % 3] if stage != 'train' else (0, 0)
            padded = (-(-side // 64) * 64 for side in expected) if stage == 'score' else expected
            rows, columns = padded
            reason = reasons.get(image[:3], '')
            is_excused = 'memory does not suffice' in reason and 'another --workdir' in reason
            different += not is_excused or rows * columns <= capacity
            continue
        ours = found[image]
        finite = np.isfinite(numbers)
        wrong = not np.array_equal(ours[~finite], numbers[~finite])
        apart = float(np.abs(ours - numbers)[finite].max(initial=0)) / scale
        gap = max(gap, apart)
        different += wrong or apart > allowed
    return {'different': int(different), 'gap': gap}


def half_written(workdir: pathlib.Path) -> int:
    """Tables, models and shards that are not what their record says."""
    from iqa_jax.runtime import artifacts

    count = 0
    for file in workdir.rglob('*'):
        if file.suffix in ('.parquet', '.csv', '.npy', '.msgpack') and file.is_file():
            try:
                artifacts.meta(file)
            except ValueError:
                count += 1
    return count


def cases_of(stage: str, way: str, n: int, rng) -> list[dict]:
    """What goes wrong in each case, see `Shortage.start`; of 'limits' MiB."""
    if way == 'limits':
        return [{'mib': float(2 * 40 ** rng.uniform())} for _ in range(n)]
    if stage == 'train':
        return [{'failing': int(rng.integers(0, 8)), 'error': 'jax'} for _ in range(n)]
    errors = rng.permutation(['jax', 'memory'] * n)[:n].tolist()
    if way == 'once':
        return [
            {'failing': int(rng.integers(0, 6)), 'error': error, 'alone': number % 2 == 1}
            for number, error in enumerate(errors)
        ]
    # make_data divides what is left into splits, so two of the three sizes have to be left.
    least = 4.1 if stage == 'make_data' else 3.85
    sizes = (10 ** rng.uniform(least, 5.2, n)).tolist()
    return [{'capacity': size, 'error': e} for size, e in zip(sizes, errors, strict=True)]


def child(stage: str, n: int, limits: int, seed: int, folder: pathlib.Path) -> None:
    """Runs all cases of a stage; prints a line of JSON after each."""
    import numpy as np

    shortage = Shortage()
    shortage.install()
    shortage.start()
    undisturbed = folder / stage
    if sentence := run(stage, folder, undisturbed):
        raise SystemExit(f'{stage} fails undisturbed: {sentence}')
    want, _ = result_of(stage, undisturbed)
    rng = np.random.default_rng(seed)
    ways = {'capacity': n * (stage != 'train'), 'once': n, 'limits': limits}
    cases = [(way, case) for way in ways for case in cases_of(stage, way, ways[way], rng)]
    for number, (way, case) in enumerate(cases):
        workdir = folder / f'{stage}_{number}'
        shortage.start(**{k: v for k, v in case.items() if k != 'mib'})
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if 'mib' in case:
            status = pathlib.Path('/proc/self/status').read_text()
            held = int(status.partition('VmSize:')[2].split()[0]) * 1024
            limit = int(held + case['mib'] * 2**20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            sentence = run(stage, folder, workdir)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        line = {
            'way': way,
            'halved': shortage.halved,
            'lines': shortage.lines,
            'sentence': sentence,
        }
        line |= {'wrongly': shortage.fit, 'half_written': half_written(workdir)}
        capacity = case.get('capacity', -1.0 if 'mib' in case else np.inf)
        if sentence:
            shortage.start()
            line['again'] = run(stage, folder, workdir)
            line['half_written'] += half_written(workdir)
            if line['again']:
                print(json.dumps(line | {'different': 0, 'gap': 0.0, 'quarantined': 0}), flush=True)
                continue
        found, reasons = result_of(stage, workdir)
        line |= compare(stage, want, found, reasons, capacity) | {'quarantined': len(reasons)}
        line['wrongly'] += len(reasons) * (way == 'once' and not shortage.fit)
        print(json.dumps(line), flush=True)


def measure(stage: str, options: argparse.Namespace, folder: pathlib.Path, counts: dict) -> None:
    """Runs a child and adds what it says to the counts."""
    command = [sys.executable, __file__, '--child', stage, '--cases', str(options.cases)]
    command += ['--limits', str(options.limits), '--seed', str(options.seed)]
    command += ['--folder', str(folder)]
    expected = options.cases * (1 + (stage != 'train')) + options.limits
    done = subprocess.run(
        command, cwd=drill.ROOT, env=drill.environment(PYTHONPATH=str(drill.ROOT)),
        capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
    counts['died_without_sentence'] += int(len(lines) != expected)
    counts['aborted_at_exit'] += int(done.returncode != 0 and len(lines) == expected)
    for line in lines:
        way = line['way']
        counts['cases'][way] = counts['cases'].get(way, 0) + 1
        counts['halvings'] += line['halved']
        counts['quarantined'] += line['quarantined']
        counts['quarantined_wrongly'] += line['wrongly']
        counts['half_written'] += line['half_written']
        counts['scores_different'] += line['different']
        counts['lines_missing_or_extra'] += abs(line['halved'] - line['lines'])
        counts['ended_in_a_sentence'] += bool(line['sentence'])
        counts['died_without_sentence'] += bool(line.get('again'))
        is_training = stage == 'train' and 'config.batch_size' in line['sentence']
        if way != 'limits' and line['sentence'] and not is_training:
            counts['stopped_by_too_large'] += 1
        if way != 'limits' and stage == 'train':
            counts['died_without_sentence'] += not is_training
        if stage == 'score':
            counts['largest_difference'] = max(counts['largest_difference'], line['gap'])


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', type=int, default=25, help='of each stage and injected way')
    parser.add_argument('--limits', type=int, default=8, help='of each stage, with RLIMIT_AS')
    parser.add_argument('--stages', nargs='+', default=STAGES, choices=STAGES)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--folder', type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument('--child', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.cases, options.limits, options.seed, options.folder)
        return
    import numpy as np

    counts = {
        'cases': {},
        'aborted_at_exit': 0,
        'halvings': 0,
        'quarantined': 0,
        'ended_in_a_sentence': 0,
    }
    counts |= {'largest_difference': 0.0} | dict.fromkeys(MUST_BE_ZERO, 0)
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        prepare(folder, np.random.default_rng(options.seed))
        for stage in options.stages:
            measure(stage, options, folder, counts)
    drill.finish('R12', options.seed, counts, MUST_BE_ZERO)


if __name__ == '__main__':
    main()
