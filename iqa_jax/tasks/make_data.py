"""make_data: photographs -> distorted images, full-reference scores, equalised proxies.

Works shard by shard; finished shards are kept, so a killed run goes on with the next one and
several processes or machines share the work.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging

from iqa_jax import distortions, fr_metrics
from iqa_jax.data import (
    kadis,
    kadis_builder,
    manifest,
    proxies,
    records,
    shards,
    sources,
    tables,
)
from iqa_jax.images import io
from iqa_jax.runtime import artifacts, parallel, progress, stages
from iqa_jax.tasks import opening

KEYS = {
    'photos', 'database', 'size', 'types', 'levels', 'types_per_photo', 'split_shares', 'metrics',
    'equalisation', 'knots', 'images', 'photos_per_shard', 'shard', 'estimate_images',
    'tfds_runner', 'beam_options', 'seed',
}  # fmt: skip
# Who does the work and what is printed beside it change no result.
NOT_IDENTITY = ('photos', 'shard', 'estimate_images', 'tfds_runner', 'beam_options')
READING_THREADS = 4
POLL_SECONDS = 1.0


def run(config: dict, workdir: str | Path) -> dict:
    """Makes manifest.parquet, scores.parquet, proxies.parquet, equalisation.json and the pictures.

    With `shard` 'i/n' only every n-th shard from the i-th (0 <= i < n) is made and nothing joined.

    Returns:
      The summary: images, photos, quarantined, seconds and the artifact.
    """
    (config, given), workdir = opening.begin(config, KEYS), Path(workdir)
    settings = _settings(config)
    groups = _groups(config)
    part, parts = _part(config['shard'])
    identity = {k: v for k, v in given.items() if k not in NOT_IDENTITY}
    mine = [i for i in range(len(groups)) if i % parts == part]
    groups = _identified(groups, mine)
    name, folder = 'make_data', workdir
    if config['shard']:
        folder = workdir / 'parts' / f'{part}_of_{parts}'
        identity |= {'part': [part, parts]}
    digests = [[photo.ref_id, photo.sha256 or photo.refused] for i in mine for photo in groups[i]]
    stage = stages.Stage(name, folder, identity | {'photos': digests})
    if (summary := stage.done(lambda: bool(config['shard']) or _has_images(workdir))) is not None:
        return summary
    start = time.monotonic()
    if config['tfds_runner']:
        _build(groups, settings, config, workdir, stage.fingerprint)
    durations = _make(groups, mine, settings, workdir)
    if config['shard']:
        return _finish_part(stage, groups, mine, workdir, start, _estimate(durations, config))
    return _join(stage, groups, config, workdir, start, _estimate(durations, config))


def _settings(config: dict) -> dict:
    """What shapes a shard, types as KADID numbers; a ValueError for what cannot be."""
    if config['images'] not in shards.IMAGES:
        raise ValueError(
            f'config.images={config["images"]!r} is not one of {", ".join(shards.IMAGES)}.'
        )
    if config['photos_per_shard'] < 1:
        raise ValueError('config.photos_per_shard must be 1 or more.')
    settings = {key: config[key] for key in shards.SETTINGS}
    names = config['types'] or distortions.DISTORTIONS
    return settings | {'types': sorted(distortions.get(t).number for t in names)}


def _part(shard: str) -> tuple[int, int]:
    """(i, n) of 'i/n': the share of this run."""
    if not shard:
        return 0, 1
    part, _, parts = str(shard).partition('/')
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise ValueError(f"config.shard={shard!r} must be 'i/n' with 0 <= i < n, such as '0/4'.")
    return int(part), int(parts)


def _groups(config: dict) -> list[list[shards.Photo]]:
    """The photographs of each shard, in the order of their ids; none has been read."""
    files = sources.photo_files(config['photos'])
    by_id = dict(zip(sources.photo_ids(files, config['photos']), files, strict=True))
    photos = [shards.Photo(ref_id, by_id[ref_id], '', '') for ref_id in sorted(by_id)]
    size = config['photos_per_shard']
    return [photos[first : first + size] for first in range(0, len(photos), size)]


def _identified(groups: list[list[shards.Photo]], mine: list[int]) -> list[list[shards.Photo]]:
    """The same with the SHA-256 of each file of the shards `mine`, or why it cannot be read."""

    def identify(photo: shards.Photo) -> shards.Photo:
        try:
            return photo._replace(sha256=io.sha256(io.read_file(photo.file)))
        except io.ImageError as error:
            # Without the path, so that a moved folder stays up to date.
            return photo._replace(refused=str(error).removeprefix(f'{photo.file} '))

    with ThreadPoolExecutor(READING_THREADS) as pool:
        found = {i: list(pool.map(identify, groups[i])) for i in mine}
    return [found.get(i, group) for i, group in enumerate(groups)]


def _make(
    groups: list[list[shards.Photo]], mine: list[int], settings: dict, workdir: Path
) -> shards.Durations:
    """Makes the shards `mine`, dealt among the processes, and waits for those of the others."""
    durations: shards.Durations = {}
    marks = {i: _mark(groups[i], settings) for i in mine}
    own = mine[parallel.process_index() :: parallel.process_count()]
    total = sum(len(groups[i]) for i in own)
    with progress.progress(total=total, desc='make_data', unit='photos') as bar:
        for i in own:
            for number, cells in shards.make(groups[i], settings, workdir, i, marks[i]).items():
                durations.setdefault(number, []).extend(cells)
            bar.update(len(groups[i]))
    # By the files and not by a collective, which gives up after half a minute; a process that died
    # ends the others through its missing heartbeat.
    for i in set(mine) - set(own):
        while not artifacts.is_current(shards.path_of(workdir, i), marks[i]):
            time.sleep(POLL_SECONDS)
    return durations


def _build(
    groups: list[list[shards.Photo]], settings: dict, config: dict, workdir: Path, mark: str
) -> None:
    """Makes the shards through the tfds builder, in this process or by Beam."""
    if config['shard'] or parallel.process_count() > 1:
        raise ValueError(
            'config.tfds_runner builds the whole data set from one process; leave config.shard '
            'and --distributed out, or make the tfds data set when all shards are there.'
        )
    marks = [_mark(photos, settings) for photos in groups]
    options = list(config['beam_options'])
    kadis_builder.build(
        groups, marks, settings, workdir.absolute(), mark[:16], config['tfds_runner'], options
    )


def _mark(photos: list[shards.Photo], settings: dict) -> str:
    identities = [[photo.ref_id, photo.sha256 or photo.refused] for photo in photos]
    return artifacts.fingerprint([settings, identities, stages.code_identity()])


def _estimate(durations: shards.Durations, config: dict) -> str:
    """How long config.estimate_images would take at the pace of this run, for the headline."""
    pace = shards.seconds_per_image(durations)
    if not config['estimate_images'] or pace is None:
        return ''
    seconds, types = pace
    hours = config['estimate_images'] * seconds / 3600 / parallel.process_count()
    return (
        f', {1000 * seconds:.1f} ms per labelled image without compilation (mean of {types} types),'
        f' so {config["estimate_images"]:,} take {hours:.1f} h'
    )


def _finish_part(
    stage: stages.Stage,
    groups: list[list[shards.Photo]],
    mine: list[int],
    workdir: Path,
    start: float,
    estimate: str,
) -> dict:
    outputs = [shards.path_of(workdir, i) for i in mine]
    made = [tables.read(path) for path in outputs]
    summary = {
        'images': sum(len(table.get('image_id', [])) for table, _ in made),
        'photos': sum(len(groups[i]) for i in mine),
        'quarantined': sum(len(meta['quarantine']) for _, meta in made),
        'seconds': time.monotonic() - start,
        'headline': f'{len(mine)} of {len(groups)} shards; run without config.shard when all are '
        f'there{estimate}',
        'artifact': 'stage.json',
    }
    return stage.finish(summary, outputs)


def _join(
    stage: stages.Stage,
    groups: list[list[shards.Photo]],
    config: dict,
    workdir: Path,
    start: float,
    estimate: str,
) -> dict:
    """Joins all shards: splits, equalisation, and the tables that later stages read."""
    made, quarantine = shards.join(groups, workdir)
    if not made:
        raise ValueError(
            f'None of the {sum(map(len, groups))} pictures in config.photos={config["photos"]} can '
            f'be used; the first: {quarantine[0]["file"]}: {quarantine[0]["reason"]}'
        )
    refs = sorted(set(made['ref_id'].tolist()))
    splits = kadis.assign_splits(refs, config['split_shares'], config['seed'])
    columns = made | {
        'split': np.array([splits[ref_id] for ref_id in made['ref_id'].tolist()], object),
        'database': np.full(len(made['ref_id']), config['database'], object),
    }
    keep, bad = _finite(made, config['metrics'])
    quarantine += bad
    columns = tables.select(columns, keep)
    outputs = _write_tables(columns, quarantine, config, workdir, stage.fingerprint)
    numbers = len({*columns['type'].tolist()} - {0})
    summary = {
        'images': len(columns['image_id']),
        'photos': len(refs),
        'quarantined': len(quarantine),
        'seconds': time.monotonic() - start,
        'headline': f'{numbers} types x {len(config["levels"])} levels, '
        f'{len(config["metrics"])} metrics{estimate}',
        'artifact': 'manifest.parquet',
    }
    return stage.finish(summary, outputs)


def _has_images(workdir: Path) -> bool:
    """Whether every picture of the finished manifest is there; digests are not checked."""
    columns = manifest.read(workdir / 'manifest.parquet')
    files = {*columns['file'].tolist(), *columns['ref_file'].tolist()} - {''}
    return all(map(records.exists, files))


def _finite(made: tables.Table, metrics: list[str]) -> tuple[np.ndarray, list[dict]]:
    """Rows whose scores are all finite, and a quarantine entry for each of the others."""
    finite = {name: np.isfinite(made[name]) for name in metrics}
    keep = np.all(list(finite.values()), axis=0)
    bad = []
    for row in np.flatnonzero(~keep):
        names = [name for name in metrics if not finite[name][row]]
        reason = f'{", ".join(names)} is not finite'
        bad.append({'file': made['image_id'][row], 'reason': reason})
        logging.warning('%s is left out: %s', made['image_id'][row], reason)
    return keep, bad


def _write_tables(
    columns: tables.Table, quarantine: list[dict], config: dict, workdir: Path, mark: str
) -> list[Path]:
    """Commits manifest, raw scores, equalisation tables, proxies and the quarantine list."""
    raw = {name: columns[name] for name in config['metrics']}
    better = {name: fr_metrics.metric(name).higher_is_better for name in raw}
    origin = {
        name: {'higher_is_better': better[name], 'origin': f'full-reference metric {name}'}
        for name in raw
    }
    ids, train = columns['image_id'], columns['split'] == 'train'
    equalised, described, mappings = proxies.equalised(
        ids, raw, better, train, config['equalisation'], config['knots']
    )
    names = ('manifest.parquet', 'scores.parquet', 'proxies.parquet', 'equalisation.json')
    paths = [workdir / name for name in (*names, 'quarantine.csv')]
    if parallel.is_main():
        manifest.write(paths[0], columns, {'database': config['database']}, mark)
        tables.write(paths[1], {'image_id': ids} | raw, {'columns': origin}, mark)
        tables.write(paths[2], equalised, {'columns': described}, mark)
        artifacts.commit(paths[3], json.dumps(mappings, indent=1).encode(), fingerprint=mark)
        artifacts.commit(paths[4], tables.quarantine_csv(quarantine), fingerprint=mark)
    return paths
