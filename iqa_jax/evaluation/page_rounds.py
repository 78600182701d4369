"""Views of the active rounds: before and after, by round, what each round cost and found."""

import math
from collections.abc import Sequence

from iqa_jax.evaluation import figures, figures_rounds
from iqa_jax.evaluation.page_format import csv_uri, interval, interval_columns, number, plot_view

NOT_COUNTED = ('ties', 'unrated', 'unscored')


def _side(change: tuple[float, float, float]) -> str:
    """'up' or 'down' where the whole interval of a change is, '' where it holds 0 or is unknown."""
    return 'up' if change[1] > 0 else 'down' if change[2] < 0 else ''


def active(rows: Sequence[dict], simulated: bool) -> dict | None:
    """Returns the paired chart and the table of before and after."""
    if not rows:
        return None
    before = [interval(row['before']) for row in rows]
    after = [interval(row['after']) for row in rows]
    labels = [f'{row["label"]}: {row["measure"]}' for row in rows]
    columns: dict = {k: [row.get(k, '') for row in rows] for k in ('label', 'set', 'measure', 'n')}
    change = [
        interval(row.get('difference', a[0] - b[0]))
        for row, b, a in zip(rows, before, after, strict=True)
    ]
    for name, values in (('before', before), ('after', after), ('change', change)):
        interval_columns(columns, name, values)
    columns |= {k: [row.get(k, '') for row in rows] for k in NOT_COUNTED}
    listing = '; '.join(
        f'{label} {number(b[0])} to {number(a[0])}'
        for label, b, a in zip(labels, before, after, strict=True)
    )
    lines = [f'{row["label"]}\n{row["measure"]}' for row in rows]
    svg = figures.dumbbell(lines, before, after, 'SRCC or pair accuracy, with 95 % interval')
    table = [
        {k: row.get(k, '') for k in ('label', 'set', 'measure')}
        | {'n': row.get('n'), 'before': b, 'after': a, 'change': c, 'sure': _side(c)}
        | {'without': ', '.join(f'{row[k]} {k}' for k in NOT_COUNTED if row.get(k))}
        | {'n_before': row.get('n_before')}
        | {'simulated': row.get('simulated', simulated)}
        for row, b, a, c in zip(rows, before, after, change, strict=True)
    ]
    return {
        'rows': table,
        'is_fair': any(row['set'] == 'fresh_own' for row in rows),
        'plot': plot_view(svg, 'active', f'Before and after: {listing}.', columns),
    }


def history(rows: Sequence[dict], simulated: bool) -> list[dict]:
    """Returns a figure of every measure by round; none before a second model is there."""
    views, sets = [], list(dict.fromkeys(row['label'] for row in rows))
    for measure in dict.fromkeys(row['measure'] for row in rows):
        those = [row for row in rows if row['measure'] == measure]
        lines: dict[str, list] = {}
        for row in those:
            lines.setdefault(row['label'], []).append((row['round'], interval(row['value'])))
        if all(len(points) < 2 for points in lines.values()):
            continue
        columns: dict = {k: [row[k] for row in those] for k in ('label', 'model', 'round', 'n')}
        interval_columns(columns, 'value', [interval(row['value']) for row in those])
        said = '; '.join(
            f'{label} ' + ', '.join(number(value[0]) for _, value in points)
            for label, points in lines.items()
        )
        name = f'by-round-{len(views) + 1}'
        plot = plot_view(
            figures_rounds.by_round(lines, measure, sets),
            name,
            f'{measure} by round: {said}.',
            columns,
        )
        flags = [row.get('simulated', simulated) for row in those]
        title = measure[0].upper() + measure[1:]
        views.append({'plot': plot, 'title': f'{title} by round', 'simulated': any(flags)})
    return views


def rounds(rows: Sequence[dict], simulated: bool) -> dict | None:
    """Returns the table of what each search cost and found and what became of its training."""
    if not rows:
        return None
    keys = ('round', 'pairs', 'images', 'ratings', 'minutes', 'raters', 'excluded', 'agreement')
    columns: dict = {k: [row[k] for row in rows] for k in keys}
    right = [interval(row['pairs_right']) for row in rows]
    interval_columns(columns, 'pairs_right', right)
    columns['outcome'] = [_outcome(row) for row in rows]
    table = [
        {k: row[k] for k in keys}
        | {'right': share, 'outcome': _outcome(row), 'guard': _guard(row)}
        | {'simulated': row.get('simulated', simulated)}
        for row, share in zip(rows, right, strict=True)
    ]
    totals = {k: sum(row[k] for row in rows) for k in ('pairs', 'images', 'ratings')}
    return {'rows': table, 'totals': totals, 'csv': csv_uri(columns)}


def _outcome(row: dict) -> str:
    if not row['trained']:
        return 'not trained on'
    return 'trained on' if row['kept'] else 'rolled back'


def _guard(row: dict) -> str:
    """SRCC on the validation images of the old databases around a round's training."""
    return '; '.join(
        f'{name} {number(found["before"])} to {number(found["after"])}'
        for name, found in row['guard'].items()
        if math.isfinite(found['before'])
    )
