"""split: two databases that share photographs under other names, in other formats and sizes."""

import csv
import hashlib
import json

import database_layouts as layouts
import numpy as np
import pytest
from PIL import Image

from configs import import_database as import_config
from configs import train_ranking
from iqa_jax.data import exposure, manifest, sources, tables
from iqa_jax.tasks import import_database, split, train_setup

# File of the other database -> the photograph of the first one that it shows.
SHARED = {'h1.jpg': 'I02', 'h2.bmp': 'I05', 'h3.png': 'I07'}


@pytest.fixture(scope='module')
def databases(tmp_path_factory):
    """`full` with references and distorted JPEG files, `crops` of images without a reference."""
    folder = tmp_path_factory.mktemp('databases')
    photos = [Image.open(file).convert('RGB') for file in sources.photo_files('')]
    lines = ['image_id,ref_id,file,type,level,split,mos']
    for number, photo in enumerate(photos[:8]):
        name = f'I{number:02d}'
        photo.save(folder / f'{name}.png')
        lines.append(f'{name},{name},{name}.png,0,0,pool,nan')
        for level, quality in ((1, 60), (2, 10)):
            photo.save(folder / f'{name}_{level}.jpg', quality=quality)
            lines.append(f'{name}_{level},{name},{name}_{level}.jpg,10,{level},pool,{quality}')
    (folder / 'full.csv').write_text('\n'.join(lines))
    photos[2].resize((256, 192), Image.Resampling.BICUBIC).save(folder / 'h1.jpg', quality=50)
    photos[5].save(folder / 'h2.bmp')
    photos[7].crop((11, 90, 353, 378)).resize((300, 252)).save(folder / 'h3.png')
    (folder / 'cut.png').write_bytes((folder / 'h3.png').read_bytes()[:5000])
    for number, photo in enumerate(photos[8:12]):
        photo.save(folder / f'k{number}.webp', lossless=True)
    files = [*SHARED, 'cut.png', *(f'k{number}.webp' for number in range(4))]
    own = ['train' if i < 5 else 'test' for i in range(len(files))]
    rows = [f'{f[:2]},{f},{s}' for f, s in zip(files, own, strict=True)]
    (folder / 'crops.csv').write_text('\n'.join(['image_id,file,split', *rows]))
    return folder


def settings(folder, **changes) -> dict:
    return {
        'task': 'split', 'root': str(folder),
        'databases': {
            name: {'manifest': f'{name}.csv', 'keep': False} for name in ('full', 'crops')
        },
        'split_shares': (3, 0, 2, 0), 'long_tail': {}, 'count': 10, 'distance': 60,
        'correlation': 0.7, 'crop_pairs': 1000, 'shard_size': 5, 'seed': 0,
    } | changes  # fmt: skip


@pytest.fixture(scope='module')
def made(databases, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('splits')
    return split.run(settings(databases), workdir), workdir


def read(workdir, index: int) -> list[dict]:
    with open(workdir / f'split_{index:02d}.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_shared_references_are_listed_with_how_they_were_found(made):
    summary, workdir = made
    table = tables.read(workdir / 'shared.csv')[0]
    names = ('database', 'ref_id', 'other_database', 'other_ref_id', 'match')
    found = list(zip(*(table[name].tolist() for name in names), strict=True))
    assert found == [
        ('full', 'I02', 'crops', 'h1', 'perceptual'),
        ('full', 'I05', 'crops', 'h2', 'exact'),
        ('full', 'I07', 'crops', 'h3', 'crop'),
    ]
    assert 0 <= table['value'][0] <= 60 and table['value'][1] == 0 and table['value'][2] >= 0.7
    counts = {k: summary[k] for k in ('images', 'references', 'contents', 'shared', 'quarantined')}
    assert counts == {
        'images': 32, 'references': 16, 'contents': 13, 'shared': 3, 'quarantined': 1,
    }  # fmt: skip
    listed = tables.read(workdir / 'quarantine.csv')[0]
    assert listed['file'][0].endswith('cut.png') and 'truncated' in listed['reason'][0]


@pytest.mark.parametrize('index', range(10))
def test_no_content_is_on_two_sides_in_any_database(made, index):
    rows = read(made[1], index)
    pristine = [
        row for row in rows if row['image_id'].startswith('I') and len(row['image_id']) == 3
    ]
    assert [row['split'] for row in pristine] == ['pool'] * 8  # nobody rated them
    dealt = [row for row in rows if row not in pristine]
    sides = {(row['database'], row['ref_id']): row['split'] for row in dealt}
    assert len(rows) == 32 and len(sides) == 16
    assert all(sides[row['database'], row['ref_id']] == row['split'] for row in dealt)
    for file, ref_id in SHARED.items():
        assert sides['crops', file[:2]] == sides['full', ref_id]
    for name in ('full', 'crops'):
        held = [side for (database, _), side in sides.items() if database == name]
        assert (held.count('train'), held.count('test')) == (5, 3)


def test_digests_are_those_of_the_files_and_the_manifests_hold_the_split(made, databases):
    summary, workdir = made
    assert len(set(summary['digests'].values())) == len(summary['digests']) == 10
    record = json.loads((workdir / 'splits.json').read_text())
    for entry in record['splits']:
        data = (workdir / entry['file']).read_bytes()
        assert entry['sha256'] == hashlib.sha256(data).hexdigest()
        assert summary['digests'][entry['file']] == entry['sha256']
        assert entry['contents']['crops'] == {'train': 5, 'test': 3}
        assert entry['images']['full'] == {'train': 10, 'test': 6, 'pool': 8}
        assert entry['contents']['full'] == {'train': 5, 'test': 3}
    columns = manifest.read(workdir / 'split_03/full.parquet')
    sides = {row['image_id']: row for row in read(workdir, 3) if row['database'] == 'full'}
    before = manifest.read(databases / 'full.csv')
    for name in ('image_id', 'file', 'type', 'mos'):
        np.testing.assert_array_equal(columns[name], before[name])
    for name in ('split', 'content'):
        assert columns[name].tolist() == [sides[i][name] for i in columns['image_id'].tolist()]


def test_a_model_of_one_database_knows_what_the_other_shares_with_it(made):
    full, crops = (
        manifest.read(made[1] / f'split_00/{name}.parquet') for name in ('full', 'crops')
    )
    seen = exposure.seen(crops, exposure.record([full], [], []))
    known = dict(zip(crops['image_id'].tolist(), seen.tolist(), strict=True))
    assert known == dict.fromkeys(known, exposure.UNSEEN) | {
        'h1': exposure.REFERENCE, 'h2': exposure.REFERENCE, 'h3': exposure.REFERENCE,
    }  # fmt: skip


def test_a_model_knows_a_content_that_was_named_before_another_database_joined(
    made, databases, tmp_path
):
    alone = {'crops': {'manifest': 'crops.csv', 'keep': False}}
    split.run(settings(databases, databases=alone, count=1), tmp_path)
    crops = manifest.read(tmp_path / 'split_00/crops.parquet')
    full = manifest.read(made[1] / 'split_00/full.parquet')
    seen = exposure.seen(full, exposure.record([crops], [], []))
    assert {*full['ref_id'][seen == exposure.REFERENCE].tolist()} == {*SHARED.values()}
    assert {*seen.tolist()} == {exposure.UNSEEN, exposure.REFERENCE}


def test_the_splits_do_not_depend_on_the_order_of_rows_or_databases(made, databases, tmp_path):
    for name in ('full', 'crops'):
        header, *lines = (databases / f'{name}.csv').read_text().splitlines()
        (databases / f'{name}_turned.csv').write_text('\n'.join([header, *lines[::-1]]))
    turned = {name: {'manifest': f'{name}_turned.csv', 'keep': False} for name in ('crops', 'full')}
    split.run(settings(databases, databases=turned, count=2), tmp_path / 'turned')
    for index in range(2):
        found = [read(folder, index) for folder in (tmp_path / 'turned', made[1])]
        assert found[0] != found[1]
        assert sorted(map(str, found[0])) == sorted(map(str, found[1]))


def test_splits_of_a_manifest_can_be_kept_and_the_others_follow(databases, tmp_path):
    both = settings(databases, count=2)['databases'] | {
        'crops': {'manifest': 'crops.csv', 'keep': True}
    }
    split.run(settings(databases, databases=both, count=2), tmp_path)
    for index in range(2):
        rows = read(tmp_path, index)
        sides = {(row['database'], row['ref_id']): row['split'] for row in rows}
        for i, file in enumerate([*SHARED, 'cut.png', *(f'k{n}' for n in range(4))]):
            assert sides['crops', file[:2]] == ('train' if i < 5 else 'test')
        assert [sides['full', ref_id] for ref_id in SHARED.values()] == ['train'] * 3


def test_kept_splits_that_part_a_content_are_said_and_nobody_else_uses_it(
    databases, tmp_path, caplog
):
    text = (databases / 'full.csv').read_text()
    text = text.replace('_1.jpg,10,1,pool', '_1.jpg,10,1,train')
    text = text.replace('_2.jpg,10,2,pool', '_2.jpg,10,2,train')
    (databases / 'parted.csv').write_text(
        text.replace('I05_2.jpg,10,2,train', 'I05_2.jpg,10,2,test')
    )
    both = settings(databases)['databases'] | {'full': {'manifest': 'parted.csv', 'keep': True}}
    changes = {'databases': both, 'count': 1}
    summary = split.run(settings(databases, **changes), tmp_path)
    sides = {row['image_id']: row for row in read(tmp_path, 0)}
    assert [sides[f'I05{end}']['split'] for end in ('', '_1', '_2')] == ['pool', 'train', 'test']
    assert [sides[name]['split'] for name in ('h1', 'h2', 'h3')] == ['train', 'pool', 'train']
    assert summary['parted_contents'] == 1
    assert '1 contents parted by kept splits' in summary['headline']
    record = json.loads((tmp_path / 'splits.json').read_text())
    assert record['parted_contents'] == [
        {'content': sides['I05']['content'], 'test': ['full/I05'], 'train': ['full/I05']}
    ]
    assert 'Kept splits part 1 contents, the first: train full/I05; test full/I05' in caplog.text


def test_an_imported_database_has_an_opinion_for_all_that_is_trained_and_tested(tmp_path):
    layouts.kadid10k(tmp_path / 'kadid10k', references=8)
    config = import_config.get_config('smoke').to_dict()
    config |= {'name': 'kadid10k', 'folder': str(tmp_path / 'kadid10k'), 'allow_partial': True}
    import_database.run(config | {'split_shares': (1, 1, 2, 0)}, tmp_path / 'imported')
    database = {'kadid10k': {'manifest': 'imported/manifest.parquet', 'keep': False}}
    shares = {'split_shares': (5, 1, 2, 0), 'count': 2, 'distance': 0, 'correlation': 1.0}
    split.run(settings(tmp_path, databases=database, **shares), tmp_path / 'splits')
    config = train_ranking.get_config().to_dict()
    for index in range(2):
        path = str(tmp_path / f'splits/split_{index:02d}/kadid10k.parquet')
        config['databases'] = {'kadid10k': {'manifest': path, 'scores': '', 'weight': 1.0}}
        train, val, _ = train_setup.load_databases(config)
        assert (len(train[0].targets), len(val[0].targets)) == (25, 5)
        tested = manifest.in_splits(manifest.read(path), ('test',), path)
        assert len(tested['mos']) == 10 and np.isfinite(tested['mos']).all()


def test_an_imported_database_without_opinions_has_scores_for_all_that_is_trained(tmp_path):
    layouts.kadis700k(tmp_path / 'kadis700k')
    config = import_config.get_config('smoke').to_dict()
    config |= {'name': 'kadis700k', 'folder': str(tmp_path / 'kadis700k'), 'allow_partial': True}
    import_database.run(config | {'split_shares': (1, 1, 2, 0)}, tmp_path / 'imported')
    common = {'manifest': 'imported/manifest.parquet'}
    for keep, images in ((False, 10), (True, 5)):
        database = {'kadis': common | {'keep': keep}}
        changes = {'split_shares': (2, 0, 2, 0), 'count': 1, 'distance': 0, 'correlation': 1.0}
        summary = split.run(settings(tmp_path, databases=database, **changes), tmp_path / 'splits')
        assert summary['parted_contents'] == 0
        where = {'manifest': str(tmp_path / 'splits/split_00/kadis.parquet'), 'weight': 1.0}
        where['scores'] = str(tmp_path / 'imported/proxies.parquet')
        config = {'databases': {'kadis': where}, 'targets': ('ssim',), 'loss': 'mse'}
        (source,), *_ = train_setup.load_databases(config)
        assert source.targets.shape == (images, 1)
        rows = manifest.read(where['manifest'])
        assert set(rows['split'][rows['type'] == 0].tolist()) == {'pool'}


def test_large_databases_are_said_to_be_not_searched_for_crops(databases, tmp_path):
    summary = split.run(settings(databases, crop_pairs=40, count=1), tmp_path)
    assert summary['shared'] == 2
    assert '3 pairs of databases not searched for crops' in summary['headline']
    record = json.loads((tmp_path / 'splits.json').read_text())
    pairs = [['crops', 'crops'], ['crops', 'full'], ['full', 'full']]
    assert record['crops_not_searched'] == pairs


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'databases': {}}, 'config.databases is empty'),
        ({'count': 0}, 'config.count=0; use 1 or more'),
        ({'distance': 200}, 'config.distance=200; use 0 to 127 bits'),
        ({'correlation': 0}, 'config.correlation=0; use more than 0'),
        ({'split_shares': (1, 1)}, 'four non-negative numbers'),
        ({'split_shares': (30, 0, 1, 0)}, 'Database full has 8 contents, too few: split test'),
        (
            {'databases': {'full': {'manifest': 'full.csv'}}},
            r'config\.databases\.full\.keep is mis',
        ),
    ],
)
def test_what_cannot_work_is_a_sentence(databases, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        split.run(settings(databases, **changes), tmp_path)


def test_through_main_with_exit_code_3_and_again_nothing_to_do(main, databases, tmp_path):
    crops = f'--config.databases.photos.manifest={databases / "crops.csv"}'
    arguments = ('--config', 'configs/split.py:smoke', '--workdir', str(tmp_path / 'out'), crops)
    done = main(*arguments)
    assert done.returncode == 3, done.stderr
    assert (
        'split: 8 contents, 8 images, 0 parted_contents, 1 quarantined, 8 references' in done.stderr
    )
    assert {row['database'] for row in read(tmp_path / 'out', 1)} == {'photos'}
    before = (tmp_path / 'out/stage.json').stat().st_mtime_ns
    done = main(*arguments)
    assert done.returncode == 3 and 'split: up to date' in done.stderr
    assert (tmp_path / 'out/stage.json').stat().st_mtime_ns == before
