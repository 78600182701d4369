"""What training on annotators' votes leaves beside the model: who votes, who is right how often."""

import json
import warnings
from pathlib import Path

import numpy as np
import scipy.stats

from iqa_jax.data import tables
from iqa_jax.data.pipeline import Source
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import train_setup
from iqa_jax.training import annotator_estimates, annotators, losses, steps

LEAST = 3  # images, for a rank correlation


def votes(sources: list[Source], config: dict) -> dict[str, np.ndarray]:
    """How many votes each annotator has on all pairs of training images within a database.

    Returns:
      {'votes': int64 [J], 'abstentions': int64 [J] for want of a score or of a difference}.

    Raises:
      ValueError: an annotator has no vote at all.
    """
    margin, names = config['loss_options']['abstain_below'], config['targets']
    cast, pairs = np.zeros(len(names), np.int64), 0
    for source in sources:
        n = len(source.targets)
        pairs += n * (n - 1) // 2
        cast += [
            _votes_of(source.targets[:, j].astype(np.float64), margin) for j in range(len(cast))
        ]
    for name, number in zip(names, cast.tolist(), strict=True):
        if not number:
            raise ValueError(
                f'Annotator {name} casts no vote on {pairs} pairs, as its scores are missing or '
                'too near each other; leave it out of config.targets or lower '
                'config.loss_options.abstain_below.'
            )
    return {'votes': cast, 'abstentions': pairs - cast}


def _votes_of(scores: np.ndarray, margin: float) -> int:
    """Pairs of scores [N] that are there, differ, and not by less than the margin."""
    known = np.sort(scores[~np.isnan(scores)])
    near = np.searchsorted(known, known + margin, 'left')
    end = np.maximum(near, np.searchsorted(known, known, 'right'))  # the equal ones in any case
    return int(np.sum(len(known) - end))


def write(
    workdir: Path,
    state: steps.TrainState,
    config: dict,
    sources: list[Source],
    counts: dict[str, np.ndarray],
    mark: str,
) -> list[Path]:
    """Commits annotators.csv and annotators.json, best annotator first, and returns their paths.

    Args:
      workdir: of the training.
      state: at its end.
      config: its config, checked.
      sources: training images.
      counts: of `votes`.
      mark: fingerprint of the stage.
    """
    found = losses.get('annotators').readings(state.params.get('loss', {}), state.loss_state)
    rates = {name: np.asarray(values, np.float64) for name, values in found.items()}
    skill = (rates['hit_rate'] + rates['correct_rejection_rate']) / 2
    agreement, alone = _on_scored_images(state, config, sources)
    srcc, reference = _srcc(sources, config)
    order = np.argsort(-skill, kind='stable')
    table = {'annotator': np.array(config['targets'], object), **rates, **counts}
    table |= {'agreement_with_model': agreement, 'srcc': srcc} | alone
    table = {'rank': np.arange(1, len(order) + 1)} | tables.select(table, order)
    path = workdir / 'annotators.csv'
    tables.write(path, table, {'srcc_with': reference}, mark)
    record = {
        'annotators': [
            {name: _number(column[i]) for name, column in table.items()} for i in range(len(order))
        ],
        'optimise': config['loss_options']['optimise'],
        'rank_by': 'mean of hit rate and correct-rejection rate',
        'srcc_with': reference,
        'srcc_of_rates_with_srcc': _number(_quiet_srcc(skill, srcc)),
    }
    data = json.dumps(record, indent=1).encode()
    artifacts.commit(path.with_suffix('.json'), data, fingerprint=mark)
    return [path, path.with_suffix('.json')]


def _on_scored_images(
    state: steps.TrainState, config: dict, sources: list[Source]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Share of votes [J] that the model shares, and rates estimated from the votes alone.

    Both on all pairs within a database of an even subset of `config.eval_images` training images.
    """
    ballots, preferred = [], []
    for source, rows, predicted in train_setup.Validation(sources, config).scored(state):
        i, j = np.triu_indices(len(rows), k=1)
        # Neighbours in a manifest are of one photograph, levels rising: a coin turns each pair.
        turn = np.random.default_rng(config['seed']).random(len(i)) < 0.5
        i, j = np.where(turn, j, i), np.where(turn, i, j)
        scores = source.targets[rows]
        vote, cast = annotators.votes(scores[i], scores[j], config['loss_options']['abstain_below'])
        ballots.append(np.where(np.asarray(cast) > 0, np.asarray(vote, np.float64), np.nan))
        preferred.append(predicted[i] > predicted[j])
    ballot, model = np.concatenate(ballots), np.concatenate(preferred)[:, None]
    number = np.sum(~np.isnan(ballot), axis=0)
    agreement = np.sum(ballot == model, axis=0) / np.where(number, number, np.nan)
    names = ('hit_rate', 'correct_rejection_rate')
    alone = {name: np.full(len(number), np.nan) for name in names}
    if number.all():
        first = config['loss_options']['first_rate']
        estimated = annotator_estimates.estimate(ballot, first_rate=first)
        alone = {name: estimated[name] for name in names}
    return agreement, {f'{name}_without_model': values for name, values in alone.items()}


def _srcc(sources: list[Source], config: dict) -> tuple[np.ndarray, str]:
    """SRCC [J] of annotators' scores, mean over databases, and what it is with.

    That is the opinions of the manifests that have some, else what the other annotators agree on.
    """
    rated = [s for s in sources if np.sum(np.isfinite(s.columns['mos'])) >= LEAST]
    values = []
    for source in rated or sources:
        scores, mos, row = source.targets, source.columns['mos'], []
        for j in range(scores.shape[1]):
            others = annotator_estimates.mean_rank(np.delete(scores, j, axis=1))
            row.append(_quiet_srcc(scores[:, j], mos if rated else others))
        values.append(row)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)  # nobody's SRCC exists: NaN it is
        mean = np.nanmean(values, axis=0)
    if not rated:
        return mean, 'the mean rank by the other annotators; there are no opinions'
    simulated = any(
        tables.read(database['manifest'])[1].get('simulated', False)
        for database in config['databases'].values()
    )
    return mean, 'SIMULATED opinions' if simulated else 'opinions'


def _quiet_srcc(x: np.ndarray, y: np.ndarray) -> float:
    """SRCC over the entries that both have; NaN where there is none."""
    both = ~np.isnan(x) & ~np.isnan(y)
    x, y = (scipy.stats.rankdata(values[both]) for values in (x, y))  # a score may be infinite
    if len(x) < LEAST or not np.ptp(x) or not np.ptp(y):
        return float('nan')
    return statistics.srcc(x, y)


def _number(value):
    value = value.item() if hasattr(value, 'item') else value
    return None if value != value else value
