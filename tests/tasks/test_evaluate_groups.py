"""evaluate: SRCC and PLCC within the groups that a manifest's metadata gives distortion types."""

import json

import numpy as np
import pytest
import scipy.stats

from configs import evaluate as config_file
from iqa_jax.data import manifest, tables
from iqa_jax.tasks import evaluate

GROUPS = {'1': 'head', '2': 'head', '3': 'mid', '4': 'tail'}


def evaluation(folder, groups: dict | None) -> dict:
    """Four references with types 1 to 4 and an unrated-like type 0, some scores, one column."""
    rng = np.random.default_rng(0)
    cells = [(r, t, level) for r in range(4) for t in range(5) for level in range(1, 6)]
    cells = [(r, t, level) for r, t, level in cells if t != 4 or (r == 0 and level < 3)]
    ref, kind, level = np.array(cells).T
    ids = np.array([f'{r}_{t}_{level}' for r, t, level in cells], object)
    mos = 90 - 12 * level + rng.normal(0, 4, len(ids))
    rows = {'image_id': ids, 'ref_id': ref.astype(str).astype(object), 'type': kind, 'mos': mos}
    rows |= {'level': level, 'split': np.full(len(ids), 'test', object)}
    meta = {'simulated': True} | ({'groups': groups} if groups else {})
    manifest.write(folder / 'rated.parquet', manifest.complete(rows, 'rated'), meta)
    scores = {'image_id': ids, 'm': mos + rng.normal(0, 5 * (1 + kind), len(ids))}
    described = {'columns': {'m': {'higher_is_better': True, 'origin': 'a test'}}}
    tables.write(folder / 'scores.parquet', scores, described)
    column = {'scores': str(folder / 'scores.parquet'), 'column': 'm', 'kind': 'metric'}
    return config_file.get_config('smoke').to_dict() | {
        'root': '', 'manifest': str(folder / 'rated.parquet'), 'columns': {'m': column},
        'headline': 'm',
    }  # fmt: skip


def test_each_group_has_the_correlations_of_its_own_images(tmp_path):
    evaluate.run(evaluation(tmp_path, GROUPS), tmp_path / 'out')
    (row,) = json.loads((tmp_path / 'out/results.json').read_text())['rows']
    found = tables.read(tmp_path / 'out/predictions.parquet')[0]
    assert list(row['groups']) == ['head', 'mid', 'tail'] and row['n'] == 82
    assert [row['groups'][g]['n'] for g in row['groups']] == [40, 20, 2]
    for group, types in (('head', (1, 2)), ('mid', (3,))):
        inside = np.isin(found['type'], types)
        x, y = found['m'][inside], found['target'][inside]
        for name, want in (
            ('srcc', scipy.stats.spearmanr(x, y).statistic),
            ('plcc', scipy.stats.pearsonr(x, y).statistic),
        ):
            value, low, high = row['groups'][group][name]
            assert value == pytest.approx(want, abs=1e-6) and low <= value <= high
    assert np.isnan(row['groups']['tail']['srcc']).all()  # two images of one reference
    table = tables.read(tmp_path / 'out/per_group.csv')[0]
    assert table['group'].tolist() == ['head', 'mid', 'tail'] and set(table['model']) == {'m'}
    for end, name in enumerate(('srcc', 'srcc_low', 'srcc_high')):
        want = [row['groups'][g]['srcc'][end] for g in row['groups']]
        np.testing.assert_array_equal(table[name], want)


def test_a_manifest_without_groups_has_no_table_of_them(tmp_path):
    evaluate.run(evaluation(tmp_path, None), tmp_path / 'out')
    (row,) = json.loads((tmp_path / 'out/results.json').read_text())['rows']
    assert row['groups'] == {} and not (tmp_path / 'out/per_group.csv').exists()
