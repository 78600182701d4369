"""Views of the results: tables, SRCC bars, scatter plots, heat map, before and after."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from iqa_jax.evaluation import figures
from iqa_jax.evaluation.page_format import (
    CSS_COLOURS,
    csv_uri,
    interval,
    interval_columns,
    number,
    plot_view,
)

MEASURES = (
    ('srcc', 'SRCC', 3, max),
    ('krcc', 'KRCC', 3, max),
    ('plcc', 'PLCC, raw', 3, max),
    ('plcc_mapped', 'PLCC, logistic', 3, max),
    ('rmse', 'RMSE', 2, min),
)
TRAINED = {'trained_images': 'images', 'trained_references': "images' references"}


def _result_rows(rows: Sequence[dict]) -> list[dict]:
    """Returns table rows whose cells know whether they are the best of their column and kind."""
    # Blind models and metrics that see the reference are two contests.
    best = {}
    for key, _, _, pick in MEASURES:
        for kind in {row.get('kind', '') for row in rows}:
            group = [interval(row.get(key))[0] for row in rows if row.get('kind', '') == kind]
            finite = [v for v in group if math.isfinite(v)]
            best[kind, key] = pick(finite) if len(finite) > 1 else None
    return [
        {
            'model': row['model'],
            'kind': row.get('kind', ''),
            'n': row.get('n'),
            'refs': row.get('refs'),
            'cells': [
                {'interval': interval(row.get(key)), 'digits': digits}
                | {'best': interval(row.get(key))[0] == best[row.get('kind', ''), key]}
                for key, _, digits, _ in MEASURES
            ],
        }
        for row in rows
    ]


def _training(rows: Sequence[dict]) -> str:
    """Returns what a reader must know of the models' trainings, '' where they saw nothing."""
    said = []
    for row in rows:
        for key, what in TRAINED.items():
            if count := row.get(key):
                said.append(f'{row["model"]} was trained on {count} of these {what}')
        if row.get('kind') == 'blind model' and row.get('trained_images', 0) is None:
            said.append(f'what {row["model"]} was trained on is not known')
    return '; '.join(said)


def _groups(rows: Sequence[dict], name: str) -> dict | None:
    """Returns SRCC within each group of distortion types as a table, None without groups."""
    parts = [row.get('groups', {}) for row in rows]
    names = list(dict.fromkeys(group for part in parts for group in part))
    if not names:
        return None
    columns: dict = {'model': [row['model'] for row in rows]}
    for group in names:
        columns[f'n_{group}'] = [part.get(group, {}).get('n', 0) for part in parts]
        srcc = [interval(part.get(group, {}).get('srcc')) for part in parts]
        interval_columns(columns, f'srcc_{group}', srcc)
    return {
        'heads': [(group, max(columns[f'n_{group}'])) for group in names],
        'rows': [
            {
                'model': row['model'],
                'cells': [interval(part.get(group, {}).get('srcc')) for group in names],
            }
            for row, part in zip(rows, parts, strict=True)
        ],
        'name': name,
        'csv': csv_uri(columns),
    }


def results(sets: Sequence[dict], simulated: bool) -> list[dict]:
    """Returns one results table and one bar chart of SRCC per rated set."""
    views = []
    for i, part in enumerate(sets):
        rows = part['rows']
        names = [row['model'] for row in rows]
        kinds = [row.get('kind', '') for row in rows]
        srcc = np.array([interval(row.get('srcc')) for row in rows]).reshape(-1, 3)
        columns: dict = {'model': names, 'kind': kinds}
        for key, _, _, _ in MEASURES:
            interval_columns(columns, key, [interval(row.get(key)) for row in rows])
        columns |= {k: [row.get(k, '') for row in rows] for k in ('n', 'refs')}
        listing = '; '.join(f'{n} {number(v)}' for n, v in zip(names, srcc[:, 0], strict=True))
        alt = f'SRCC on {part["name"]} with 95 % intervals: {listing}.'
        plot = plot_view(figures.srcc_bars(names, srcc, kinds), f'results-{i + 1}', alt, columns)
        views.append(
            {
                'name': part['name'],
                'rows': _result_rows(rows),
                'training': _training(rows),
                'groups': _groups(rows, f'groups-{i + 1}'),
                'plot': plot,
                'simulated': part.get('simulated', simulated),
            }
        )
    return views


def scatters(parts: Sequence[dict], families: Mapping[str, str], simulated: bool) -> dict:
    """Returns MOS against prediction per model, and the one legend all of them share."""
    labels = sorted({str(label) for part in parts for label in part['type']})
    if families:
        # Keep the families' own order, so that a family stands together in the legend.
        place = {label: i for i, label in enumerate(families)}
        labels.sort(key=lambda label: place.get(label, len(place)))
    styles = figures.type_styles(labels, families)
    plots = []
    for i, part in enumerate(parts):
        types = [str(label) for label in part['type']]
        svg = figures.scatter(
            part['prediction'],
            part['mos'],
            types,
            styles,
            part.get('curve'),
            part.get('target', 'MOS'),
        )
        alt = (
            f'{part.get("target", "MOS")} against the prediction of {part["model"]} for '
            f'{len(types)} images of {part["set"]}, coloured by distortion type, with the fitted '
            'logistic.'
        )
        columns = {'type': types, 'prediction': part['prediction'], 'mos': part['mos']}
        plots.append(plot_view(svg, f'scatter-{i + 1}', alt, columns))
        plots[-1].update(title=f'{part["model"]} on {part["set"]}', note='')
        plots[-1]['simulated'] = part.get('simulated', simulated)
    legend = [
        {'label': label, 'colour': CSS_COLOURS[colour], 'glyph': figures.MARKERS[marker][1]}
        for label, (colour, marker) in styles.items()
    ]
    return {'plots': plots, 'legend': legend}


def per_distortion(data: dict | None, simulated: bool) -> dict | None:
    """Returns the heat map as a table: SRCC and a strength in [-1, 1] for every cell."""
    if not data or not len(data['types']) or not len(data['models']):
        return None
    srcc = np.asarray(data['srcc'], float).reshape(len(data['types']), len(data['models']))
    columns: dict = {'type': list(data['types']), 'n': list(data['n'])}
    columns |= {model: srcc[:, i] for i, model in enumerate(data['models'])}
    known = np.isfinite(srcc)
    medians = [
        float(np.median(column[ok])) if ok.any() else math.nan
        for column, ok in zip(srcc.T, known.T, strict=True)
    ]
    return {
        'set': data.get('set', ''),
        'models': list(data['models']),
        'rows': [
            {'type': name, 'n': n, 'values': [float(v) for v in values]}
            for name, n, values in zip(data['types'], data['n'], srcc, strict=True)
        ],
        'medians': medians,
        'csv': csv_uri(columns),
        'simulated': data.get('simulated', simulated),
    }
