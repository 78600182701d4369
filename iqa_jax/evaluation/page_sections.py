"""What the template shows: the views of every section, the larger ones from their own files."""

import json
import math
from collections.abc import Mapping, Sequence

from iqa_jax.evaluation import figures, figures_curves
from iqa_jax.evaluation.page_format import count, csv_uri, interval, number, plot_view, seconds
from iqa_jax.evaluation.page_pictures import gallery, gmad, hard_examples
from iqa_jax.evaluation.page_results import MEASURES, per_distortion, results, scatters
from iqa_jax.evaluation.page_rounds import active, history, rounds

MAX_QUARANTINE = 50
CURVES = (
    ('loss', 'training loss', False),
    ('val_srcc', 'validation SRCC', True),
    ('disagreement', 'twin disagreement', False),
)


def tiles(rows: Sequence[dict], simulated: bool) -> list[dict]:
    """Returns the headline tiles with their intervals filled in."""
    return [
        {
            'label': row['label'],
            'kind': row['kind'],
            'value': interval(row['value']),
            'before': interval(row['before']) if 'before' in row else None,
            'note': row.get('note', ''),
            'simulated': row.get('simulated', simulated),
        }
        for row in rows
    ]


def _counted(value: int, label: str) -> str:
    return f'{count(value)} {label.removesuffix("s") if value == 1 else label}'


def loop(stages: Sequence[dict]) -> dict:
    """Returns the stages with their share of the time, repeated ones grouped for the diagram."""
    times = [stage.get('seconds') or 0.0 for stage in stages]
    total = sum(t for t in times if math.isfinite(t))
    rows = [
        {
            'name': stage['name'],
            'does': stage.get('does', ''),
            'seconds': stage.get('seconds'),
            'share': time / total if total and math.isfinite(time) else 0.0,
            'counts': ', '.join(_counted(v, k) for k, v in stage.get('counts', {}).items()),
            'repeats': bool(stage.get('repeats')),
        }
        for stage, time in zip(stages, times, strict=True)
    ]
    groups: list[dict] = []
    for row in rows:
        if not groups or groups[-1]['repeats'] != row['repeats']:
            groups.append({'repeats': row['repeats'], 'stages': []})
        groups[-1]['stages'].append(row)
    columns = {k: [row[k] for row in rows] for k in ('name', 'seconds', 'counts')}
    return {'rows': rows, 'groups': groups, 'total': total, 'csv': csv_uri(columns)}


def proxies(data: Mapping[str, dict]) -> list[dict]:
    """Returns one pair of histograms per proxy."""
    plots = []
    for i, (metric, scores) in enumerate(data.items()):
        svg = figures_curves.proxy_histograms(scores['raw'], scores['equalised'])
        alt = (
            f'Histograms of {len(scores["raw"])} {metric} scores: '
            f'raw on the left, equalised on the right.'
        )
        # What the figure shows; the scores of every image are in their own table.
        columns: dict = {}
        for name, span in (('raw', None), ('equalised', figures_curves.UNIT)):
            edges, counts = figures_curves.histogram(scores[name], span)
            columns |= {f'{name}_low': edges[:-1], f'{name}_high': edges[1:], f'{name}_n': counts}
        direction = 'higher is better' if scores['higher_is_better'] else 'lower is better'
        plots.append(plot_view(svg, f'proxy-{i + 1}', alt, columns))
        plots[-1].update(title=metric, note=f'raw: {direction}')
    return plots


def training(stages: Sequence[dict], simulated: bool) -> list[dict]:
    """Returns the curves of every training stage; a quantity nobody recorded has no figure."""
    views = []
    for i, stage in enumerate(stages):
        plots = []
        for key, label, markers in CURVES:
            steps, values = stage['curves'].get(key, ((), ()))
            if not len(steps):
                continue
            svg = figures_curves.curve(steps, values, label, markers)
            alt = (
                f'{label} of {stage["name"]} over {len(steps)} records, '
                f'from {number(values[0])} to {number(values[-1])}.'
            )
            columns = dict(zip(('step', key), figures_curves.shorten(steps, values), strict=True))
            plots.append(plot_view(svg, f'training-{i + 1}-{key}', alt, columns))
            plots[-1].update(title=label[0].upper() + label[1:], note='')
        badge = stage.get('simulated', simulated)
        views.append({'name': stage['name'], 'plots': plots, 'simulated': badge})
    return views


def observers(panels: Sequence[dict], simulated: bool) -> list[dict]:
    """Returns every panel's summary, the raters' table and the agreement figure."""
    found = [panel for panel in panels if panel.get('raters')]
    return [_panel(panel, f'observers-{i + 1}', simulated) for i, panel in enumerate(found)]


def _panel(data: dict, plot_name: str, simulated: bool) -> dict:
    numbers = dict.fromkeys(('srcc', 'bias', 'spread'), math.nan)
    raters = [numbers | row for row in data['raters']]
    fields = ('rater', 'votes', 'excluded', 'reason', *numbers)
    columns = {k: [row.get(k, '') for row in raters] for k in fields}
    srcc = [row['srcc'] for row in raters]
    excluded = [bool(row.get('excluded')) for row in raters]
    alt = (
        f'SRCC of {len(raters)} raters with the mean of the others; '
        f'{sum(excluded)} excluded by screening.'
    )
    summary = {
        key: value if isinstance(value, str) else number(value)
        for key, value in data.get('summary', {}).items()
    }
    return {
        'name': data['name'],
        'summary': summary,
        'raters': [{k: row.get(k) for k in fields} for row in raters],
        'excluded': sum(excluded),
        'plot': plot_view(figures.agreement(srcc, excluded), plot_name, alt, columns),
        'simulated': data.get('simulated', simulated),
    }


def quarantine(rows: Sequence[dict]) -> dict | None:
    """Returns the first files that were set aside, with the count of all of them."""
    if not rows:
        return None
    columns = {k: [row[k] for row in rows] for k in ('stage', 'file', 'reason')}
    return {'rows': list(rows[:MAX_QUARANTINE]), 'total': len(rows), 'csv': csv_uri(columns)}


def provenance(data: dict | None) -> dict | None:
    """Returns command, configuration as text, versions and digests."""
    if not data:
        return None
    config = data.get('config', '')
    if not isinstance(config, str):
        config = json.dumps(config, indent=2, sort_keys=True, default=str, ensure_ascii=False)
    return {
        'command': data.get('command', ''),
        'config': config,
        'versions': data.get('versions', {}),
        'digests': data.get('digests', {}),
    }


def build(context: dict) -> dict:
    """Returns {section: view} for `report.html` from the context that `page` documents."""
    simulated = bool(context['simulated'])
    stages = context.get('stages') or []
    return {
        'tiles': tiles(context.get('tiles') or [], simulated),
        'loop_view': loop(stages) if stages else None,
        'gallery': gallery(context.get('gallery')),
        'proxies': proxies(context.get('proxies') or {}),
        'training': training(context.get('training') or [], simulated),
        'results': results(context.get('results') or [], simulated),
        'scatters': scatters(
            context.get('scatters') or [], context.get('families') or {}, simulated
        ),
        'per_distortion': per_distortion(context.get('per_distortion'), simulated),
        'gmad': gmad(context.get('gmad') or [], simulated),
        'hard_examples': hard_examples(context.get('hard_examples') or []),
        'active': active(context.get('active') or [], simulated),
        'history': history(context.get('active_history') or [], simulated),
        'rounds': rounds(context.get('active_rounds') or [], simulated),
        'stopped': context.get('active_stopped') or '',
        'observers': observers(context.get('observers') or [], simulated),
        'quarantine': quarantine(context.get('quarantine') or []),
        'provenance': provenance(context.get('provenance')),
        'measures': [label for _, label, _, _ in MEASURES],
        'total_time': seconds(sum(s.get('seconds') or 0.0 for s in stages)) if stages else '',
    }
