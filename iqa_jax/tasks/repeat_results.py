"""What repeated runs come to: a table of runs, means and paired differences, figures, text."""

from collections.abc import Iterable

import numpy as np

from iqa_jax.data import tables
from iqa_jax.evaluation import figures_repeated, repeated
from iqa_jax.tasks.repeat_runs import Training
from iqa_jax.tasks.repeat_setup import Run

ALL = 'all'  # the group of all images
MEASURES = ('srcc', 'krcc', 'plcc', 'plcc_mapped', 'rmse')
SHOWN = 'srcc'  # of the printed table and the figure


def run_rows(
    runs: list[Run],
    choices: dict[str, Training | None],
    results: dict[str, dict[str, dict]],
) -> list[dict]:
    """One flat row per run and set; what a run without a result lacks is NaN.

    Args:
      runs: all of them.
      choices: run -> its chosen training, None where none ended.
      results: run -> set -> what `repeat_runs.tested` returns.
    """
    rows = []
    for run in runs:
        choice = choices[run.name]
        for name in sorted(run.tests):
            row = {'variant': run.variant, 'split': run.split, 'seed': run.seed, 'set': name}
            row['state'] = 'lost' if choice is None else 'tested'
            row['rate'] = float('nan') if choice is None else choice.rate
            value = None if choice is None else choice.val_srcc
            row['val_srcc'] = float('nan') if value is None else value
            row['simulated'] = choice is not None and choice.simulated
            if found := results.get(run.name, {}).get(name):
                row['simulated'] |= found['simulated']
                row |= _flat(found['row'])
            rows.append(row)
    names = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key, float('nan')) for key in names} for row in rows]


def _flat(row: dict) -> dict[str, float]:
    """The values of one row of results.json: 'srcc', and 'srcc_head' within a group."""
    flat = {'n': float(row['n'])} | {name: row[name][0] for name in MEASURES}
    for group, found in row['groups'].items():
        flat[f'n_{group}'] = float(found['n'])
        flat |= {f'{name}_{group}': found[name][0] for name in MEASURES if name in found}
    return flat


def training_rows(
    trainings: dict[str, list[Training]], choices: dict[str, Training | None]
) -> list[dict]:
    """One row per training: what the choice of the learning rate saw."""
    return [
        {
            'variant': training.run.variant,
            'split': training.run.split,
            'seed': training.run.seed,
            'rate': training.rate,
            'state': training.state,
            'val_srcc': float('nan') if training.val_srcc is None else training.val_srcc,
            'chosen': training is choices[name],
            'seconds': training.seconds,
            'simulated': training.simulated,
        }
        for name, of_run in trainings.items()
        for training in of_run
    ]


def as_table(rows: list[dict]) -> tables.Table:
    """Rows of equal keys as columns."""
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def summaries(rows: list[dict], ratios: dict[str, float], config: dict) -> list[dict]:
    """Means and differences to the baseline: one entry per set, measure, variant and group.

    Args:
      rows: of `run_rows`.
      ratios: of `repeat_setup.tested_per_trained`.
      config: of the stage.
    """
    splits, seeds = _unique(rows, 'split'), _unique(rows, 'seed')
    groups = [key.removeprefix('n_') for key in rows[0] if key.startswith('n_')]
    columns = [(m, g, m if g == ALL else f'{m}_{g}') for m in MEASURES for g in (ALL, *groups)]
    options = {key: config['evaluate'][key] for key in ('resamples', 'seed')}
    entries = []
    for name in _unique(rows, 'set'):
        for measure, group, column in columns:
            if column not in rows[0]:
                continue
            runs = {}
            for variant in _unique(rows, 'variant'):
                runs[variant] = np.full((len(splits), len(seeds)), np.nan)
                for row in rows:
                    if (row['variant'], row['set']) == (variant, name):
                        at = splits.index(row['split']), seeds.index(row['seed'])
                        runs[variant][at] = row[column]
            base = runs[config['baseline']]
            for variant, values in runs.items():
                difference = repeated.paired_difference(
                    values, base, tested_per_trained=ratios[name], **options
                )
                about = {'set': name, 'measure': measure, 'variant': variant, 'group': group}
                entries.append(about | repeated.summary(values) | {'difference': difference})
    return entries


def _unique(rows: list[dict], key: str) -> list:
    return list(dict.fromkeys(row[key] for row in rows))


def shown(entries: list[dict], name: str) -> list[dict]:
    """The entries of a set that are printed and drawn, a block of groups for each variant."""
    found = [e for e in entries if (e['set'], e['measure']) == (name, SHOWN)]
    order = _unique(found, 'variant')
    return sorted(found, key=lambda entry: order.index(entry['variant']))


def text(entries: list[dict], config: dict, simulated: bool) -> str:
    """A table per set, what its runs lack, and what its intervals are."""
    baseline, blocks = config['baseline'], []
    note = ' (SIMULATED observers)' if simulated else ''
    planned = len(config['splits']) * len(config['seeds'])
    for name in _unique(entries, 'set'):
        found = shown(entries, name)
        count = f'{len(config["splits"])} splits x {len(config["seeds"])} seeds'
        head = f'SRCC on {name}, {count}; change to {baseline}, paired{note}'
        blocks.append(head + '\n\n' + repeated.table(found, baseline))
        lacking = {e['variant']: planned - e['runs'] for e in found if e['group'] == ALL}
        said = ', '.join(f'{n} of {variant}' for variant, n in lacking.items() if n)
        if said:
            blocks.append(f'Without a result of {planned} runs each: {said}; see quarantine.csv.')
    legend = (
        'mean, sd, median: over splits, of the mean over seeds. 95 % t: over the splits.\n'
        'corrected: the same for training sets that overlap. bootstrap: splits, then seeds.'
    )
    return '\n\n'.join([*blocks, legend]) + '\n'


def interval(difference: dict) -> list[float]:
    """The interval to trust: corrected for training sets that overlap, t where there is none."""
    corrected = difference['corrected']
    return corrected if np.isfinite(corrected).all() else difference['t']


def figure(entries: list[dict], name: str, config: dict, simulated: bool) -> bytes:
    """SVG of the differences to the baseline on one set."""
    found = [e for e in shown(entries, name) if e['variant'] != config['baseline']]
    variants, groups = _unique(found, 'variant'), _unique(found, 'group')
    values = [[e['difference']['value'], *interval(e['difference'])] for e in found]
    label = f'change of SRCC to {config["baseline"]}, {name}\n'
    corrected = np.array([e['difference']['corrected'] for e in found])
    kind = 'corrected' if np.isfinite(corrected).all(axis=1).any() else 't'
    label += f'95 % {kind}, {len(config["splits"])} splits'
    label += ', SIMULATED' if simulated else ''
    return figures_repeated.differences(variants, groups, np.array(values), label)


def plain(value: object) -> object:
    """The same with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
