"""From votes or choices, of a SIMULATED panel or of people, to a rated manifest and its raters."""

import sys
from pathlib import Path

import numpy as np

from iqa_jax.data import manifest, tables
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import stages
from iqa_jax.study import pairwise, scaling
from iqa_jax.tasks import opening

OF_VOTES = ('method', 'drop_spammers')
OF_PAIRS = ('pair_model', 'ties', 'prior_std', 'points_per_unit')
_FEW_VOTES = 20  # per rater: below them maximum likelihood is farther from the truth than 'bias'


def check_scaling(given: dict) -> None:
    """Raises a ValueError that names the first key of config.scaling that cannot be used."""
    opening.check_keys(given, {*OF_VOTES, *OF_PAIRS}, 'config.scaling')
    choices = {
        'method': scaling.METHODS, 'drop_spammers': (False, True), 'ties': pairwise.TIES,
        'pair_model': tuple(pairwise.MODELS),
    }  # fmt: skip
    for key, allowed in choices.items():
        if given[key] not in allowed:
            raise ValueError(
                f'config.scaling.{key}={given[key]!r}; use one of {", ".join(map(str, allowed))}.'
            )
    for key in ('prior_std', 'points_per_unit'):
        number = given[key]
        if type(number) not in (int, float) or not 0 < number < np.inf:
            raise ValueError(f'config.scaling.{key}={number!r}; use a number above 0.')


def conclude(
    stage: stages.Stage,
    rows: tables.Table,
    votes: tables.Table,
    failed: dict[str, str],
    config: dict,
    meta: dict,
    workdir: Path,
) -> tuple[dict, list[Path]]:
    """Writes votes.parquet, rated.parquet, mos.csv and raters.csv: (counts and headline, files).

    Args:
      rows: manifest rows that were rated.
      votes: as `scaling.mos_from_votes` takes them; rows of other images help to know the raters.
      failed: rater_id -> why none of this rater's votes counts.
      config: of the stage; its `scaling` and `database` count.
      meta: of the tables.

    Raises:
      ValueError: nobody is left whose votes count.
    """
    counted = _counted(votes, failed)
    how = {key: config['scaling'][key] for key in OF_VOTES}
    images, raters = scaling.mos_from_votes(counted, **how)
    many = float(np.median(raters['votes'][~raters['excluded']]))
    if how['method'] == 'ml' and many < _FEW_VOTES:
        _say(f"config.scaling.method='ml' on {many:g} votes per rater; 'bias' is closer there")
    raters = _with_failed(raters, votes, failed)
    agreement = _agreement(votes)
    raters['srcc'] = np.array([agreement[r] for r in raters['rater_id'].tolist()])
    meta |= {'scaling': how}
    files, counts = _write_rated(stage, rows, images, config['database'], meta, workdir)
    _say_excluded(raters)
    tables.write(workdir / 'votes.parquet', votes, meta, stage.fingerprint)
    tables.write(workdir / 'raters.csv', raters, meta, stage.fingerprint)
    known = images['standard_error'][np.isfinite(images['standard_error'])]
    return counts | {
        'raters': len(raters['rater_id']),
        'votes': len(votes['vote']),
        'excluded': int(raters['excluded'].sum()),
        'headline': f'mean standard error {known.mean():.1f} of 100'
        if len(known)
        else 'standard errors unknown by single votes',
    }, [workdir / 'votes.parquet', *files, workdir / 'raters.csv']


def conclude_pairs(
    stage: stages.Stage,
    rows: tables.Table,
    answers: tables.Table,
    failed: dict[str, str],
    config: dict,
    meta: dict,
    workdir: Path,
) -> tuple[dict, list[Path]]:
    """As `conclude` of choices in pairs; writes answers.parquet instead, without who failed.

    `answers` as `competition.preferences.from_answers` and `pairwise` take them.
    """
    counted = _counted(answers, failed)
    how = {key: config['scaling'][key] for key in OF_PAIRS}
    model, most = how.pop('pair_model'), how.pop('points_per_unit')
    scores, report = pairwise.scores_from_answers(counted, model=model, **how)
    images, points = pairwise.rated(scores, model, most)
    meta |= {'scaling': how | report | {'points_per_unit': points}}
    files, counts = _write_rated(stage, rows, images, config['database'], meta, workdir)
    raters, count = np.unique(answers['rater_id'].astype(str), return_counts=True)
    table = {
        'rater_id': raters.astype(object),
        'answers': count.astype(np.int32),
        'excluded': np.isin(raters, list(failed)),
        'reason': np.array([failed.get(name, '') for name in raters.tolist()], object),
    }
    _say_excluded(table)
    if report['ranked_groups'] > 1:
        _say(report['connectivity'].rstrip('.'))
    tables.write(workdir / 'answers.parquet', counted, meta, stage.fingerprint)
    tables.write(workdir / 'raters.csv', table, meta, stage.fingerprint)
    return counts | {
        'answers': report['answers'],
        'tied': report['tied'],
        'raters': len(raters),
        'excluded': int(table['excluded'].sum()),
        'components': report['components'],
        'headline': f'{report["answers"]:,} answers, {report["components"]} comparable groups',
    }, [workdir / 'answers.parquet', *files, workdir / 'raters.csv']


def _counted(answers: tables.Table, failed: dict[str, str]) -> tables.Table:
    """The rows of raters who did not fail."""
    kept = ~np.isin(answers['rater_id'].astype(str), list(failed))
    if not kept.any():
        raise ValueError(
            f'None of {len(failed)} raters counts: {next(iter(failed))} had '
            f'{failed[next(iter(failed))]}; lower config.people.gold_pass or ask others.'
        )
    return tables.select(answers, kept)


def _write_rated(
    stage: stages.Stage,
    rows: tables.Table,
    images: tables.Table,
    database: str,
    meta: dict,
    workdir: Path,
) -> tuple[list[Path], dict]:
    """Writes rated.parquet, of images with votes, and mos.csv with intervals: (files, counts)."""
    voted = {name for name, n in zip(images['image_id'], images['votes'], strict=True) if n}
    known = np.array([name in voted for name in rows['image_id'].tolist()], bool)
    if not known.any():
        raise ValueError(f'None of {len(known)} images has a counted vote; ask more people.')
    lost = rows['image_id'][~known].tolist()
    rated = tables.select(rows, known)
    rated['database'] = np.full(len(rated['image_id']), database, object)
    names = ['mos', 'mos_std', 'votes', *(['component'] if 'component' in images else [])]
    rated |= tables.join(rated['image_id'], images, names, 'the votes')
    if lost:
        _say(f'{len(lost)} of {len(known)} images have no counted vote, {lost[0]} the first')
    files = [workdir / 'rated.parquet', workdir / 'mos.csv']
    manifest.write(files[0], rated, meta | {'without_votes': lost}, stage.fingerprint)
    tables.write(files[1], images, meta, stage.fingerprint)
    return files, {'images': len(rated['image_id']), 'quarantined': len(lost)}


def _say_excluded(raters: tables.Table) -> None:
    """One line about the raters who do not count, if any."""
    out = np.flatnonzero(raters['excluded']).tolist()
    if out:
        reasons = [f'{raters["rater_id"][i]} ({raters["reason"][i].rstrip(".")})' for i in out]
        more = f' and {len(out) - 5} more' if len(out) > 5 else ''
        total = len(raters['rater_id'])
        _say(f'{len(out)} of {total} raters do not count: {", ".join(reasons[:5])}{more}')


def _say(sentence: str) -> None:
    print(f'study: {sentence}.', file=sys.stderr, flush=True)


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
