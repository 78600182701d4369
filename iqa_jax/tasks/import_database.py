"""import_database: a rated database on disk -> the one manifest, its pairs and its scores."""

import json
import os
import re
import time

import numpy as np
from absl import logging

from iqa_jax.data import databases, manifest, proxies, records, tables
from iqa_jax.data.databases import builder, importer, layout
from iqa_jax.runtime import artifacts, progress, sharing, stages
from iqa_jax.runtime.paths import Path, as_path, relative, require_local, sha256
from iqa_jax.tasks import opening, tripwire

KEYS = {
    'name', 'folder', 'table', 'database', 'scale', 'spread', 'splits', 'split_shares', 'check',
    'allow_partial', 'tripwire_pairs', 'equalisation', 'knots', 'array_record', 'threads', 'seed',
}  # fmt: skip
CHOICES = {
    'spread': ('', *importer.SPREADS),
    'splits': importer.SPLIT_MODES,
    'check': importer.CHECKS,
}


@sharing.on_main
def run(config: dict, workdir: str | Path) -> dict:
    """Writes manifest.parquet, quarantine.csv and, where the database has them, pairs.csv,
    scores.parquet, proxies.parquet and equalisation.json.

    Returns:
      The summary: images, references, quarantined, unlisted, direction, seconds and the artifact.

    Raises:
      ValueError: the folder does not hold the database in its official layout, numbers or opinions
        are not the official ones, or a key of the config has no such value.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    database = _database(config, workdir)
    prefix = config['database'] or config['name']
    found = _read(database, config)
    files = {*found.rows['file'], *found.rows['reference'], *found.references.values()}
    files = sorted(files - {''})
    del given['threads']  # their number changes no byte
    identity = given | {'files': _stamps(files, config['folder'])}
    stage = stages.Stage('import_database', workdir, identity, inputs=found.sources)
    data_set = workdir / 'tfds' / prefix / builder.VERSION / 'dataset_info.json'
    there = data_set.is_file if config['array_record'] else None
    if (summary := stage.done(there)) is not None:
        return summary
    start = time.monotonic()
    if not config['allow_partial']:  # before every picture is read for nothing
        listed = len(found.references), len(found.rows['name'])
        importer.check_counts(database, *listed, allow_partial=False)
    made, options = _import(database, found, prefix, files, config)
    srcc, direction = tripwire.check(made, found.directions, config)
    about = {key: getattr(database, key) for key in ('title', 'homepage', 'citation', 'terms')}
    meta = {'database': prefix, 'simulated': found.simulated} | about | options
    meta['sources'] = {os.path.relpath(f, config['folder']): sha256(f) for f in found.sources}
    outputs = _write(made, found.directions, meta, config, workdir, stage.fingerprint)
    if config['array_record']:
        columns = manifest.read(workdir / 'manifest.parquet')
        builder.write(database, columns, prefix, workdir / 'tfds')
    counts = {s: int(np.sum(made.columns['split'] == s)) for s in builder.SPLITS}
    summary = {
        'images': made.images,
        'references': made.references,
        'quarantined': len(made.quarantine),
        'unlisted': len(found.unlisted),
        'direction': direction,
        'direction_srcc': srcc,
        'seconds': time.monotonic() - start,
        'headline': f'{database.title}: {", ".join(f"{n} {s}" for s, n in counts.items() if n)}; '
        + direction,
        'artifact': 'manifest.parquet',
    }
    return stage.finish(summary, outputs)


def _database(config: dict, workdir: Path) -> databases.Database:
    """The row of the registry; raises a ValueError for what config may not say."""
    database = databases.get(config['name'])
    require_local(config['folder'], 'databases are imported from a disk')
    for key, allowed in CHOICES.items():
        if config[key] not in allowed:
            raise ValueError(f'config.{key}={config[key]!r}; use one of {", ".join(allowed)}.')
    if config['threads'] < 1:
        raise ValueError(f'config.threads={config["threads"]} is too small; it is at least 1.')
    if len(config['scale']) not in (0, 2):
        raise ValueError(f'config.scale={config["scale"]} needs two numbers, (worst, best).')
    if not re.fullmatch(r'[\w.-]*', config['database']):
        raise ValueError(
            f'config.database={config["database"]!r} begins ids; use letters, digits, _ . and -.'
        )
    if config['array_record']:
        require_local(workdir, 'tfds data sets are written to a disk (config.array_record)')
        builder.check_name(config['database'] or config['name'])
    if not config['folder'] or not as_path(config['folder']).is_dir():
        raise ValueError(
            f'config.folder={config["folder"]} is not a folder; give the one that holds '
            f'{database.title}: {database.layout}.'
        )
    return database


def _read(database: databases.Database, config: dict) -> layout.Found:
    """What lies in the folder; raises a ValueError where ids would be those of other folders."""
    found = database.read(as_path(config['folder']), {'table': config['table']})
    if config['name'] == 'folder' and not (config['database'] or found.own_ids):
        raise ValueError(
            f'{found.sources[0]} has no image_id, so ids begin with the name of the database; '
            'give one in config.database.'
        )
    return found


def _import(
    database: databases.Database, found: layout.Found, prefix: str, files: list[str], config: dict
) -> tuple[importer.Imported, dict]:
    """The checked database and the options that shaped its opinions and splits."""
    with progress.progress(total=len(files), desc='import_database', unit='files') as bar:
        digests = importer.inspect(files, config['check'], config['threads'], bar.update)
    options = {key: config[key] for key in ('splits', 'split_shares', 'seed')}
    # Of a published database the scale is known, of other tables only who made them can say it.
    asked = config['scale'] if config['name'] == 'folder' else ()
    options['scale'] = asked or found.scale or database.scale
    options['spread'] = config['spread'] or found.spread or database.spread
    made = importer.assemble(database, found, prefix, options, digests)
    numbers = made.references, made.images
    importer.check_counts(database, *numbers, config['allow_partial'], made.quarantine)
    for entry in made.quarantine[:10]:
        logging.warning('%s is left out: %s', *entry.values())
    if found.unlisted:
        logging.info(
            '%d pictures are not in the score file and not imported, %s the first.',
            len(found.unlisted), found.unlisted[0],
        )  # fmt: skip
    return made, options


def _stamps(files: list[str], folder: str) -> str:
    """Identifies files by their names below the folder, sizes and times."""
    found = []
    for file in files:
        try:
            status = as_path(records.path_of(file)).stat()
            found.append([os.path.relpath(file, folder), status.st_size, status.st_mtime_ns])
        except OSError:
            found.append([os.path.relpath(file, folder)])
    return artifacts.fingerprint(found)


def _write(
    made: importer.Imported,
    directions: dict[str, bool],
    meta: dict,
    config: dict,
    workdir: Path,
    mark: str,
) -> list[Path]:
    """Commits the tables of the database."""
    outputs = [workdir / 'manifest.parquet', workdir / 'quarantine.csv']
    manifest.write(outputs[0], made.columns, meta, mark)
    artifacts.commit(outputs[1], tables.quarantine_csv(made.quarantine), fingerprint=mark)
    if len(made.pairs['image_id']):
        named = {
            role: np.array([relative(f, workdir) for f in made.pairs[role]], object)
            for role in ('reference', 'distorted')
        }
        outputs.append(workdir / 'pairs.csv')
        tables.write(outputs[-1], made.pairs | named, fingerprint=mark)
    if not made.scores:
        return outputs
    scores = {name: made.scores[name] for name in directions}
    ids = made.scores['image_id']
    train = made.columns['split'][: len(ids)] == 'train'
    table, described, mappings = proxies.equalised(
        ids, scores, directions, train, config['equalisation'], config['knots']
    )
    origin = {
        name: {'higher_is_better': better, 'origin': f"{name} of the authors' score file"}
        for name, better in directions.items()
    }
    names = ('scores.parquet', 'proxies.parquet', 'equalisation.json')
    paths = [workdir / name for name in names]
    tables.write(paths[0], made.scores, {'columns': origin}, mark)
    tables.write(paths[1], table, {'columns': described}, mark)
    artifacts.commit(paths[2], json.dumps(mappings, indent=1).encode(), fingerprint=mark)
    return outputs + paths
