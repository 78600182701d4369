"""active: search -> rate -> fine-tune, round by round, with the stages' own `run` functions.

Round r scores the pool with the model of round r - 1, finds gMAD pairs, has them rated and
fine-tunes on them beside a replay of the old databases. Where the model then orders the validation
images of an old database worse than it may, it is rolled back. After the last round the search runs
once more: its pairs, found against the new model, and against the first one if wanted, and rated
but not trained on, are the honest test.
While people have not answered, the run ends and says so; the same command goes on from there.
"""

import json
import sys
import time

from iqa_jax.data import manifest, tables
from iqa_jax.runtime import artifacts, parallel, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.study import schema
from iqa_jax.tasks import active_results, active_rounds, active_setup, export, opening

KEYS = {
    'manifest', 'proxies', 'replay', 'gmad_weight', 'model', 'name', 'rivals', 'rounds', 'guard',
    'stop', 'fresh_against', 'score', 'gmad', 'study', 'train', 'evaluate',
}  # fmt: skip


def run(config: dict, workdir: str | Path) -> dict:
    """Runs the rounds; writes round_00, round_01, ..., model, active.json, state.json and tables.

    The tables are scores.parquet, of the final model, pairs.parquet and rated.parquet of the last
    search; results.json is of `evaluate`, on that search or, if it was trained on, an old database.
    state.json says at any time which round is in which phase. While people's ratings are missing
    the summary is {'missing', 'needed', 'round', 'quarantined', 'seconds'}.

    Raises:
      ValueError: fewer than one round, the rounds would train on what an old set tests, an old
        database has no validation images, a budget too small for the first round, or a config that
        differs from the one under which people were asked.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    start = time.monotonic()
    asked = active_rounds.is_asked(workdir / 'round_01')
    active_setup.check(config, workdir / active_rounds.FIRST if asked else as_path(config['model']))
    if config['study']['panel']['kind'] == 'people':
        schema.require_disk(workdir)
    loop = {'models': [], 'searches': [], 'rounds': [], 'ran': {}, 'stopped': ''}
    active_rounds.begin(config, loop, workdir)
    while not loop['stopped']:
        if missing := _round(config, loop, workdir):
            return missing | {'quarantined': 0, 'seconds': time.monotonic() - start}
    _enter(workdir, len(loop['rounds']), 'evaluating')
    final = active_rounds.copying(loop['models'][-1])
    loop['ran']['model'] = export.run(final, workdir / 'model')
    loop['ran'] |= active_results.evaluate_sets(config, loop, workdir)
    return _conclude(config, given, loop, workdir)


def _round(config: dict, loop: dict, workdir: Path) -> dict | None:
    """One round, or what says that the loop has ended; counts of the ratings that are missing."""
    number = len(loop['searches']) + 1
    folder, following = (workdir / f'round_{n:02d}' for n in (number, number + 1))
    asked, later = (active_rounds.is_asked(place) for place in (folder, following))
    _enter(workdir, number, 'searching')
    loop['stopped'] = active_rounds.search(config, loop, folder, asked)
    if not loop['stopped'] and not asked:
        loop['stopped'] = active_rounds.over_budget(config, loop, folder)
    if loop['stopped']:
        return None
    _enter(workdir, number, 'rating')
    rated = active_rounds.rate(config, loop, folder)
    if rated.get('missing'):
        counts = {key: rated[key] for key in ('missing', 'needed')}
        _enter(workdir, number, 'waiting for people', **counts)
        if config['study']['serve']:
            rated = active_rounds.rate(config, loop, folder, config['study']['serve'])
    if rated.get('missing'):
        if parallel.is_main():
            print(
                f'active: round {number} waits for {rated["missing"]:,} of {rated["needed"]:,} '
                'ratings; the same command goes on when people have given them.',
                file=sys.stderr,
            )
        return {key: rated[key] for key in ('missing', 'needed')} | {'round': number}
    loop['searches'].append(folder)
    loop['rounds'].append(active_results.searched(config, loop, folder, rated))
    right = loop['rounds'][-1]['pairs_right'][0]
    if number > config['rounds']:
        loop['stopped'] = 'all rounds were run'
    elif right >= config['stop']['pairs_right'] and not later:
        loop['stopped'] = f'the model orders {right:.0%} of the pairs found against it as people do'
    else:
        _enter(workdir, number, 'fine-tuning')
        loop['stopped'] = active_rounds.fine_tune(config, loop, folder, later)
    if loop['stopped'] and later:
        raise ValueError(
            f'People were asked in {following}, but with this config the loop ends before, as '
            f'{loop["stopped"]}; give the config back, or take another --workdir.'
        )
    return None


def _enter(workdir: Path, number: int, phase: str, **counts: int) -> None:
    """Notes where the loop is, for whoever watches it; the stages themselves know what is done."""
    state = {'round': number, 'phase': phase} | counts
    mark = artifacts.fingerprint(state)
    if parallel.is_main() and not artifacts.is_current(workdir / 'state.json', mark):
        artifacts.commit(workdir / 'state.json', json.dumps(state).encode(), fingerprint=mark)
    artifacts.crash_point('active.phase')


@sharing.on_main
def _conclude(config: dict, given: dict, loop: dict, workdir: Path) -> dict:
    """The record and the tables of a loop that has ended."""
    searches, places = loop['searches'], active_results.places(config, loop, workdir)
    scored = [active_rounds.pool_scores(loop, -1, workdir)]
    scored += [active_rounds.old_scores(loop, -1, name, workdir) for name in config['replay']]
    last = searches[-1]
    rated = last / 'study' / 'rated.parquet'
    # Of what the final model was not trained on: the hardest set, or an old one.
    hardest = places.get('fresh', next(iter(places.values())))
    copied = {
        'pairs.parquet': last / 'gmad' / 'pairs.parquet',
        'results.json': hardest / 'results.json',
    }
    results = [place / name for place in places.values()
               for name in ('results.json', 'predictions.parquet')]  # fmt: skip
    stage = stages.Stage('active', workdir, given, [*scored, rated, *copied.values(), *results])
    if (summary := stage.done()) is not None:
        _enter(workdir, len(loop['rounds']), 'done')
        return summary
    mark = stage.fingerprint
    record = active_results.record(config, loop, places)
    names = ('active.json', 'scores.parquet', 'rated.parquet', *copied)
    outputs = [workdir / name for name in names]
    artifacts.commit(outputs[0], json.dumps(record, indent=1).encode(), fingerprint=mark)
    active_results.join_scores(scored, outputs[1], mark)
    manifest.write(outputs[2], manifest.read(rated), tables.read(rated)[1], mark)
    for name, source in copied.items():
        about = artifacts.meta(source)['meta']
        artifacts.commit(workdir / name, artifacts.read(source), fingerprint=mark, meta=about)
    _enter(workdir, len(loop['rounds']), 'done')
    return stage.finish(active_results.summary(loop, record), outputs)
