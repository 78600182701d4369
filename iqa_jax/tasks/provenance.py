"""Where a model comes from: the databases of each of its trainings, their terms and splits."""

import hashlib
import json

import numpy as np

from iqa_jax.data import manifest, tables
from iqa_jax.runtime import artifacts, paths
from iqa_jax.runtime.paths import Path, as_path

ABOUT = ('title', 'terms', 'homepage', 'citation')  # of a database, in its manifest's metadata
LEARNT = ('train', 'val')


def about(meta: dict) -> dict:
    """What a manifest's metadata says of where its images come from and how they may be used."""
    return {key: meta[key] for key in ABOUT if meta.get(key)}


def trainings(config: dict) -> list[dict]:
    """Every training that shaped a model, earliest first: {'targets', 'databases'}.

    Args:
      config: of the last training, paths resolved.

    Of an earlier model that does not say it, the databases are None.
    """
    earlier, start = [], as_path(config['init_from']) / 'model.json'
    if config['init_from'] and start.is_file():
        meta = json.loads(artifacts.read(start))['meta']
        earlier = meta.get('trainings', [{'targets': None, 'databases': None}])
    databases = [
        _database(name, entry['manifest'], bool(entry['scores']))
        for name, entry in config['databases'].items()
    ]
    return [*earlier, {'targets': list(config['targets']), 'databases': databases}]


def split_digest(columns: tables.Table) -> str:
    """SHA-256 (hex) of which image is in which split, whatever the order of the rows."""
    names = zip(columns['image_id'].tolist(), columns['split'].tolist(), strict=True)
    return hashlib.sha256('\n'.join(sorted(f'{a}\t{b}' for a, b in names)).encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    return paths.sha256(path)


def _database(name: str, path: str, has_scores: bool) -> dict:
    """What the card says of one database; opinions are not SIMULATED where others are learnt."""
    table, meta = tables.read(path)
    columns = manifest.complete(table, path)
    inside = {split: columns['split'] == split for split in LEARNT}
    references = {s: np.unique(columns['ref_id'][rows].astype(str)) for s, rows in inside.items()}
    return about(meta) | {
        'name': name,
        'databases': sorted(set(columns['database'].tolist()) - {''}),
        'images': {split: int(rows.sum()) for split, rows in inside.items()},
        'references': {split: len(names) for split, names in references.items()},
        'simulated': bool(meta.get('simulated', False)) and not has_scores,
        'manifest_sha256': file_digest(path),
        'split_sha256': split_digest(columns),
    }
