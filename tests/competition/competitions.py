"""Competitions whose truth and spreads are known."""

import numpy as np

from iqa_jax.data import tables

NAMES = ['m0', 'm1', 'm2']


def simulated(
    rng, *, models=3, levels=4, per_level=2, raters=10, truth=20.0, pair_std=15.0, rater_std=0.0,
    noise_std=15.0,
) -> dict:  # fmt: skip
    """All contests between all models: truth + pair + rater in the contest + noise."""
    shape = (models, models, levels, per_level, raters)
    pair = pair_std * rng.standard_normal((*shape[:-1], 1))
    rater = rater_std * rng.standard_normal((models, models, 1, 1, raters))
    values = (truth + pair + rater + noise_std * rng.standard_normal(shape)).clip(-100, 100)
    i, j, k, n, r = (x.reshape(-1) for x in np.indices(shape))
    met = i != j
    name = np.array([f'm{x}' for x in range(models)], object)
    pair_id = np.ravel_multi_index((i, j, k, n), shape[:-1]).astype(str).astype(object)
    table = {
        'rater_id': np.array([f'r{x}' for x in range(raters)], object)[r],
        'attacker': name[i], 'defender': name[j], 'level': k.astype(np.int32),
        'image_id_best': pair_id + 'b', 'image_id_worst': pair_id + 'w',
        'preference': values.reshape(-1),
    }  # fmt: skip
    return tables.select(table, met)
