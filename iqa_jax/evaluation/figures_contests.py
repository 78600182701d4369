"""A table of gMAD pairs as what figures show: contests, and the two roles of two models."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from iqa_jax.evaluation.figures_lettering import score_texts

_SCORES = ('defender_best', 'defender_worst', 'attacker_best', 'attacker_worst')
_CONTEST = ('defender', 'attacker', 'level', 'rank')
_IDS = ('image_id_best', 'image_id_worst')


def contest_rows(pairs: Mapping[str, Sequence], levels: int | None = None) -> list[dict]:
    """Returns one row for every pair of every contest, a merged pair once for each of its reasons.

    Args:
      pairs: columns of `competition.search`: defender, attacker, role (of the model under test;
        'defender' where the column is missing), level (0 lowest), rank (0 first), image_id_best,
        image_id_worst, the four scores, and reasons (JSON, optional: without it a pair has the one
        reason its row gives).
      levels: how many there are, if known.

    Returns:
      Dicts of those columns in which `best` is what this row's attacker prefers: a reason whose
      attacker prefers the other image than the row has its images and scores exchanged. Contests
      (defender, attacker) stand in order of appearance, their pairs by level and rank.

    Raises:
      ValueError: a missing column, reasons that are not such JSON, or a level that does not exist.
    """
    missing = [k for k in (*_CONTEST, *_IDS, *_SCORES) if k not in pairs]
    if missing:
        raise ValueError(
            f'the table of pairs has no column {missing[0]!r}; give the pairs.parquet of gmad.'
        )
    columns = {k: np.asarray(pairs[k]).tolist() for k in (*_CONTEST, *_IDS, *_SCORES)}
    for key, default in (('role', 'defender'), ('reasons', None)):
        columns[key] = (
            np.asarray(pairs[key]).tolist() if key in pairs else [default] * len(columns['level'])
        )
    rows = []
    for values in zip(*columns.values(), strict=True):
        pair = dict(zip(columns, values, strict=True))
        rows += [_row(pair, reason) for reason in _reasons(pair)]
    for row in rows:
        if row['level'] < 0 or (levels is not None and row['level'] >= levels):
            raise ValueError(
                f'{row["attacker"]!r} attacks {row["defender"]!r} at level {row["level"]}, but '
                f'levels are numbered 0..{"" if levels is None else levels - 1}; '
                'give the number of levels that gmad searched.'
            )
    # Contests by appearance, since the search lists them in the order the user named the models.
    order = {key: i for i, key in enumerate(dict.fromkeys(map(contest_of, rows)))}
    return sorted(rows, key=lambda row: (order[contest_of(row)], row['level'], row['rank']))


def contest_of(row: Mapping) -> tuple[str, str]:
    """Returns (defender, attacker) of a row."""
    return row['defender'], row['attacker']


def texts_of(row: Mapping) -> dict[str, tuple[str, str, str]]:
    """Returns, for defender and attacker, the scores of best and worst and their difference."""
    return {
        role: score_texts(row[f'{role}_best'], row[f'{role}_worst'])
        for role in ('defender', 'attacker')
    }


def level_text(level: int, levels: int | None) -> str:
    """Returns '1 of 6' for level 0 of 6 levels, '1' where their number is not known."""
    return f'{level + 1}' if levels is None else f'{level + 1} of {levels}'


def _reasons(pair: dict) -> list[dict]:
    if pair['reasons'] is None:
        return [pair]
    try:
        reasons = json.loads(pair['reasons'])
        if not all({*_CONTEST, *_SCORES} <= reason.keys() for reason in reasons):
            raise KeyError
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f'reasons of the pair {pair["image_id_best"]!r}, {pair["image_id_worst"]!r} must be a '
            f'JSON list of {{{", ".join((*_CONTEST, *_SCORES))}}}; give the table as gmad wrote it.'
        ) from error
    return reasons


def _row(pair: dict, reason: dict) -> dict:
    row = {'role': pair['role']} | {k: v for k, v in reason.items() if k != 'reasons'}
    row |= {'level': int(row['level']), 'rank': int(row['rank'])}
    row |= {k: float('nan') if row[k] is None else float(row[k]) for k in _SCORES}
    row |= {k: pair[k] for k in _IDS}
    if row['attacker_best'] < row['attacker_worst']:
        for name in ('image_id', 'defender', 'attacker'):
            best, worst = f'{name}_best', f'{name}_worst'
            row[best], row[worst] = row[worst], row[best]
    return row


def figures_to_draw(
    pairs: Mapping[str, Sequence], *, levels: int | None = None, limit: int = 48
) -> tuple[list[dict], int]:
    """Returns what `figures_pairs.pair_figure` draws, and how many figures `limit` left out.

    One figure for every two models, level and rank within both roles: the n-th best pair that the
    first model's rivalry gives it as defender beside the n-th best as attacker.

    Args:
      pairs: see `contest_rows`.
      levels: how many there are; None takes the highest one that has a pair as the last.
      limit: figures at most. First come the best pairs of everyone, then the second best; among
        those the lowest level, the highest, and so on inwards, as papers show the two ends.

    Returns:
      ({'models' (model, rival), 'level', 'number' (0 first), 'of' (figures at this level),
      'columns' (one or two rows of `contest_rows`, the one where the model defends first)} by
      models, level and number; count of figures left out).

    Raises:
      ValueError: see `contest_rows`; limit is negative.
    """
    if limit < 0:
        raise ValueError(f'limit must be 0 or more figures, not {limit}.')
    rows = contest_rows(pairs, levels)
    models: dict[frozenset, tuple[str, str]] = {}
    roles: dict[tuple, tuple[list, list]] = {}
    for row in rows:
        model, rival = contest_of(row) if row['role'] == 'defender' else contest_of(row)[::-1]
        names = models.setdefault(frozenset((model, rival)), (model, rival))
        sides = roles.setdefault((names, row['level']), ([], []))
        sides[row['defender'] != names[0]].append(row)
    figures = [
        {
            'models': names,
            'level': level,
            'number': number,
            'of': max(map(len, sides)),
            'columns': [side[number] for side in sides if number < len(side)],
        }
        for (names, level), sides in roles.items()
        for number in range(max(map(len, sides)))
    ]
    order = {names: i for i, names in enumerate(models.values())}
    last = max((f['level'] for f in figures), default=0) if levels is None else levels - 1

    def urgency(figure: dict) -> tuple:
        level = figure['level']
        return figure['number'], min(level, last - level), level, order[figure['models']]

    kept = sorted(figures, key=urgency)[:limit]
    kept.sort(key=lambda f: (order[f['models']], f['level'], f['number']))
    return kept, len(figures) - len(kept)
