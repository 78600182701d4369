"""One score per model from a matrix of who beats whom: Bradley-Terry, Thurstone Case V, Perron.

Everything works on a batch of matrices at once, which is what a bootstrap needs.
"""

from collections.abc import Callable

import numpy as np
import scipy.special
import scipy.stats

_TOLERANCE = 1e-10  # of the gradient, as a share of all wins
_STEPS = 200
_SQUARINGS, _POWERS = 10, 200  # of the matrix, then of its 2**10th power
_RESIDUAL = 1e-8  # |M v - lambda v| of an eigenvector, relative to lambda


def global_scores(
    matrix: np.ndarray, method: str = 'bradley_terry', *, prior_std: float = 1.0
) -> np.ndarray:
    """Scores [..., M] of M models from aggressiveness or resistance [..., M, M], higher better.

    Entry (i, j) is the points of model i against j; negative ones count as 0, and each point counts
    as one (fractional) win of i over j, as in the Waterloo toolbox: at 100 points nobody ever
    disagreed with i. A pair of models takes part where both entries are known, so nobody loses for
    want of a chance to attack; the diagonal is ignored. A model without such a pair is nan. Scores
    add up to zero over the others. `method` is a key of METHODS; 'perron' has no prior and gives
    nan where the matrix is reducible. Raises ValueError.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {", ".join(METHODS)}, not {method!r}.')
    matrix = np.asarray(matrix, np.float64)
    played = np.isfinite(matrix) & np.isfinite(np.swapaxes(matrix, -1, -2))
    played &= ~np.eye(matrix.shape[-1], dtype=bool)
    wins = np.where(played, np.maximum(matrix, 0), 0)
    met = played.any(-1)
    scores = METHODS[method](wins, met, prior_std)
    scores = np.where(met, scores, np.nan)
    count = np.maximum(met.sum(-1, keepdims=True), 1)
    # A nan of a reducible matrix spreads to all its models.
    return scores - np.where(met, scores, 0).sum(-1, keepdims=True) / count


def bradley_terry(wins: np.ndarray, prior_std: float = 1.0) -> np.ndarray:
    """Most probable scores [..., M] of the Bradley-Terry model given `wins` [..., M, M] >= 0.

    P(i beats j) = 1 / (1 + exp(s_j - s_i)); wins may be fractions. Prior: independent normal scores
    of mean 0 and standard deviation `prior_std`, in log odds. It makes the maximum unique and
    finite whoever wins everything and whoever never met; with tens of wins per pair it moves scores
    little. Scores add up to zero. Newton's method, to a gradient of 1e-10 of all wins. Raises
    ValueError.
    """
    return _most_probable(wins, prior_std, _logistic)


def thurstone(wins: np.ndarray, prior_std: float = 1.0) -> np.ndarray:
    """As `bradley_terry` for Thurstone's Case V: P(i beats j) = Phi((s_i - s_j) / sqrt(2)).

    The unit is the standard deviation of one model's impression.
    """
    return _most_probable(wins, prior_std, _probit)


def perron(wins: np.ndarray) -> np.ndarray:
    """Logarithm of the Perron vector of `wins` [..., M, M] >= 0, summing to zero, [..., M].

    v = wins v / lambda: a model is strong that beats strong models. Where some models cannot be
    reached from some others along wins (a reducible matrix) the vector is not unique or has zeros:
    all scores are nan then. Power iteration on wins + mean(wins) * identity, which has the same
    vector and does not swing where opponents form two camps. Raises ValueError.
    """
    return _perron(_checked(wins))


def connected(wins: np.ndarray, met: np.ndarray | None = None) -> np.ndarray:
    """Bool [...]: is every model of `met` (None: all) reached from every other along wins > 0?"""
    size = wins.shape[-1]
    met = np.ones(wins.shape[:-1], bool) if met is None else met
    reach = (wins > 0) | np.eye(size, dtype=bool)
    for _ in range(max(1, int(np.ceil(np.log2(max(size, 2)))))):
        reach = np.matmul(reach.astype(np.float32), reach.astype(np.float32)) > 0
    return (reach | ~met[..., :, None] | ~met[..., None, :]).all((-1, -2)) & met.any(-1)


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks [..., M] of `scores`, 1 for the highest, equals share the best; nan stays nan."""
    scores = np.asarray(scores, np.float64)
    ranked = scipy.stats.rankdata(np.where(np.isnan(scores), np.inf, -scores), 'min', axis=-1)
    return np.where(np.isnan(scores), np.nan, ranked)


def _checked(wins: np.ndarray) -> np.ndarray:
    wins = np.array(wins, np.float64)
    if wins.ndim < 2 or wins.shape[-1] != wins.shape[-2]:
        raise ValueError(f'wins must be [..., models, models], not {wins.shape}.')
    diagonal = np.arange(wins.shape[-1])
    wins[..., diagonal, diagonal] = 0
    if not (np.isfinite(wins) & (wins >= 0)).all():
        raise ValueError('wins must be finite and 0 or more; leave pairs that never met at 0.')
    return wins


def _logistic(d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log P, its first and minus its second derivative by the difference d."""
    other = scipy.special.expit(-d)
    return scipy.special.log_expit(d), other, other * (1 - other)


def _probit(d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u = d / np.sqrt(2)
    log = scipy.special.log_ndtr(u)
    ratio = np.exp(-0.5 * u * u - 0.5 * np.log(2 * np.pi) - log)  # phi / Phi, also far below 0
    return log, ratio / np.sqrt(2), np.maximum(ratio * (u + ratio), 0) / 2


def _most_probable(wins: np.ndarray, prior_std: float, link: Callable) -> np.ndarray:
    """Damped Newton on the negative log posterior, which is strictly convex."""
    wins = _checked(wins)
    if not (np.isfinite(prior_std) and prior_std > 0):
        raise ValueError(f'prior_std must be above 0 and finite, not {prior_std}.')
    shape, size = wins.shape[:-1], wins.shape[-1]
    wins = wins.reshape(-1, size, size)
    scores, precision = np.zeros(wins.shape[:2]), prior_std**-2
    eye = np.eye(size)

    def parts(s, w):
        log, first, second = link(s[:, :, None] - s[:, None, :])
        loss = -(w * log).sum((1, 2)) + 0.5 * precision * (s * s).sum(1)
        push, bend = w * first, w * second
        gradient = push.sum(1) - push.sum(2) + precision * s
        both = bend + bend.swapaxes(1, 2)
        return loss, gradient, (both.sum(2) + precision)[:, :, None] * eye - both

    limit = _TOLERANCE * np.maximum(1, wins.sum((1, 2)))
    active = np.arange(len(wins))
    for _ in range(_STEPS):
        loss, gradient, hessian = parts(scores[active], wins[active])
        going = np.abs(gradient).max(1, initial=0) > limit[active]
        active, loss, gradient, hessian = (x[going] for x in (active, loss, gradient, hessian))
        if not len(active):
            break
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        slope, size_of_step = (step * gradient).sum(1), np.ones(len(active))
        for _ in range(40):
            trial = scores[active] - size_of_step[:, None] * step
            # Near the end the loss no longer changes in float64: equal is good enough.
            short = (
                parts(trial, wins[active])[0] > loss - 1e-4 * size_of_step * slope + 1e-12 * loss
            )
            if not short.any():
                break
            size_of_step[short] /= 2
        scores[active] = trial
    scores -= scores.mean(1, keepdims=True)  # the prior already did, up to rounding
    return scores.reshape(shape)


def _perron(wins: np.ndarray, met: np.ndarray | None = None) -> np.ndarray:
    """`perron` of the models in `met` [..., M]; the others get 0."""
    met = np.ones(wins.shape[:-1], bool) if met is None else met
    size = wins.shape[-1]
    scale = np.maximum(wins.mean((-1, -2), keepdims=True), np.finfo(float).tiny)
    matrix = wins / scale + np.eye(size)
    power = matrix
    for _ in range(_SQUARINGS):
        power = np.matmul(power, power)
        power = power / power.max((-1, -2), keepdims=True)
    vector = met.astype(np.float64)[..., None]
    for _ in range(_POWERS):
        new = np.matmul(power, vector)
        new = new / np.maximum(new.max(-2, keepdims=True), np.finfo(float).tiny)
        change, vector = np.abs(new - vector).max(initial=0), new
        if change < 1e-14:
            break
    image = np.matmul(matrix, vector)
    value = image.max(-2, keepdims=True)  # the vector's largest entry is 1
    settled = (np.abs(image - value * vector) < _RESIDUAL * value).all((-1, -2))
    with np.errstate(divide='ignore', invalid='ignore'):
        logs = np.where(met, np.log(vector[..., 0]), 0)
        logs = logs - logs.sum(-1, keepdims=True) / np.maximum(met.sum(-1, keepdims=True), 1)
    good = settled & connected(wins, met) & np.isfinite(logs).all(-1)
    return np.where(good[..., None], logs, np.nan)


METHODS: dict[str, Callable] = {
    'bradley_terry': lambda wins, met, prior_std: bradley_terry(wins, prior_std),
    'thurstone': lambda wins, met, prior_std: thurstone(wins, prior_std),
    'perron': lambda wins, met, prior_std: _perron(wins, met),
}
