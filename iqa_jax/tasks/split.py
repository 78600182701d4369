"""split: databases -> seeded splits by content, the same for all of them.

References that show one picture are one content, in whichever databases and under whichever names,
and every split has all images of a content on one side.
"""

import collections
import json
import time
from pathlib import PurePath

import numpy as np
from absl import logging

from iqa_jax.data import contents, hashes, kadis, manifest, splits, tables
from iqa_jax.runtime import artifacts, progress, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening, split_long_tail

KEYS = {
    'databases', 'split_shares', 'long_tail', 'count', 'distance', 'correlation', 'crop_pairs',
    'shard_size', 'seed',
}  # fmt: skip
DATABASE_KEYS = {'manifest', 'keep'}


def run(config: dict, workdir: str | Path) -> dict:
    """Writes split_NN.csv, split_NN/DATABASE.parquet, contents.csv, shared.csv and splits.json.

    A database in `long_tail` has split_NN/DATABASE_long_tail.parquet too; both of its manifests
    have `groups`, type -> head, mid or tail, in their metadata.

    Returns:
      The summary, whose `digests` are the SHA-256 of each split_NN.csv.

    Raises:
      ValueError: a value of the config cannot be used, or a database has too few contents.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    _check(config)
    paths = {name: entry['manifest'] for name, entry in config['databases'].items()}
    unsigned = {name: opening.unsigned_files(path) for name, path in paths.items()}
    identity = given | {'unsigned_files': unsigned}
    stage = stages.Stage('split', workdir, identity, inputs=list(paths.values()))
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    databases = {name: manifest.read(path) for name, path in paths.items()}
    hashed = _hashed(databases, config, workdir, stage.fingerprint)
    return _divide(stage, databases, hashed, config, workdir, start)


@sharing.on_main
def _divide(
    stage: stages.Stage,
    databases: dict[str, tables.Table],
    hashed: tuple[sharing.Shards, tables.Table],
    config: dict,
    workdir: Path,
    start: float,
) -> dict:
    """Everything after the hashing: contents, splits and what they are written to."""
    paths = {name: entry['manifest'] for name, entry in config['databases'].items()}
    described = {name: tables.read(path)[1] for name, path in paths.items()}
    rows, quarantine = _joined(*hashed)
    found, skipped = contents.matches(
        rows, config['distance'], config['correlation'], config['crop_pairs']
    )
    groups = splits.group(len(rows['exact']), [pair[:2] for pair in found])
    rows['content'] = splits.contents(_identities(rows), groups)
    databases = _with_contents(databases, rows)
    fixed, parted = _fixed(databases, config)
    outputs = [workdir / name for name in ('contents.csv', 'shared.csv', 'quarantine.csv')]
    tables.write(outputs[0], _contents_table(rows), fingerprint=stage.fingerprint)
    tables.write(outputs[1], _shared_table(rows, found), fingerprint=stage.fingerprint)
    listed = tables.quarantine_csv(quarantine)
    artifacts.commit(outputs[2], listed, fingerprint=stage.fingerprint)
    record = []
    for index in range(config['count']):
        divided, tails = _divided(index, databases, fixed, config)
        entry, written = _write_split(index, divided, tails, described, workdir, stage.fingerprint)
        record.append(entry)
        outputs += written
    between = len([i for i, j, *_ in found if rows['database'][i] != rows['database'][j]])
    about = {'splits': record, 'crops_not_searched': skipped, 'parted_contents': parted}
    text = json.dumps(about | {'seed': config['seed']}, indent=1).encode()
    outputs.append(workdir / 'splits.json')
    artifacts.commit(outputs[-1], text, fingerprint=stage.fingerprint)
    summary = {
        'images': sum(len(columns['image_id']) for columns in databases.values()),
        'references': len(rows['exact']),
        'contents': len(set(rows['content'].tolist())),
        'shared': between,
        'parted_contents': len(parted),
        'quarantined': len(quarantine),
        'seconds': time.monotonic() - start,
        'headline': _headline(record, len(found), between, len(parted), len(skipped)),
        'digests': {entry['file']: entry['sha256'] for entry in record},
        'artifact': 'splits.json',
    }
    return stage.finish(summary, outputs)


def _headline(record: list[dict], same: int, between: int, parted: int, skipped: int) -> str:
    text = f'{len(record)} splits, {same} pairs of references that show the same'
    text += f', {between} of them across databases'
    text += f', {parted} contents parted by kept splits' if parted else ''
    text += f', {skipped} pairs of databases not searched for crops' if skipped else ''
    return text + split_long_tail.headline(record[0])


def _check(config: dict) -> None:
    """Raises a ValueError that names the first key whose value cannot be used."""
    if not config['databases']:
        raise ValueError('config.databases is empty; name at least one.')
    for name, database in config['databases'].items():
        opening.check_keys(database, DATABASE_KEYS, f'config.databases.{name}')
    for name in ('count', 'shard_size'):
        if config[name] < 1:
            raise ValueError(f'config.{name}={config[name]}; use 1 or more.')
    if not 0 <= config['distance'] < hashes.BITS / 2:
        raise ValueError(f'config.distance={config["distance"]}; use 0 to {hashes.BITS // 2} bits.')
    if not 0 < config['correlation'] <= 1:
        raise ValueError(f'config.correlation={config["correlation"]}; use more than 0, up to 1.')
    kadis.checked(config['split_shares'])
    split_long_tail.check(config)


def _hashed(
    databases: dict[str, tables.Table], config: dict, workdir: Path, parent: str
) -> tuple[sharing.Shards, tables.Table]:
    """Hashes the references shard by shard, those of this process; (all shards, references)."""
    rows = contents.references(databases)
    n, size = len(rows['image_id']), config['shard_size']
    part_of = {
        workdir / 'shards' / f'{first:09d}.parquet': np.arange(first, min(first + size, n))
        for first in range(0, n, size)
    }
    marks = {path: artifacts.fingerprint([parent, int(of[0])]) for path, of in part_of.items()}
    shards = sharing.Shards(marks)

    def make(path: Path, mark: str) -> None:
        part, bad = contents.hashed(tables.select(rows, part_of[path]))
        tables.write(path, part, {'quarantine': bad}, mark)
        artifacts.crash_point('split.shard')

    with progress.progress(total=n, desc='split', unit='references') as bar:
        shards.make(make, lambda path: bar.update(len(part_of[path])))
    return shards, rows


def _joined(shards: sharing.Shards, rows: tables.Table) -> tuple[tables.Table, list[dict]]:
    """The references with their hashes, when the shards of all processes are there."""
    shards.wait()
    read = [tables.read(path) for path in shards.paths]
    parts, quarantine = [part for part, _ in read], [e for _, m in read for e in m['quarantine']]
    for entry in quarantine:
        logging.warning('%s is a content of its own: %s', entry['file'], entry['reason'])
    return rows | tables.concatenate(parts), quarantine


def _identities(rows: tables.Table) -> list[str]:
    """Exact hash of each reference; of one without a readable picture that of its name."""
    pairs = zip(rows['exact'].tolist(), rows['image_id'].tolist(), strict=True)
    return [exact or artifacts.fingerprint(image_id) for exact, image_id in pairs]


def _with_contents(
    databases: dict[str, tables.Table], rows: tables.Table
) -> dict[str, tables.Table]:
    """The manifests with the content of every image."""
    known = dict(zip(rows['image_id'].tolist(), rows['content'].tolist(), strict=True))
    return {
        name: columns
        | {'content': np.array([known[f'{name}/{r}'] for r in columns['ref_id'].tolist()], object)}
        for name, columns in databases.items()
    }


def _in_use(columns: tables.Table) -> np.ndarray:
    """Rows that a split deals, bool [N]: in a rated database those with an opinion.

    The others, pristine references above all, cannot be trained on or tested and stay in the pool.
    So do those of an unrated database that keeps its references in the pool, apart from their
    images: score tables have no row for them.
    """
    rated = np.isfinite(columns['mos'])
    if rated.any():
        return rated
    pooled = columns['split'] == 'pool'
    pristine = pooled & (columns['type'] == 0)
    apart = set(columns['ref_id'][pristine].tolist()) & set(columns['ref_id'][~pooled].tolist())
    return ~pristine if apart else np.ones(len(pristine), bool)


def _fixed(databases: dict[str, tables.Table], config: dict) -> tuple[dict[str, str], list[dict]]:
    """Split of every content of kept databases, and the contents that their own splits part.

    Of a parted content other databases neither train on anything nor test: it is in the pool.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name, columns in databases.items():
        if not config['databases'][name]['keep']:
            continue
        used = tables.select(columns, _in_use(columns))
        for content, split, ref_id in zip(
            *(used[k].tolist() for k in ('content', 'split', 'ref_id')), strict=True
        ):
            found.setdefault(content, {}).setdefault(split, []).append(f'{name}/{ref_id}')
    parted = [
        {'content': content} | {split: sorted(set(refs)) for split, refs in sorted(sides.items())}
        for content, sides in sorted(found.items())
        if len(sides) > 1
    ]
    if parted:
        logging.warning(
            'Kept splits part %d contents, the first: %s; splits.json lists them.',
            len(parted), '; '.join(f'{s} {r[0]}' for s, r in found[parted[0]['content']].items()),
        )  # fmt: skip
    fixed = {c: next(iter(sides)) if len(sides) == 1 else 'pool' for c, sides in found.items()}
    return fixed, parted


def _divided(
    index: int, databases: dict[str, tables.Table], fixed: dict[str, str], config: dict
) -> tuple[dict[str, tables.Table], dict[str, dict]]:
    """The manifests with their rows' splits of one draw, and what `split_long_tail` draws."""
    used = {name: _in_use(columns) for name, columns in databases.items()}
    members = {name: set(x['content'][used[name]].tolist()) for name, x in databases.items()}
    sides = splits.divide(members, config['split_shares'], config['seed'], index, fixed)
    divided = {}
    for name, columns in databases.items():
        split = columns['split']
        if not config['databases'][name]['keep']:
            there = [sides.get(content) for content in columns['content'].tolist()]
            split = np.where(used[name], np.array(there, object), 'pool')
        divided[name] = columns | {'split': split}
    tails = {
        name: split_long_tail.drawn(name, divided[name], index, config)
        for name in config['long_tail']
    }
    return divided, tails


def _write_split(
    index: int,
    divided: dict[str, tables.Table],
    tails: dict[str, dict],
    described: dict,
    workdir: Path,
    mark: str,
) -> tuple[dict, list[Path]]:
    """Commits the CSV of a split and the manifests of its databases: (record, paths)."""
    parts = [
        {'database': np.full(len(columns['image_id']), name, object)}
        | {k: columns[k] for k in ('image_id', 'ref_id', 'split', 'content')}
        | ({'long_tail': tails.get(name, columns)['split']} if tails else {})
        for name, columns in divided.items()
    ]
    paths = [workdir / f'split_{index:02d}.csv']
    tables.write(paths[0], tables.concatenate(parts), fingerprint=mark)
    record = {'file': paths[0].name, 'sha256': artifacts.meta(paths[0])['sha256']}
    images, held = {}, {}
    for name, columns in divided.items():
        about = described[name] | {'split_csv': record}
        if tail := tails.get(name):
            about |= {'groups': {str(number): group for number, group in tail['groups'].items()}}
            paths.append(workdir / paths[0].stem / f'{name}{split_long_tail.SUFFIX}.parquet')
            manifest.write(paths[-1], columns | {'split': tail['split']}, about, mark)
        paths.append(workdir / paths[0].stem / f'{name}.parquet')
        manifest.write(paths[-1], columns, about, mark)
        images[name] = collections.Counter(columns['split'].tolist())
        used = tables.select(columns, _in_use(columns))
        sides = set(zip(used['content'].tolist(), used['split'].tolist(), strict=True))
        held[name] = collections.Counter(split for _, split in sorted(sides))
    long_tail = {name: split_long_tail.record(divided[name], tail) for name, tail in tails.items()}
    return record | {'images': images, 'contents': held, 'long_tail': long_tail}, paths


def _contents_table(rows: tables.Table) -> tables.Table:
    files = np.array([PurePath(file).name for file in rows['file'].tolist()], object)
    named = {k: rows[k] for k in ('database', 'ref_id', 'content', 'exact', 'perceptual')}
    return named | {'file': files}


def _shared_table(rows: tables.Table, found: list[tuple[int, int, str, float]]) -> tables.Table:
    """Pairs of references that show the same; `value` is bits of 255, of crops a correlation."""
    first, other = (np.array([pair[k] for pair in found], int) for k in (0, 1))
    return {
        'database': rows['database'][first],
        'ref_id': rows['ref_id'][first],
        'other_database': rows['database'][other],
        'other_ref_id': rows['ref_id'][other],
        'match': np.array([pair[2] for pair in found], object),
        'value': np.array([pair[3] for pair in found], np.float64),
        'content': rows['content'][first],
    }
