"""The long tail of a split: counts on a manifest of KADID-10k's shape, groups, nothing crosses."""

import collections
import json

import numpy as np
import pytest

from configs import split_long_tail as config_file
from iqa_jax.data import long_tail, manifest, tables
from iqa_jax.tasks import split

GROUPS = ('head', 'mid', 'tail')


def kadid_rows(references: int = 81, types: int = 25) -> tables.Table:
    """Rows of 25 types at 5 levels for each reference, and the pristine references unrated."""
    cells = [(0, 0)] + [(t, level) for t in range(1, types + 1) for level in range(1, 6)]
    rows = [(f'I{r:02d}', t, level) for r in range(1, references + 1) for t, level in cells]
    names = [f'{r}_{t:02d}_{level:02d}' if t else r for r, t, level in rows]
    ref_id, number, level = (np.array(x, object) for x in zip(*rows, strict=True))
    mos = np.where(number == 0, np.nan, 100.0 - 15 * level.astype(float))
    columns = {'image_id': np.array(names, object), 'ref_id': ref_id, 'type': number}
    return manifest.complete(columns | {'level': level, 'mos': mos}, 'kadid')


def settings(folder, arg: str = '', **changes) -> dict:
    databases = {'kadid10k': {'manifest': str(folder / 'kadid.parquet'), 'keep': False}}
    config = config_file.get_config(arg).to_dict() | {'root': '', 'databases': databases}
    return config | {'crop_pairs': 0} | changes


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('kadid')
    manifest.write(folder / 'kadid.parquet', kadid_rows(), {'simulated': False})
    return split.run(settings(folder, count=4), folder / 'splits'), folder / 'splits'


@pytest.mark.parametrize('index', range(4))
def test_every_split_has_the_published_numbers_and_no_content_crosses(made, index):
    summary, workdir = made
    assert '4,745 of 8,125 training images of kadid10k in its long tail' in summary['headline']
    paths = {
        end: workdir / f'split_{index:02d}/kadid10k{end}.parquet' for end in ('', '_long_tail')
    }
    balanced, tailed = (manifest.read(path) for path in paths.values())
    counts = [collections.Counter(x['split'].tolist()) for x in (balanced, tailed)]
    assert counts[0] == {'train': 8125, 'test': 2000, 'pool': 81}
    assert counts[1] == {'train': 4745, 'test': 2000, 'pool': 8125 - 4745 + 81}
    groups, same = (tables.read(path)[1]['groups'] for path in paths.values())
    assert groups == same and set(groups) == {str(number) for number in range(1, 26)}
    assert collections.Counter(groups.values()) == {'head': 8, 'mid': 8, 'tail': 9}
    group = np.array([groups.get(str(number), '') for number in tailed['type'].tolist()])
    held = collections.Counter(zip(tailed['split'].tolist(), group.tolist(), strict=True))
    assert [held['test', g] for g in GROUPS] == [640, 640, 720]
    assert [held['train', g] for g in GROUPS] == [65 * 40, 65 * 24, 65 * 9]
    assert held['pool', ''] == 81 and held['train', ''] == held['test', ''] == 0
    # Only training images leave, for the pool; test images are those of the balanced split.
    changed = balanced['split'] != tailed['split']
    assert {*balanced['split'][changed]} == {'train'} and {*tailed['split'][changed]} == {'pool'}
    sides = [{*tailed['content'][tailed['split'] == s].tolist()} for s in ('train', 'test')]
    assert (len(sides[0]), len(sides[1])) == (65, 16) and not sides[0] & sides[1]


def test_every_reference_keeps_its_own_levels(made):
    path = made[1] / 'split_01/kadid10k_long_tail.parquet'
    rows, groups = manifest.read(path), tables.read(path)[1]['groups']
    levels = collections.defaultdict(set)
    for ref_id, number, level, side in zip(
        *(rows[k].tolist() for k in ('ref_id', 'type', 'level', 'split')), strict=True
    ):
        if side == 'train':
            levels[ref_id, number].add(level)
    for name, kept in zip(GROUPS, (5, 3, 1), strict=True):
        of_group = [x for (_, number), x in levels.items() if groups[str(number)] == name]
        assert {len(x) for x in of_group} == {kept}
    # Of 65 draws of one level none is missing: each has 13 on average, one in a million none.
    tail = min(number for number, group in groups.items() if group == 'tail')
    alone = [min(x) for (_, number), x in levels.items() if str(number) == tail]
    assert set(alone) == {1, 2, 3, 4, 5}
    of_mid = {tuple(sorted(x)) for (_, t), x in levels.items() if groups[str(t)] == 'mid'}
    assert len(of_mid) == 10  # all choices of 3 out of 5


def test_splits_json_and_the_csv_tell_both_forms(made):
    _, workdir = made
    record = json.loads((workdir / 'splits.json').read_text())['splits']
    draws = {str(entry['long_tail']['kadid10k']['types']) for entry in record}
    assert len(draws) == len(record) == 4
    for entry in record:
        tail = entry['long_tail']['kadid10k']
        assert tail['test'] == {'head': 640, 'mid': 640, 'tail': 720}
        assert tail['train'] == {'head': 2600, 'mid': 1560, 'tail': 585}
        assert tail['images'] == {'train': 4745, 'test': 2000, 'pool': 3461}
        assert entry['contents']['kadid10k'] == {'train': 65, 'test': 16}
        table = tables.read(workdir / entry['file'])[0]
        for column, end in (('split', ''), ('long_tail', '_long_tail')):
            path = workdir / entry['file'].removesuffix('.csv') / f'kadid10k{end}.parquet'
            assert table[column].tolist() == manifest.read(path)['split'].tolist()


def test_the_draw_depends_on_seed_split_and_names_alone():
    rows = kadid_rows(12)
    group = long_tail.groups(range(1, 26), (8, 8, 9), 3, 1)
    assert group == long_tail.groups([*range(25, 0, -1)] * 2, (8, 8, 9), 3, 1)
    assert group != long_tail.groups(range(1, 26), (8, 8, 9), 3, 2)
    assert group != long_tail.groups(range(1, 26), (8, 8, 9), 4, 1)
    kept = long_tail.kept(rows, group, (5, 3, 1), 3, 1)
    order = np.random.default_rng(0).permutation(len(kept))
    turned = long_tail.kept(tables.select(rows, order), group, (5, 3, 1), 3, 1)
    np.testing.assert_array_equal(turned, kept[order])
    # Another reference less changes nothing for the rest.
    rest = rows['ref_id'] != 'I05'
    fewer = long_tail.kept(tables.select(rows, rest), group, (5, 3, 1), 3, 1)
    np.testing.assert_array_equal(fewer, kept[rest])
    assert (long_tail.kept(rows, group, (5, 3, 1), 3, 2) != kept).any()
    assert kept[rows['type'] == 0].all()


def test_a_validation_set_is_taken_from_the_training_contents(tmp_path):
    manifest.write(tmp_path / 'kadid.parquet', kadid_rows(), {})
    split.run(settings(tmp_path, count=1, split_shares=(58, 7, 16, 0)), tmp_path)
    rows = manifest.read(tmp_path / 'split_00/kadid10k_long_tail.parquet')
    counts = collections.Counter(rows['split'].tolist())
    assert counts == {
        'train': 58 * 73, 'val': 7 * 125, 'test': 2000, 'pool': 58 * 52 + 81,
    }  # fmt: skip


@pytest.mark.parametrize(
    ('tail', 'sentence'),
    [
        ({'types': (8, 8, 8)}, r'8 \+ 8 \+ 8 head, mid and tail types are not the 25'),
        ({'types': (25,)}, r'config\.long_tail\.kadid10k\.types=.*head, mid, tail'),
        ({'images': (5, 3, -1)}, r'config\.long_tail\.kadid10k\.images=.*three numbers'),
        ({'levels': 3}, r'config\.long_tail\.kadid10k\.levels is not a key'),
    ],
)
def test_what_cannot_work_is_a_sentence(tmp_path, tail, sentence):
    manifest.write(tmp_path / 'kadid.parquet', kadid_rows(4), {})
    config = settings(tmp_path, split_shares=(1, 0, 1, 0), count=1)
    config['long_tail'] = {'kadid10k': config['long_tail']['kadid10k'] | tail}
    with pytest.raises(ValueError, match=sentence):
        split.run(config, tmp_path / 'out')


def test_a_database_without_types_has_no_long_tail(tmp_path):
    rows = kadid_rows(4)
    rows['type'] = np.where(rows['type'] == 3, -1, rows['type'])
    manifest.write(tmp_path / 'kadid.parquet', rows, {})
    config = settings(tmp_path, split_shares=(1, 0, 1, 0), count=1)
    with pytest.raises(ValueError, match='type of 20 images is not known, I01_03_01 the first'):
        split.run(config, tmp_path / 'out')
    with pytest.raises(ValueError, match=r'config\.long_tail\.tid is not one of'):
        split.run(config | {'long_tail': {'tid': {}}}, tmp_path / 'out')
