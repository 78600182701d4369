"""make_data: photographs -> distorted images, full-reference scores, equalised proxies.

Works photograph by photograph; each finished one is a committed shard, so a killed run goes on with
the next photograph.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging

from iqa_jax import distortions, fr_metrics
from iqa_jax.data import equalise, kadis, manifest, sources, tables
from iqa_jax.images import io
from iqa_jax.runtime import artifacts, progress, stages
from iqa_jax.tasks import opening

KEYS = {
    'photos', 'database', 'size', 'types', 'levels', 'types_per_photo', 'split_shares', 'metrics',
    'equalisation', 'knots', 'store_images', 'seed',
}  # fmt: skip


def run(config: dict, workdir: str | Path) -> dict:
    """Makes manifest.parquet, scores.parquet, proxies.parquet, equalisation.json and images/.

    Returns:
      The summary: images, photos, quarantined, seconds and the artifact.
    """
    (config, given), workdir = opening.begin(config, KEYS), Path(workdir)
    files = sources.photo_files(config['photos'])
    files = dict(zip(sources.photo_ids(files, config['photos']), files, strict=True))
    identities, refused = _identities(files)
    stage = stages.Stage('make_data', workdir, given | {'photos': identities})
    if (summary := stage.done(lambda: _has_images(workdir))) is not None:
        return summary
    start = time.monotonic()
    photos, quarantine = _load_photos(files, refused, config)
    splits = kadis.assign_splits(list(photos), config['split_shares'], config['seed'])
    numbers = sorted(distortions.get(t).number for t in config['types'])
    plan = kadis.plan(
        splits, numbers, config['levels'], config['types_per_photo'], config['seed'],
        config['database'],
    )  # fmt: skip
    shards = []
    with progress.progress(total=len(plan['image_id']), desc='make_data', unit='images') as bar:
        for ref_id in sorted(splits):
            rows = tables.select(plan, plan['ref_id'] == ref_id)
            shards.append(_shard(rows, photos[ref_id], config, workdir, stage.fingerprint))
            bar.update(len(rows['image_id']))
    made = tables.concatenate(shards)
    at = [str(workdir / file) if file else '' for file in made['file'].tolist()]
    columns = plan | {'file': np.array(at, object), 'sha256': made['sha256']}
    columns |= _references(columns)
    keep, bad = _finite(made, config['metrics'])
    quarantine += bad
    columns, made = tables.select(columns, keep), tables.select(made, keep)
    outputs = _write_tables(columns, made, quarantine, config, workdir, stage.fingerprint)
    summary = {
        'images': len(columns['image_id']),
        'photos': len(photos),
        'quarantined': len(quarantine),
        'seconds': time.monotonic() - start,
        'headline': f'{len(numbers)} types x {len(config["levels"])} levels, '
        f'{len(config["metrics"])} metrics',
        'artifact': 'manifest.parquet',
    }
    return stage.finish(summary, outputs)


def _identities(files: dict[str, Path]) -> tuple[list[tuple[str, str]], dict[str, io.ImageError]]:
    """(photo id, SHA-256 or why the file cannot be read) of each file, and the latter by id."""
    identities, refused = [], {}
    for ref_id, file in files.items():
        try:
            identities.append((ref_id, io.sha256(io.read_file(file))))
        except io.ImageError as error:
            refused[ref_id] = error
            # Without the path, so that a moved folder stays up to date.
            identities.append((ref_id, str(error).removeprefix(f'{file} ')))
    return identities, refused


def _has_images(workdir: Path) -> bool:
    """Whether every stored image of the finished manifest is there; digests are not checked."""
    columns = manifest.read(workdir / 'manifest.parquet')
    files = {*columns['file'].tolist(), *columns['ref_file'].tolist()} - {''}
    return all(Path(file).is_file() for file in files)


def _load_photos(
    files: dict[str, Path], refused: dict[str, io.ImageError], config: dict
) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Decodes every photograph; what cannot be used goes to quarantine with its reason.

    Args:
      files: photo id -> file.
      refused: photo id -> why the file could not even be read.
      config: of the stage.

    Returns:
      Photo id -> uint8 [H, W, 3], and the quarantine's entries.

    Raises:
      ValueError: no file can be used.
    """
    photos, quarantine, seen = {}, [], {}
    for ref_id, file in files.items():
        try:
            if ref_id in refused:
                raise refused[ref_id]
            photo = sources.load_photo(file, tuple(config['size']))
            first = seen.setdefault(io.sha256(photo.tobytes()), file)
            if first != file:  # in two splits it would be tested on what was learned from it
                raise io.ImageError(f'it shows the same picture as {first}')
            photos[ref_id] = photo
        except io.ImageError as error:
            logging.warning('%s is left out: %s', file, error)
            quarantine.append({'file': str(file), 'reason': str(error)})
    if not photos:
        raise ValueError(
            f'None of the {len(files)} pictures in config.photos={config["photos"]} can be used; '
            f'the first: {quarantine[0]["file"]}: {quarantine[0]["reason"]}'
        )
    return photos, quarantine


def _shard(rows: tables.Table, photo: np.ndarray, config: dict, workdir: Path, parent: str):
    """All versions of one photograph: distorted, scored and stored, or read back if finished."""
    ref_id = rows['ref_id'][0]
    path = workdir / 'shards' / f'{ref_id}.parquet'
    mark = artifacts.fingerprint([parent, ref_id])
    if artifacts.is_current(path, mark):
        table = tables.read(path)[0]
        if _is_stored(workdir, table):
            return table
        logging.warning('An image of %s is missing or changed; all of them are made again.', ref_id)
    n = len(config['levels'])
    score = fr_metrics.metrics(config['metrics'])
    references = np.broadcast_to(photo, (n, *photo.shape))
    scores: dict[str, list] = {name: [] for name in config['metrics']}
    files, encoded = [], []
    with ThreadPoolExecutor(2) as pool:  # PNG encoding overlaps the next type's computation
        for first in [0, *range(1, len(rows['image_id']), n)]:
            number = int(rows['type'][first])
            part = slice(first, first + (n if number else 1))
            images = references
            if number:
                images = distortions.distort_batch(
                    references, number, rows['level'][part], rows['seed'][part]
                )
            values = score(references, images)
            for name in scores:
                scores[name].extend(np.asarray(values[name])[: n if number else 1])
            for image_id, image in zip(rows['image_id'][part], images, strict=False):
                stored = config['store_images'] or not number
                files.append(f'images/{image_id}.png' if stored else '')
                encoded.append(pool.submit(_store, workdir, files[-1], image))
        digests = [job.result() for job in encoded]
    table = {
        'image_id': rows['image_id'],
        'file': np.array(files, object),
        'sha256': np.array(digests, object),
    } | {name: np.array(values, np.float32) for name, values in scores.items()}
    tables.write(path, table, fingerprint=mark)
    artifacts.crash_point('make_data.shard')
    return table


def _store(workdir: Path, file: str, image: np.ndarray) -> str:
    if not file:
        return ''
    data = io.encode_png(image)
    artifacts.write(workdir / file, data)
    return io.sha256(data)


def _is_stored(workdir: Path, table: tables.Table) -> bool:
    """Whether every stored image of a shard is there with its SHA-256."""
    try:
        return all(
            io.sha256(io.read_file(workdir / file)) == digest
            for file, digest in zip(table['file'], table['sha256'], strict=True)
            if file
        )
    except io.ImageError:
        return False


def _references(columns: tables.Table) -> tables.Table:
    """`ref_file` and `ref_sha256` of the rows that are recipes, '' for the others."""
    rows = {columns['ref_id'][row]: row for row in np.flatnonzero(columns['type'] == 0)}
    at = [rows[ref_id] for ref_id in columns['ref_id'].tolist()]
    recipe = columns['file'] == ''
    return {
        f'ref_{name}': np.where(recipe, columns[name][at], '').astype(object)
        for name in ('file', 'sha256')
    }


def _finite(made: tables.Table, metrics: list[str]) -> tuple[np.ndarray, list[dict]]:
    """Rows whose scores are all finite, and a quarantine entry for each of the others."""
    finite = {name: np.isfinite(made[name]) for name in metrics}
    keep = np.all(list(finite.values()), axis=0)
    bad = []
    for row in np.flatnonzero(~keep):
        names = [name for name in metrics if not finite[name][row]]
        reason = f'{", ".join(names)} is not finite'
        bad.append({'file': made['image_id'][row], 'reason': reason})
    return keep, bad


def _write_tables(columns, made, quarantine, config, workdir, mark) -> list[Path]:
    """Commits manifest, raw scores, equalisation tables, proxies and the quarantine list."""
    train = columns['split'] == 'train'
    ids = {'image_id': columns['image_id']}
    directions, mappings, proxies = {}, {}, {}
    for name in config['metrics']:
        better = fr_metrics.metric(name).higher_is_better
        directions[name] = {'higher_is_better': better, 'origin': f'full-reference metric {name}'}
        mappings[name] = equalise.fit(
            made[name][train], better, config['equalisation'], config['knots']
        )
        proxies[name] = equalise.apply(mappings[name], made[name])
    equalised = {
        name: {'higher_is_better': True, 'origin': f'{name}, {config["equalisation"]} on train'}
        for name in proxies
    }
    paths = [
        workdir / name
        for name in (
            'manifest.parquet',
            'scores.parquet',
            'proxies.parquet',
            'equalisation.json',
            'quarantine.csv',
        )
    ]
    manifest.write(paths[0], columns, {'database': config['database']}, mark)
    raw = {name: made[name] for name in config['metrics']}
    tables.write(paths[1], ids | raw, {'columns': directions}, mark)
    tables.write(paths[2], ids | proxies, {'columns': equalised}, mark)
    artifacts.commit(paths[3], json.dumps(mappings, indent=1).encode(), fingerprint=mark)
    artifacts.commit(paths[4], tables.quarantine_csv(quarantine), fingerprint=mark)
    return paths
