"""Shards of a KADIS-like data set: a few photographs, their distorted versions, their scores.

A shard is a committed table, marked by everything that shapes it, so that a killed run goes on with
the next one and several machines can each make their own.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from iqa_jax import distortions, fr_metrics
from iqa_jax.data import hashes, kadis, labelling, records, sources, tables
from iqa_jax.images import guarded, io
from iqa_jax.runtime import artifacts, memory

# What shapes a shard; splits and equalisation come when shards are joined.
SETTINGS = (
    'size', 'types', 'levels', 'types_per_photo', 'metrics', 'images', 'photos_per_shard', 'seed',
)  # fmt: skip
# How pictures are kept; of recipes only the pristine ones that had to be cropped or scaled.
IMAGES = ('png', 'webp', 'array_record', 'recipe')
ENCODING_THREADS = 2
READING_THREADS = 4
CELLS_WAITING = 3  # whose pictures are being encoded
COMMIT = -1

Durations = dict[int, list[tuple[int, float]]]
Kept = tuple[str, str, bytes]  # file, SHA-256, bytes for the file that a shard has in common


class Photo(NamedTuple):
    """A pristine photograph: its file, SHA-256 of the bytes, or why they cannot be read."""

    ref_id: str
    file: Path
    sha256: str
    refused: str


def path_of(workdir: Path, index: int) -> Path:
    """Where shard `index` of a workdir lies."""
    return workdir / 'shards' / f'{index:06d}.parquet'


def make(
    photos: list[Photo], settings: dict, workdir: Path, index: int, mark: str, decode=io.decode
) -> Durations:
    """Makes one shard, unless it is there with the same mark and all its pictures.

    The table has the columns image_id, ref_id, type, level and seed of the manifest; file (relative
    to the workdir, '' for a recipe and for a pristine photograph that is used where it lies) and
    its sha256; pixels, the SHA-256 of a pristine row's pixels; and one column per metric. Its
    metadata lists the photographs that cannot be used, with the reason; no row is of them.

    Args:
      photos, settings: of this shard; SETTINGS, 'types' being KADID numbers.
      workdir, index: the shard goes to shards/ under its number, pictures to images/ or records/.
      mark, decode: fingerprint of everything that shapes it; `io.decode` or `guarded.decoding`'s.

    Returns:
      KADID number of a cell -> (distorted images, seconds) in the order made, and the time that the
      last pictures and the commit took under COMMIT; {} if the shard was there.
    """
    path = path_of(workdir, index)
    if artifacts.is_current(path, mark):
        if is_stored(workdir, index):
            return {}
        logging.warning('A picture of %s is missing or changed; all of it is made again.', path)
    quarantine, refused = list[dict](), dict[str, str]()
    parts, jobs, kept, durations = [], collections.deque(), [], collections.defaultdict(list)
    cells = labelling.labelled(_usable(photos, settings, decode, quarantine), settings['metrics'])
    with contextlib.ExitStack() as stack:
        append = None
        if settings['images'] == 'array_record':
            at = f'records/{index:06d}{records.SUFFIX}'
            write = stack.enter_context(records.writer(workdir / at))
            append = lambda data: records.name(at, write(data))  # noqa: E731
        # Encoding overlaps the next computation; few pictures wait for it.
        pool = stack.enter_context(ThreadPoolExecutor(ENCODING_THREADS))
        start = time.monotonic()
        for cell, scores in cells:
            if isinstance(scores, memory.DoesNotFit):
                refused[cell.rows['ref_id'][0]] = str(scores)
                continue
            parts.append(cell.rows | scores)
            jobs.append(_submit(pool, cell, settings['images'], workdir))
            if len(jobs) > CELLS_WAITING:
                kept += _collected(jobs.popleft(), append)
            made = int(np.sum(cell.rows['type'] > 0))
            durations[int(cell.rows['type'][-1])].append((made, time.monotonic() - start))
            start = time.monotonic()
        for part in jobs:
            kept += _collected(part, append)
    table = tables.concatenate(parts) if parts else {}
    table.pop('stored', None)
    if table:
        table['file'] = np.array([file for file, _ in kept], object)
        table['sha256'] = np.array([digest for _, digest in kept], object)
        table = tables.select(table, ~np.isin(table['ref_id'].astype(str), [*refused]))
    quarantine += [{'ref_id': ref_id, 'reason': reason} for ref_id, reason in refused.items()]
    tables.write(path, table, {'quarantine': quarantine}, mark)
    artifacts.crash_point('make_data.shard')
    distorted = sum(images for cells in durations.values() for images, _ in cells)
    return dict(durations) | {COMMIT: [(distorted, time.monotonic() - start)]}


def join(groups: list[list[Photo]], workdir: Path) -> tuple[tables.Table, list[dict]]:
    """All shards as one table, and the quarantine's entries {'file', 'reason'}.

    Of photographs with the same pixels the first is kept: in two splits one would be tested on what
    was learned from the other.

    Args:
      groups: the photographs of each shard.
      workdir: of the data set.

    Returns:
      The table of `make` with `ref_file` and `ref_sha256` of distorted rows; files are joined to
      the folders where they lie. {} when no photograph can be used.
    """
    known = {photo.ref_id: photo for group in groups for photo in group}
    parts, reasons = [], {}
    for index in range(len(groups)):
        table, meta = tables.read(path_of(workdir, index))
        reasons |= {bad['ref_id']: bad['reason'] for bad in meta['quarantine']}
        parts += [table] if len(table.get('ref_id', ())) else []
    table = tables.concatenate(parts) if parts else {}
    if table:
        table['file'] = _joined(table['file'], workdir)
        reasons |= _repeated(table, known)
        for row in np.flatnonzero((table['type'] == 0) & (table['file'] == '')):
            photo = known[table['ref_id'][row]]
            table['file'][row], table['sha256'][row] = str(photo.file), photo.sha256
        table |= _references(table)
        table = tables.select(table, ~np.isin(table['ref_id'].astype(str), list(reasons)))
    quarantine = [
        {'file': str(known[ref_id].file), 'reason': reason} for ref_id, reason in reasons.items()
    ]
    return table, quarantine


def seconds_per_image(durations: Durations) -> tuple[float, int] | None:
    """Mean time of a distorted image with all types equally frequent, without the compilations.

    Args:
      durations: as `make` returns them; the first cell of a type is the one that compiled.

    Returns:
      Seconds, and the number of types that were made twice or more and so are in the mean; None
      when there is none.
    """
    means = [
        sum(seconds for _, seconds in cells[1:]) / sum(images for images, _ in cells[1:])
        for number, cells in durations.items()
        if number > 0 and len(cells) > 1
    ]
    if not means:
        return None
    commits = durations.get(COMMIT, [])
    images, seconds = (sum(column) for column in zip(*commits, strict=True)) if commits else (1, 0)
    return float(np.mean(means)) + seconds / max(1, images), len(means)


def _usable(
    photos: list[Photo], settings: dict, decode: guarded.Decode, quarantine: list[dict]
) -> Iterator[tuple[tables.Table, np.ndarray]]:
    """Rows and pixels of every photograph that can be used; the others go to quarantine."""
    recipe = settings['images'] == 'recipe'
    loaded = labelling.ahead(lambda photo: _load(photo, settings, decode), photos)
    for photo, found in zip(photos, loaded, strict=True):
        if isinstance(found, io.ImageError):
            logging.warning('%s is left out: %s', photo.file, found)
            quarantine.append({'ref_id': photo.ref_id, 'reason': str(found)})
            continue
        pixels, as_it_lies = found
        rows = kadis.versions(
            photo.ref_id, settings['types'], settings['levels'], settings['types_per_photo'],
            settings['seed'],
        )  # fmt: skip
        n = len(rows['type'])
        rows['stored'] = np.array([not (recipe and as_it_lies)] + [not recipe] * (n - 1))
        rows['pixels'] = np.array([hashes.exact(pixels)] + [''] * (n - 1), object)
        yield rows, pixels


def _load(
    photo: Photo, settings: dict, decode: guarded.Decode
) -> tuple[np.ndarray, bool] | io.ImageError:
    """Pixels and whether they are those of the file, or why the photograph cannot be used."""
    try:
        if photo.refused:
            raise io.ImageError(photo.refused)
        try:
            data = io.read_file(photo.file)
        except io.ImageError as error:
            data, reason = b'', str(error)
        if io.sha256(data) != photo.sha256:
            # It could be read when this run began, so it is no bad picture to be left out for good.
            reason = reason if not data else f'{photo.file} has changed since this run began'
            raise ValueError(f'{reason}; run the same command again.')
        decoded = decode(data)
        pixels = sources.fit(decoded, tuple(settings['size']))
        if reason := _refusal(*pixels.shape[:2], settings):
            raise io.ImageError(reason)
        return pixels, pixels is decoded
    except io.ImageError as error:
        return error


def _refusal(height: int, width: int, settings: dict) -> str:
    """Why photographs of this size cannot be distorted, scored or kept, or ''."""
    for number in settings['types']:
        if reason := distortions.get(number).refusal(height, width):
            return reason
    for name in settings['metrics']:
        if min(height, width) < (side := fr_metrics.metric(name).min_side):
            return f'it is {width}x{height} pixels, and {name} needs {side} per side'
    if settings['images'] in ('webp', 'array_record') and max(height, width) > io.WEBP_SIDE:
        return f'it is {width}x{height} pixels, and WebP takes {io.WEBP_SIDE} per side; store PNG'
    return ''


def _submit(
    pool: ThreadPoolExecutor, cell: labelling.Cell, kind: str, workdir: Path
) -> list[Future]:
    """One job for each row of a cell: encodes the picture and writes it, if it is to be kept."""

    def keep(image_id: str, image: np.ndarray, stored: bool) -> Kept:
        if not stored:
            return '', '', b''
        data = io.encode_png(image) if kind in ('png', 'recipe') else io.encode_webp(image)
        if kind == 'array_record':
            return '', io.sha256(data), data
        file = f'images/{image_id}.{"webp" if kind == "webp" else "png"}'
        artifacts.write(workdir / file, data)
        return file, io.sha256(data), b''

    rows = zip(cell.rows['image_id'], cell.images, cell.rows['stored'], strict=True)
    return [pool.submit(keep, *row) for row in rows]


def _collected(jobs: list[Future], append: Callable[[bytes], str] | None) -> list[tuple[str, str]]:
    """(file, SHA-256) of each row when its job is done; `append` takes what has no file yet."""
    kept = [job.result() for job in jobs]
    return [(append(data) if data else file, digest) for file, digest, data in kept]


def is_stored(workdir: Path, index: int) -> bool:
    """Whether every stored picture of a shard is there with its SHA-256."""
    table = tables.read(path_of(workdir, index))[0]
    entries = zip(table.get('file', []), table.get('sha256', []), strict=True)

    def intact(entry: tuple[str, str]) -> bool:
        try:
            return io.sha256(records.read(workdir / entry[0])) == entry[1]
        except io.ImageError:
            return False

    with ThreadPoolExecutor(READING_THREADS) as pool:
        return all(pool.map(intact, [entry for entry in entries if entry[0]]))


def _joined(files: np.ndarray, workdir: Path) -> np.ndarray:
    return np.array([str(workdir / file) if file else '' for file in files.tolist()], object)


def _repeated(table: tables.Table, known: dict[str, Photo]) -> dict[str, str]:
    """Reasons by ref_id of photographs with the pixels of an earlier one."""
    first: dict[str, Photo] = {}
    reasons = {}
    for row in np.flatnonzero(table['type'] == 0):
        photo = known[table['ref_id'][row]]
        original = first.setdefault(table['pixels'][row], photo)
        if original is not photo:
            reasons[photo.ref_id] = f'it shows the same picture as {original.file}'
            logging.warning('%s is left out: %s', photo.file, reasons[photo.ref_id])
    return reasons


def _references(table: tables.Table) -> tables.Table:
    """`ref_file` and `ref_sha256` of the distorted rows, '' for the pristine ones."""
    pristine = np.flatnonzero(table['type'] == 0)
    rows = dict(zip(table['ref_id'][pristine].tolist(), pristine.tolist(), strict=True))
    at = [rows[ref_id] for ref_id in table['ref_id'].tolist()]
    distorted = table['type'] > 0
    return {
        f'ref_{name}': np.where(distorted, table[name][at], '').astype(object)
        for name in ('file', 'sha256')
    }
