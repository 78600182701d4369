"""Agreement of predicted with human quality, with intervals that respect reference content."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats

from iqa_jax.evaluation.logistic import checked

_BATCH = 2_000_000  # numbers in the largest resamples * images array worked on at once


def _undefined(x: np.ndarray, y: np.ndarray) -> str:
    """Why a correlation of `x` and `y` does not exist, '' if it does."""
    for name, values in (('predictions', x), ('targets', y)):
        if np.ptp(values) == 0:
            return f'all {len(values)} {name} are equal'
    return ''


def _correlation(name: str, predicted, target, function: Callable) -> float:
    x, y = checked(predicted, target)
    reason = _undefined(x, y)
    if reason:
        warnings.warn(f'{name} is nan: {reason}.', stacklevel=3)
        return float('nan')
    return float(function(x, y).statistic)


def srcc(predicted: np.ndarray, target: np.ndarray) -> float:
    """Spearman rank correlation of two [N], in -1..1; nan with a warning if one is constant."""
    return _correlation('SRCC', predicted, target, scipy.stats.spearmanr)


def krcc(predicted: np.ndarray, target: np.ndarray) -> float:
    """Kendall rank correlation (tau-b) of two [N], in -1..1; nan with a warning if constant."""
    return _correlation('KRCC', predicted, target, scipy.stats.kendalltau)


def plcc(predicted: np.ndarray, target: np.ndarray) -> float:
    """Pearson correlation of two [N], raw: no logistic first."""
    return _correlation('PLCC', predicted, target, scipy.stats.pearsonr)


def rmse(predicted: np.ndarray, target: np.ndarray) -> float:
    """Root mean squared difference of two [N], in units of the target; lower is better."""
    x, y = checked(predicted, target)
    return float(np.sqrt(np.mean((x - y) ** 2)))


STATISTICS = {'srcc': srcc, 'krcc': krcc, 'plcc': plcc, 'rmse': rmse}


def right_pairs(predicted: np.ndarray, quality_a: np.ndarray, quality_b: np.ndarray) -> np.ndarray:
    """1, 0.5 or 0 for every pair that people do not find equal: picked, tied or missed."""
    if not len(predicted):
        return np.empty(0)
    quality_a, quality_b = checked(quality_a, quality_b, least=1)
    predicted, truth = checked(predicted, quality_a - quality_b, least=1)
    decided = truth != 0
    if not decided.any():
        warnings.warn('Pairwise accuracy is nan: people find all pairs equal.', stacklevel=3)
    return (np.sign(predicted[decided]) * np.sign(truth[decided]) + 1) / 2


def pairwise_accuracy(predicted: np.ndarray, quality_a: np.ndarray, quality_b: np.ndarray) -> float:
    """Share of pairs in which `predicted` [P], model score of a minus that of b, picks the better.

    `quality_a`, `quality_b` [P]: quality by people, higher better. Pairs people find equal are left
    out, a predicted tie counts half; nan with a warning if no pair is left. Raises ValueError.
    """
    right = right_pairs(predicted, quality_a, quality_b)
    return float(right.mean()) if len(right) else float('nan')


def bootstrap_pairs(
    predicted: np.ndarray,
    quality_a: np.ndarray,
    quality_b: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, float]:
    """`pairwise_accuracy` as value, low and high, resampling the pairs people do not find equal.

    Pairs, not contents: pairs that share a photograph count as independent. Raises ValueError.
    """
    right = right_pairs(predicted, quality_a, quality_b)
    return bootstrap_mean(right, resamples=resamples, seed=seed, confidence=confidence)


def bootstrap_mean(
    values: np.ndarray, *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> dict[str, float]:
    """Mean of [P] independent values as value, low and high (percentiles); nan of none."""
    if not len(values):
        return dict.fromkeys(('value', 'low', 'high'), float('nan'))
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return _percentiles(float(np.mean(values)), np.asarray(values)[draws].mean(1), confidence)


def masked_difference(
    values_a: np.ndarray,
    mask_a: np.ndarray,
    values_b: np.ndarray,
    mask_b: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, float]:
    """As `bootstrap_mean`, for mean(a) where mask_a - mean(b) where mask_b, of the same [P] pairs.

    Pairs are resampled once for both, so that those of both masks count as the same pairs; samples
    without a pair of either mask are left out. nan where a mask is empty.
    """
    samples = []
    draws = np.random.default_rng(seed).integers(len(values_a), size=(resamples, len(values_a)))
    for values, mask in ((values_a, mask_a), (values_b, mask_b)):
        if not np.any(mask):
            return dict.fromkeys(('value', 'low', 'high'), float('nan'))
        held = np.asarray(mask)[draws]
        with np.errstate(invalid='ignore'):
            samples.append((np.asarray(values)[draws] * held).sum(1) / held.sum(1))
    value = float(np.mean(values_a[mask_a]) - np.mean(values_b[mask_b]))
    change = samples[0] - samples[1]
    return _percentiles(value, change[np.isfinite(change)], confidence)


def _percentiles(value: float, samples: np.ndarray, confidence: float) -> dict[str, float]:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return {'value': value, 'low': float(low), 'high': float(high)}


# ---- bootstrap by reference content -------------------------------------------------------------


def _weighted_pearson(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson correlation [B] under weights `w` [B, N] of values `x`, `y`, each [N] or [B, N]."""
    total = w.sum(1, keepdims=True)
    products, scales = w, 1.0
    for values in (x, y):
        centred = values - (w * values).sum(1, keepdims=True) / total
        variance = (w * centred**2).sum(1)
        # A constant sample leaves rounding errors, which must not pass for a spread.
        variance[variance <= 1e-24 * total[:, 0] * np.abs(values).max() ** 2] = np.nan
        products, scales = products * centred, scales * np.sqrt(variance)
    return products.sum(1) / scales


def _weighted_ranks(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Mid-ranks [B, N] of `x` [N] in samples that hold image i `w[b, i]` times."""
    values, group = np.unique(x, return_inverse=True)
    order = np.argsort(group, kind='stable')
    held = np.add.reduceat(w[:, order], np.searchsorted(group[order], range(len(values))), axis=1)
    below = np.cumsum(held, 1) - held
    return (below + (held + 1) / 2)[:, group]


def _concordance(x: np.ndarray, y: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sums of sign(dx) sign(dy), |sign(dx)|, |sign(dy)| over image pairs, per pair of contents."""
    order = np.argsort(code, kind='stable')
    x, y = x[order], y[order]
    edges = np.searchsorted(code[order], range(code.max() + 1))
    sums = []
    for start, stop in zip(edges, [*edges[1:], len(x)], strict=True):
        dx = np.sign(x[start:stop, None] - x).astype(np.int8)
        dy = np.sign(y[start:stop, None] - y).astype(np.int8)
        rows = (dx * dy, np.abs(dx), np.abs(dy))
        sums.append([np.add.reduceat(row.sum(0, dtype=np.float64), edges) for row in rows])
    return tuple(np.array(sums).transpose(1, 0, 2))


def _resample(statistic: str, x, y, code, counts: np.ndarray) -> np.ndarray:
    """`statistic` [B] of samples that hold content r `counts[b, r]` times; nan where undefined."""
    if statistic == 'krcc':
        # Weights belong to contents, so N^2 image pairs are summed once and B samples are cheap.
        agree, apart_x, apart_y = (
            ((counts @ sums) * counts).sum(1) for sums in _concordance(x, y, code)
        )
        with np.errstate(invalid='ignore', divide='ignore'):
            return agree / np.sqrt(apart_x * apart_y)
    values = []
    for part in np.array_split(counts, -(-counts.shape[0] * len(x) // _BATCH)):
        w = part[:, code].astype(np.float64)
        if statistic == 'srcc':
            values.append(_weighted_pearson(w, _weighted_ranks(w, x), _weighted_ranks(w, y)))
        elif statistic == 'plcc':
            values.append(_weighted_pearson(w, x, y))
        else:
            values.append(np.sqrt((w * (x - y) ** 2).sum(1) / w.sum(1)))
    return np.concatenate(values)


def _contents(ref_ids: Sequence[str], images: int, resamples: int, seed: int):
    """Content number of each image [N], and how often each sample draws each content [B, R]."""
    ref_ids = np.asarray(ref_ids)
    if ref_ids.shape != (images,):
        raise ValueError(f'ref_ids must have one entry for each of {images} images.')
    names, code = np.unique(ref_ids, return_inverse=True)
    if len(names) < 2:
        raise ValueError('A bootstrap by reference content needs at least 2 different ref_ids.')
    draws = np.random.default_rng(seed)
    return code, draws.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)


def _summary(value: float, samples: np.ndarray, counts: np.ndarray, confidence: float) -> dict:
    known = samples[~np.isnan(samples)]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
    return {
        'value': value,
        'low': float(low),
        'high': float(high),
        'std': float(known.std()) if len(known) else float('nan'),
        'references': counts.shape[1],
        'resamples': len(samples),
        'undefined': len(samples) - len(known),
    }


def bootstrap(
    predicted: np.ndarray,
    target: np.ndarray,
    ref_ids: Sequence[str],
    statistic: str = 'srcc',
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, float | int]:
    """Percentile interval of a statistic of two [N], resampling reference contents, not images.

    Images of one content err together, so resampling images would promise too narrow intervals.
    `ref_ids` [N] (the image ids themselves where every image is its own content); `statistic` is a
    key of STATISTICS. Returns value, low, high, std, references, resamples and undefined (samples
    left out since the statistic does not exist there). Same seed, same result. Raises ValueError.
    """
    x, y = checked(predicted, target)
    value = STATISTICS[statistic](x, y)
    code, counts = _contents(ref_ids, len(x), resamples, seed)
    return _summary(value, _resample(statistic, x, y, code, counts), counts, confidence)


def paired_difference(
    predicted_a: np.ndarray,
    predicted_b: np.ndarray,
    target: np.ndarray,
    ref_ids: Sequence[str],
    statistic: str = 'srcc',
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, float | int]:
    """As `bootstrap`, for statistic(a) - statistic(b) on the same samples, with a p_value.

    p_value is two-sided: twice the smaller share of samples with the difference on either side of
    0, both counted with one more sample, so it is never 0. For rmse a negative value favours a.
    """
    a, y = checked(predicted_a, target)
    b, _ = checked(predicted_b, target)
    value = STATISTICS[statistic](a, y) - STATISTICS[statistic](b, y)
    code, counts = _contents(ref_ids, len(y), resamples, seed)
    samples = _resample(statistic, a, y, code, counts) - _resample(statistic, b, y, code, counts)
    below, above, known = (samples <= 0).sum(), (samples >= 0).sum(), (~np.isnan(samples)).sum()
    p_value = min(1.0, 2 * (1 + min(below, above)) / (1 + known))
    return _summary(value, samples, counts, confidence) | {'p_value': float(p_value)}
