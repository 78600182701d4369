"""report: what all stages left on disk -> one self-contained report.html."""

import time

from iqa_jax import distortions
from iqa_jax.data import manifest
from iqa_jax.data.store import ImageStore
from iqa_jax.evaluation import page
from iqa_jax.runtime import artifacts, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening, report_data

KEYS = {
    'title', 'subtitle', 'command', 'stages', 'order', 'data', 'trainings', 'training_order',
    'evaluations', 'headline', 'active', 'observers', 'hard', 'gallery_ref', 'hard_images',
}  # fmt: skip


@sharing.on_main
def run(config: dict, workdir: str | Path) -> dict:
    """Writes report.html from the folders of finished stages; each section has one source.

    `stages` describes every stage of `order` as {'folder', 'does', 'repeats'}; the other entries
    name the folder that fills their section. The rounds of `active` are those its record names.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    folders = {name: as_path(config['stages'][name]['folder']) for name in config['order']}
    inputs = [folder / 'stage.json' for folder in folders.values()]
    stage = stages.Stage('report', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    summaries = {name: report_data.read_json(f / 'stage.json') for name, f in folders.items()}
    context = _context(config, folders, summaries)
    html = page.render(context).encode()
    path = workdir / 'report.html'
    artifacts.commit(path, html, fingerprint=stage.fingerprint)
    summary = {
        'sections': len(page.SECTIONS),
        'quarantined': 0,
        'seconds': time.monotonic() - start,
        'headline': f'{len(html) / 1e6:.1f} MB, self-contained',
        'artifact': 'report.html',
    }
    return stage.finish(summary, [path])


def _context(config: dict, folders: dict[str, Path], summaries: dict) -> dict:
    """The plain data of `page.render`."""
    data, active = as_path(config['data']['folder']), as_path(config['active']['folder'])
    record = report_data.read_json(active / 'active.json')
    columns = manifest.read(data / 'manifest.parquet')
    store = ImageStore(columns)
    evaluations = {name: as_path(entry['folder']) for name, entry in config['evaluations'].items()}
    results = {name: report_data.read_json(f / 'results.json') for name, f in evaluations.items()}
    headline = evaluations[config['headline']]
    return {
        'title': config['title'],
        'subtitle': config['subtitle'],
        'simulated': any(r['simulated'] for r in results.values()),
        'facts': {
            'images': f'{len(columns["image_id"]):,}',
            'photographs': f'{len(set(columns["ref_id"].tolist()))}',
            'iqa_jax': artifacts.versions()['iqa-jax-gmad'],
            'jax': artifacts.versions()['jax'],
        },
        'tiles': _tiles(config, summaries, results, summaries['active']['rounds']),
        'stages': _stages(config, summaries),
        'gallery': report_data.gallery(columns, store, config['gallery_ref']),
        'proxies': report_data.proxies(data, columns),
        'training': [
            {'name': name} | report_data.training(folder)
            for name, folder in _trainings(config, active, record).items()
        ],
        'results': [{k: r[k] for k in ('name', 'rows', 'simulated')} for r in results.values()],
        'families': {d.name: report_data.family(d) for d in distortions.DISTORTIONS.values()},
        'scatters': [report_data.scatter(f, results[name]) for name, f in evaluations.items()],
        'per_distortion': report_data.per_distortion(headline, results[config['headline']]),
        'gmad': [
            pair
            for found in record['rounds']
            for pair in report_data.gmad(active / found['folder'], columns, store)
        ],
        'hard_examples': report_data.hard(
            as_path(config['hard']['folder']), columns, store, config['hard_images']
        ),
        'active': [entry | {'label': _set_label(entry['set'])} for entry in record['comparisons']],
        'active_history': [row | {'label': _set_label(row['set'])} for row in record['history']],
        'active_rounds': [
            row | {'round': report_data.round_name(row['folder'])} for row in record['rounds']
        ],
        'active_stopped': record['stopped'],
        'observers': [
            report_data.observers(folder) | {'name': name}
            for name, folder in _panels(config, active, record).items()
        ],
        'quarantine': report_data.quarantine(
            folders | {f'active/{name}': active / name for name in record['stages']}
        ),
        'provenance': report_data.provenance(folders, config['command']),
    }


def _trainings(config: dict, active: Path, record: dict) -> dict[str, Path]:
    """Folders of the trainings by name: those of the config, then every active round."""
    folders = {n: as_path(config['trainings'][n]['folder']) for n in config['training_order']}
    for found in record['rounds']:
        if found['trained']:
            name = f'active, {report_data.round_name(found["folder"])}'
            name += '' if found['kept'] else ' (rolled back)'
            folders[name] = active / found['folder'] / 'train'
    return folders


def _panels(config: dict, active: Path, record: dict) -> dict[str, Path]:
    """Folders of the studies by name: that of the config, then those of the active rounds."""
    searches = [found['folder'] for found in record['rounds']]
    return {'Before the active rounds': as_path(config['observers']['folder'])} | {
        f'Search of {report_data.round_name(name)}': active / name / 'study' for name in searches
    }


def _set_label(name: str) -> str:
    if name.startswith('old_'):
        return f'{name.removeprefix("old_")}, the test set rated before'
    fresh = {
        'fresh': 'fresh gMAD, not trained on',
        'fresh_after': 'fresh, against the new model',
        'fresh_before': 'fresh, against the first model',
        'fresh_own': 'fresh, each against itself',
    }
    if name in fresh:
        return fresh[name]
    return f'gMAD of {report_data.round_name(name)}, trained on'


def _tiles(config: dict, summaries: dict, results: dict, rounds: int) -> list[dict]:
    headline = results[config['headline']]
    comparisons = summaries['active']['comparisons']
    old, last = comparisons[0], comparisons[-1]
    made = summaries[next(iter(summaries))]
    fresh = {
        'label': 'Fresh gMAD pairs ordered as the panel does',
        'value': last['after'],
        'before': last['before'],
        'kind': 'percent',
        'note': (
            f'each model on the {last["n"]} and {last["n_before"]} decided pairs found against it'
            if last['set'] == 'fresh_own'
            else f'{last["n"]} decided pairs of the last search'
        )
        + ', not trained on',
        'simulated': last['simulated'],
    }
    after = 'the active round' if rounds == 1 else f'{rounds} rounds'
    return [
        {
            'label': 'SRCC on photographs never trained on',
            'value': headline['rows'][0]['srcc'],
            'kind': 'score',
            'note': f'against the {report_data.target_name(headline)}, '
            f'{headline["rows"][0]["refs"]} photographs',
            'simulated': headline['simulated'],
        },
        {
            'label': 'SRCC on the rated test set',
            'value': old['after'],
            'before': old['before'],
            'kind': 'score',
            'note': f'before and after {after}' if rounds else 'no round was kept',
            'simulated': old['simulated'],
        },
        *([fresh] if last['set'].startswith('fresh') and last['measure'] == 'pairs right' else []),
        {
            'label': 'Images made',
            'value': made['images'],
            'kind': 'count',
            'note': f'{made["photos"]} photographs',
            'simulated': False,
        },
        {
            'label': 'Time of all stages',
            'value': sum(s['seconds'] for s in summaries.values()),
            'kind': 'seconds',
            'simulated': False,
        },
    ]


def _stages(config: dict, summaries: dict) -> list[dict]:
    counts = {
        name: {k: v for k, v in s.items() if type(v) is int and (v or k == 'quarantined')}
        for name, s in summaries.items()
    }
    return [
        {
            'name': name,
            'does': config['stages'][name]['does'],
            'seconds': summaries[name]['seconds'],
            'counts': counts[name],
            'repeats': config['stages'][name]['repeats'],
        }
        for name in config['order']
    ]
