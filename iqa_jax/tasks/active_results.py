"""What `active` leaves when its rounds have ended: evaluations, the record and joined tables."""

import json
from pathlib import Path

import numpy as np

from iqa_jax.data import tables
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import active_rounds, evaluate

BEFORE = 'before'
ENDS = ('value', 'low', 'high')


def searched(config: dict, loop: dict, folder: Path, rated: dict) -> dict:
    """What a search cost and found: counts, agreement of the raters, pairs the model gets right."""
    pairs = tables.read(folder / 'gmad' / 'pairs.parquet')[0]
    faced = tables.select(pairs, np.flatnonzero(active_rounds.is_against(pairs, config['name'])))
    rows, about = tables.read(folder / 'study' / 'rated.parquet')
    scores = tables.read(active_rounds.pool_scores(loop, -1, folder.parent))[0]
    quality = dict(zip(rows['image_id'].tolist(), rows['mos'].tolist(), strict=True))
    both = [
        pair for pair in zip(faced['image_id_best'], faced['image_id_worst'], strict=True)
        if pair[0] in quality and pair[1] in quality
    ]  # fmt: skip
    sides = [np.array(side, object) for side in zip(*both, strict=True)] or [np.array([])] * 2
    model = [
        tables.join(side, scores, [config['name']], 'the scores of the pool')[config['name']]
        for side in sides
    ]
    right = statistics.bootstrap_pairs(
        model[0] - model[1], *(np.array([quality[i] for i in side]) for side in sides),
        resamples=config['evaluate']['resamples'], seed=config['evaluate']['seed'],
    )  # fmt: skip
    raters = tables.read(folder / 'study' / 'raters.csv')[0]
    agreement = np.asarray(raters.get('srcc', []), np.float64)
    agreement = agreement[np.isfinite(agreement)]
    return {
        'folder': folder.name,
        'simulated': bool(about.get('simulated')),
        'pairs': len(pairs['defender']),
        'images': len(rows['image_id']),
        'ratings': int(sum(raters['votes' if 'votes' in raters else 'answers'])),
        'minutes': _minutes(folder / 'study'),
        'raters': rated['raters'],
        'excluded': rated['excluded'],
        'agreement': float(np.median(agreement)) if len(agreement) else float('nan'),
        'pairs_right': [right[end] for end in ('value', 'low', 'high')],
        'trained': False,
        'kept': False,
        'guard': {},
    }


def _minutes(study_folder: Path) -> float:
    """How long people took for the answers of a study's table, NaN of a SIMULATED panel."""
    votes = 'votes' in tables.read(study_folder / 'raters.csv')[0]
    name = 'votes.parquet' if votes else 'answers.parquet'
    taken = tables.read(study_folder / name)[0].get('milliseconds')
    return float('nan') if taken is None else float(np.sum(taken, dtype=np.float64)) / 60_000


def labels(loop: dict) -> list[str]:
    """Column names of the models that were kept, the one before all rounds first."""
    return [BEFORE] + [f'after round {k}' for k in range(1, len(loop['models']))]


def places(config: dict, loop: dict, workdir: Path) -> dict[str, Path]:
    """Set -> folder of its evaluation: the old databases, the gMAD sets, `fresh` the last.

    `fresh` is the last search unless the final model was trained on it.
    """
    names = [f'old_{name}' for name in config['replay']]
    names += [found.name for found in loop['searches']]
    if not loop['rounds'][-1]['kept']:
        names[-1] = 'fresh'
    return {name: workdir / 'evaluate' / name for name in names}


def evaluate_sets(config: dict, loop: dict, workdir: Path) -> dict[str, dict]:
    """Every kept model on every set; summaries by folder."""
    found = {}
    sets = places(config, loop, workdir)
    old = dict(zip(sets, config['replay'].items(), strict=False))
    searched = dict(zip(list(sets)[len(old) :], loop['searches'], strict=True))
    for name, folder in sets.items():
        if name in old:
            label, entry = old[name]
            scores = [active_rounds.old_scores(loop, k, label, workdir)
                      for k in range(len(loop['models']))]  # fmt: skip
            given = {'manifest': entry['manifest'], 'splits': ['test'], 'pairs': ''}
            given |= {'allow_trained': 'nothing'}
        else:
            place = searched[name]
            scores = [
                active_rounds.pool_scores(loop, k, workdir) for k in range(len(loop['models']))
            ]
            # The last search's images are new to every model, their photographs are not: all
            # searches take from one pool.
            given = {'manifest': str(place / 'study' / 'rated.parquet'), 'splits': ['train']}
            given |= {'pairs': str(place / 'gmad' / 'pairs.parquet')}
            given |= {'allow_trained': 'references' if name == 'fresh' else 'images'}
        columns = {
            label: {'scores': str(path), 'column': config['name'], 'kind': 'blind model'}
            for label, path in zip(labels(loop), scores, strict=True)
        }
        given |= {'task': 'evaluate', 'root': '', 'proxies': '', 'name': name}
        given |= {'columns': columns, 'headline': labels(loop)[-1]}
        found[f'evaluate/{name}'] = evaluate.run(config['evaluate'] | given, folder)
    return found


def record(config: dict, loop: dict, sets: dict[str, Path]) -> dict:
    """The content of active.json: comparisons, history, rounds, and why the loop ended."""
    read = {
        name: json.loads(artifacts.read(folder / 'results.json')) for name, folder in sets.items()
    }
    return {
        'comparisons': [
            entry for name, folder in sets.items()
            for entry in _entries(config, loop, name, folder, read[name])
        ],
        'history': [row for name in sets for row in _history(loop, name, read[name])],
        'rounds': loop['rounds'],
        'stopped': loop['stopped'],
        'stages': list(loop['ran']),  # folders
    }  # fmt: skip


def _entries(config: dict, loop: dict, name: str, folder: Path, results: dict) -> list[dict]:
    """Rows of the before-and-after table: SRCC, and pair accuracy where there are pairs."""
    first, last = labels(loop)[0], labels(loop)[-1]
    found = tables.read(folder / 'predictions.parquet')[0]
    draws = {key: config['evaluate'][key] for key in ('resamples', 'seed')}
    rows = {row['model']: row for row in results['rows']}
    common, entries = {'set': name, 'simulated': results['simulated']}, []
    if results['components'] == 1:  # opinions on pairs that share no image have no order
        change = statistics.paired_difference(
            found[last], found[first], found['target'], found['ref_id'], **draws
        )
        entries.append(common | {
            'measure': 'SRCC', 'before': rows[first]['srcc'], 'after': rows[last]['srcc'],
            'difference': [change[end] for end in ENDS], 'n': rows[last]['n'],
        })  # fmt: skip
    pairs = {row['model']: row for row in results['pairs']}
    if not pairs:
        return entries
    place = loop['searches'][-1] if name == 'fresh' else folder.parent.parent / name
    right, contests = _right(found, place)
    change = statistics.bootstrap_mean(right[last] - right[first], **draws)
    accuracy = {'before': pairs[first]['accuracy'], 'after': pairs[last]['accuracy']}
    counts = {k: pairs[last][k] for k in ('n', 'ties', 'unrated', 'unscored')}
    accuracy['difference'] = [change[end] for end in ENDS]
    entries.append(common | accuracy | counts | {'measure': 'pairs right'})
    if name == 'fresh':
        entries += _by_contest(config, right, contests, (first, last), common, draws)
    return entries


def _right(found: tables.Table, place: Path) -> tuple[dict[str, np.ndarray], tables.Table]:
    """Column -> 1, 0.5 or 0 for each decided pair of a search, and these pairs."""
    index = {image_id: i for i, image_id in enumerate(found['image_id'].tolist())}
    pairs = tables.read(place / 'gmad' / 'pairs.parquet')[0]
    names = [pairs[f'image_id_{side}'].tolist() for side in ('best', 'worst')]
    there = [i for i, ends in enumerate(zip(*names, strict=True)) if index.keys() >= set(ends)]
    best, worst = (np.array([index[side[i]] for i in there], int) for side in names)
    decided = found['target'][best] != found['target'][worst]
    best, worst = best[decided], worst[decided]
    right = {
        label: statistics.right_pairs(
            found[label][best] - found[label][worst], found['target'][best], found['target'][worst]
        )
        for label in found if label == BEFORE or label.startswith('after round ')
    }  # fmt: skip
    return right, tables.select(pairs, np.array(there, int)[decided])


def _by_contest(
    config: dict, right: dict, pairs: tables.Table, ends: tuple[str, str], common: dict, draws: dict
) -> list[dict]:
    """Pairs right among those found against each model, and each model on its own ones."""
    first, last = ends
    masks = {
        'after': active_rounds.is_against(pairs, config['name']),
        'before': active_rounds.is_against(pairs, active_rounds.first_name(config)),
    }
    if first == last or not all(mask.any() for mask in masks.values()):
        return []
    entries = []
    for name, mask in masks.items():
        entries.append(_paired(right[first][mask], right[last][mask], draws))
        entries[-1] |= {'set': f'fresh_{name}'}
    own = statistics.masked_difference(
        right[last], masks['after'], right[first], masks['before'], **draws
    )
    entries.append({
        'set': 'fresh_own', 'before': entries[1]['before'], 'after': entries[0]['after'],
        'difference': [own[end] for end in ENDS],
        'n': entries[0]['n'], 'n_before': entries[1]['n'],
    })  # fmt: skip
    return [common | {'measure': 'pairs right'} | entry for entry in entries]


def _paired(before: np.ndarray, after: np.ndarray, draws: dict) -> dict:
    values = {'before': before, 'after': after, 'difference': after - before}
    found = {name: statistics.bootstrap_mean(value, **draws) for name, value in values.items()}
    return {k: [v[end] for end in ENDS] for k, v in found.items()} | {'n': len(before)}


def _history(loop: dict, name: str, results: dict) -> list[dict]:
    """SRCC, and pair accuracy where there are pairs, of every kept model on one set."""
    common = {'set': name, 'simulated': results['simulated']}
    rows = {row['model']: row for row in results['rows']}
    pairs = {row['model']: row for row in results['pairs']}
    found = []
    for number, label in enumerate(labels(loop)):
        about = common | {'model': label, 'round': number}
        if results['components'] == 1:
            srcc = {'value': rows[label]['srcc'], 'n': rows[label]['n']}
            found.append(about | {'measure': 'SRCC'} | srcc)
        if pairs:
            right = {'value': pairs[label]['accuracy'], 'n': pairs[label]['n']}
            found.append(about | {'measure': 'pairs right'} | right)
    return found


def join_scores(paths: list[Path], output: Path, mark: str) -> None:
    """One score table of the same model's tables; an image that two of them hold enters once."""
    parts, known, described = [], set(), {}
    for path in paths:
        table, meta = tables.read(path)
        ids = table['image_id'].tolist()
        parts.append(tables.select(table, np.array([i not in known for i in ids], bool)))
        known |= {*ids}
        described = described or meta['columns']
    tables.write(output, tables.concatenate(parts), {'columns': described}, mark)


def summary(loop: dict, found: dict) -> dict:
    """The summary of a loop that has ended."""
    ran, rounds = loop['ran'].values(), loop['rounds']
    entries = found['comparisons']
    old, last = entries[0], entries[-1]
    people = [' (SIMULATED observers)' if entry['simulated'] else '' for entry in (old, last)]
    text = f'old set SRCC {old["before"][0]:.3f} -> {old["after"][0]:.3f}{people[0]}'
    if last['set'].startswith('fresh'):
        right = f'{last["before"][0]:.0%} -> {last["after"][0]:.0%}'
        whose = ' of each model itself' if last['set'] == 'fresh_own' else ''
        text += f', fresh gMAD pairs{whose} right {right}{people[1]}'
    text += f'; {loop["stopped"]}'
    return {
        'rounds': len(loop['models']) - 1,
        'pairs': sum(row['pairs'] for row in rounds),
        'ratings': sum(row['ratings'] for row in rounds),
        'quarantined': sum(s['quarantined'] for s in ran),
        'seconds': sum(s['seconds'] for s in ran),
        'headline': text,
        'stopped': loop['stopped'],
        'comparisons': entries,
        'artifact': 'active.json',
    }
