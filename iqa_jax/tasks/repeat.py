"""repeat: variants of one training over splits and seeds, and their paired differences.

Every run is the ordinary train, score and evaluate in a folder of its own, so a stopped command
goes on with the next one and no finished run is done again.
"""

import json
import math

from iqa_jax.data import tables
from iqa_jax.evaluation import repeated
from iqa_jax.runtime import artifacts, parallel, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening, repeat_results, repeat_runs, repeat_setup

KEYS = {
    'variants', 'baseline', 'splits', 'seeds', 'rates', 'train', 'score', 'evaluate', 'shard',
}  # fmt: skip


def run(config: dict, workdir: str | Path) -> dict:
    """Writes runs.csv, trainings.csv, summary.json, table.txt, difference_SET.svg, quarantine.csv.

    `variants` maps a name to the keys of `train` that it replaces. `splits` maps a name to
    {'train': {database: keys of `train.databases` that it replaces}, 'test': {set: {'manifest'}}}.
    With `rates` each run trains at all of them, and the one with the best validation SRCC is
    tested. With `shard` 'i/n' only every n-th run from the i-th is done and nothing is joined.

    Returns:
      The summary; runs without a chosen training and tests without an SRCC count as quarantined.

    Raises:
      ValueError: a value of the config cannot be used, or a stage refuses its own.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    part, parts = sharing.share(config['shard'])
    runs = repeat_setup.plan(config)
    ratios = repeat_setup.tested_per_trained(runs)
    mine = runs[part::parts]
    trainings = repeat_runs.train_all(mine, workdir)
    choices = {name: repeat_runs.chosen(of_run) for name, of_run in trainings.items()}
    results = {
        run.name: repeat_runs.tested(run, choices[run.name], config, workdir)
        for run in mine
        if choices[run.name]
    }
    folder = workdir
    if config['shard']:
        folder = workdir / 'parts' / f'{part}_of_{parts}'
    inputs = [found['results'] for of_run in results.values() for found in of_run.values()]
    inputs += [
        training.folder / ('diverged.json' if training.state == 'diverged' else 'stage.json')
        for of_run in trainings.values()
        for training in of_run
    ]
    stage = stages.Stage('repeat', folder, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    if not config['shard']:
        _check_any(results)
    lost, rows = _quarantine(choices, results), repeat_results.training_rows(trainings, choices)
    summary = _summary(trainings, results) | {
        'quarantined': len(lost),
        'headline': f'part {part} of {parts}; the command without config.shard joins all',
        'artifact': 'trainings.csv',
    }
    simulated = summary['simulated']
    outputs = []
    if parallel.is_main():  # the seconds of other processes are not these
        outputs = [folder / 'quarantine.csv', folder / 'trainings.csv']
        artifacts.commit(outputs[0], tables.quarantine_csv(lost), fingerprint=stage.fingerprint)
        tables.write(outputs[1], repeat_results.as_table(rows), fingerprint=stage.fingerprint)
    if not config['shard']:
        rows = repeat_results.run_rows(runs, choices, results)
        entries = repeat_results.summaries(rows, ratios, config)
        headline = _headline(entries, config, simulated)
        summary |= {'headline': headline, 'artifact': 'table.txt'}
        if parallel.is_main():
            outputs += _join(rows, entries, ratios, config, simulated, workdir, stage.fingerprint)
    return stage.finish(summary, outputs)


def _check_any(results: dict[str, dict]) -> None:
    if not results:
        raise ValueError(
            'No run has a result: every training diverged, or gave all validation images one '
            'score; lower the learning rates.'
        )


def _summary(trainings: dict[str, list], results: dict[str, dict]) -> dict:
    """Counts and seconds of all inner stages, and whether opinions are SIMULATED."""
    trained = [training for of_run in trainings.values() for training in of_run]
    tested = [found for of_run in results.values() for found in of_run.values()]
    return {
        'runs': len(trainings),
        'trainings': len(trained),
        'diverged': sum(training.state == 'diverged' for training in trained),
        'seconds': sum(x.seconds for x in trained) + sum(x['seconds'] for x in tested),
        'simulated': any(x.simulated for x in trained) or any(x['simulated'] for x in tested),
    }


def _quarantine(choices: dict, results: dict) -> list[dict]:
    """Runs without a result, and tests that left images out."""
    lost = [
        {'file': name, 'reason': 'every training diverged, or gave all validation images one score'}
        for name, choice in choices.items()
        if choice is None
    ]
    for name, of_run in results.items():
        for test, found in of_run.items():
            if not math.isfinite(found['row']['srcc'][0]):
                reason = 'its SRCC is not a number: all scores, or all opinions, are equal'
                lost.append({'file': f'{name}/evaluate_{test}', 'reason': reason})
            if found['quarantined']:
                reason = f'{found["quarantined"]} images have no score; see its quarantine.csv'
                lost.append({'file': f'{name}/evaluate_{test}', 'reason': reason})
    return lost


def _join(
    rows: list[dict],
    entries: list[dict],
    ratios: dict[str, float],
    config: dict,
    simulated: bool,
    workdir: Path,
    mark: str,
) -> list[Path]:
    """Commits what all runs come to, prints the table, and returns the paths."""
    outputs = [workdir / name for name in ('runs.csv', 'summary.json', 'table.txt')]
    tables.write(outputs[0], repeat_results.as_table(rows), fingerprint=mark)
    record = {key: config[key] for key in ('baseline', 'seeds', 'rates')}
    record |= {'splits': sorted(config['splits']), 'simulated': simulated}
    record |= {'method': repeated.METHOD, 'tested_per_trained': ratios, 'results': entries}
    said = json.dumps(repeat_results.plain(record), indent=1).encode()
    artifacts.commit(outputs[1], said, fingerprint=mark)
    text = repeat_results.text(entries, config, simulated)
    artifacts.commit(outputs[2], text.encode(), fingerprint=mark)
    for name in ratios if len(config['variants']) > 1 else ():  # the baseline differs from none
        outputs.append(workdir / f'difference_{name}.svg')
        drawn = repeat_results.figure(entries, name, config, simulated)
        artifacts.commit(outputs[-1], drawn, fingerprint=mark)
    print(text)
    return outputs


def _headline(entries: list[dict], config: dict, simulated: bool) -> str:
    """The change of SRCC on the first set if there is one variant; of many, none is singled out."""
    baseline, first = config['baseline'], entries[0]['set']
    found = [
        entry
        for entry in repeat_results.shown(entries, first)
        if entry['group'] == repeat_results.ALL and entry['variant'] != baseline
    ]
    note = ' (SIMULATED observers)' if simulated else ''
    if len(found) != 1:
        return f'{baseline} and {len(found)} variants{note}'
    change = found[0]['difference']
    low, high = repeat_results.interval(change)
    interval = f'[{low:+.3f}, {high:+.3f}]' if math.isfinite(low) else '(one split)'
    return (
        f'{found[0]["variant"]} - {baseline} on {first}: SRCC {change["value"]:+.3f} '
        f'{interval}{note}'
    )
