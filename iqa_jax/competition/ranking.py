"""Who wins the competition: aggressiveness, resistance and one global score per model.

p(i, j, k), the mean preference for attacker i against defender j at level k, is positive where
people see the difference that the attacker sees and the defender does not.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import scipy.special

from iqa_jax.competition import global_scores
from iqa_jax.competition.screening import pair_numbers
from iqa_jax.data import tables

OVER = ('raters', 'pairs')
KINDS = ('aggressiveness', 'resistance')
_BATCH = 4_000_000  # numbers in the largest array worked on at once
_MOST_UNDEFINED = 0.1  # share of samples without a score, above which there is no interval
_TAIL = 2.5  # percent outside a 95 % interval, on each side


def mean_preferences(
    preferences: tables.Table, models: Sequence[str], levels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p [M, M, levels] of attacker i, defender j, level k, how many answers, how many pairs (int).

    `preferences` as of `preferences.from_answers`, already screened; p is the mean over all answers
    of a cell, in -100..100, nan where there is none. Raises ValueError.
    """
    design = _design(preferences, models, np.ones((len(models), levels)))
    p, answers = design.cells()
    shape = (len(models), len(models), levels)
    pairs = np.bincount(design.cell_of, minlength=np.prod(shape)).reshape(shape)
    return p.reshape(shape), answers.reshape(shape).astype(int), pairs


def matrices(p: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Aggressiveness A [M, M] and resistance R [M, M], in points of 100, from mean preferences.

    A[i, j] = sum_k w_jk p(i, j, k), attacker i against defender j, in -100..100;
    R[j, i] = sum_k w_jk (100 - |p(i, j, k)|), defender j under attacker i, in 0..100.

    `p` [M, M, levels] as of `mean_preferences`; `weights` [M, levels] >= 0, row j: share of j's
    images in each level. A level without an answered pair drops out of its contest and the others
    take over its weight in proportion; a contest of which no level with a weight above 0 was
    answered is nan, as is the diagonal. Raises ValueError. Source: the Waterloo gMAD toolbox.
    """
    weights = _checked_weights(weights, *p.shape[1:])
    w = np.where(np.isfinite(p), weights[None], 0)
    with np.errstate(invalid='ignore', divide='ignore'):
        aggressiveness = (w * np.nan_to_num(p)).sum(-1) / w.sum(-1)
        resistance = 100 - (w * np.abs(np.nan_to_num(p))).sum(-1) / w.sum(-1)
    return aggressiveness, resistance.T


@dataclasses.dataclass
class _Design:
    """Answers as sparse sums by incidence (a pair in a cell) and rater; cells are (i, j, k)."""

    sums: scipy.sparse.csr_array  # [incidences, raters]
    counts: scipy.sparse.csr_array
    cell_of: np.ndarray  # int [incidences]
    pair_of: np.ndarray
    pairs: int
    shape: tuple[int, int, int]
    weights: np.ndarray  # [M, levels]

    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean preference and number of answers of every cell, flat."""
        total, count = (
            np.bincount(self.cell_of, x.sum(1), minlength=np.prod(self.shape))
            for x in (self.sums, self.counts)
        )
        with np.errstate(invalid='ignore'):
            return np.where(count > 0, total / count, np.nan), count


def _design(preferences: tables.Table, models: Sequence[str], weights: np.ndarray) -> _Design:
    needed = ('rater_id', 'defender', 'attacker', 'level', 'preference')
    tables.require(preferences, needed, 'the preferences')
    place = {name: i for i, name in enumerate(models)}
    if len(place) < len(models):
        raise ValueError(f'models must be different names: {list(models)}.')
    named = {*preferences['defender'].tolist(), *preferences['attacker'].tolist()}
    if unknown := sorted(named - place.keys()):
        raise ValueError(f'The preferences name {", ".join(unknown)}, which models does not.')
    level = np.asarray(preferences['level'], int)
    shape = (len(models), *np.shape(weights))
    weights = _checked_weights(weights, *shape[1:])
    if len(level) and not (level.min() >= 0 and level.max() < shape[2]):
        raise ValueError(f'A level of {level.max()} is not below the {shape[2]} of the weights.')
    attacker, defender = (
        np.array([place[name] for name in preferences[role].tolist()], int)
        for role in ('attacker', 'defender')
    )
    value = np.asarray(preferences['preference'], np.float64)
    if not (np.abs(value) <= 100).all():
        raise ValueError('Preferences must be in -100..100 and not NaN.')
    cell = (attacker * shape[1] + defender) * shape[2] + level
    pair, first = pair_numbers(preferences)
    incidences, incidence = np.unique(cell * len(first) + pair, return_inverse=True)
    raters, rater = np.unique(preferences['rater_id'].astype(str), return_inverse=True)
    cell_of, pair_of = np.divmod(incidences, max(len(first), 1))
    sums, counts = (
        scipy.sparse.csr_array((x, (incidence, rater)), shape=(len(incidences), len(raters)))
        for x in (value, np.ones(len(value)))
    )
    return _Design(sums, counts, cell_of, pair_of, len(first), shape, weights)


def _checked_weights(weights: np.ndarray, models: int, levels: int) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if weights.shape != (models, levels) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            f'weights must be [models, levels] = {[models, levels]}, finite and 0 or more; they '
            f'are {list(weights.shape)}.'
        )
    return weights


def _resampled(
    design: _Design, rater_weight: np.ndarray, pair_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A and R [B, M, M] of samples that count rater r [R, B] and pair q [P, B] times."""
    cells, cell = np.unique(design.cell_of, return_inverse=True)
    contests, contest = np.unique(cells // design.shape[2], return_inverse=True)
    edges, ends = (np.searchsorted(x, range(x.max() + 1)) for x in (cell, contest))
    held = pair_weight[design.pair_of]
    # A level counts by its share of the images, and as often as its pairs were drawn.
    answers = design.counts.sum(1)[:, None]
    drawn = np.add.reduceat(held * answers, edges) / np.add.reduceat(answers, edges)
    level_weight = drawn * design.weights.reshape(-1)[cells % design.weights.size][:, None]
    total, count = (
        np.add.reduceat((x @ rater_weight) * held, edges) for x in (design.sums, design.counts)
    )
    with np.errstate(invalid='ignore', divide='ignore'):
        p = total / count
        of_contest = np.add.reduceat(level_weight, ends)
        attack = np.add.reduceat(level_weight * p, ends) / of_contest
        defence = 100 - np.add.reduceat(level_weight * np.abs(p), ends) / of_contest
    size = design.shape[0]
    found = np.full((2, rater_weight.shape[1], size, size), np.nan)
    i, j = np.divmod(contests, size)
    found[0, :, i, j], found[1, :, j, i] = attack, defence
    return found[0], found[1]


def weight_variance(count: np.ndarray | float) -> np.ndarray:
    """Variance of the bootstrap's weights of `count` raters or pairs, which may be a fraction.

    With it a resampled mean of n > 5 has (t / 1.96)^2 times its unbiased variance, t being
    Student's for n - 1 degrees of freedom. Fewer have the largest, 5: no weights do it for them.
    """
    n = np.maximum(count, 5.0)
    wider = (scipy.special.stdtrit(n - 1, 0.975) / scipy.special.ndtri(0.975)) ** 2
    # Gamma weights of variance v over their sum give a mean the variance (n - 1) / n v / (n + v).
    return np.minimum(5.0, wider * n / (n - 1 - wider))


def _effective_pairs(design: _Design) -> np.ndarray:
    """Pairs, counted by their weight, in the smallest contest that each pair serves, [P]."""
    answers = design.counts.sum(1)
    of_cell = np.bincount(design.cell_of, answers)[design.cell_of]
    share = design.weights.reshape(-1)[design.cell_of % design.weights.size] * answers / of_cell
    contest = design.cell_of // design.shape[2]
    total, square = np.bincount(contest, share), np.bincount(contest, share**2)
    with np.errstate(invalid='ignore', divide='ignore'):
        effective = np.where(square > 0, total**2 / square, np.inf)
    smallest = np.full(design.pairs, np.inf)
    np.minimum.at(smallest, design.pair_of, effective[contest])
    return np.minimum(smallest, design.pairs)


def _random_weights(rng: np.random.Generator, spread: np.ndarray, size: int) -> np.ndarray:
    """Independent gamma weights [len(spread), size] of mean 1 and variance `spread`."""
    # Sample by sample, so that the size of the parts does not matter.
    return rng.gamma(1 / spread, spread, (size, len(spread))).T


def bootstrap(
    preferences: tables.Table,
    models: Sequence[str],
    weights: np.ndarray,
    *,
    over: Sequence[str] = OVER,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Resampled A and R, float64 [resamples, M, M] each, as of `matrices`.

    Raters, pairs of images or both (crossed) get random weights, in a Bayesian bootstrap: gamma
    with mean 1 and the variance of `weight_variance`, so that intervals of few are as wide as
    Student's t makes them. n is the number of raters, or of pairs in the smallest contest (all
    levels, by their weights) a pair serves. Weights of a rater and of a pair multiply, and hold for
    all their answers. With 'pairs' a level weighs as much as its pairs do in the sample: with one
    pair per level the spread between levels enters, which is conservative, and with both the noise
    of single answers counts three times. Where a contest has one pair only, 'pairs' adds nothing.
    Raises ValueError. Source: Owen and Eckles, Annals of Applied Statistics 6, 2012.
    """
    if not over or not set(over) <= set(OVER):
        raise ValueError(f"over must be 'raters', 'pairs' or both, not {list(over)}.")
    if resamples < 2:
        raise ValueError(f'resamples must be at least 2, not {resamples}.')
    design = _design(preferences, models, weights)
    raters, pairs = design.sums.shape[1], design.pairs
    for name, count in (('raters', raters), ('pairs', pairs)):
        if name in over and count < 2:
            raise ValueError(f'A bootstrap over {name} needs at least 2 of them, not {count}.')
    spread = {
        'raters': np.full(raters, weight_variance(raters)),
        'pairs': weight_variance(_effective_pairs(design)),
    }
    # One stream each, so that pairs are drawn alike with and without raters.
    streams = {name: np.random.default_rng([seed, i]) for i, name in enumerate(OVER)}
    parts = []
    step = max(1, min(resamples, _BATCH // max(len(design.pair_of), raters)))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = {
            name: _random_weights(streams[name], spread[name], count)
            if name in over
            else np.ones((len(spread[name]), count))
            for name in OVER
        }
        parts.append(_resampled(design, drawn['raters'], drawn['pairs']))
    aggressiveness, resistance = (np.concatenate(part) for part in zip(*parts, strict=True))
    return aggressiveness, resistance


def rank(
    preferences: tables.Table,
    models: Sequence[str],
    weights: np.ndarray,
    *,
    methods: Sequence[str] = tuple(global_scores.METHODS),
    prior_std: float = 1.0,
    **resampling,
) -> dict:
    """All statistics of a competition with 95 % intervals, each as (value, low, high).

    `weights` as for `matrices`, `resampling` are keywords of `bootstrap`. Returns `preference`,
    `answers`, `pairs` as of `mean_preferences`, and for 'aggressiveness' and 'resistance' each
    `matrix` [M, M, 3], `score` and `rank` (1 best), method -> [M, 3], and `undefined`, method ->
    samples without a score of every ranked model, which its intervals leave out; they are nan
    where that is more than a tenth. Low and high are percentiles of the samples; those of matrix
    and score are moved by what the median sample differs from the value, since |p| only grows with
    noise. Raises ValueError.
    """
    weights = np.asarray(weights, np.float64)
    p, answers, pairs = mean_preferences(preferences, models, np.shape(weights)[-1])
    values = matrices(p, weights)
    samples = bootstrap(preferences, models, weights, **resampling)
    found: dict = {'preference': p, 'answers': answers, 'pairs': pairs}
    for kind, value, sample in zip(KINDS, values, samples, strict=True):
        limits = (-100, 100) if kind == 'aggressiveness' else (0, 100)
        part: dict = {'matrix': _interval(value, sample).clip(*limits)}
        part |= {'score': {}, 'rank': {}, 'undefined': {}}
        for method in methods:
            score = global_scores.global_scores(value, method, prior_std=prior_std)
            drawn = global_scores.global_scores(sample, method, prior_std=prior_std)
            lost = (np.isnan(drawn) & ~np.isnan(score)).any(-1)
            part['undefined'][method] = int(lost.sum())
            drawn = drawn[:0] if lost.mean() > _MOST_UNDEFINED else drawn[~lost]
            part['score'][method] = _interval(score, drawn)
            place, places = global_scores.ranks(score), global_scores.ranks(drawn)
            ends = _percentiles(places, place, (_TAIL, 100 - _TAIL), method='nearest')
            part['rank'][method] = np.stack([place, *ends], -1)
        found[kind] = part
    return found


def _percentiles(sample: np.ndarray, value: np.ndarray, points: Sequence[float], **options):
    """Percentiles of `sample` [B, ...]; nan where the value is, or where there is no sample."""
    if not len(sample):
        return np.full((len(points), *value.shape), np.nan)
    known = np.where(np.isnan(value), 0.0, sample)
    return np.where(np.isnan(value), np.nan, np.percentile(known, points, axis=0, **options))


def _interval(value: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """(value, low, high) on a new last axis, the sample's percentiles centred on the value."""
    low, middle, high = _percentiles(sample, value, (_TAIL, 50, 100 - _TAIL))
    return np.stack([value, value + low - middle, value + high - middle], -1)
