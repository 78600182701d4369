"""active: search -> rate -> fine-tune, round by round, with the stages' own `run` functions.

Round r scores the pool with the model of round r - 1, finds gMAD pairs, has them rated and
fine-tunes on them beside a replay of the old database. After the last round the search runs once
more: its pairs, found against the new model and rated but not trained on, are the honest test.
"""

import json
from pathlib import Path

from iqa_jax.runtime import artifacts, stages
from iqa_jax.tasks import evaluate, gmad, opening, score, study, train

KEYS = {
    'manifest', 'proxies', 'rated', 'model', 'name', 'rivals', 'rounds', 'replay_weight',
    'score', 'gmad', 'study', 'train', 'evaluate',
}  # fmt: skip


def run(config: dict, workdir: str | Path) -> dict:
    """Runs the rounds; folders round_01, round_02, ... and active.json with before and after."""
    (config, given), workdir = opening.begin(config, KEYS), Path(workdir)
    models, searches, summaries = [config['model']], [], []
    for number in range(1, config['rounds'] + 2):
        folder = workdir / f'round_{number:02d}'
        searches.append(folder)
        summaries += _search(config, models[-1], searches, folder)
        if number <= config['rounds']:
            summaries.append(_fine_tune(config, models[-1], searches, folder))
            models.append(str(folder / 'train' / 'model'))
    comparisons, tested = _compare(config, searches, workdir)
    summaries += tested
    results = [workdir / 'evaluate' / name / 'results.json' for name in comparisons]
    stage = stages.Stage('active', workdir, given, inputs=results)
    if (summary := stage.done()) is not None:
        return summary
    entries = [entry for name, path in zip(comparisons, results, strict=True)
               for entry in _entries(name, json.loads(artifacts.read(path)))]  # fmt: skip
    record = {
        'comparisons': entries,
        'rounds': [folder.name for folder in searches],
        'model': f'round_{config["rounds"]:02d}/train/model',
    }
    path = workdir / 'active.json'
    artifacts.commit(path, json.dumps(record, indent=1).encode(), fingerprint=stage.fingerprint)
    old, fresh = entries[0], entries[-1]
    summary = {
        'rounds': config['rounds'],
        'pairs': sum(s.get('pairs', 0) for s in summaries),
        'quarantined': sum(s['quarantined'] for s in summaries),
        'seconds': sum(s['seconds'] for s in summaries),
        'headline': f'old set SRCC {old["before"][0]:.3f} -> {old["after"][0]:.3f}, '
        f'fresh gMAD pairs right {fresh["before"][0]:.0%} -> {fresh["after"][0]:.0%}'
        + (' (SIMULATED observers)' if old['simulated'] else ''),
        'comparisons': entries,
        'artifact': 'active.json',
    }
    return stage.finish(summary, [path])


def _search(config: dict, model: str, searches: list[Path], folder: Path) -> list[dict]:
    """Scores the pool, finds counterexamples and has them rated."""
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
    return [
        score.run(scoring, folder / 'score'),
        gmad.run(contest, folder / 'gmad'),
        study.run(rating, folder / 'study'),
    ]


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


def _compare(config: dict, searches: list[Path], workdir: Path) -> tuple[list[str], list[dict]]:
    """Before and after on the old set, on each rated gMAD set and on the fresh one."""
    columns = {
        label: {
            'scores': str(folder / 'score' / 'scores.parquet'),
            'column': config['name'],
            'kind': 'blind model',
        }
        for label, folder in (('after', searches[-1]), ('before', searches[0]))
    }
    sets = {'old': (config['rated'], ['test'], '')}
    for folder in searches:
        name = 'fresh' if folder == searches[-1] else folder.name
        rated, pairs = folder / 'study' / 'rated.parquet', folder / 'gmad' / 'pairs.parquet'
        sets[name] = (str(rated), ['train'], str(pairs))
    summaries = []
    for name, (rated, splits, pairs) in sets.items():
        common = {'task': 'evaluate', 'root': '', 'proxies': ''}
        common |= {'columns': columns, 'headline': 'after'}
        place = {'name': name, 'manifest': rated, 'splits': splits, 'pairs': pairs}
        folder = workdir / 'evaluate' / name
        summaries.append(evaluate.run(config['evaluate'] | common | place, folder))
    return list(sets), summaries


def _entries(name: str, results: dict) -> list[dict]:
    """Rows of the before-and-after table: SRCC, and pair accuracy where there are pairs."""
    rows = {row['model']: row for row in results['rows']}
    common = {'set': name, 'simulated': results['simulated']}
    entries = [
        common | {
            'measure': 'SRCC', 'before': rows['before']['srcc'], 'after': rows['after']['srcc'],
            'n': rows['after']['n'],
        }
    ]  # fmt: skip
    pairs = {row['model']: row for row in results['pairs']}
    if pairs:
        accuracy = {k: pairs[k]['accuracy'] for k in ('before', 'after')}
        entries.append(common | accuracy | {'measure': 'pairs right', 'n': pairs['after']['n']})
    return entries
