"""Histogram equalisation of proxy scores (DeepFL-IQA), fitted on the host in float64.

Raw full-reference scores pile up near their ideal value; equalised ones spread evenly over (0, 1),
so that no metric dominates a summed loss. Higher is better after every mapping here.
"""

import numpy as np

KINDS = ('histogram', 'minmax', 'none')


def fit(
    scores: np.ndarray, higher_is_better: bool, kind: str = 'histogram', knots: int = 256
) -> dict:
    """Fits the mapping on training scores.

    Args:
      scores: [N] raw scores of the training split, finite.
      higher_is_better: direction of the raw scores; the others are negated first.
      kind: `histogram` maps s to (#{s_i < s} + #{s_i = s} / 2 + 1/2) / (N + 1), `minmax` maps the
        training range to [0, 1], `none` only turns the direction.
      knots: size of the monotone table that stands for the mapping.

    Returns:
      {'sign', 'knots', 'values'}: np.interp of sign * score through these is the mapping; outside
      the training range it is constant for `histogram`.

    Raises:
      ValueError: a score is not finite, there are none, or the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f'equalisation is {kind!r}; use one of {", ".join(KINDS)}.')
    x = np.asarray(scores, np.float64)
    if not x.size or not np.isfinite(x).all():
        bad = int(np.sum(~np.isfinite(x)))
        raise ValueError(f'Equalisation needs finite scores: {bad} of {x.size} are not.')
    sign = 1.0 if higher_is_better else -1.0
    x = np.sort(sign * x)
    if kind == 'none':
        return {'kind': kind, 'sign': sign, 'knots': [], 'values': []}
    if kind == 'minmax':
        return {'kind': kind, 'sign': sign, 'knots': [x[0], x[-1]], 'values': [0.0, 1.0]}
    unique, first, count = np.unique(x, return_index=True, return_counts=True)
    u = (first + 0.5 * count + 0.5) / (len(x) + 1)
    keep = np.unique(np.round(np.linspace(0, len(unique) - 1, knots)).astype(int))
    return {
        'kind': kind,
        'sign': sign,
        'knots': unique[keep].tolist(),
        'values': u[keep].tolist(),
    }


def apply(mapping: dict, scores: np.ndarray) -> np.ndarray:
    """Maps raw scores [N] to equalised float32 [N]; NaN stays NaN, outside values are clipped."""
    x = mapping['sign'] * np.asarray(scores, np.float64)
    if mapping['kind'] == 'none':
        return x.astype(np.float32)
    knots, values = np.array(mapping['knots']), np.array(mapping['values'])
    if len(knots) == 1 or knots[0] == knots[-1]:
        return np.where(np.isnan(x), np.nan, values[0]).astype(np.float32)
    return np.interp(x, knots, values).astype(np.float32)
