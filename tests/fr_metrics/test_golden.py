"""Every metric against values that the authors' own MATLAB code gave for public photos."""

import csv
import functools
import pathlib

import numpy as np
import pytest

from iqa_jax import fr_metrics
from iqa_jax.images import io

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'fr'
ROWS = list(csv.DictReader((GOLDEN / 'golden.csv').open()))
PAIRS = sorted({(row['ref_path'], row['dist_path']) for row in ROWS})


def tolerance(name, value, flat):
    """Absolute error allowed in float32: rounding alone moves a good float32 program this much."""
    family = name.removesuffix('_floatgray').removesuffix('_fullres').removesuffix('_wtdsum')
    if family.startswith('mdsi'):
        # The outer fourth root magnifies errors near 0.
        return 3e-5 if value > 0.1 else 2e-3 if value > 0.02 else 2e-2
    if family == 'gmsd':
        return 2e-6
    return 2e-4 if flat else 3e-5


@functools.cache
def scores(pair):
    images = [io.decode(GOLDEN / path) for path in pair]
    side = min(images[0].shape[:2])
    names = [name for name, metric in fr_metrics.METRICS.items() if side >= metric.min_side]
    values = fr_metrics.metrics(names)(*images)
    return {name: float(value[0]) for name, value in values.items()}


@pytest.mark.parametrize('pair', PAIRS, ids=lambda pair: pathlib.Path(pair[1]).stem)
def test_scores_equal_the_original_code(pair):
    rows = [row for row in ROWS if (row['ref_path'], row['dist_path']) == pair]
    assert {row['metric'] for row in rows} == set(fr_metrics.METRICS)
    for row in rows:
        name, expected = row['metric'], float(row['value'])
        if np.isinf(expected):
            # The original answers -Inf to images too small for it.
            with pytest.raises(ValueError, match='too small'):
                fr_metrics.metric(name)(*(io.decode(GOLDEN / path) for path in pair))
            continue
        allowed = tolerance(name, expected, 'flat_' in pair[0])
        assert scores(pair)[name] == pytest.approx(expected, abs=allowed), name
        if 'identical' in pair[1]:
            assert scores(pair)[name] == expected, name
