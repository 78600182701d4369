"""Shards of a KADIS-like data set: a few photographs, their distorted versions, their scores.

A shard is a committed table, marked by everything that shapes it, so that a killed run goes on with
the next one and several machines can each make their own.
"""

import collections
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from iqa_jax import distortions, fr_metrics
from iqa_jax.data import kadis, labelling, records, sources, tables
from iqa_jax.images import io
from iqa_jax.runtime import artifacts

# What shapes a shard; splits and equalisation come when shards are joined.
SETTINGS = (
    'size', 'types', 'levels', 'types_per_photo', 'metrics', 'images', 'photos_per_shard', 'seed',
)  # fmt: skip
# How pictures are kept; of recipes only the pristine ones that had to be cropped or scaled.
IMAGES = ('png', 'webp', 'array_record', 'recipe')
ENCODING_THREADS = 2

Durations = dict[int, list[tuple[int, float]]]
Kept = tuple[str, str, bytes]  # file, SHA-256, bytes that go into a common file


class Photo(NamedTuple):
    """A pristine photograph: its file, SHA-256 of the bytes, or why they cannot be read."""

    ref_id: str
    file: Path
    sha256: str
    refused: str


def path_of(workdir: Path, index: int) -> Path:
    """Where shard `index` of a workdir lies."""
    return workdir / 'shards' / f'{index:06d}.parquet'


def make(photos: list[Photo], settings: dict, workdir: Path, index: int, mark: str) -> Durations:
    """Makes one shard, unless it is there with the same mark and all its pictures.

    The table has the columns image_id, ref_id, type, level and seed of the manifest; file (relative
    to the workdir, '' for a recipe and for a pristine photograph that is used where it lies) and
    its sha256; pixels, the SHA-256 of a pristine row's pixels; and one column per metric. Its
    metadata lists the photographs that cannot be used, with the reason.

    Args:
      photos: of this shard.
      settings: SETTINGS, 'types' being KADID numbers.
      workdir: the shard goes to shards/, pictures to images/ or records/.
      index: number of the shard.
      mark: fingerprint of everything that shapes it.

    Returns:
      KADID number of a cell -> (distorted images, seconds) in the order made; {} if it was there.
    """
    path = path_of(workdir, index)
    if artifacts.is_current(path, mark):
        if _is_stored(workdir, tables.read(path)[0]):
            return {}
        logging.warning('A picture of %s is missing or changed; all of it is made again.', path)
    quarantine: list[dict] = []
    parts, jobs, durations = [], [], collections.defaultdict(list)
    photos = _usable(photos, settings, quarantine)
    with ThreadPoolExecutor(ENCODING_THREADS) as pool:  # encoding overlaps the next computation
        start = time.monotonic()
        for cell, scores in labelling.labelled(photos, settings['metrics']):
            parts.append(cell.rows | scores)
            jobs.append(_submit(pool, cell, settings['images'], workdir))
            wait(jobs[max(0, len(jobs) - 3)])  # pictures must not pile up
            cell_made = int(np.sum(cell.rows['type'] > 0))
            durations[int(cell.rows['type'][-1])].append((cell_made, time.monotonic() - start))
            start = time.monotonic()
        kept = [job.result() for part in jobs for job in part]
    table = tables.concatenate(parts) | _files(kept, workdir, index) if parts else {}
    table.pop('stored', None)
    tables.write(path, table, {'quarantine': quarantine}, mark)
    artifacts.crash_point('make_data.shard')
    return dict(durations)


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
        parts += [table] if table else []
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
        if number and len(cells) > 1
    ]
    return (float(np.mean(means)), len(means)) if means else None


def _usable(
    photos: list[Photo], settings: dict, quarantine: list[dict]
) -> Iterator[tuple[tables.Table, np.ndarray]]:
    """Rows and pixels of every photograph that can be used; the others go to quarantine."""
    recipe = settings['images'] == 'recipe'
    loaded = labelling.ahead(lambda photo: _load(photo, settings), photos)
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
        digest = io.sha256(repr(pixels.shape).encode() + pixels.tobytes())
        rows['pixels'] = np.array([digest] + [''] * (n - 1), object)
        yield rows, pixels


def _load(photo: Photo, settings: dict) -> tuple[np.ndarray, bool] | io.ImageError:
    """Pixels and whether they are those of the file, or why the photograph cannot be used."""
    sides = [distortions.get(number).min_side for number in settings['types']]
    smallest = max(sides + [fr_metrics.metric(name).min_side for name in settings['metrics']])
    try:
        if photo.refused:
            raise io.ImageError(photo.refused)
        decoded = io.decode(photo.file)
        pixels = sources.fit(decoded, tuple(settings['size']))
        height, width, _ = pixels.shape
        if min(height, width) < smallest:
            raise io.ImageError(
                f'it is {width}x{height} pixels; config.types and config.metrics need {smallest} '
                'per side'
            )
        return pixels, pixels is decoded
    except io.ImageError as error:
        return error


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


def _files(kept: list[Kept], workdir: Path, index: int) -> tables.Table:
    """Columns file and sha256; what goes into a common file is written there."""
    common = [data for _, _, data in kept if data]
    at = f'records/{index:06d}{records.SUFFIX}'
    if common:
        records.write(workdir / at, common)
    numbers = iter(range(len(common)))
    files = [records.name(at, next(numbers)) if data else file for file, _, data in kept]
    return {
        'file': np.array(files, object),
        'sha256': np.array([digest for _, digest, _ in kept], object),
    }


def _is_stored(workdir: Path, table: tables.Table) -> bool:
    """Whether every stored picture of a shard is there with its SHA-256."""
    try:
        return all(
            io.sha256(records.read(workdir / file)) == digest
            for file, digest in zip(table.get('file', []), table.get('sha256', []), strict=True)
            if file
        )
    except io.ImageError:
        return False


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
