"""R4: a folder of thousands of damaged and odd pictures, scored beside good ones.

    python benchmarks/reliability/mutated_images.py --cases 10000

Crops of the bundled photographs, 64 to 96 pixels, in every format that is read; some stay good.
`cases` counts what was done to the others. Damage (`flip` to `swap`, `html`, `empty`, `cut`) is
done to the bytes; the rest are whole files of a kind, of which those in READ have known pixels.
All are scored by a small random network through `iqa_jax.main` three times: the pixels as plain
PNG; the files with a manifest that has the SHA-256 of every undamaged file; the same without. Each
file is also decoded by itself, by the clock, in a child process.

The public bad files of Pillow's tests and of bmpsuite are no part of this, as no package has them.
In their place it draws bit flips, cuts, runs of zeros, insertions and swaps in seven formats and
their compressions, which hit headers, tables and pixels of each, and takes the bombs of bombs.py
that their headers give away.

The line holds, of both runs over the files, `decoded`: how many damaged files became a score
without digests, and `other_pixels`: how many of these show something else than the whole file,
which no decoder can tell; `resident_mb`, the most memory of a run; `slowest`, the seconds of the
slowest file that was none of the hangs. Must be zero: `crashes` (another exit code than 3), `hangs`
(a file that takes more than `--file-seconds` or ends the child, a run longer than `--timeout`),
`good_changed` (a score that is not bit for bit that of the plain PNG, or a good file refused),
`silently_wrong` (damaged, and scored although the manifest has its digest), `accepted` (a kind that
is to be refused has a score), `unlisted` (neither score nor reason), `over_memory` (more than
`--megabytes`).

Batches hold one picture, since XLA rounds differently in programs of other batch lengths.
"""

import argparse
import hashlib
import io
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections import Counter

import bombs
import drill
import file_seconds
import numpy as np
from PIL import Image

FORMATS = {
    'PNG': [{}], 'JPEG': [{'quality': 90}, {'quality': 90, 'progressive': True}],
    'JPEG2000': [{}], 'WEBP': [{'lossless': True}, {'quality': 80}], 'BMP': [{}],
    'TIFF': [{}, {'compression': 'tiff_lzw'}, {'compression': 'tiff_deflate'}], 'GIF': [{}],
}  # fmt: skip
DAMAGE = ('flip', 'truncate', 'zeros', 'insert', 'swap')
GONE = ('html', 'empty', 'cut')  # damage that leaves no picture
READ = ('palette', 'opaque', 'turned', 'suffix', 'name')
REFUSED = (
    'cmyk', 'deep', 'alpha', 'animated', 'tiny', 'bomb', 'loop', 'dangling', 'pipe', 'folder',
    'unreadable',
)  # fmt: skip
NAMES = ('日本語', 'line\nbreak', 'return\r', ' "quotes\', and commas', '-dash', '🙂', 'n' * 240)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """Bytes of a picture in a format."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def damaged(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """The bytes after a mishap, never the same as before."""
    size, broken = len(data), bytearray(data)
    start = int(rng.integers(0, size))
    length = int(rng.integers(1, max(2, min(size - start, 400))))
    if kind == 'flip':
        for place in rng.choice(size, int(rng.integers(1, 9)), replace=False):
            broken[place] ^= 1 << int(rng.integers(8))
    elif kind == 'truncate':
        del broken[start:]
    elif kind == 'zeros':
        broken[start : start + length] = bytes(len(broken[start : start + length]))
    elif kind == 'insert':
        broken[start:start] = rng.bytes(length)
    elif kind == 'swap':
        other = int(rng.integers(0, max(1, size - length)))
        first, second = sorted((min(start, size - length), other))
        a, b = data[first : first + length], data[second : second + length]
        broken[first : first + length], broken[second : second + length] = b, a
        del broken[size:]
    elif kind == 'html':
        broken = bytearray(b'<!doctype html><title>404</title>' + rng.bytes(20).hex().encode())
    elif kind == 'empty':
        broken = bytearray()
    elif kind == 'cut':
        del broken[int(rng.integers(1, 12)) :]
    return bytes(broken) if broken != data else damaged(data, 'flip', rng)


class World:
    """The files of a seed, and what is to come of each.

    Attributes:
      rows: (image_id, file, SHA-256 of the whole file) of every row of the manifest.
      plain: image_id -> PNG file with the pixels, of rows that have to be scored.
      kinds: image_id -> kind.
      whole: image_id -> bytes before the damage.
    """

    def __init__(self, folder: pathlib.Path, cases: int, seed: int):
        self.rows, self.plain, self.kinds, self.whole = [], {}, {}, {}
        self._folder, self._rng = folder, np.random.default_rng(seed)
        photos = sorted((drill.ROOT / 'iqa_jax/data/photos').glob('*.png'))
        self._photos = [np.asarray(Image.open(file).convert('RGB')) for file in photos]
        self._bombs = list(bombs.declared().values())
        (folder / 'files').mkdir()
        (folder / 'plain').mkdir()
        odd = [*GONE, *READ, *REFUSED]
        for number in range(cases):
            # Four of five are damaged pictures, in turn of every kind and format.
            kind = odd[number // 5 % len(odd)] if number % 5 == 0 else DAMAGE[number % 5 - 1]
            if number % 10 == 9:
                kind = DAMAGE[4]
            self._add(number, kind)
        for number in range(cases, cases + max(1, cases // 10)):
            self._add(number, 'good')

    def _crop(self) -> np.ndarray:
        rng, photo = self._rng, self._photos[int(self._rng.integers(len(self._photos)))]
        high, wide = (int(side) for side in rng.choice([64, 80, 96], 2))
        top, left = (int(rng.integers(0, n - m)) for n, m in zip(photo.shape, (high, wide)))  # noqa: B905
        return photo[top : top + high, left : left + wide]

    def _add(self, number: int, kind: str) -> None:
        pixels, rng = self._crop(), self._rng
        form = list(FORMATS)[number % 7]
        options = FORMATS[form][number // 7 % len(FORMATS[form])]
        if kind in ('palette', 'opaque', 'turned', 'name', 'suffix'):
            form, options = 'PNG', {}
        image = Image.fromarray(pixels)
        suffix = 'jpg' if kind == 'suffix' else form.lower()
        stem = f'{number:06d}'
        if kind == 'name':
            stem = NAMES[number // 5 % len(NAMES)][: 255 - 11] + stem
        file = self._folder / 'files' / f'{stem}.{suffix}'
        whole = data = self._data(kind, image, form, options)
        if kind in (*DAMAGE, *GONE):
            data = damaged(whole, kind, rng)
            self.whole[stem] = whole
        self._put(file, kind, data)
        if kind in (*READ, 'good'):
            self.plain[stem] = self._folder / 'plain' / f'{number:06d}.png'
            shown = self._shown(kind, image, whole)
            self.plain[stem].write_bytes(encoded(shown, 'PNG'))
        self.kinds[stem] = kind
        self.rows.append((stem, file, hashlib.sha256(whole).hexdigest()))

    def _data(self, kind: str, image: Image.Image, form: str, options: dict) -> bytes:
        deep = np.asarray(image.convert('L')).astype(np.uint16) * 257
        if kind == 'palette':
            image = image.quantize(64)
        elif kind in ('opaque', 'alpha'):
            image.putalpha(255 if kind == 'opaque' else 200)
            form, options = 'PNG', {}
        elif kind == 'cmyk':
            image, form, options = image.convert('CMYK'), 'JPEG', {}
        elif kind == 'deep':
            image, form, options = Image.fromarray(deep), 'PNG', {}
        elif kind == 'animated':
            form, options = 'GIF', {'save_all': True, 'append_images': [image.rotate(180)]}
        elif kind == 'tiny':
            image = image.resize((1, 1))
        elif kind == 'turned':
            exif = Image.Exif()
            exif[0x0112] = 6
            options = {'exif': exif}
        elif kind == 'bomb':
            return self._bombs[int(self._rng.integers(len(self._bombs)))]
        return encoded(image, form, **options)

    def _shown(self, kind: str, image: Image.Image, whole: bytes) -> Image.Image:
        """What a right decoder shows."""
        if kind == 'turned':
            return Image.fromarray(np.rot90(np.asarray(image), -1))
        return Image.open(io.BytesIO(whole)).convert('RGB')

    def _put(self, file: pathlib.Path, kind: str, data: bytes) -> None:
        if kind == 'loop':
            file.symlink_to(file)
        elif kind == 'dangling':
            file.symlink_to(file.with_name('nowhere'))
        elif kind == 'pipe':
            os.mkfifo(file)
        elif kind == 'folder':
            file.mkdir()
        elif kind == 'unreadable' and os.geteuid():
            file.write_bytes(data)
            file.chmod(0)
        elif kind == 'unreadable':  # root may read every file, so here is one without a size
            file.symlink_to('/proc/self/mem')
        else:
            file.write_bytes(data)


def network(folder: pathlib.Path, backbone: str, seed: int) -> None:
    """Saves a random model as training does."""
    import flax
    import jax
    import jax.numpy as jnp

    from iqa_jax import models
    from iqa_jax.runtime import artifacts

    spec = {'backbone': backbone, 'head': 'mlsp', 'normalise': 'layer'}
    model, start = models.build(**spec, outputs=1), jnp.zeros((1, 64, 64, 3))
    made = jax.jit(lambda: model.init(jax.random.key(seed), start, train=False))()
    variables = {'batch_stats': {}} | jax.tree.map(np.asarray, dict(made))
    about = {'config': {}, 'origin': 'random', 'simulated': True, 'step': 0}
    record = {'spec': spec, 'targets': ['mos'], 'meta': about}
    data = flax.serialization.msgpack_serialize(variables)
    artifacts.commit(folder / 'weights.msgpack', data)
    artifacts.commit(folder / 'model.json', artifacts.canonical_json(record).encode())


def scored(place: pathlib.Path, rows: list, flags: argparse.Namespace, model: pathlib.Path) -> dict:
    """One run over rows of (image_id, file, digest): scores, reasons, exit code, memory, time."""
    from iqa_jax.data import tables

    columns = {
        name: np.array([str(row[i]) for row in rows], object)
        for i, name in enumerate(('image_id', 'file', 'sha256'))
    }
    place.mkdir()
    tables.write(place / 'manifest.csv', columns)
    command = drill.main_command(
        '--config=configs/score.py', '--config.root=', f'--config.manifest={place}/manifest.csv',
        f'--config.model={model}', '--config.splits=("pool",)', '--config.batch_size=1',
        '--config.shard_size=500', f'--config.decode.processes={flags.processes}',
        f'--workdir={place}/out',
    )  # fmt: skip
    start, hung = time.monotonic(), 0
    with open(place / 'log', 'wb') as log:
        process = subprocess.Popen(
            command, cwd=drill.ROOT, env=drill.environment(), stdout=log, stderr=log
        )
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            time.sleep(0.1)
            if time.monotonic() - start > flags.timeout:
                process.kill()
                hung, ended = 1, os.wait4(process.pid, 0)
                break
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    found = {'code': process.returncode, 'hung': hung, 'scores': {}, 'reasons': {}}
    found |= {'mb': ended[2].ru_maxrss * 1024 / 1e6, 'seconds': time.monotonic() - start}
    if process.returncode in (0, 3):
        table = tables.read(place / 'out/scores.parquet')[0]
        found['scores'] = dict(
            zip(table['image_id'], table['quality'].view(np.uint32), strict=True)
        )
        table = tables.read(place / 'out/quarantine.csv')[0]
        found['reasons'] = dict(zip(table['file'], table['reason'], strict=True))
    return found


def counted(world: World, clean: dict, with_digests: dict, without: dict, megabytes: float) -> dict:
    """The counts of the line."""
    from iqa_jax.images import io as images

    count: Counter[str] = Counter()
    for run, digests in ((with_digests, True), (without, False)):
        count['crashes'] += run['code'] != 3 and not run['hung']
        count['hangs'] += run['hung']
        count['over_memory'] += run['mb'] > megabytes
        for image_id, file, _ in world.rows:
            kind, score = world.kinds[image_id], run['scores'].get(image_id)
            count['unlisted'] += score is None and not run['reasons'].get(image_id)
            if image_id in world.plain:
                wrong = score is None or score != clean['scores'].get(image_id)
                count['good_changed'] += wrong
            elif kind in REFUSED:
                count['accepted'] += score is not None
            elif digests:
                count['silently_wrong'] += score is not None
            elif score is not None:
                count['decoded'] += 1
                before = images.decode(world.whole[image_id])
                count['other_pixels'] += not np.array_equal(before, images.decode(file))
    count['crashes'] += clean['code'] != 0
    names = ('crashes', 'hangs', 'good_changed', 'silently_wrong', 'accepted', 'unlisted')
    return {name: int(count[name]) for name in (*names, 'over_memory', 'decoded', 'other_pixels')}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cases', type=int, default=10_000)
    parser.add_argument('--backbone', default='tiny')
    parser.add_argument('--processes', type=int, default=0, help='config.decode.processes')
    parser.add_argument('--timeout', type=float, default=1800)
    parser.add_argument('--file-seconds', type=float, default=10)
    parser.add_argument('--megabytes', type=float, default=1500)
    flags = parser.parse_args()
    os.environ['JAX_PLATFORMS'] = 'cpu'
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        world = World(folder, flags.cases, flags.seed)
        network(folder / 'model', flags.backbone, flags.seed)
        plain = [(image_id, file, '') for image_id, file in world.plain.items()]
        unsigned = [(image_id, file, '') for image_id, file, _ in world.rows]
        runs = [
            scored(folder / part, rows, flags, folder / 'model')
            for part, rows in (('clean', plain), ('signed', world.rows), ('unsigned', unsigned))
        ]
        counts = counted(world, *runs, flags.megabytes)
        seconds = file_seconds.measured([file for _, file, _ in world.rows], flags.file_seconds)
        counts['hangs'] += sum(map(math.isinf, seconds))
        for (_, file, _), took in zip(world.rows, seconds, strict=True):
            if math.isinf(took):
                print(f'{file.name!r} took more than {flags.file_seconds:g} s', file=sys.stderr)
        if any(run['code'] not in (0, 3) for run in runs):
            for part in ('clean', 'signed', 'unsigned'):
                print((folder / part / 'log').read_text(errors='replace')[-2000:])
    counts |= {
        'files': len(world.rows), 'good': len(world.plain),
        'cases': dict(Counter(world.kinds.values())),
        'slowest': round(max(filter(math.isfinite, seconds), default=0), 3),
        'resident_mb': round(max(run['mb'] for run in runs)), 'processes': flags.processes,
        'exit_codes': [run['code'] for run in runs],
        'run_seconds': [round(run['seconds'], 1) for run in runs],
    }  # fmt: skip
    zero = ['crashes', 'hangs', 'good_changed', 'silently_wrong', 'accepted', 'unlisted']
    drill.finish('R4', flags.seed, counts, [*zero, 'over_memory'])


if __name__ == '__main__':
    main()
