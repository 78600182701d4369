"""What scoring, extraction and score_pairs share: shards, divided among processes and runs."""

import time
from collections.abc import Callable

import numpy as np

from iqa_jax.data import manifest, tables
from iqa_jax.runtime import artifacts, progress, sharing, stages
from iqa_jax.runtime.paths import Path


def chosen(config: dict) -> tables.Table:
    """The rows of the manifest in the splits of the config."""
    where = config['manifest']
    return manifest.in_splits(manifest.read(where), tuple(config['splits']), where)


def divided(
    stage: stages.Stage, columns: tables.Table, config: dict, workdir: Path, suffix: str
) -> tuple[dict[Path, np.ndarray], sharing.Shards]:
    """Path of every shard of config.shard_size images -> its rows, and how they are divided."""
    for key in ('batch_size', 'shard_size'):
        if config[key] < 1:
            raise ValueError(f'config.{key}={config[key]} is too small; it is at least 1.')
    n, size = len(columns['image_id']), config['shard_size']
    rows = {
        workdir / 'shards' / f'{first:09d}{suffix}': np.arange(first, min(first + size, n))
        for first in range(0, n, size)
    }
    firsts = {path: int(those[0]) for path, those in rows.items()}
    marks = {path: artifacts.fingerprint([stage.fingerprint, n]) for path, n in firsts.items()}
    return rows, sharing.Shards(marks, config['shard'])


def made(shards: sharing.Shards, rows: dict[Path, np.ndarray], make: Callable) -> int:
    """Makes what is left to this process; how many images all processes made."""
    total = sum(len(rows[path]) for path in shards.paths)
    with progress.progress(total=total, desc='score', unit='images') as bar:
        finished = shards.make(make, lambda path: bar.update(len(rows[path])))
    return sharing.gathered(sum(len(rows[path]) for path in finished))


def finish_part(
    stage: stages.Stage,
    shards: sharing.Shards,
    rows: dict[Path, np.ndarray],
    scored: int,
    start: float,
    what: str = 'images',
) -> dict:
    """The summary of a run with config.shard, when its shards are there."""
    shards.wait()
    seconds = time.monotonic() - start
    quarantine = [e for path in shards.paths for e in artifacts.meta(path)['meta']['quarantine']]
    summary = {
        what: sum(len(rows[path]) for path in shards.paths) - len(quarantine),
        'quarantined': len(quarantine),
        'seconds': seconds,
        'headline': f'{scored / seconds:.1f} {what}/s, {len(shards.paths)} of {len(rows)} shards; '
        'run without config.shard when all are there',
        'artifact': 'stage.json',
    }
    return stage.part(shards.part).finish(summary, shards.paths)
