"""evaluate: score columns against opinions or proxies, with bootstrap intervals by reference.

A test image that a model was trained on is refused unless the config allows it.
"""

import json
import time

import numpy as np

from iqa_jax import distortions
from iqa_jax.data import exposure, manifest, score_columns, tables
from iqa_jax.evaluation import logistic, statistics
from iqa_jax.runtime import artifacts, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening

KEYS = {
    'name', 'manifest', 'splits', 'proxies', 'columns', 'headline', 'pairs', 'logistic_parameters',
    'resamples', 'allow_trained', 'seed',
}  # fmt: skip
# config.allow_trained -> the closest relation to the training that is let through.
ALLOWED = {
    'nothing': exposure.VALIDATED,
    'references': exposure.REFERENCE,
    'images': exposure.IMAGE,
}
# Measure -> (scores as they are or after the fitted logistic, statistic).
MEASURES = {
    'srcc': ('raw', 'srcc'),
    'krcc': ('raw', 'krcc'),
    'plcc': ('raw', 'plcc'),
    'plcc_mapped': ('mapped', 'plcc'),
    'rmse': ('mapped', 'rmse'),
}
GROUP_MEASURES = ('srcc', 'plcc', 'plcc_mapped')  # within a group of distortion types
# What results count of each column's model -> its relation to the image.
COUNTS = {
    'trained_images': exposure.IMAGE,
    'trained_references': exposure.REFERENCE,
    'validated_images': exposure.VALIDATED,
}


@sharing.on_main
def run(config: dict, workdir: str | Path) -> dict:
    """Writes results.json, predictions.parquet, per_distortion.csv, quarantine.csv and, where the
    manifest's metadata has `groups` (distortion type -> name), per_group.csv.

    `columns` maps a label to {'scores', 'column', 'kind'}; `headline` comes first. The target is
    `mos` of the manifest, or with `proxies` the mean equalised proxy. With `pairs` (of gmad) the
    share of pairs ordered as people do is added. Images without a score in every column are set
    aside.

    Raises:
      ValueError: a column's model was trained on a tested image or, unless `allow_trained` is
        'references' or 'images', on its reference.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    _check(config)
    # A ConfigDict sorts its keys, so the config says which column comes first.
    columns = {config['headline']: config['columns'][config['headline']]} | config['columns']
    optional = [config[key] for key in ('proxies', 'pairs') if config[key]]
    inputs = [config['manifest'], *(c['scores'] for c in columns.values()), *optional]
    stage = stages.Stage('evaluate', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    rows = manifest.in_splits(
        manifest.read(config['manifest']), tuple(config['splits']), config['manifest']
    )
    everyone = rows['image_id']
    score_tables = score_columns.opened(columns)
    kept, predictions, left_out = score_columns.oriented(everyone, columns, score_tables)
    rows = tables.select(rows, kept)
    ids = rows['image_id']
    seen = _checked_seen(ids, score_columns.seen(ids, columns, score_tables), config)
    target = score_columns.mean_proxy(ids, config['proxies']) if config['proxies'] else rows['mos']
    results = _results(rows, everyone, target, predictions, config)
    for row in results['rows']:
        row |= {'kind': columns[row['model']]['kind']} | seen[row['model']]
    names = ('results.json', 'predictions.parquet', 'per_distortion.csv', 'quarantine.csv')
    outputs = [workdir / name for name in names]
    mark = stage.fingerprint
    artifacts.commit(outputs[0], json.dumps(results, indent=1).encode(), fingerprint=mark)
    about = {k: rows[k] for k in ('image_id', 'ref_id', 'type', 'level', 'mos_std')}
    tables.write(outputs[1], about | {'target': target} | predictions, fingerprint=mark)
    tables.write(outputs[2], _per_distortion(rows, target, predictions), fingerprint=mark)
    artifacts.commit(outputs[3], tables.quarantine_csv(left_out), fingerprint=mark)
    if any(row['groups'] for row in results['rows']):
        outputs.append(workdir / 'per_group.csv')
        tables.write(outputs[-1], _per_group(results['rows']), fingerprint=mark)
    first = results['rows'][0]
    value, low, high = first['srcc']
    summary = {
        'images': len(ids),
        'references': first['refs'],
        'quarantined': len(left_out),
        'seconds': time.monotonic() - start,
        'headline': _headline(results),
        'srcc': value,
        'srcc_interval': [low, high],
        'artifact': 'results.json',
    }
    return stage.finish(summary, outputs)


def _results(
    rows: tables.Table, everyone: np.ndarray, target: np.ndarray, predictions: dict, config: dict
) -> dict:
    """Everything of results.json that is computed from scores and targets."""
    meta = tables.read(config['manifest'])[1]
    simulated, groups = bool(meta.get('simulated', False)), meta.get('groups', {})
    # Pristine images and types without a group belong to none.
    group = np.array([groups.get(str(number), '') for number in rows['type'].tolist()], object)
    return {
        'name': config['name'],
        'target': 'mean equalised proxy' if config['proxies'] else 'mos',
        'simulated': simulated and not config['proxies'],
        # Opinions from pairs, of which only those of one component are on one scale.
        'components': 1 if config['proxies'] else len(np.unique(rows['component'])),
        'allow_trained': config['allow_trained'],
        'rows': [_row(label, x, target, rows, group, config) for label, x in predictions.items()],
        'pairs': _pairs(rows, everyone, predictions, config) if config['pairs'] else [],
    }


def _check(config: dict) -> None:
    if config['headline'] not in config['columns']:
        raise ValueError(f'config.headline={config["headline"]!r} is not one of config.columns.')
    if config['allow_trained'] not in ALLOWED:
        raise ValueError(
            f'config.allow_trained={config["allow_trained"]!r}; use one of {", ".join(ALLOWED)}.'
        )


def _checked_seen(
    ids: np.ndarray, relations: dict[str, np.ndarray | None], config: dict
) -> dict[str, dict]:
    """How many images each column's model knows from its training; refuses what is not allowed."""
    counts = {}
    for label, seen in relations.items():
        counts[label] = dict.fromkeys(COUNTS)  # not known
        if seen is None:
            continue
        for name, relation in COUNTS.items():
            those = np.flatnonzero(seen == relation)
            counts[label][name] = len(those)
            if len(those) and relation > ALLOWED[config['allow_trained']]:
                key = name.removeprefix('trained_')
                what = 'them' if relation == exposure.IMAGE else 'other images of their references'
                raise ValueError(
                    f'{len(those)} of {len(ids)} images of {config["manifest"]} cannot test '
                    f'{label}, {ids[those[0]]} the first: its model was trained on {what}; choose '
                    f"other config.splits or set config.allow_trained='{key}'."
                )
    return counts


def _headline(results: dict) -> str:
    """SRCC of the first column, and what a reader must know about the opinions and the images."""
    first = results['rows'][0]
    value, low, high = first['srcc']
    text = f'{first["model"]} SRCC {value:.3f} [{low:.3f}, {high:.3f}]'
    if results['simulated']:
        text += ' (SIMULATED observers)'
    if results['components'] > 1:
        text += f' (opinions of {results["components"]} groups NEVER COMPARED, only pairs count)'
    for name, what in (('images', 'images'), ('references', 'images whose references')):
        if known := max(row[f'trained_{name}'] or 0 for row in results['rows']):
            text += f' ({known} {what} were TRAINED ON)'
    for row in results['rows']:
        if row['kind'] == 'blind model' and row['trained_images'] is None:
            text += f' (training of {row["model"]} not known)'
    return text


def _row(
    label: str, x: np.ndarray, y: np.ndarray, rows: tables.Table, group: np.ndarray, config: dict
) -> dict:
    """All statistics of one column as (value, low, high), and its fitted logistic as a curve."""
    mapping = logistic.fit_logistic(x, y, config['logistic_parameters'])
    values = {'raw': x, 'mapped': mapping(x)}
    row = {'model': label} | _intervals(tuple(MEASURES), values, y, rows['ref_id'], config)
    grid = np.linspace(x.min(), x.max(), 64)
    row['curve'] = [grid.tolist(), mapping(grid).tolist()]
    row['mapping_note'] = mapping.note
    row['groups'] = {
        name: _group(group == name, values, y, rows['ref_id'], config)
        for name in sorted(set(group.tolist()) - {''})
    }
    return row


def _group(inside: np.ndarray, values: dict, y: np.ndarray, ref_id: np.ndarray, config: dict):
    """SRCC and PLCC within a group of distortion types; NaN where it has too few images."""
    values = {kind: scores[inside] for kind, scores in values.items()}
    y, ref_id = y[inside], ref_id[inside]
    if len(y) < 3 or len(set(ref_id.tolist())) < 2:
        return {'n': len(y), 'refs': len(set(ref_id.tolist()))} | {
            measure: [float('nan')] * 3 for measure in GROUP_MEASURES
        }
    return _intervals(GROUP_MEASURES, values, y, ref_id, config)


def _intervals(
    measures: tuple[str, ...],
    values: dict[str, np.ndarray],
    y: np.ndarray,
    ref_id: np.ndarray,
    config: dict,
) -> dict:
    """How many images and references, and each measure as (value, low, high)."""
    row: dict = {'n': len(y), 'refs': len(set(ref_id.tolist()))}
    for measure in measures:
        kind, statistic = MEASURES[measure]
        found = statistics.bootstrap(
            values[kind], y, ref_id, statistic,
            resamples=config['resamples'], seed=config['seed'],
        )  # fmt: skip
        row[measure] = [found['value'], found['low'], found['high']]
    return row


def _pairs(rows: tables.Table, everyone: np.ndarray, predictions: dict, config: dict) -> list[dict]:
    """Share of gMAD pairs that each column orders as people do, resampling decided pairs.

    `rows` have a score in every column, `everyone` are the ids of all rated images. Each entry also
    counts the pairs that do not enter: ties of people, unrated and unscored ones.
    """
    pairs = tables.read(config['pairs'])[0]
    sides = list(
        zip(pairs['image_id_best'].tolist(), pairs['image_id_worst'].tolist(), strict=True)
    )
    index = {image_id: i for i, image_id in enumerate(rows['image_id'].tolist())}
    rated = set(everyone.tolist())
    both = [pair for pair in sides if rated.issuperset(pair)]
    known = [[index[a], index[b]] for a, b in both if a in index and b in index]
    if not known:
        raise ValueError(f'No pair of {config["pairs"]} has both images in {config["manifest"]}.')
    best, worst = np.array(known, int).T
    quality_best, quality_worst = rows['mos'][best], rows['mos'][worst]
    decided = quality_best != quality_worst
    counts = {
        'n': int(decided.sum()),
        'ties': int((~decided).sum()),
        'unrated': len(sides) - len(both),
        'unscored': len(both) - len(known),
    }
    found = []
    for label, x in predictions.items():
        accuracy = statistics.bootstrap_pairs(
            x[best] - x[worst], quality_best, quality_worst,
            resamples=config['resamples'], seed=config['seed'],
        )  # fmt: skip
        interval = [accuracy[end] for end in ('value', 'low', 'high')]
        found.append({'model': label, 'accuracy': interval} | counts)
    return found


def _per_distortion(rows: tables.Table, target: np.ndarray, predictions: dict) -> tables.Table:
    """SRCC of every column within each distortion type; NaN where a type has too few images."""
    names = {d.number: d.name for d in distortions.DISTORTIONS.values()}
    types = sorted(set(rows['type'].tolist()) - {0})
    table: dict[str, list] = {'type': types, 'name': [names.get(t, f'type {t}') for t in types]}
    table['n'] = [int(np.sum(rows['type'] == t)) for t in types]
    for label, x in predictions.items():
        table[label] = []
        for t in types:
            inside = rows['type'] == t
            enough = inside.sum() >= 3
            table[label].append(statistics.srcc(x[inside], target[inside]) if enough else np.nan)
    return {k: np.array(v, object if k == 'name' else None) for k, v in table.items()}


def _per_group(rows: list[dict]) -> tables.Table:
    """One line per group and column: SRCC and PLCC with their ends."""
    lines = []
    for row in rows:
        for name, found in row['groups'].items():
            line = {'group': name, 'model': row['model'], 'n': found['n'], 'refs': found['refs']}
            for measure in GROUP_MEASURES:
                ends = (measure, f'{measure}_low', f'{measure}_high')
                line |= dict(zip(ends, found[measure], strict=True))
            lines.append(line)
    return {k: np.array([line[k] for line in lines]) for k in lines[0]}
