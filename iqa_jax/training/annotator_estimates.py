"""Rates of annotators from their votes alone, in float64: no network, no batches.

See `annotators` for the model. It is the independent check of what training learned.
"""

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

from iqa_jax.training import annotators

_TINY = 1e-12  # distance of EM's rates from 0 and 1


def log_likelihood(
    votes: np.ndarray, p: np.ndarray, hit: np.ndarray, rejection: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(log-likelihood [N] of each pair's votes, posterior [N] that its first image is better).

    Args:
      votes: [N, J] of 1 for the first image of a pair, 0 for the second, NaN for no vote.
      p: [N] or scalar, in (0, 1): probability that the first is better, the votes not known.
      hit, rejection: [J] rates in (0, 1).
    """
    first, second = votes == 1, votes == 0
    a = first @ np.log(hit) + second @ np.log1p(-hit) + np.log(p)
    b = second @ np.log(rejection) + first @ np.log1p(-rejection) + np.log1p(-p)
    return np.logaddexp(a, b), scipy.special.expit(a - b)


def estimate(
    votes: np.ndarray,
    p: np.ndarray | float = 0.5,
    *,
    optimise: str = 'em',
    first_rate: float = 0.62,
    steps: int = 2000,
    tolerance: float = 1e-12,
) -> dict:
    """Maximum-likelihood rates, by EM or by the gradient of the same likelihood.

    Args:
      votes: [N, J], see `log_likelihood`.
      p: likewise; .5 knows nothing of the pairs.
      optimise: 'em' or 'gradient' (L-BFGS on the logits of the rates).
      first_rate: both rates of everyone at the start, above .5.
      steps: at most so many.
      tolerance: stops when a step adds less to the mean log-likelihood per pair.

    Returns:
      hit_rate, correct_rejection_rate: [J]; posterior: [N]; log_likelihood: list of its mean per
      pair before each step and at the end.

    Raises:
      ValueError: an option cannot work, or an annotator casts no vote.
    """
    options = {'optimise': optimise, 'first_rate': first_rate, 'abstain_below': 0, 'em_memory': 0.5}
    annotators.check(votes.shape[1], options)
    silent = np.flatnonzero(np.isnan(votes).all(axis=0))
    if len(silent):
        raise ValueError(f'Annotator {silent[0]} casts no vote; leave it out.')
    find = _by_em if optimise == 'em' else _by_gradient
    hit, rejection, trace = find(votes, p, first_rate, steps, tolerance)
    _, posterior = log_likelihood(votes, p, hit, rejection)
    return {
        'hit_rate': hit,
        'correct_rejection_rate': rejection,
        'posterior': posterior,
        'log_likelihood': trace,
    }


def mean_rank(scores: np.ndarray) -> np.ndarray:
    """What annotators agree on: float64 [N], their mean rank of each image, in 0..1.

    Ranks of [N, J] scores, higher is better, have no unit, so annotators need not share one; an
    image is judged by those whose score of it is not NaN (NaN if there is none).
    """
    ranks = scipy.stats.rankdata(scores, axis=0, nan_policy='omit')
    shares = (ranks - 0.5) / np.maximum(np.sum(~np.isnan(scores), axis=0), 1)
    known = np.sum(~np.isnan(shares), axis=1)
    return np.where(known > 0, np.nansum(shares, axis=1) / np.maximum(known, 1), np.nan)


def _by_em(votes, p, first_rate, steps, tolerance):
    hit = rejection = np.full(votes.shape[1], first_rate)
    first, second = (votes == 1).astype(float), (votes == 0).astype(float)
    trace = []
    for _ in range(steps):
        likelihood, pi = log_likelihood(votes, p, hit, rejection)
        trace.append(likelihood.mean())
        if len(trace) > 1 and trace[-1] - trace[-2] < tolerance:
            break
        truth, lie = pi @ (first + second), (1 - pi) @ (first + second)
        hit = np.clip(pi @ first / np.maximum(truth, _TINY), _TINY, 1 - _TINY)
        rejection = np.clip((1 - pi) @ second / np.maximum(lie, _TINY), _TINY, 1 - _TINY)
    return hit, rejection, trace


def _by_gradient(votes, p, first_rate, steps, tolerance):
    n, count = votes.shape
    first, second = (votes == 1).astype(float), (votes == 0).astype(float)
    trace = []

    def objective(logits):
        hit, rejection = scipy.special.expit(logits.reshape(2, count))
        likelihood, pi = log_likelihood(votes, p, hit, rejection)
        slope_hit = (1 - hit) * (pi @ first) - hit * (pi @ second)
        slope_rejection = (1 - rejection) * ((1 - pi) @ second) - rejection * ((1 - pi) @ first)
        return -likelihood.mean(), -np.concatenate([slope_hit, slope_rejection]) / n

    start = np.full(2 * count, scipy.special.logit(first_rate))
    found = scipy.optimize.minimize(
        objective, start, jac=True, method='L-BFGS-B', bounds=[(-30, 30)] * len(start),
        callback=lambda x: trace.append(-objective(x)[0]),
        options={'maxiter': steps, 'ftol': tolerance, 'gtol': 1e-10},
    )  # fmt: skip
    hit, rejection = scipy.special.expit(found.x.reshape(2, count))
    return hit, rejection, [-objective(start)[0], *trace]
