"""From votes, of a SIMULATED panel or of people, to a rated manifest and a table of raters."""

from pathlib import Path

import numpy as np

from iqa_jax.data import manifest, tables
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import stages
from iqa_jax.study import scaling

OUTPUTS = ('votes.parquet', 'rated.parquet', 'raters.csv')


def conclude(
    stage: stages.Stage,
    rows: tables.Table,
    votes: tables.Table,
    failed: dict[str, str],
    database: str,
    meta: dict,
    workdir: Path,
) -> tuple[dict, list[Path]]:
    """Writes OUTPUTS; (counts of the summary, files).

    Args:
      rows: manifest rows that were rated.
      votes: as `scaling.mos_from_votes` takes them; rows of other images help to know the raters.
      failed: rater_id -> why none of this rater's votes counts.
      meta: of the tables.
    """
    counted = ~np.isin(votes['rater_id'].astype(str), list(failed))
    images, raters = scaling.mos_from_votes(tables.select(votes, counted))
    rows = rows | {'database': np.full(len(rows['image_id']), database, object)}
    voted = np.isin(rows['image_id'].astype(str), images['image_id'].astype(str))
    lost = rows['image_id'][~voted].tolist()
    rows = tables.select(rows, voted)
    rated = rows | tables.join(rows['image_id'], images, ['mos', 'mos_std', 'votes'], 'the votes')
    kept = np.isfinite(rated['mos'])
    lost += rated['image_id'][~kept].tolist()
    rated = tables.select(rated, kept)
    raters = _with_failed(raters, votes, failed)
    agreement = _agreement(votes)
    raters['srcc'] = np.array([agreement[r] for r in raters['rater_id'].tolist()])
    outputs = [workdir / name for name in OUTPUTS]
    tables.write(outputs[0], votes, meta, stage.fingerprint)
    manifest.write(outputs[1], rated, meta | {'without_votes': lost}, stage.fingerprint)
    tables.write(outputs[2], raters, meta, stage.fingerprint)
    return {
        'images': len(rated['image_id']),
        'raters': len(raters['rater_id']),
        'votes': len(votes['vote']),
        'excluded': int(raters['excluded'].sum()),
        'quarantined': len(lost),
        'standard_error': float(np.nanmean(images['standard_error'])),
    }, outputs


def conclude_pairs(
    stage: stages.Stage, answers: tables.Table, failed: dict[str, str], meta: dict, workdir: Path
) -> tuple[dict, list[Path]]:
    """Writes answers.parquet, without raters who failed, and raters.csv; (counts, files).

    `answers` as `competition.preferences.from_answers` takes them.
    """
    raters, count = np.unique(answers['rater_id'].astype(str), return_counts=True)
    excluded = np.isin(raters, list(failed))
    counted = tables.select(answers, ~np.isin(answers['rater_id'].astype(str), list(failed)))
    table = {
        'rater_id': raters.astype(object),
        'answers': count.astype(np.int32),
        'excluded': excluded,
        'reason': np.array([failed.get(name, '') for name in raters.tolist()], object),
    }
    outputs = [workdir / 'answers.parquet', workdir / 'raters.csv']
    tables.write(outputs[0], counted, meta, stage.fingerprint)
    tables.write(outputs[1], table, meta, stage.fingerprint)
    counts = {'answers': len(counted['rater_id']), 'raters': len(raters)}
    return counts | {'excluded': int(excluded.sum()), 'quarantined': 0}, outputs


def _with_failed(raters: tables.Table, votes: tables.Table, failed: dict[str, str]) -> tables.Table:
    """The table of raters with a row for each of `failed`: no estimate, excluded, and why."""
    if not failed:
        return raters
    blank = {'f': np.nan, 'i': 0, 'b': True, 'O': ''}
    extra = {
        name: np.full(len(failed), blank[column.dtype.kind], column.dtype)
        for name, column in raters.items()
    }
    names = list(failed)
    extra['rater_id'] = np.array(names, object)
    extra['reason'] = np.array([failed[name] for name in names], object)
    counts = [int((votes['rater_id'] == name).sum()) for name in names]
    extra['votes'] = np.array(counts, raters['votes'].dtype)
    return tables.concatenate([raters, extra])


def _agreement(votes: tables.Table) -> dict[str, float]:
    """SRCC of each observer's votes with the mean vote of the others on the same images."""
    _, image = np.unique(votes['image_id'].astype(str), return_inverse=True)
    vote = votes['vote'].astype(np.float64)
    total, count = np.bincount(image, vote)[image], np.bincount(image)[image]
    with np.errstate(invalid='ignore', divide='ignore'):
        others = (total - vote) / (count - 1)
    found = {}
    for rater in sorted(set(votes['rater_id'].tolist())):
        mine = (votes['rater_id'] == rater) & np.isfinite(others)
        enough = mine.sum() >= 3
        found[rater] = statistics.srcc(vote[mine], others[mine]) if enough else np.nan
    return found
