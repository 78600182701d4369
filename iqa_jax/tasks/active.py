"""active: search -> rate -> fine-tune, round by round, with the stages' own `run` functions.

Round r scores the pool with the model of round r - 1, finds gMAD pairs, has them rated and
fine-tunes on them beside a replay of the old database. After the last round the search runs once
more: its pairs, found against the new model and rated but not trained on, are the honest test.
"""

import json
from pathlib import Path

import numpy as np

from iqa_jax.data import exposure, manifest, tables
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import artifacts, stages
from iqa_jax.tasks import evaluate, export, gmad, opening, score, study, train
from iqa_jax.training import saved_model

KEYS = {
    'manifest', 'proxies', 'rated', 'model', 'name', 'rivals', 'rounds', 'replay_weight',
    'score', 'gmad', 'study', 'train', 'evaluate',
}  # fmt: skip


def run(config: dict, workdir: str | Path) -> dict:
    """Runs the rounds; writes round_01, round_02, ..., model, scores.parquet and active.json.

    Raises:
      ValueError: fewer than one round, or the rounds would train on what the old set tests.
    """
    (config, given), workdir = opening.begin(config, KEYS), Path(workdir)
    if config['rounds'] < 1:
        raise ValueError(f'config.rounds={config["rounds"]} trains nothing; set at least 1.')
    _check_old_set(config)
    models, searches, ran = [config['model']], [], {}
    for number in range(1, config['rounds'] + 2):
        folder = workdir / f'round_{number:02d}'
        searches.append(folder)
        ran |= _search(config, models[-1], searches, folder)
        if number <= config['rounds']:
            ran[f'{folder.name}/train'] = _fine_tune(config, models[-1], searches, folder)
            models.append(str(folder / 'train' / 'model'))
    final = {'task': 'export', 'root': '', 'model': models[-1], 'calibration': None}
    final |= dict.fromkeys(('results', 'pairs', 'rated'), '')
    ran['model'] = export.run(final, workdir / 'model')
    tested = _compare(config, searches, workdir)
    ran |= {f'evaluate/{name}': summary for name, summary in tested.items()}
    table = searches[-1] / 'score' / 'scores.parquet'
    results = [workdir / 'evaluate' / name / 'results.json' for name in tested]
    predictions = [path.with_name('predictions.parquet') for path in results]
    stage = stages.Stage('active', workdir, given, inputs=[table, *results, *predictions])
    if (summary := stage.done()) is not None:
        return summary
    mark = stage.fingerprint
    entries = [entry for name in tested for entry in _entries(config, name, workdir)]
    record = {
        'comparisons': entries,
        'rounds': [folder.name for folder in searches[:-1]],  # those that trained
        'stages': list(ran),  # folders
    }
    outputs = [workdir / 'active.json', workdir / 'scores.parquet']
    artifacts.commit(outputs[0], json.dumps(record, indent=1).encode(), fingerprint=mark)
    described = artifacts.meta(table)['meta']
    artifacts.commit(outputs[1], artifacts.read(table), fingerprint=mark, meta=described)
    old, fresh = entries[0], entries[-1]
    summary = {
        'rounds': config['rounds'],
        'pairs': sum(s.get('pairs', 0) for s in ran.values()),
        'quarantined': sum(s['quarantined'] for s in ran.values()),
        'seconds': sum(s['seconds'] for s in ran.values()),
        'headline': f'old set SRCC {old["before"][0]:.3f} -> {old["after"][0]:.3f}, '
        f'fresh gMAD pairs right {fresh["before"][0]:.0%} -> {fresh["after"][0]:.0%}'
        + (' (SIMULATED observers)' if old['simulated'] else ''),
        'comparisons': entries,
        'artifact': 'active.json',
    }
    return stage.finish(summary, outputs)


def _check_old_set(config: dict) -> None:
    """Raises a ValueError where the last evaluation would refuse the old set, before round 1."""
    rated = manifest.read(config['rated'])
    tested = manifest.in_splits(rated, ('test',), config['rated'])
    pool = manifest.read(config['manifest'])
    known = {}
    for path, columns, chosen in (
        (config['manifest'], pool, config['gmad']['splits']),
        (config['rated'], rated, ('train',)),
    ):
        trained = tables.select(columns, np.isin(columns['split'].astype(str), list(chosen)))
        where = f'in split {", ".join(chosen)} of {path}, which the rounds train on; give either '
        known[where + 'another split'] = exposure.record([trained], [], [])
    model = exposure.read(Path(config['model']) / saved_model.TRAINED_ON)
    if model is not None:
        where = f'among those that {config["model"]} was trained on; choose another config.model, '
        known[where + 'or give them another split'] = model
    for where, record in known.items():
        seen = exposure.seen(tested, record)
        if (bad := np.flatnonzero(seen > exposure.VALIDATED)).size:
            raise ValueError(
                f'{len(bad)} of {len(seen)} images in split test of {config["rated"]}, '
                f'{tested["image_id"][bad[0]]} the first, cannot test: they or others of their '
                f'references are {where}.'
            )


def _search(config: dict, model: str, searches: list[Path], folder: Path) -> dict[str, dict]:
    """Scores the pool, finds counterexamples and has them rated; summaries by folder."""
    common = {'manifest': config['manifest'], 'root': ''}
    name = config['name']
    scoring = config['score'] | common | {'task': 'score', 'model': model, 'name': name}
    table = str(folder / 'score' / 'scores.parquet')
    earlier = {f.name: {'manifest': str(f / 'study' / 'rated.parquet')} for f in searches[:-1]}
    contest = config['gmad'] | common | {
        'task': 'gmad',
        'models': {name: {'scores': table, 'column': name}},
        'rivals': config['rivals'],
        'exclude': {'rated': {'manifest': config['rated']}} | earlier,
    }  # fmt: skip
    rating = config['study'] | common | {
        'task': 'study',
        'proxies': config['proxies'],
        'pairs': str(folder / 'gmad' / 'pairs.parquet'),
        'database': f'gmad_{folder.name}',
    }  # fmt: skip
    return {
        f'{folder.name}/score': score.run(scoring, folder / 'score'),
        f'{folder.name}/gmad': gmad.run(contest, folder / 'gmad'),
        f'{folder.name}/study': study.run(rating, folder / 'study'),
    }


def _fine_tune(config: dict, model: str, searches: list[Path], folder: Path) -> dict:
    """One training run on the replayed database and all counterexamples rated so far."""
    share = (1 - config['replay_weight']) / len(searches)
    databases = {'replay': {'manifest': config['rated'], 'weight': config['replay_weight']}}
    for found in searches:
        path = str(found / 'study' / 'rated.parquet')
        databases[found.name] = {'manifest': path, 'weight': share}
    databases = {k: {'scores': '', 'weight': 1.0} | v for k, v in databases.items()}
    fine_tuning = config['train'] | {
        'task': 'train', 'root': '', 'init_from': model, 'databases': databases,
    }  # fmt: skip
    return train.run(fine_tuning, folder / 'train')


def _compare(config: dict, searches: list[Path], workdir: Path) -> dict[str, dict]:
    """Before and after on the old set, each rated gMAD set and the fresh one: summaries by set."""
    columns = {
        label: {
            'scores': str(folder / 'score' / 'scores.parquet'),
            'column': config['name'],
            'kind': 'blind model',
        }
        for label, folder in (('after', searches[-1]), ('before', searches[0]))
    }
    sets = {'old': (config['rated'], ['test'], '', 'nothing')}
    for folder in searches:
        # The last search's images are new to every model, their photographs are not: all searches
        # take from one pool.
        last = folder == searches[-1]
        name, allowed = ('fresh', 'references') if last else (folder.name, 'images')
        rated, pairs = folder / 'study' / 'rated.parquet', folder / 'gmad' / 'pairs.parquet'
        sets[name] = (str(rated), ['train'], str(pairs), allowed)
    summaries = {}
    for name, (rated, splits, pairs, allowed) in sets.items():
        common = {'task': 'evaluate', 'root': '', 'proxies': ''}
        common |= {'columns': columns, 'headline': 'after'}
        place = {'name': name, 'manifest': rated, 'splits': splits, 'pairs': pairs}
        place |= {'allow_trained': allowed}
        folder = workdir / 'evaluate' / name
        summaries[name] = evaluate.run(config['evaluate'] | common | place, folder)
    return summaries


def _entries(config: dict, name: str, workdir: Path) -> list[dict]:
    """Rows of the before-and-after table: SRCC, and pair accuracy where there are pairs."""
    folder = workdir / 'evaluate' / name
    results = json.loads(artifacts.read(folder / 'results.json'))
    found = tables.read(folder / 'predictions.parquet')[0]
    change = statistics.paired_difference(
        found['after'], found['before'], found['target'], found['ref_id'],
        resamples=config['evaluate']['resamples'], seed=config['evaluate']['seed'],
    )  # fmt: skip
    rows = {row['model']: row for row in results['rows']}
    common = {'set': name, 'simulated': results['simulated']}
    entries = [
        common | {
            'measure': 'SRCC', 'before': rows['before']['srcc'], 'after': rows['after']['srcc'],
            'difference': [change[end] for end in ('value', 'low', 'high')],
            'n': rows['after']['n'],
        }
    ]  # fmt: skip
    pairs = {row['model']: row for row in results['pairs']}
    if pairs:
        accuracy = {label: pairs[label]['accuracy'] for label in ('before', 'after')}
        counts = {k: pairs['after'][k] for k in ('n', 'ties', 'unrated', 'unscored')}
        entries.append(common | accuracy | counts | {'measure': 'pairs right'})
    return entries
