"""The stage gmad on score tables of any origin, its figures, and several processes."""

import io
import os
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from configs import gmad as module
from iqa_jax.data import manifest, tables
from iqa_jax.tasks import gmad

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    quality = rng.random(900)
    return {
        'image_id': np.array([f'photo_{i:04d}.png' for i in range(900)], object),
        'photo': np.array([f'p{i % 50}' for i in range(900)], object),
        'mine': (10 * quality + rng.standard_normal(900)).astype(np.float32),
        'niqe': (-quality + 0.2 * rng.standard_normal(900)).astype(np.float32),
    }


def config(root, path, **changes):
    columns = {
        'models': {'ours': {'scores': path, 'column': 'mine', 'higher_is_better': True}},
        'rivals': {'niqe': {'scores': path, 'column': 'niqe', 'higher_is_better': False}},
    }
    plain = module.get_config().to_dict() | {'root': str(root), 'manifest': '', 'figures': 0}
    return plain | {'sheets': False} | columns | changes


def pairs_of(folder) -> tables.Table:
    return tables.read(folder / 'pairs.parquet')[0]


@pytest.mark.parametrize('name', ['scores.csv', 'scores.parquet'])
@pytest.mark.parametrize('scale', ['percentile', 'own'])
def test_one_foreign_table_is_streamed(scores, tmp_path, name, scale):
    write(tmp_path / name, scores)
    summary = gmad.run(
        config(tmp_path, name, scale=scale, content_column='photo', max_per_ref=1), tmp_path / 'out'
    )
    found = pairs_of(tmp_path / 'out')
    assert summary['pairs'] == len(found['level']) > 8 and summary['quarantined'] == 0
    contents = [*found['ref_id_best'].tolist(), *found['ref_id_worst'].tolist()]
    assert len(set(contents)) == len(contents)
    row = {image_id: i for i, image_id in enumerate(scores['image_id'])}
    best, worst = ([row[x] for x in found[f'image_id_{side}']] for side in ('best', 'worst'))
    by_niqe = found['attacker'] == 'niqe'  # a distance: its best has the smaller score
    assert (scores['niqe'][best] < scores['niqe'][worst])[by_niqe].all()
    assert (scores['mine'][best] > scores['mine'][worst])[~by_niqe].all()
    before = (tmp_path / 'out/pairs.parquet').read_bytes()
    os.remove(tmp_path / 'out/stage.json')
    gmad.run(config(tmp_path, name, scale=scale, content_column='photo', max_per_ref=1),
             tmp_path / 'out')  # fmt: skip
    assert (tmp_path / 'out/pairs.parquet').read_bytes() == before


def write(path: pathlib.Path, columns: dict) -> None:
    """A table as another program leaves it: without a digest beside it."""
    if path.suffix == '.csv':
        rows = zip(*columns.values(), strict=True)
        path.write_text('\n'.join(','.join(map(str, row)) for row in [columns, *rows]) + '\n')
    else:
        pq.write_table(pa.table(columns), path, row_group_size=100)


def test_tables_of_several_tools_are_joined_and_missing_ids_counted(scores, tmp_path):
    named = scores | {'name': scores['image_id']}
    write(tmp_path / 'a.csv', {k: named[k][2:] for k in ('name', 'mine')})
    write(tmp_path / 'b.parquet', {k: named[k][:-3] for k in ('name', 'photo', 'niqe')})
    changed = config(tmp_path, 'a.csv', id_column='name', content_column='photo', max_per_ref=1)
    changed['rivals']['niqe']['scores'] = 'b.parquet'
    summary = gmad.run(changed, tmp_path / 'out')
    found = pairs_of(tmp_path / 'out')
    shown = [*found['ref_id_best'].tolist(), *found['ref_id_worst'].tolist()]
    assert len(set(shown)) == len(shown) and set(shown) <= {*scores['photo'].tolist()}
    with pytest.raises(ValueError, match=r'No score table has the column config\.content_column'):
        gmad.run(changed | {'content_column': 'nope'}, tmp_path / 'other')
    assert summary['quarantined'] == 5 and summary['pairs'] > 8
    lost = tables.read(tmp_path / 'out/quarantine.csv')[0]
    ids = scores['image_id'].tolist()
    assert lost['file'].tolist() == [*ids[:2], *ids[-3:]]
    assert (
        lost['reason'].tolist() == ['no finite score of ours'] * 2 + ['no finite score of niqe'] * 3
    )


def test_the_logistic_of_rated_images_is_the_scale(scores, tmp_path):
    write(tmp_path / 'scores.parquet', scores)
    rated = {
        'image_id': scores['image_id'][:300],
        'mos': (1 + 4 / (1 + np.exp(-scores['mine'][:300].astype(float) + 5))).astype(np.float32),
    }
    manifest.write(tmp_path / 'rated.parquet', manifest.complete(rated, 'rated'), {})
    changed = config(tmp_path, 'scores.parquet', scale='logistic', rated='rated.parquet')
    gmad.run(changed, tmp_path / 'out')
    found = pairs_of(tmp_path / 'out')
    row = {image_id: i for i, image_id in enumerate(scores['image_id'])}
    ours = found['defender'] == 'ours'
    raw = scores['mine'][[row[x] for x in found['image_id_best'][ours]]].astype(float)
    ends = rated['mos'].min(), rated['mos'].max()
    expected = 100 * (1 + 4 / (1 + np.exp(5 - raw)) - ends[0]) / (ends[1] - ends[0])
    np.testing.assert_allclose(found['defender_best'][ours], expected, atol=0.1)
    with pytest.raises(ValueError, match=r'needs config\.rated'):
        gmad.run(changed | {'rated': ''}, tmp_path / 'other')
    with pytest.raises(ValueError, match=r"config\.scale='jod' is not one of"):
        gmad.run(changed | {'scale': 'jod'}, tmp_path / 'other')


def test_a_foreign_table_says_what_is_wrong_with_it(scores, tmp_path):
    write(tmp_path / 'scores.csv', scores)
    without = config(tmp_path, 'scores.csv')
    del without['rivals']['niqe']['higher_is_better']
    with pytest.raises(ValueError, match='whether a higher niqe is better'):
        gmad.run(without, tmp_path / 'out')
    with pytest.raises(ValueError, match=r'has no column name; it has image_id, photo, mine, niqe'):
        gmad.run(config(tmp_path, 'scores.csv', id_column='name'), tmp_path / 'out')
    with pytest.raises(ValueError, match=r'need config\.manifest'):
        gmad.run(config(tmp_path, 'scores.csv', sheets=True), tmp_path / 'out')
    scores['mine'][7] = np.nan
    write(tmp_path / 'scores.csv', scores)
    with pytest.raises(ValueError, match="'mine' hold 1 NaN and 0 infinite values among 900"):
        gmad.run(config(tmp_path, 'scores.csv'), tmp_path / 'out')


def test_figures_and_sheets_show_the_pairs(smoke):
    """Of the pool's own stage in the smoke loop."""
    folder = smoke / 'active/round_01/gmad'
    drawn = sorted(path.name for path in (folder / 'figures').glob('*.png'))
    assert [name for name in drawn if name.startswith('pair')] == ['pair_001.png', 'pair_002.png']
    assert 'sheet_01.png' in drawn
    for name in drawn:
        picture = np.asarray(Image.open(io.BytesIO((folder / 'figures' / name).read_bytes())))
        assert picture.ndim == 3 and picture.std() > 10


def test_the_disagreement_of_the_twin_attacks_as_any_column(scores, tmp_path):
    gap = np.abs(np.random.default_rng(1).standard_normal(900)).astype(np.float32)
    columns = {'image_id': scores['image_id'], 'mine': scores['mine'], 'mine_disagreement': gap}
    described = {
        'mine': {'higher_is_better': True},
        'mine_disagreement': {'higher_is_better': False},
    }
    tables.write(tmp_path / 'scores.parquet', columns, {'columns': described})
    twin = {'scores': 'scores.parquet', 'column': 'mine_disagreement'}
    changed = config(tmp_path, 'scores.parquet', rivals={'twin': twin}, roles=('defender',))
    del changed['models']['ours']['higher_is_better']
    gmad.run(changed | {'top_k': 2, 'scale': 'own', 'half_width': 0.09}, tmp_path / 'out')
    found = pairs_of(tmp_path / 'out')
    row = {image_id: i for i, image_id in enumerate(scores['image_id'])}
    low, high = scores['mine'].min(), scores['mine'].max()
    for level in range(6):
        centre = low + (level + 0.5) / 6 * (high - low)
        inside = np.flatnonzero(np.abs(scores['mine'] - centre) < 0.09 * (high - low))
        hardest = inside[np.argsort(-gap[inside], kind='stable')[:2]]
        chosen = found['image_id_worst'][(found['level'] == level)]
        if len(inside) >= 40:  # neighbours overlap and an image is shown once
            assert hardest[0] in [row[x] for x in found['image_id_worst']]
            assert len(chosen) == 2


def test_two_processes_of_two_devices_find_what_one_finds(scores, tmp_path, main):
    scores['niqe'] = np.round(3 * scores['niqe'])  # ties at the ends of lists
    order = np.random.default_rng(2).permutation(900)
    scores = {name: column[order] for name, column in scores.items()}
    write(tmp_path / 'scores.parquet', scores)
    text = f"""
from ml_collections import ConfigDict
def get_config(arg=''):
    return ConfigDict({config(tmp_path, 'scores.parquet', content_column='photo', top_k=2)!r})
"""
    (tmp_path / 'foreign.py').write_text(text)
    command = (f'--config={tmp_path}/foreign.py',)
    done = main(*command, f'--workdir={tmp_path}/one')
    assert done.returncode == 0, done.stderr
    flags = {'XLA_FLAGS': '--xla_force_host_platform_device_count=2', 'PYTHON': sys.executable}
    done = subprocess.run(
        ['launch/local_processes.sh', '2', *command, f'--workdir={tmp_path}/two'],
        cwd=ROOT, env=os.environ | flags, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ('pairs.parquet', 'pairs.csv', 'quarantine.csv'):
        assert (tmp_path / 'two' / name).read_bytes() == (tmp_path / 'one' / name).read_bytes()
