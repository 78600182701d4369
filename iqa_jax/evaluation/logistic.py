"""Logistic mapping of model scores to mean opinion scores, as VQEG fits it before PLCC and RMSE."""

import dataclasses
import warnings

import numpy as np
import scipy.optimize
import scipy.special

_STEEPNESS = (0.3, 1.0, 2.0, 4.0, 8.0)  # starts, per standard deviation of the scores
_CENTRES = (0.1, 0.3, 0.5, 0.7, 0.9)  # starts, quantiles of the scores
_STEEPEST, _FLATTEST = 50.0, 1e-2  # beyond these it is a step or a line, and ill-conditioned
_POLISHED = 3  # how many of the starts are refined


@dataclasses.dataclass(frozen=True)
class Logistic:
    """A fitted mapping, called with scores of any shape; float64 out, on the scale of the target.

    low + height * sigmoid(steepness * (z - centre)) / exp(log_peak) + slope * z, where z is
    (score - mean) / std; `parameters` is 4 (slope 0), 5, or 2 for a line. `monotone`: over the
    fitted scores. `note` says why a line was taken, '' otherwise.
    """

    parameters: int
    mean: float
    std: float
    low: float
    height: float
    steepness: float
    centre: float
    log_peak: float
    slope: float
    rmse: float
    monotone: bool
    note: str = ''

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        z = (np.asarray(scores, np.float64) - self.mean) / self.std
        log_bend = scipy.special.log_expit(self.steepness * (z - self.centre)) - self.log_peak
        return self.low + self.height * np.exp(log_bend) + self.slope * z


def checked(predicted: np.ndarray, target: np.ndarray, least: int = 3) -> tuple[np.ndarray, ...]:
    """Both as finite float64 [N], N >= `least`; ValueError otherwise."""
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if predicted.ndim != 1 or predicted.shape != target.shape:
        raise ValueError(
            f'Predictions and targets must be two [N], not {predicted.shape} and {target.shape}.'
        )
    for name, values in (('predictions', predicted), ('targets', target)):
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ValueError(
                f'{bad} of {len(values)} {name} are NaN or infinite; leave those images out first.'
            )
    if len(predicted) < least:
        raise ValueError(f'{len(predicted)} images are too few; at least {least} are needed.')
    return predicted, target


def _basis(z: np.ndarray, bend: tuple[float, float], parameters: int) -> tuple[np.ndarray, float]:
    """What low, height and, with 5 parameters, slope are multiplied with, and log_peak.

    [N, parameters - 2]; the bend is divided by its largest value, since with a centre far outside
    the scores, where the logistic is an exponential, it is tiny all over.
    """
    steepness, centre = bend
    log_bend = scipy.special.log_expit(steepness * (z - centre))
    columns = [np.ones_like(z), np.exp(log_bend - log_bend.max()), z]
    return np.stack(columns[: parameters - 2], 1), float(log_bend.max())


def _signed(p: np.ndarray) -> tuple[float, float]:
    """(steepness, centre) of log steepness and centre, turned so that most scores are in the tail.

    Both signs describe the same curves, but only near 0 does the sigmoid keep its digits.
    """
    return float(np.copysign(np.exp(p[0]), p[1])), float(p[1])


def _best_bend(z: np.ndarray, y: np.ndarray, parameters: int) -> tuple[float, float] | None:
    """(steepness, centre) of the best fit, None if no start converged.

    Given the bend the other parameters are linear least squares, so only two are searched for
    (variable projection). All five at once crawl along a valley when the scores pile up at one
    end, as distances do.
    """

    def projected(p):
        basis, _ = _basis(z, _signed(p), parameters)
        q, r = np.linalg.qr(basis)
        return basis[:, 1], q, r, y - q @ (q.T @ y)

    def residuals(p):
        return projected(p)[-1]

    def jacobian(p):
        column, q, r, _ = projected(p)
        steepness, centre = _signed(p)
        height = np.linalg.lstsq(r, q.T @ y, rcond=None)[0][1]
        by_input = height * column * scipy.special.expit(-steepness * (z - centre))
        by_both = np.stack([-by_input * steepness * (z - centre), by_input * steepness], 1)
        return by_both - q @ (q.T @ by_both)  # Kaufman's form of the projected Jacobian

    starts = [(np.log(s), c) for s in _STEEPNESS for c in np.quantile(z, _CENTRES)]
    starts.sort(key=lambda start: float((residuals(start) ** 2).sum()))
    width = np.ptp(z)
    bounds = [np.log(_FLATTEST), z.min() - width], [np.log(_STEEPEST), z.max() + width]
    fits = [
        scipy.optimize.least_squares(residuals, start, jacobian, bounds=bounds, max_nfev=200)
        for start in starts[:_POLISHED]
    ]
    found = [fit for fit in fits if fit.success and np.isfinite([*fit.x, fit.cost]).all()]
    return _signed(min(found, key=lambda fit: fit.cost).x) if found else None


def _monotone(z: np.ndarray, bend: tuple, log_peak: float, height: float, slope: float) -> bool:
    """Does the derivative keep its sign? It is extreme at an end or at the centre of the bend."""
    steepness, centre = bend
    points = np.array([z.min(), z.max(), np.clip(centre, z.min(), z.max())])
    at = steepness * (points - centre)
    bent = np.exp(scipy.special.log_expit(at) - log_peak) * scipy.special.expit(-at)
    derivative = height * steepness * bent + slope
    return bool((derivative >= 0).all() or (derivative <= 0).all())


def _line(x: np.ndarray, y: np.ndarray, note: str) -> Logistic:
    mean, std = float(x.mean()), float(x.std()) or 1.0
    z = (x - mean) / std
    slope = float((z * (y - y.mean())).mean())
    rmse = float(np.sqrt(np.mean((y - y.mean() - slope * z) ** 2)))
    return Logistic(2, mean, std, float(y.mean()), 0.0, 1.0, 0.0, 0.0, slope, rmse, True, note)


def fit_logistic(predicted: np.ndarray, target: np.ndarray, parameters: int = 4) -> Logistic:
    """Least-squares logistic, 4 (monotone) or 5 parameters, from `predicted` [N] to `target` [N].

    Any direction: a distance gets a falling curve. The best of several deterministic starts,
    refined with the analytic Jacobian. With too few distinct scores or no convergence it warns,
    says so in `note`, and returns the least-squares line. Raises ValueError. Source: VQEG FR-TV.
    """
    if parameters not in (4, 5):
        raise ValueError(f'parameters must be 4 or 5, not {parameters}.')
    x, y = checked(predicted, target)
    distinct = len(np.unique(x))
    note = ''
    if distinct <= parameters:
        note = f'{distinct} distinct scores are too few for {parameters} parameters'
    else:
        mean, std = float(x.mean()), float(x.std())
        z = (x - mean) / std
        bend = _best_bend(z, y - y.mean(), parameters)
        if bend is None:
            note = 'no start of the logistic fit converged'
    if note:
        note += ', so the mapping is a line.'
        warnings.warn(note, stacklevel=2)
        return _line(x, y, note)
    basis, log_peak = _basis(z, bend, parameters)
    linear = np.linalg.lstsq(basis, y, rcond=None)[0]
    low, height, slope = map(float, [*linear, 0.0][:3])
    return Logistic(
        parameters=parameters,
        mean=mean,
        std=std,
        low=low,
        height=height,
        steepness=bend[0],
        centre=bend[1],
        log_peak=log_peak,
        slope=slope,
        rmse=float(np.sqrt(np.mean((basis @ linear - y) ** 2))),
        monotone=_monotone(z, bend, log_peak, height, slope),
    )
