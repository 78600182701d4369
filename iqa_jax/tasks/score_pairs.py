"""score_pairs: full-reference metrics over pairs of files -> a score table.

Works shard by shard; finished shards are kept, so a killed run goes on with the next one and
several processes or machines share the work. Within a shard pairs are grouped by shape and decoded
while others are scored.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
from absl import logging

from iqa_jax import fr_metrics
from iqa_jax.data import pairs, tables
from iqa_jax.images import guarded
from iqa_jax.runtime import artifacts, memory, parallel, progress, sharing, stages
from iqa_jax.runtime.paths import Path, UnreachableStore, as_path, common, whole
from iqa_jax.tasks import opening, score_shards

KEYS = {
    'pairs', 'references', 'distorted', 'metrics', 'policy', 'batch_size', 'waiting_mib', 'threads',
    'shard_size', 'shard', 'decode',
}  # fmt: skip
AT_ONCE = memory.AtOnce('pairs', 'config.batch_size')


def run(config: dict, workdir: str | Path) -> dict:
    """Writes scores.parquet, scores.csv (image_id and a column per metric) and quarantine.csv.

    With `shard` 'i/n' only every n-th shard from the i-th is scored and nothing joined.

    Returns:
      The summary: pairs, quarantined, seconds and the artifact.

    Raises:
      ValueError: not one table or two folders, or they cannot be used; an unknown metric or policy;
        a number that is too small.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    members = _members(config)
    sharing.share(config['shard'])
    columns, quarantine = _pairs(config)
    del given['threads'], given['shard']  # who scores a pair changes no score
    stage = stages.Stage('score_pairs', workdir, given | {'files': _files(columns, quarantine)})
    n, size = len(columns['image_id']), config['shard_size']
    rows = {
        workdir / 'shards' / f'{first:09d}.parquet': np.arange(first, min(first + size, n))
        for first in range(0, n, size)
    }
    marks = {path: artifacts.fingerprint([stage.fingerprint, path.name]) for path in rows}
    shards = sharing.Shards(marks, config['shard'])
    if (summary := (stage.part(shards.part) if shards.part else stage).done()) is not None:
        return summary
    start = time.monotonic()
    with (
        guarded.decoding(config['decode']) as decode,
        progress.progress(total=n, desc='score_pairs', unit='pairs') as bar,
    ):

        def make(path: Path, mark: str) -> None:
            part = tables.select(columns, rows[path])
            table, bad = _score(part, members, config, decode, bar.update)
            tables.write(path, table, {'quarantine': bad}, mark)
            artifacts.crash_point('score_pairs.shard')

        finished = shards.make(make)
    scored = sharing.gathered(sum(len(rows[path]) for path in finished))
    if shards.part:
        return score_shards.finish_part(stage, shards, rows, scored, start, 'pairs')
    return _join(stage, shards, quarantine, members, workdir, scored, start)


@sharing.on_main
def _join(
    stage: stages.Stage,
    shards: sharing.Shards,
    quarantine: list[dict],
    members: list[fr_metrics.Metric],
    workdir: Path,
    scored: int,
    start: float,
) -> dict:
    """The score table of all shards, when those of the other processes are there too."""
    shards.wait()
    parts = [tables.read(path) for path in shards.paths]
    table = tables.concatenate([scores for scores, _ in parts])
    quarantine = quarantine + [entry for _, meta in parts for entry in meta['quarantine']]
    outputs = _write(table, quarantine, members, workdir, stage.fingerprint)
    seconds = time.monotonic() - start
    summary = {
        'pairs': len(table['image_id']),
        'quarantined': len(quarantine),
        'seconds': seconds,
        'headline': f'{len(members)} metrics, {scored / seconds:.1f} pairs/s',
        'artifact': 'scores.parquet',
    }
    return stage.finish(summary, outputs)


def _members(config: dict) -> list[fr_metrics.Metric]:
    """The metrics to compute, each once; raises a ValueError for what config may not say."""
    for key, least in {'batch_size': 1, 'shard_size': 1, 'threads': 1, 'waiting_mib': 0}.items():
        if config[key] < least:
            raise ValueError(f'config.{key}={config[key]} is too small; it is at least {least}.')
    if not config['metrics']:
        raise ValueError('config.metrics is empty; name at least one metric.')
    if isinstance(config['metrics'], str):
        raise ValueError(f'config.metrics={config["metrics"]} is one word; give a list of names.')
    names = dict.fromkeys(config['metrics'])
    return [fr_metrics.metric(name, policy=config['policy']) for name in names]


def _pairs(config: dict) -> tuple[tables.Table, list[dict]]:
    """Columns image_id, reference, distorted [N], and quarantine entries of unmatched pictures."""
    given = {key for key in ('pairs', 'references', 'distorted') if config[key]}
    if given == {'pairs'}:
        return pairs.read_table(config['pairs']), []
    if given == {'references', 'distorted'}:
        return pairs.match_folders(config['references'], config['distorted'])
    raise ValueError(
        'Set either config.pairs, a table, or config.references and config.distorted, two folders, '
        f"and the rest to ''; set are {', '.join(sorted(given)) or 'none of them'}."
    )


def _files(columns: tables.Table, quarantine: list[dict]) -> str:
    """Identifies the pairs: ids, and names, sizes and times of files, not their common place."""
    roles = [[whole(f) for f in columns[role]] for role in ('reference', 'distorted')]
    root = common([f for role in roles for f in role])
    stamps = {file: [file.removeprefix(root), *_stamp(file)] for file in {*roles[0], *roles[1]}}
    ids, unmatched = columns['image_id'].tolist(), [entry['file'] for entry in quarantine]
    return artifacts.fingerprint([ids, [[stamps[f] for f in role] for role in roles], unmatched])


def _stamp(file: str) -> list[int]:
    """[size, time] of a file, [] where there is none."""
    try:
        status = as_path(file).stat()
    except UnreachableStore:
        raise
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns]


def _score(
    part: tables.Table,
    members: list[fr_metrics.Metric],
    config: dict,
    decode: guarded.Decode,
    advance: Callable[[int], object],
) -> tuple[tables.Table, list[dict]]:
    """Scores of the pairs of a shard in their order, and quarantine entries of the others."""
    score = fr_metrics.metrics([member.name for member in members], policy=config['policy'])
    good: dict[int, np.ndarray] = {}
    bad: dict[int, str] = {}
    batched = 0
    limits = (config['batch_size'], config['threads'], config['waiting_mib'])
    for rows, references, distorted in pairs.batches(part, *limits, bad, decode):
        try:
            found = [*_values(score, references, distorted)]
        except ValueError as error:
            if not any(member.refuses(*references.shape[1:3]) for member in members):
                raise
            bad |= dict.fromkeys(rows, str(error))
            found = []
        for first, last, values in found:
            if isinstance(values, memory.DoesNotFit):
                bad[rows[first]] = f'{values}; {memory.ELSEWHERE}'
                continue
            scores = np.stack([values[member.name] for member in members], axis=1)
            good |= dict(zip(rows[first:last], scores, strict=True))
        batched += len(rows)
        advance(len(rows))
    advance(len(part['image_id']) - batched)
    for row, scores in good.items():
        wrong = [m.name for m, x in zip(members, scores, strict=True) if not _is_legal(x, m)]
        if wrong:
            bad[row] = f'{", ".join(wrong)} is not finite'
    entries = []
    for row in sorted(bad):
        entries.append({'file': part['image_id'][row], 'reason': bad[row]})
        logging.warning('%s is left out: %s', *entries[-1].values())
    kept = sorted({*good} - {*bad})
    table = {'image_id': part['image_id'][kept]} | {
        member.name: np.array([good[row][i] for row in kept], np.float32)
        for i, member in enumerate(members)
    }
    return table, entries


def _values(score: Callable, references: np.ndarray, distorted: np.ndarray) -> Iterator[tuple]:
    """(first, last, scores by metric) of the pairs of a batch, in parts that fit into memory."""
    n, size = len(references), references.shape[1:3]
    return AT_ONCE.parts(
        lambda i, j: parallel.fetch(score(references[i:j], distorted[i:j])), n, n, size
    )


def _is_legal(score: float, metric: fr_metrics.Metric) -> bool:
    """Whether a score is finite, the ideal (PSNR's is infinite), or asked for as it is."""
    return metric.policy == 'parity' or bool(np.isfinite(score)) or score == metric.ideal


def _write(
    table: tables.Table,
    quarantine: list[dict],
    members: list[fr_metrics.Metric],
    workdir: Path,
    mark: str,
) -> list[Path]:
    """Commits the score table in both formats and the quarantine list."""
    described = {
        member.name: {
            'higher_is_better': member.higher_is_better,
            'origin': f'full-reference metric {member.name}, {member.policy} policy',
        }
        for member in members
    }
    paths = [workdir / name for name in ('scores.parquet', 'scores.csv', 'quarantine.csv')]
    for path in paths[:2]:
        tables.write(path, table, {'columns': described}, mark)
    artifacts.commit(paths[2], tables.quarantine_csv(quarantine), fingerprint=mark)
    return paths
