"""Screening of raters by their preferences, as ITU-R BT.500 and as the Waterloo toolbox do it."""

import numpy as np

from iqa_jax.data import tables

RULES = ('bt500', 'toolbox', 'none')
_OUTLIER_SHARE, _ONE_SIDED = 0.05, 0.3  # BT.500: excluded above the first and below the second
_NEAR_NORMAL = (2.0, 4.0)  # kurtosis for which two standard deviations mark an outlier


def pair_numbers(preferences: tables.Table) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's unordered pair of images, int [N], and the first row of each pair."""
    best, worst = (preferences[f'image_id_{end}'].astype(str) for end in ('best', 'worst'))
    images, both = np.unique(np.concatenate([best, worst]), return_inverse=True)
    a, b = np.sort(both.reshape(2, -1), axis=0)
    _, first, pair = np.unique(a * len(images) + b, return_index=True, return_inverse=True)
    return pair, first


def _single_answers(preferences: tables.Table) -> tuple[np.ndarray, ...]:
    """(rater ids, rater of each answer, its pair, its preference): one per rater and pair.

    Contests may see a pair from opposite sides; here it is seen as in its first row.
    """
    tables.require(
        preferences, ['rater_id', 'image_id_best', 'image_id_worst', 'preference'], 'preferences'
    )
    pair, first = pair_numbers(preferences)
    best = preferences['image_id_best']
    value = np.asarray(preferences['preference'], np.float64)
    value = np.where(best == best[first][pair], value, -value)
    raters, rater = np.unique(preferences['rater_id'].astype(str), return_inverse=True)
    _, once = np.unique(pair * max(len(raters), 1) + rater, return_index=True)
    return raters, rater[once], pair[once], value[once]


def screen(preferences: tables.Table, rule: str = 'bt500') -> tables.Table:
    """Raters with their outliers, and who is excluded: one row per rater_id, sorted.

    An answer is an outlier where it is more than 2 standard deviations (n - 1) from the mean of its
    pair, or sqrt(20) where the kurtosis of the pair's answers is not in 2..4. A rater with outliers
    in more than 5 % of the answers is excluded if they are balanced, |P - Q| / (P + Q) < 0.3. With
    'bt500' P and Q are outliers above and below the mean, preference for the attacker counted as
    above; 'toolbox' keeps the Waterloo gMAD toolbox's own split, outliers of near-normal pairs and
    of the others, which deviates from BT.500; 'none' excludes nobody. An answer that serves several
    contests counts once. Columns: rater_id, answers, outliers_p, outliers_q (int32), excluded,
    reason. Raises ValueError. Source: ITU-R BT.500-14 and the toolbox.
    """
    if rule not in RULES:
        raise ValueError(f'screening must be one of {", ".join(RULES)}, not {rule!r}.')
    raters, rater, pair, value = _single_answers(preferences)
    n = np.bincount(pair).astype(np.float64)
    deviation = value - (np.bincount(pair, value) / n)[pair]
    square, fourth = (np.bincount(pair, deviation**power) / n for power in (2, 4))
    with np.errstate(invalid='ignore', divide='ignore'):
        kurtosis, std = fourth / square**2, np.sqrt(square * n / (n - 1))
    near_normal = (kurtosis >= _NEAR_NORMAL[0]) & (kurtosis <= _NEAR_NORMAL[1])
    limit = np.where(near_normal, 2.0, np.sqrt(20.0)) * std
    limit[~(std > 1e-9)] = np.inf  # one answer, or all the same: nobody stands out
    outlier = np.abs(deviation) > limit[pair]
    in_p = near_normal[pair] if rule == 'toolbox' else deviation > 0
    p, q = (np.bincount(rater[outlier & side], minlength=len(raters)) for side in (in_p, ~in_p))
    answers = np.bincount(rater, minlength=len(raters))
    excluded = (p + q > _OUTLIER_SHARE * answers) & (np.abs(p - q) < _ONE_SIDED * (p + q))
    excluded &= rule != 'none'
    reasons = [
        f'{rule}: {n_out} of {total} answers are outliers, to both sides' if out else ''
        for out, n_out, total in zip(excluded, p + q, answers, strict=True)
    ]
    return {
        'rater_id': raters.astype(object),
        'answers': answers.astype(np.int32),
        'outliers_p': p.astype(np.int32),
        'outliers_q': q.astype(np.int32),
        'excluded': excluded,
        'reason': np.array(reasons, object),
    }
