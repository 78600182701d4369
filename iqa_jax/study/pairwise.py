"""Scores of images from two-alternative forced choice with ties: Bradley-Terry and Thurstone."""

from collections.abc import Mapping

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from iqa_jax.study import tie_models

MODELS = {'bradley_terry': tie_models.davidson, 'thurstone': tie_models.threshold}
TIES = ('model', 'half')
CHOICES = ('a', 'b', 'tie')
# Standard deviation of a single impression in the unit of the scores: two logistic differences'
# variance of pi^2 / 3 shared by two images, and Thurstone's unit by definition.
IMPRESSION_STD = {'bradley_terry': np.pi / np.sqrt(6), 'thurstone': 1.0}
_NO_TIES = {'bradley_terry': -np.inf, 'thurstone': 0.0}
_TIE_PRIOR_STD = 3.0  # of log nu, and of the threshold (half normal): weak, finite if all is tied
_REACH = 1.959963984540054  # standard errors on each side in a 95 % interval
_TOLERANCE, _STEPS, _HALVINGS = 1e-9, 200, 50
_FIRST_TIE = 0.5


def counts(answers: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image ids [M] sorted, pairs int [P, 2] (first < second) and counts float64 [P, 3].

    `answers` has rater_id, image_id_a, image_id_b and choice ('a', 'b' or 'tie'), one row an
    answer. Counts are of first preferred, second preferred, tie. Raises ValueError.
    """
    needed = ('rater_id', 'image_id_a', 'image_id_b', 'choice')
    if missing := [key for key in needed if key not in answers]:
        raise ValueError(f'The answers table lacks the columns {missing}.')
    a, b = (np.asarray(answers[f'image_id_{side}'], str) for side in 'ab')
    choice = np.asarray(answers['choice'], str)
    if not len(choice):
        raise ValueError('The answers table is empty.')
    if (bad := ~np.isin(choice, CHOICES)).any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f'{bad.sum()} of {len(bad)} choices are none of a, b and tie, {str(choice[row])!r} '
            f'in row {row} the first.'
        )
    if (same := a == b).any():
        first = str(a[same][0])
        raise ValueError(f'{same.sum()} answers compare an image with itself, {first!r} the first.')
    ids, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    index = index.reshape(2, -1)
    low, high = index.min(0), index.max(0)
    keys, pair = np.unique(low.astype(np.int64) * len(ids) + high, return_inverse=True)
    first_won = (choice == 'a') == (index[0] < index[1])
    outcome = np.where(choice == 'tie', 2, np.where(first_won, 0, 1))
    table = np.bincount(pair * 3 + outcome, minlength=3 * len(keys)).reshape(-1, 3)
    pairs = np.stack(np.divmod(keys, len(ids)), axis=1)
    return ids.astype(object), pairs, table.astype(np.float64)


def scores_from_answers(
    answers: Mapping[str, np.ndarray],
    *,
    model: str = 'thurstone',
    ties: str = 'model',
    prior_std: float = 3.0,
) -> tuple[dict[str, np.ndarray], dict]:
    """Most probable scores of images from an answers table: (scores, report).

    `model` 'thurstone': Case V, in standard deviations of one impression; 'bradley_terry': in log
    odds. `ties` 'model': Davidson's for Bradley-Terry, a threshold for Thurstone, each with one
    parameter fitted along (none where nobody tied); 'half': a tie is half a win of each. The prior,
    independent normal scores of mean 0 and `prior_std`, keeps images that always win finite; with
    tens of answers per image it moves scores little. Images that no chain of answers links belong
    to different components: answers say nothing of how these lie to each other.

    `scores`: image_id (sorted), score (adding up to zero in each component, higher better),
    standard_error, low, high (95 %, normal, of the observed information with the prior; of the
    score minus the mean of its component), answers (int32), component (int32, from 0 in the order
    of ids; scores are comparable within one only). `report`: model, ties,
    tie_parameter (Davidson's nu, or the threshold), answers, tied, log_likelihood, components,
    ranked_groups and connectivity (a sentence). Raises ValueError. Source: Bradley and Terry 1952;
    Davidson 1970; Thurstone 1927; Glenn and David 1960.
    """
    if model not in MODELS:
        raise ValueError(f'model must be one of {", ".join(MODELS)}, not {model!r}.')
    if ties not in TIES:
        raise ValueError(f'ties must be one of {", ".join(TIES)}, not {ties!r}.')
    if not (np.isfinite(prior_std) and prior_std > 0):
        raise ValueError(f'prior_std must be above 0 and finite, not {prior_std}.')
    ids, pairs, table = counts(answers)
    tied = table[:, 2].sum()
    used = table
    if ties == 'half':
        used = np.column_stack([table[:, :2] + table[:, 2:] / 2, np.zeros(len(table))])
    component, report = _connectivity(ids, pairs, table)
    score, tie, covariance, likelihood = _most_probable(model, len(ids), pairs, used, prior_std)
    centred = _centring(component)
    score, error = centred @ score, np.sqrt(np.diag(centred @ covariance @ centred))
    taken = np.bincount(pairs.ravel(), np.repeat(table.sum(1), 2), minlength=len(ids))
    return {
        'image_id': ids,
        'score': score,
        'standard_error': error,
        'low': score - _REACH * error,
        'high': score + _REACH * error,
        'answers': taken.astype(np.int32),
        'component': component.astype(np.int32),
    }, {
        'model': model,
        'ties': ties,
        'tie_parameter': float(np.exp(tie) if model == 'bradley_terry' else tie),
        'answers': int(table.sum()),
        'tied': int(tied),
        'log_likelihood': likelihood,
        **report,
    }


def rated(
    scores: Mapping[str, np.ndarray], model: str, points_per_unit: float = 10.0
) -> tuple[dict[str, np.ndarray], float]:
    """`scores` as mean opinion scores in 0..100 in the form of `scaling`, and points per unit.

    mos = 50 + points * score; points is `points_per_unit`, or less where that would leave 0..100:
    nothing is clipped, so differences keep their meaning. mos_std is one impression's standard
    deviation, so that Phi((mos_x - mos_y) / sqrt(var_x + var_y)) is the chance to prefer x by
    Thurstone's model. votes counts the answers about the image; component is as in `scores`.
    Raises ValueError.
    """
    if not (np.isfinite(points_per_unit) and points_per_unit > 0):
        raise ValueError(f'points_per_unit must be above 0 and finite, not {points_per_unit}.')
    score = np.asarray(scores['score'], np.float64)
    farthest = np.abs(score).max()
    points = min(float(points_per_unit), 50 / farthest if farthest > 0 else np.inf)
    return {
        'image_id': scores['image_id'],
        'mos': 50 + points * score,
        'mos_std': np.full(len(score), points * IMPRESSION_STD[model]),
        'votes': scores['answers'],
        'standard_error': points * scores['standard_error'],
        'low': 50 + points * scores['low'],
        'high': 50 + points * scores['high'],
        'component': scores['component'],
    }, points


def _most_probable(
    model: str, size: int, pairs: np.ndarray, table: np.ndarray, prior_std: float
) -> tuple[np.ndarray, float, np.ndarray, float]:
    """(scores [M], tie parameter, covariance of the scores, log-likelihood), by Newton."""
    likelihood = MODELS[model]
    with_ties = table[:, 2].any()
    precision = np.full(size + 1, prior_std**-2)
    precision[-1] = _TIE_PRIOR_STD**-2
    x = np.zeros(size + 1)
    x[-1] = _FIRST_TIE if with_ties else _NO_TIES[model]
    free = np.arange(size + with_ties)

    def loss(x):
        log = likelihood(table, x[pairs[:, 0]] - x[pairs[:, 1]], x[-1])[0].sum()
        value = -log + 0.5 * (precision * x * x)[free].sum()
        return value if np.isfinite(value) else np.inf

    for _ in range(_STEPS):
        gradient, hessian = _derivatives(likelihood, x, pairs, table, precision)
        gradient, hessian = gradient[free], hessian[np.ix_(free, free)]
        if np.abs(gradient).max() < _TOLERANCE * max(1.0, table.sum()):
            break
        step, now = np.linalg.solve(hessian, gradient), loss(x)
        for _ in range(_HALVINGS):
            trial = x.copy()
            trial[free] -= step
            # A threshold below 0 has no meaning, and with ties no likelihood at 0.
            possible = model != 'thurstone' or not with_ties or trial[-1] > 0
            # Near the end the loss no longer changes in float64: equal is good enough.
            if possible and loss(trial) <= now - 1e-4 * step @ gradient + 1e-12 * abs(now):
                break
            step = step / 2
        x = trial
    else:
        raise ValueError(f'{model} did not settle on these answers; use a smaller prior_std.')
    log = likelihood(table, x[pairs[:, 0]] - x[pairs[:, 1]], x[-1])[0].sum()
    return x[:size], float(x[-1]), np.linalg.inv(hessian)[:size, :size], float(log)


def _centring(component: np.ndarray) -> np.ndarray:
    """The projection [M, M] that takes the mean of each component away."""
    same = component[:, None] == component
    return np.eye(len(component)) - same / same.sum(0)


def _derivatives(likelihood, x, pairs, table, precision) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian of the negative log posterior in (scores, tie parameter)."""
    size = len(x) - 1
    first, second = pairs.T
    _, by_pair, bend = likelihood(table, x[first] - x[second], x[-1])
    finite = np.where(np.isfinite(x), x, 0)
    gradient, hessian = precision * finite, np.diag(precision)
    np.add.at(gradient, first, -by_pair[:, 0])
    np.add.at(gradient, second, by_pair[:, 0])
    gradient[-1] -= by_pair[:, 1].sum()
    for i, j, sign in ((first, first, 1), (second, second, 1), (first, second, -1)):
        np.add.at(hessian, (i, j), sign * bend[:, 0])
    np.add.at(hessian, (second, first), -bend[:, 0])
    cross = np.bincount(first, bend[:, 1], size) - np.bincount(second, bend[:, 1], size)
    hessian[:size, -1] += cross
    hessian[-1, :size] += cross
    hessian[-1, -1] += bend[:, 2].sum()
    return gradient, hessian


def _connectivity(ids: np.ndarray, pairs: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, dict]:
    """Component of each image, and what the graph of answers cannot tell."""
    size = len(ids)
    first, second = pairs.T
    tied = table[:, 2] > 0
    beats = np.concatenate([pairs[(table[:, 0] > 0) | tied], pairs[(table[:, 1] > 0) | tied, ::-1]])

    def parts(edges, connection):
        graph = scipy.sparse.coo_array((np.ones(len(edges)), edges.T), (size, size))
        return scipy.sparse.csgraph.connected_components(graph, connection=connection)

    components, component = parts(np.stack([first, second], axis=1), 'weak')
    groups, _ = parts(beats, 'strong')
    if components > 1:
        most = np.bincount(component).max()
        sentence = (
            f'The answers link the {size} images to {components} groups of up to {most} images, '
            f'{ids[0]} and {ids[component != component[0]][0]} for instance apart; scores are '
            'comparable within a group only.'
        )
    elif groups > 1:
        sentence = (
            f'Some images always won against some others ({groups} groups); the prior alone keeps '
            'their distances finite.'
        )
    else:
        sentence = 'All images are linked by wins in both directions.'
    report = {'components': int(components), 'ranked_groups': int(groups)}
    return component, report | {'connectivity': sentence}
