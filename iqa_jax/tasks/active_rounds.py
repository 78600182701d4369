"""The phases of one round of `active`: score, search, rate, fine-tune, and the guard."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
from absl import logging

from iqa_jax.data import manifest, score_columns, tables
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import artifacts, parallel
from iqa_jax.study import schema
from iqa_jax.tasks import export, gmad, opening, score, study, train
from iqa_jax.training import saved_model

OLD_SPLITS = ('val', 'test')  # of the old databases: for the guard, for the last evaluation
LEAST_PAIRS = 2
FIRST = 'round_00/model'  # the first model's copy


def is_asked(folder: Path) -> bool:
    """Whether people may have been asked about a round, as process 0 sees it."""
    return parallel.agree((folder / 'study' / schema.DATABASE).is_file())


def pool_scores(loop: dict, model: int, workdir: Path) -> Path:
    """The score table of the pool by a model that was kept, 0 the first, -1 the last."""
    number = range(len(loop['models']))[model] + 1
    return workdir / f'round_{number:02d}' / 'score' / 'scores.parquet'


def old_scores(loop: dict, model: int, name: str, workdir: Path) -> Path:
    """The score table of an old database by a model that was kept."""
    number = range(len(loop['models']))[model]
    return workdir / f'round_{number:02d}' / f'old_{name}' / 'scores.parquet'


def copying(model: str) -> dict:
    """The config of an export that copies a model as it is."""
    given = {'task': 'export', 'root': '', 'model': model, 'calibration': None}
    return given | dict.fromkeys(('results', 'pairs', 'rated'), '')


def begin(config: dict, loop: dict, workdir: Path) -> None:
    """Copies the first model, which may be trained anew while people answer, and scores by it."""
    frozen, place = is_asked(workdir / 'round_01'), workdir / FIRST
    loop['ran'][FIRST] = _run(export, copying(config['model']), place, frozen)
    source, copy = (saved_model.optimizer_file(folder) for folder in (config['model'], place))
    wanted = config['train']['init_optimizer'] and not frozen
    if parallel.is_main() and wanted and source.is_file():
        artifacts.commit(copy, artifacts.read(source))
    loop['models'].append(str(place))
    score_old(config, loop, 0, workdir, frozen)


def score_old(config: dict, loop: dict, number: int, workdir: Path, frozen: bool) -> None:
    """Scores the test and validation images of the old databases by the model of a round."""
    folder = workdir / f'round_{number:02d}'
    model = str(folder / 'train' / 'model') if number else loop['models'][0]
    for name, entry in config['replay'].items():
        scoring = config['score'] | {'model': model, 'name': config['name'], 'root': ''}
        scoring |= {'task': 'score', 'manifest': entry['manifest'], 'splits': OLD_SPLITS}
        place = folder / f'old_{name}'
        loop['ran'][f'{folder.name}/old_{name}'] = _run(score, scoring, place, frozen)


def search(config: dict, loop: dict, folder: Path, frozen: bool) -> str:
    """Scores the pool and finds counterexamples; why the loop ends here, '' if it does not."""
    name, table = config['name'], str(folder / 'score' / 'scores.parquet')
    common = {'manifest': config['manifest'], 'root': '', 'splits': config['gmad']['splits']}
    scoring = config['score'] | common
    scoring |= {'task': 'score', 'model': loop['models'][-1], 'name': name}
    exclude = {label: {'manifest': e['manifest']} for label, e in config['replay'].items()}
    exclude |= {f.name: {'manifest': str(_rated(f))} for f in loop['searches']}
    models = {name: {'scores': table, 'column': name}}
    both = len(loop['models']) > config['rounds'] and 'before' in config['fresh_against']
    if frozen:  # with more rounds or fewer the last search may be another one now
        asked = artifacts.meta(folder / 'gmad' / 'stage.json')['meta']['config']
        both = first_name(config) in asked['models']
    if both:
        first = str(pool_scores(loop, 0, folder.parent))
        models[first_name(config)] = {'scores': first, 'column': name}
    contest = config['gmad'] | common | {
        'task': 'gmad',
        'models': models,
        'rivals': config['rivals'],
        'exclude': exclude,
    }  # fmt: skip
    loop['ran'][f'{folder.name}/score'] = _run(score, scoring, folder / 'score', frozen)
    try:
        found = loop['ran'][f'{folder.name}/gmad'] = _run(gmad, contest, folder / 'gmad', frozen)
        if found['pairs'] < LEAST_PAIRS:
            raise gmad.NoPairsError(
                f'gMAD found {found["pairs"]} pair, too few to learn from and to test with; raise '
                'config.gmad.max_pairs or config.gmad.half_width.'
            )
    except gmad.NoPairsError as error:
        if not loop['searches']:
            raise
        return f'there is no counterexample left ({str(error).rstrip(".")})'
    return ''


def over_budget(config: dict, loop: dict, folder: Path) -> str:
    """Why the ratings of this round are not to be had, '' if they are.

    Raises a ValueError if the budget is too small for the first round.
    """
    budget = config['stop']['ratings']
    if not budget:
        return ''
    needed, spent = _needed(config, folder), sum(r['ratings'] for r in loop['rounds'])
    if spent + needed <= budget:
        return ''
    if not spent:
        raise ValueError(
            f'config.stop.ratings={budget}, but the first round needs {needed}; lower '
            'config.gmad.max_pairs or the votes on each image.'
        )
    return f'of {budget:,} ratings {spent:,} are given, and the next search needs {needed:,}'


def _needed(config: dict, folder: Path) -> int:
    """Ratings that the pairs of a search need, with anchors, without practice and gold."""
    found = json.loads(artifacts.read(folder / 'gmad' / 'stage.json'))
    panel, people = config['study']['panel'], config['study']['people']
    if panel['kind'] != 'people':
        return found['images'] * panel['votes_per_image']
    if people['design'] == 'pair_choice':
        return found['pairs'] * people['votes_per_item']
    anchors = sum(entry['count'] for entry in people['anchors'].values())
    return (found['images'] + anchors) * people['votes_per_item']


def rate(config: dict, loop: dict, folder: Path, serve: str = '') -> dict:
    """Has the pairs of a search rated; the study's summary, also while ratings are missing.

    With `serve` the rating page is open until it is closed.
    """
    rating = config['study'] | {
        'task': 'study', 'root': '', 'manifest': config['manifest'], 'proxies': config['proxies'],
        'pairs': str(folder / 'gmad' / 'pairs.parquet'), 'database': f'gmad_{folder.name}',
    }  # fmt: skip
    place = folder / 'study'
    if serve:
        study.run(rating | {'serve': serve}, place)
    found = study.run(rating | {'serve': ''}, place)
    loop['ran'][f'{folder.name}/study'] = found
    return found


def fine_tune(config: dict, loop: dict, folder: Path, frozen: bool) -> str:
    """Trains on the old databases and on all counterexamples rated so far; guards what was known.

    The model joins those of the loop unless it is rolled back; returns why the loop ends, '' if it
    does not.
    """
    share = config['gmad_weight'] / len(loop['searches'])
    databases = dict(config['replay'])
    for found in loop['searches']:
        databases[found.name] = {'manifest': str(_rated(found)), 'weight': share}
    fine_tuning = config['train'] | {
        'task': 'train', 'root': '', 'init_from': loop['models'][-1],
        'databases': {k: {'scores': ''} | v for k, v in databases.items()},
    }  # fmt: skip
    number, workdir = len(loop['searches']), folder.parent
    ran = _run(train, fine_tuning, folder / 'train', frozen)
    loop['ran'][f'{folder.name}/train'] = ran
    _warn_of_changes(folder / 'train' / 'model', loop)
    score_old(config, loop, number, workdir, frozen)
    guard = {name: _guard(config, loop, name, number, workdir) for name in config['replay']}
    fallen = [name for name, found in guard.items() if found['fell']]
    loop['rounds'][-1] |= {'trained': True, 'kept': not fallen, 'guard': guard}
    if not fallen:
        loop['models'].append(str(folder / 'train' / 'model'))
        return ''
    worst = guard[fallen[0]]
    said = (
        f'round {number} is rolled back: SRCC on the validation images of {fallen[0]} fell from '
        f'{worst["before"]:.3f} to {worst["after"]:.3f}, more than config.guard.srcc_fall='
        f'{config["guard"]["srcc_fall"]}'
    )
    logging.warning('%s.', said[0].upper() + said[1:])
    return said


def _warn_of_changes(model: Path, loop: dict) -> None:
    """Says which opinions have changed since a model that stays was trained on them."""
    trainings = json.loads(artifacts.read(model / 'model.json'))['meta']['trainings']
    learned = {entry['name']: entry['manifest_sha256'] for entry in trainings[-1]['databases']}
    for found in loop['searches']:
        if artifacts.meta(_rated(found))['sha256'] != learned.get(found.name):
            logging.warning(
                '%s stays as it was trained, though %s has changed since; another --workdir '
                'trains it anew.', model, _rated(found),
            )  # fmt: skip


def _guard(config: dict, loop: dict, name: str, number: int, workdir: Path) -> dict:
    """SRCC on the validation images of an old database before and after a round's training."""
    path = config['replay'][name]['manifest']
    rows = manifest.in_splits(manifest.read(path), ('val',), path)
    rows = tables.select(rows, np.isfinite(rows['mos']))
    after = workdir / f'round_{number:02d}' / f'old_{name}' / 'scores.parquet'
    columns = {
        label: {'scores': str(table), 'column': config['name']}
        for label, table in (('before', old_scores(loop, -1, name, workdir)), ('after', after))
    }
    kept, scores, _ = score_columns.oriented(
        rows['image_id'], columns, score_columns.opened(columns)
    )
    mos = rows['mos'][kept]
    found = {label: statistics.srcc(values, mos) for label, values in scores.items()}
    # NaN, of a model that scores all images alike, falls too.
    fell = not found['after'] >= found['before'] - config['guard']['srcc_fall']
    return found | {'fell': fell, 'images': len(mos)}


def first_name(config: dict) -> str:
    """What the model before all rounds is called in the last search."""
    return f'{config["name"]}_before'


def is_against(pairs: tables.Table, name: str) -> np.ndarray:
    """Which pairs were found in a contest with a model: bool [P]."""
    return np.array(
        [
            any(name in (why['defender'], why['attacker']) for why in json.loads(reasons))
            for reasons in pairs['reasons'].tolist()
        ],
        bool,
    )


def _rated(folder: Path) -> Path:
    return folder / 'study' / 'rated.parquet'


def _run(task: ModuleType, config: dict, folder: Path, frozen: bool) -> dict:
    """Runs a stage, or keeps it as it is where people were asked about what came of it.

    A newer version of this package must not search again while people answer.

    Raises:
      ValueError: a kept stage ran with another config.
    """
    done = folder / 'stage.json'
    if not frozen or not parallel.agree(done.is_file()):
        return task.run(config, folder)
    was = artifacts.meta(done)['meta']['config']
    given = json.loads(artifacts.canonical_json(opening.begin(config, task.KEYS)[1]))
    changed = sorted(key for key in given if key in was and given[key] != was[key])
    if changed:
        raise ValueError(
            f'{folder} ran with another {", ".join(changed)}, and people were asked about what '
            'came of it; give the config back, or take another --workdir.'
        )
    return json.loads(artifacts.read(done))
