"""Probabilities of a win, a loss and a tie by a difference of scores, and their derivatives.

Each model takes counts [P, 3] of (first preferred, second preferred, tie) for P pairs, differences
of score d [P] and the parameter t of ties, and returns for each pair the log-likelihood [P], its
gradient [P, 2] and minus its Hessian [P, 3] (dd, dt, tt) in (d, t). All are concave in (d, t).
"""

import numpy as np
import scipy.special

Parts = tuple[np.ndarray, np.ndarray, np.ndarray]
_LOG_ROOT = 0.5 * np.log(2 * np.pi)


def davidson(counts: np.ndarray, d: np.ndarray, t: float) -> Parts:
    """Bradley-Terry with ties by Davidson (1970): odds exp(d / 2) : exp(-d / 2) : exp(t).

    t is the log of Davidson's nu; t = -inf is Bradley-Terry without ties.
    """
    logits = np.stack([d / 2, -d / 2, np.full_like(d, t)], axis=1)
    log_p = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
    p, total = np.exp(log_p), counts.sum(1)
    mean = (p[:, 0] - p[:, 1]) / 2
    gradient = np.stack(
        [(counts[:, 0] - counts[:, 1]) / 2 - total * mean, counts[:, 2] - total * p[:, 2]], axis=1
    )
    bend = [(p[:, 0] + p[:, 1]) / 4 - mean**2, -mean * p[:, 2], p[:, 2] * (1 - p[:, 2])]
    return _log_likelihood(counts, log_p), gradient, total[:, None] * np.stack(bend, axis=1)


def threshold(counts: np.ndarray, d: np.ndarray, t: float) -> Parts:
    """Thurstone Case V with ties where two impressions differ by less than t >= 0.

    P(first) = Phi((d - t) / sqrt 2), P(second) = Phi((-d - t) / sqrt 2), a tie in between; the unit
    is the standard deviation of one impression. t = 0 is Case V without ties.
    """
    ends = np.stack([d - t, -d - t], axis=1) / np.sqrt(2)
    log_p = scipy.special.log_ndtr(ends)
    ratio = _ratio(ends, log_p)  # phi / Phi
    push, bend = counts[:, :2] * ratio, counts[:, :2] * ratio * (ends + ratio)
    gradient = np.stack([push[:, 0] - push[:, 1], -push.sum(1)], axis=1) / np.sqrt(2)
    hessian = np.stack([bend.sum(1), bend[:, 1] - bend[:, 0], bend.sum(1)], axis=1) / 2
    log_tie = np.zeros_like(d)
    if counts[:, 2].any():
        log_tie, tie_gradient, tie_hessian = _tie(d, t)
        gradient = gradient + counts[:, 2:] * tie_gradient
        hessian = hessian + counts[:, 2:] * tie_hessian
    log_p = np.column_stack([log_p, log_tie])
    return _log_likelihood(counts, log_p), gradient, np.maximum(hessian, [0, -np.inf, 0])


def _tie(d: np.ndarray, t: float) -> Parts:
    """`threshold` of one tie for each pair; by symmetry computed in the lower tail of |d|."""
    upper, lower = (t - np.abs(d)) / np.sqrt(2), (-t - np.abs(d)) / np.sqrt(2)
    log_upper, log_lower = scipy.special.log_ndtr(upper), scipy.special.log_ndtr(lower)
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        log_p = log_upper + np.log1p(-np.exp(log_lower - log_upper))
        up, low = _ratio(upper, log_p), _ratio(lower, log_p)
        # In (upper, lower): minus the second derivatives of log(Phi(upper) - Phi(lower)).
        uu, ll, ul = up * (upper + up), low * (low - lower), -up * low
        sign = np.where(d < 0, -1.0, 1.0)
        gradient = np.stack([-sign * (up - low), up + low], axis=1) / np.sqrt(2)
        bend = np.stack([uu + ll + 2 * ul, sign * (ll - uu), uu + ll - 2 * ul], axis=1) / 2
    return log_p, gradient, bend


def _ratio(x: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x * x - _LOG_ROOT - log_p)


def _log_likelihood(counts: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, counts * np.where(counts > 0, log_p, 0), 0).sum(1)
