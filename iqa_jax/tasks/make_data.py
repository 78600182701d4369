"""make_data: photographs -> distorted images, full-reference scores, equalised proxies.

Works shard by shard; finished shards are kept, so a killed run goes on with the next one and
several processes or machines share the work.
"""

import json
import time

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
from iqa_jax.images import guarded
from iqa_jax.runtime import artifacts, parallel, progress, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import make_data_setup, opening

KEYS = {
    'photos', 'database', 'size', 'types', 'levels', 'types_per_photo', 'split_shares', 'metrics',
    'equalisation', 'knots', 'images', 'photos_per_shard', 'shard', 'estimate_images',
    'tfds_runner', 'beam_options', 'seed', 'decode',
}  # fmt: skip
# Who does the work and what is printed beside it change no result.
NOT_IDENTITY = ('photos', 'shard', 'estimate_images', 'tfds_runner', 'beam_options')


def run(config: dict, workdir: str | Path) -> dict:
    """Makes manifest.parquet, scores.parquet, proxies.parquet, equalisation.json and the pictures.

    With `shard` 'i/n' only every n-th shard from the i-th (0 <= i < n) is made and nothing joined.

    Returns:
      The summary: images, photos, quarantined, seconds and the artifact.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    settings = make_data_setup.settings(config, workdir)
    groups = make_data_setup.photo_groups(config)
    part, parts = sharing.share(config['shard'])
    identity = {k: v for k, v in given.items() if k not in NOT_IDENTITY}
    mine = [i for i in range(len(groups)) if i % parts == part]
    groups = make_data_setup.identified(groups, mine)
    folder = workdir
    if config['shard']:
        folder = workdir / 'parts' / f'{part}_of_{parts}'
        identity |= {'part': [part, parts]}
    digests = [[photo.ref_id, photo.sha256 or photo.refused] for i in mine for photo in groups[i]]
    stage = stages.Stage('make_data', folder, identity | {'photos': digests})
    if (summary := stage.done(lambda: _has_images(workdir, mine, config, stage))) is not None:
        return summary
    start = time.monotonic()
    divided, durations = _make(groups, mine, settings, config, workdir)
    estimate = _estimate(durations, config, parts)
    if config['shard']:
        divided.wait()
        return _finish_part(stage, groups, mine, workdir, start, estimate)
    return _join(stage, groups, divided, config, workdir, start, estimate)


def _make(
    groups: list[list[shards.Photo]],
    mine: list[int],
    settings: dict,
    config: dict,
    workdir: Path,
) -> tuple[sharing.Shards, shards.Durations]:
    """Makes the shards `mine`, those of this process; (all of them, times of the cells)."""
    durations: shards.Durations = {}
    shaping = [settings, guarded.identity(config['decode'])]
    number = {shards.path_of(workdir, i): i for i in range(len(groups))}
    # Of the shards of other runs nothing has been read.
    marks = {path: _mark(groups[i], shaping) if i in mine else '' for path, i in number.items()}
    divided = sharing.Shards(
        marks, config['shard'], lambda path: shards.is_stored(workdir, number[path]),
        [workdir / 'images', workdir / 'records'],
    )  # fmt: skip
    if config['tfds_runner'] not in ('', kadis_builder.LOCAL):
        kadis_builder.make_shards(
            groups, list(marks.values()), settings, workdir.absolute(), config['tfds_runner'],
            list(config['beam_options']),
        )  # fmt: skip

    def make(path: Path, mark: str) -> None:
        i = number[path]
        for kind, cells in shards.make(groups[i], settings, workdir, i, mark, decode).items():
            durations.setdefault(kind, []).extend(cells)

    total = sum(len(groups[i]) for i in mine)
    with (
        guarded.decoding(config['decode']) as decode,
        progress.progress(total=total, desc='make_data', unit='photos') as bar,
    ):
        divided.make(make, lambda path: bar.update(len(groups[number[path]])))
    return divided, durations


def _mark(photos: list[shards.Photo], shaping: list) -> str:
    identities = [[photo.ref_id, photo.sha256 or photo.refused] for photo in photos]
    return artifacts.fingerprint([*shaping, identities, stages.code_identity()])


def _estimate(durations: shards.Durations, config: dict, parts: int) -> str:
    """How long config.estimate_images would take at the pace of this run, for the headline."""
    pace = shards.seconds_per_image(durations)
    if not config['estimate_images'] or pace is None:
        return ''
    seconds, types = pace
    share = parts * parallel.process_count()
    hours = config['estimate_images'] * seconds / 3600 / share
    together = f' in {share} such processes' if share > 1 else ''
    return (
        f', {1000 * seconds:.1f} ms per labelled image after the first of each type '
        f'(mean of {types} types), so {config["estimate_images"]:,} take {hours:.1f} h{together}'
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


@sharing.on_main
def _join(
    stage: stages.Stage,
    groups: list[list[shards.Photo]],
    divided: sharing.Shards,
    config: dict,
    workdir: Path,
    start: float,
    estimate: str,
) -> dict:
    """Joins all shards: splits, equalisation, and the tables that later stages read."""
    divided.wait()
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
    if config['tfds_runner']:
        _write_tfds(columns, config, workdir, stage.fingerprint)
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


def _has_images(workdir: Path, mine: list[int], config: dict, stage: stages.Stage) -> bool:
    """Whether every picture of the finished manifest, or part, is there, and the tfds data set.

    Digests are not checked.
    """
    if config['shard']:
        parts = [tables.read(shards.path_of(workdir, i))[0] for i in mine]
        return all(
            records.exists(workdir / file)
            for part in parts
            for file in part.get('file', [])
            if file
        )
    if config['tfds_runner'] and not kadis_builder.is_written(workdir, stage.fingerprint):
        return False
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
    about = {'database': config['database'], 'recipes_by': distortions.identity()}
    about |= {} if config['photos'] else {'terms': sources.TERMS}
    manifest.write(paths[0], columns, about, mark)
    tables.write(paths[1], {'image_id': ids} | raw, {'columns': origin}, mark)
    tables.write(paths[2], equalised, {'columns': described}, mark)
    artifacts.commit(paths[3], json.dumps(mappings, indent=1).encode(), fingerprint=mark)
    artifacts.commit(paths[4], tables.quarantine_csv(quarantine), fingerprint=mark)
    return paths


def _write_tfds(columns: tables.Table, config: dict, workdir: Path, mark: str) -> None:
    """The manifest's rows with raw and equalised scores as a tfds data set."""
    equalised = tables.read(workdir / 'proxies.parquet')[0]
    values = {name: columns[name] for name in config['metrics']}
    values |= {f'{name}_equalised': equalised[name] for name in config['metrics']}
    rows = manifest.read(workdir / 'manifest.parquet')
    options = list(config['beam_options'])
    kadis_builder.write(rows, values, workdir.absolute(), mark, config['tfds_runner'], options)
