"""gmad_rank: gMAD pairs and what people answered -> who attacks well, who resists, who wins."""

import json
import time

import numpy as np

from iqa_jax.competition import budget, preferences, ranking, screening
from iqa_jax.competition.global_scores import METHODS
from iqa_jax.data import tables
from iqa_jax.evaluation import figures_competition
from iqa_jax.runtime import artifacts, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening
from iqa_jax.tasks.repeat_results import plain

KEYS = {
    'pairs', 'votes', 'level_images', 'screening', 'over', 'resamples', 'method', 'prior_std',
    'budget', 'seed',
}  # fmt: skip
BUDGET_KEYS = {'pairs', 'raters', 'spreads', 'half_width'}
ENDS = ('', '_low', '_high')


@sharing.on_main
def run(config: dict, workdir: str | Path) -> dict:
    """Writes ranking.csv, aggressiveness.csv, resistance.csv, contests.csv, preferences.parquet,
    raters.csv, results.json, matrices.svg, ranking.svg, quarantine.csv and, unless
    `budget.pairs` is empty, budget.csv.

    `pairs` is of the gmad stage and `votes` of the study: votes on images, or a table of answers to
    pairs (rater_id, image_id_a, image_id_b, preference). How many images each level of a defender
    has comes from `level_images` (defender -> numbers), or where that is empty from `pairs`.

    Raises:
      ValueError: no answer can be used, or nothing says how many images a level has.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    _check(config)
    stage = stages.Stage('gmad_rank', workdir, given, inputs=[config['pairs'], config['votes']])
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    pairs, meta = tables.read(config['pairs'])
    rounds, left_out = preferences.contests(pairs)
    answers, unusable, counts = _answers(rounds, config)
    raters = screening.screen(answers, config['screening'])
    excluded = raters['rater_id'][raters['excluded']].tolist()
    kept = tables.select(answers, ~np.isin(answers['rater_id'], excluded))
    if not len(kept['preference']):
        raise ValueError(
            f'No answer of {config["votes"]} to a pair of {config["pairs"]} can be used: '
            f'{json.dumps(counts)}, {len(excluded)} raters excluded.'
        )
    models = sorted({*rounds['defender'].tolist(), *rounds['attacker'].tolist()})
    weights = _level_weights(models, rounds, meta, config)
    left_out += unusable
    results, planned = _results(kept, models, weights, config)
    results |= {'simulated': bool(answers['simulated'].any()), 'counts': counts}
    results |= {'excluded': excluded}
    outputs = _write(results, answers, raters, planned, left_out, workdir, stage.fingerprint)
    summary = {
        'models': len(models),
        'contests': int((results['answers'] > 0).sum()),
        'pairs': counts['pairs'],
        'preferences': len(kept['preference']),
        'excluded': len(excluded),
        'quarantined': len(left_out),
        'seconds': time.monotonic() - start,
        'headline': _headline(results),
        'artifact': 'ranking.csv',
    }
    return stage.finish(summary, outputs)


def _results(
    kept: tables.Table, models: list[str], weights: np.ndarray, config: dict
) -> tuple[dict, tables.Table | None]:
    """What results.json has of the statistics, and the budget's table."""
    found = ranking.rank(
        kept, models, weights,
        prior_std=config['prior_std'], over=config['over'], resamples=config['resamples'],
        seed=config['seed'],
    )  # fmt: skip
    planned, spreads = _planned(kept, found, weights, config)
    about = {'models': models, 'method': config['method'], 'level_weights': weights}
    about |= {'spreads': spreads, 'cheapest': None}
    if planned is not None:
        about['cheapest'] = budget.cheapest(planned, config['budget']['half_width'])
    return about | found, planned


def _check(config: dict) -> None:
    opening.check_keys(config['budget'], BUDGET_KEYS, 'config.budget')
    if spreads := config['budget']['spreads']:
        opening.check_keys(spreads, {*budget.SPREADS}, 'config.budget.spreads')
    for key, known in (('method', METHODS), ('screening', screening.RULES)):
        if config[key] not in known:
            raise ValueError(f'config.{key}={config[key]!r}; use one of {", ".join(known)}.')


def _level_weights(models: list[str], rounds: tables.Table, meta: dict, config: dict) -> np.ndarray:
    """How many of each defender's images each level has, float64 [M, levels].

    Models that only attack have no levels: their row is 0.
    """
    known = config['level_images'] or meta.get('level_images', {})
    weights = np.zeros((len(models), max([1, *map(len, known.values())])))
    for name in sorted({*rounds['defender'].tolist()}):
        held = np.max(rounds['level'][rounds['defender'] == name])
        if len(known.get(name, ())) <= held:
            raise ValueError(
                f'{config["pairs"]} has the defender {name} at level {held}, but nothing says how '
                'many images that level has; set config.level_images={defender: (images, ...)}.'
            )
        weights[models.index(name), : len(known[name])] = known[name]
    return weights


def _answers(rounds: tables.Table, config: dict) -> tuple[tables.Table, list[dict], dict]:
    """Preferences of either kind of votes table, what of it cannot be used, and counts."""
    votes, meta = tables.read(config['votes'])
    if meta.get('simulated') and 'simulated' not in votes:
        votes['simulated'] = np.ones(len(votes['rater_id']), bool)
    if 'vote' in votes:
        return preferences.from_votes(rounds, votes)
    if 'preference' in votes:
        return preferences.from_answers(rounds, votes)
    raise ValueError(
        f'{config["votes"]} has neither a column vote (of images) nor preference (of pairs); it '
        f'has {", ".join(votes)}.'
    )


def _planned(
    kept: tables.Table, found: dict, weights: np.ndarray, config: dict
) -> tuple[tables.Table | None, dict | None]:
    """The budget's table and the spreads it rests on; None where no plan is asked for."""
    asked = config['budget']
    if not asked['pairs']:
        return None, None
    try:
        spreads = asked['spreads'] or budget.spreads(kept)
    except ValueError as error:
        raise ValueError(
            f'config.budget: {error} config.budget.spreads takes them; budget.pairs=() plans none.'
        ) from error
    planned = budget.plan(
        found['aggressiveness']['matrix'][..., 0], spreads, asked['pairs'], asked['raters'],
        level_weights=weights, over=config['over'], method=config['method'],
        prior_std=config['prior_std'], seed=config['seed'],
    )  # fmt: skip
    return planned, spreads


def _headline(results: dict) -> str:
    parts = []
    for kind, word in (('aggressiveness', 'aggressive'), ('resistance', 'resistant')):
        places = results[kind]['rank'][results['method']]
        if np.isnan(places[:, 0]).all():
            parts.append(f'no ranking by {kind}')
            continue
        best = int(np.nanargmin(places[:, 0]))
        low, high = places[best, 1:]
        ends = f' (rank {low:.0f}-{high:.0f})' if np.isfinite(low) else ''
        parts.append(f'most {word} {results["models"][best]}{ends}')
    return ', '.join(parts) + (', SIMULATED observers' if results['simulated'] else '')


def _write(
    results: dict,
    answers: tables.Table,
    raters: tables.Table,
    planned: tables.Table | None,
    left_out: list[dict],
    workdir: Path,
    mark: str,
) -> list[Path]:
    """Commits everything; returns the paths."""
    models, meta = results['models'], {'simulated': results['simulated']}
    kinds = {kind: results[kind] for kind in ranking.KINDS}
    written = {
        'preferences.parquet': answers,
        'raters.csv': raters,
        'ranking.csv': _ranking_table(results),
        'contests.csv': _contest_table(results),
    }
    for kind, sides in zip(kinds, ('attacker / defender', 'defender / attacker'), strict=True):
        rows = dict(zip(models, kinds[kind]['matrix'][..., 0].T, strict=True))
        written[f'{kind}.csv'] = {sides: np.array(models, object)} | rows
    if planned is not None:
        written['budget.csv'] = planned
    for name, table in written.items():
        tables.write(workdir / name, table, meta, mark)
    first = np.argsort(kinds['aggressiveness']['rank'][results['method']][:, 0], kind='stable')
    drawn = [[models[i] for i in first]]
    drawn += [part['matrix'][first][:, first, 0] for part in kinds.values()]
    chosen = {
        kind: np.concatenate([part[x][results['method']] for x in ('score', 'rank')], axis=1)
        for kind, part in kinds.items()
    }
    files = {
        'results.json': json.dumps(plain(_listed(results)), indent=1, sort_keys=True).encode(),
        'quarantine.csv': tables.quarantine_csv(left_out),
        'matrices.svg': figures_competition.matrices(*drawn, results['simulated']),
        'ranking.svg': figures_competition.ranking(
            models, **chosen, simulated=results['simulated']
        ),
    }
    for name, data in files.items():
        artifacts.commit(workdir / name, data, fingerprint=mark, meta=meta)
    return [workdir / name for name in (*written, *files)]


def _ranking_table(results: dict) -> tables.Table:
    """One row per model, the most aggressive first."""
    table = {'model': np.array(results['models'], object)}
    for kind in ranking.KINDS:
        for what in ('score', 'rank'):
            values = results[kind][what][results['method']]
            table |= {f'{kind}_{what}{end}': values[:, i] for i, end in enumerate(ENDS)}
    table['simulated'] = np.full(len(results['models']), results['simulated'])
    return tables.select(table, np.argsort(table['aggressiveness_rank'], kind='stable'))


def _contest_table(results: dict) -> tables.Table:
    """One row per attacker and defender that met, with everything known of it."""
    models = np.array(results['models'], object)
    i, j = np.nonzero(results['pairs'].sum(-1))
    table = {'attacker': models[i], 'defender': models[j]}
    table |= {name: results[name].sum(-1)[i, j] for name in ('pairs', 'answers')}
    for kind, rows, columns in (('aggressiveness', i, j), ('resistance', j, i)):
        values = results[kind]['matrix'][rows, columns]
        table |= {f'{kind}{end}': values[:, n] for n, end in enumerate(ENDS)}
    return table | {'simulated': np.full(len(i), results['simulated'])}


def _listed(value: object) -> object:
    """The same with lists for arrays."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
