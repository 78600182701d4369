"""Readers of published databases on tiny official layouts, and what the importer makes of them."""

import dataclasses
from pathlib import Path

import database_layouts as layouts
import numpy as np
import pytest

from iqa_jax.data import contents, kadis, manifest, records, store, tables
from iqa_jax.data.databases import DATABASES, builder, get, importer
from iqa_jax.images import io

OPTIONS = {'spread': 'std', 'splits': 'official', 'split_shares': (1, 0, 0, 0), 'seed': 0}


def read(name: str, root: Path, table: str = '', check: str = 'decode', **options):
    """The imported database; options replace those of the importer and the registry."""
    database = get(name)
    found = database.read(root, {'table': table})
    files = {*found.rows['file'], *found.rows['reference'], *found.references.values()} - {''}
    digests = importer.inspect(sorted(files), check, 2, lambda n: None)
    options = OPTIONS | {'scale': database.scale, 'spread': database.spread} | options
    return found, importer.assemble(database, found, name, options, digests)


def rated(made) -> dict[str, dict]:
    """image_id -> its values, of the rated rows."""
    rows = zip(*(made.columns[key].tolist() for key in manifest.COLUMNS), strict=True)
    found = {row[0]: dict(zip(manifest.COLUMNS, row, strict=True)) for row in rows}
    return {name: row for name, row in found.items() if np.isfinite(row['mos'])}


def close(value: float, wanted: float) -> bool:
    return abs(value - wanted) < 1e-4 * max(1, abs(wanted))


def test_kadid10k_is_higher_better_and_var_is_a_variance(tmp_path):
    found, made = read('kadid10k', layouts.kadid10k(tmp_path))
    rows = rated(made)
    assert (made.references, made.images, made.quarantine) == (4, 20, [])
    row = rows['kadid10k__I02_11_03']
    assert close(row['mos'], 100 * (4.9 - 2.1 + 0.02 - 1) / 4)
    assert close(row['mos_std'], 0.35**0.5 * 25)
    assert (row['type'], row['level'], row['votes']) == (11, 3, 30)
    assert row['ref_id'] == 'kadid10k__I02' and row['split'] == 'train'
    assert row['sha256'] == io.sha256((tmp_path / 'images/I02_11_03.png').read_bytes())
    reference = tmp_path / 'images/I02.png'
    assert [row['database'], row['ref_file']] == ['kadid10k', str(reference)]
    assert row['ref_sha256'] == io.sha256(reference.read_bytes())
    assert len(made.pairs['image_id']) == 20
    assert made.pairs['reference'][0] == str(tmp_path / 'images/I01.png')
    assert not found.unlisted


def test_kadid10k_var_read_as_a_standard_deviation_and_not_at_all(tmp_path):
    layouts.kadid10k(tmp_path)
    row = rated(read('kadid10k', tmp_path, spread='std')[1])['kadid10k__I02_11_03']
    assert close(row['mos_std'], 0.35 * 25)
    row = rated(read('kadid10k', tmp_path, spread='none')[1])['kadid10k__I02_11_03']
    assert np.isnan(row['mos_std'])


@pytest.mark.parametrize('power', [1, 2])
def test_kadid10k_warns_where_var_cannot_be_a_variance(tmp_path, power, caplog):
    layouts.kadid10k(tmp_path)
    path = tmp_path / 'dmos.csv'
    names = [line.split(',')[:2] for line in path.read_text().splitlines()[1:]]
    votes = np.random.default_rng(0).integers(1, 6, (len(names), 30))
    lines = ['dist_img,ref_img,dmos,var'] + [
        f'{a},{b},{x.mean():.2f},{x.std() ** power:.3f}'
        for (a, b), x in zip(names, votes, strict=True)
    ]
    path.write_text('\n'.join(lines))
    read('kadid10k', tmp_path)
    assert ('looks like standard deviations: 100 %' in caplog.text) == (power == 1)


def test_tid2013_matches_names_in_any_case_and_its_types_with_kadids(tmp_path):
    found, made = read('tid2013', layouts.tid2013(tmp_path))
    rows = rated(made)
    assert len(rows) == 12 and made.references == 4 and not found.unlisted and not made.quarantine
    cells = {name[-4:]: (row['type'], row['level']) for name, row in rows.items()}
    assert cells == {'08_1': (1, 1), '10_5': (10, 5), '21_3': (-1, 3)}
    row = rows['tid2013__I03_10_5']
    assert close(row['mos'], 100 * 1.5 / 9) and close(row['mos_std'], 0.15 * 100 / 9)
    assert row['ref_id'] == 'tid2013__I03'


def test_live_is_lower_better_and_leaves_references_out(tmp_path):
    found, made = read('live', layouts.live(tmp_path))
    rows = rated(made)
    assert len(rows) == 5 and 'live__jp2k__img3' not in rows and not found.unlisted
    best, worst = rows['live__jp2k__img1'], rows['live__jp2k__img6']
    assert close(best['mos'], 80) and close(worst['mos'], 30) and close(best['mos_std'], 5)
    assert (best['type'], best['level'], best['ref_id']) == (9, 0, 'live__ref0')
    assert worst['ref_id'] == 'live__ref1'
    assert made.references == 2


def test_csiq_is_lower_better_and_reads_numbers_as_names(tmp_path):
    layouts.picture(layouts.csiq(tmp_path) / 'dst_imgs/contrast/1600.contrast.1.png')
    found, made = read('csiq', tmp_path)
    rows = rated(made)
    assert len(rows) == 8 and made.references == 2
    row = rows['csiq__1600.AWGN.4']
    assert close(row['mos'], 20) and close(row['mos_std'], 5)
    assert (row['type'], row['level'], row['ref_id']) == (11, 4, 'csiq__1600')
    assert rows['csiq__aerial_city.jpeg2000.1']['type'] == 9
    assert [path.name for path in found.unlisted] == ['1600.contrast.1.png']


def test_live_challenge_keeps_training_pictures_in_the_pool(tmp_path):
    _, made = read('live_challenge', layouts.live_challenge(tmp_path))
    rows = rated(made)
    splits = [row['split'] for row in rows.values()]
    assert splits == ['pool', 'train', 'train', 'train'] and not made.quarantine
    row = rows['live_challenge__11']
    assert close(row['mos'], 40) and close(row['mos_std'], 12)
    assert row['ref_id'] == 'live_challenge__11' and row['type'] == -1
    assert made.references == 0 and not len(made.pairs['image_id'])


@pytest.mark.parametrize('sets', [True, False])
def test_koniq10k_has_its_own_sets_and_one_scale_in_both_files(tmp_path, sets):
    _, made = read('koniq10k', layouts.koniq10k(tmp_path, sets))
    rows = list(rated(made).values())
    want = ['train', 'val', 'test', 'train'] if sets else ['train'] * 4
    assert [row['split'] for row in rows] == want
    assert all(close(row['mos'], 100 * i / 3) for i, row in enumerate(rows))
    assert close(rows[0]['mos_std'], 12.5) and rows[0]['votes'] == 104


def test_koniq10k_sets_may_be_dealt_anew(tmp_path):
    options = {'splits': 'dealt', 'split_shares': (1, 1, 2, 0)}
    _, made = read('koniq10k', layouts.koniq10k(tmp_path), **options)
    assert sorted(row['split'] for row in rated(made).values()) == ['test', 'test', 'train', 'val']


def test_bid_and_spaq_read_workbooks(tmp_path):
    row = rated(read('bid', layouts.bid(tmp_path / 'bid'))[1])['bid__DatabaseImage0002']
    assert close(row['mos'], 50) and close(row['mos_std'], 10)
    row = rated(read('spaq', layouts.spaq(tmp_path / 'spaq'))[1])['spaq__00003']
    assert close(row['mos'], 60) and np.isnan(row['mos_std'])


def test_biq2021_keeps_its_two_sets(tmp_path):
    rows = rated(read('biq2021', layouts.biq2021(tmp_path))[1])
    assert {name: row['split'] for name, row in rows.items()} == {
        'biq2021__ss03__3753_': 'train',
        'biq2021__ss01__1726_': 'train',
        'biq2021__ss02__9_': 'test',
    }
    row = rows['biq2021__ss01__1726_']
    assert close(row['mos'], 75) and np.isnan(row['mos_std']) and row['votes'] == 0
    path = tmp_path / 'Train (Images and MOS).csv'
    path.write_text(path.read_text().replace(',,\n', ',0.1\n').replace('MOS,0.1', 'MOS,SD'))
    row = rated(read('biq2021', tmp_path)[1])['biq2021__ss01__1726_']
    assert close(row['mos_std'], 10)


@pytest.mark.parametrize('parts', [True, False])
def test_pipal_is_elo_in_one_folder_or_four(tmp_path, parts):
    found, made = read('pipal', layouts.pipal(tmp_path, parts))
    rows = rated(made)
    assert len(rows) == 6 and made.references == 2 and not found.unlisted
    assert {row['split'] for row in rows.values()} == {'train'}
    row = rows['pipal__A0002_01_00']
    assert close(row['mos'], 45) and row['ref_id'] == 'pipal__A0002' and row['type'] == -1


def test_waterloo_is_a_pool_of_pristine_pictures(tmp_path):
    _, made = read('waterloo', layouts.waterloo(tmp_path))
    assert (made.references, made.images) == (0, 3)
    assert made.columns['image_id'].tolist() == [f'waterloo__{i:05d}' for i in range(1, 4)]
    assert set(made.columns['split']) == {'pool'} and set(made.columns['type']) == {0}
    assert np.isnan(made.columns['mos']).all()


def test_kadis700k_makes_recipes_and_reads_7_8_as_type_8(tmp_path):
    found, made = read('kadis700k', layouts.kadis700k(tmp_path))
    columns = made.columns
    assert (made.references, made.images) == (4, 20)
    assert columns['image_id'][:2].tolist() == ['kadis700k__a_01_01', 'kadis700k__a_01_02']
    assert columns['type'][:20].tolist() == [1] * 5 + [10] * 5 + [8] * 5 + [7] * 5
    assert columns['level'][:20].tolist() == [1, 2, 3, 4, 5] * 4
    assert set(columns['file'][:20]) == {''} and set(columns['file'][20:]) == {
        str(tmp_path / f'ref_imgs/{name}.png') for name in 'abcd'
    }
    assert columns['ref_sha256'][7] == io.sha256((tmp_path / 'ref_imgs/b.png').read_bytes())
    assert columns['seed'][7] == kadis.image_seed(0, 'kadis700k__b', 10, 3)
    assert columns['split'].tolist() == ['train'] * 20 + ['pool'] * 4
    assert set(found.directions) == {
        'ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'vsi', 'fsim', 'gmsd', 'sff', 'scqi', 'add_gsim',
        'sr_sim',
    }  # fmt: skip
    assert [n for n, better in found.directions.items() if not better] == ['mdsi', 'gmsd']
    assert made.scores['image_id'].tolist() == columns['image_id'][:20].tolist()
    np.testing.assert_allclose(made.scores['ssim'][10:12], [0.88, 0.78], rtol=1e-6)
    np.testing.assert_allclose(made.scores['gmsd'][10:12], [0.12, 0.22], rtol=1e-5)


def test_kadis700k_types_in_one_quoted_cell(tmp_path):
    path = layouts.kadis700k(tmp_path, scores=False) / 'kadis700k_ref_imgs.csv'
    path.write_text('ref_im,dist_type\na.png,"7,8"\nb.png,10\n')
    _, made = read('kadis700k', tmp_path)
    assert made.columns['type'][:10].tolist() == [8] * 5 + [10] * 5
    assert (made.references, made.images) == (2, 10)


def test_kadis700k_without_scores_and_with_a_row_that_is_missing(tmp_path):
    _, made = read('kadis700k', layouts.kadis700k(tmp_path, scores=False))
    assert made.images == 20 and not made.scores
    text = (layouts.kadis700k(tmp_path) / 'kadis700k_friqa.csv').read_text().splitlines()
    (tmp_path / 'kadis700k_friqa.csv').write_text('\n'.join(text[:-1]) + '\n')
    _, made = read('kadis700k', tmp_path)
    assert made.images == 19
    assert [e['file'] for e in made.quarantine] == ['kadis700k__d_07_05']
    assert 'no finite ssim' in made.quarantine[0]['reason']


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('a.png,1,', 'a.png,26,', 'gives a.png the type 26'),
        ('a.png,1,', 'a.png,,', 'gives a.png the type'),
        ('ref_im,', 'picture,', 'no column ref_im or image'),
    ],
)
def test_kadis700k_lists_that_cannot_be_read(tmp_path, old, new, said):
    path = layouts.kadis700k(tmp_path) / 'kadis700k_ref_imgs.csv'
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=said):
        read('kadis700k', tmp_path)


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('a_gblur_1', 'a_smear_1', 'row 1 names a_smear_1.bmp'),
        ('dist_im,', 'distorted,', 'needs the columns dist_im'),
        ('.png,', '.jpeg,', None),
        ('a_gblur_', 'a_01_', None),
        (',a.png,', ',other.png,', None),
    ],
)
def test_kadis700k_score_files(tmp_path, old, new, said):
    path = layouts.kadis700k(tmp_path) / 'kadis700k_friqa.csv'
    path.write_text(path.read_text().replace(old, new))
    if said:
        with pytest.raises(ValueError, match=said):
            read('kadis700k', tmp_path)
    else:  # suffixes may differ and types be numbers; scores of other pictures do not count
        _, made = read('kadis700k', tmp_path)
        assert made.images == (15 if new == ',other.png,' else 20)


def test_a_folder_with_a_table(tmp_path):
    layouts.folder(tmp_path)
    found, made = read('folder', tmp_path, scale=(1, 5))
    rows = rated(made)
    assert len(rows) == 16 and made.references == 4 and not found.unlisted
    row = rows['folder__2_3']
    assert close(row['mos'], 30) and close(row['mos_std'], 10) and row['type'] == 11
    assert row['ref_id'] == 'folder__2' and row['file'] == str(tmp_path / '2_3.png')


def test_a_folder_whose_table_has_ids_keeps_them(tmp_path):
    layouts.picture(tmp_path / 'a.png')
    layouts.picture(tmp_path / 'b.png', 1)
    lines = ['image_id,file,ref_id,dmos,set', 'A,a.png,R,1,test', 'B,b.png,R,5,', '']
    (tmp_path / 'x.csv').write_text('\n'.join(lines))
    _, made = read('folder', tmp_path, scale=(5, 1))
    rows = rated(made)
    assert {name: row['mos'] for name, row in rows.items()} == {'A': 100, 'B': 0}
    assert {name: row['split'] for name, row in rows.items()} == {'A': 'test', 'B': 'train'}
    assert {row['ref_id'] for row in rows.values()} == {'R'}


def rate(root: Path, *lines: str, header: str = 'file,mos') -> Path:
    """Writes the table of a folder."""
    root.mkdir(exist_ok=True)
    (root / 'x.csv').write_text('\n'.join([header, *lines, '']))
    return root


def test_a_listed_path_is_never_another_picture_of_its_name(tmp_path):
    layouts.picture(tmp_path / 'b/1.png')
    found, made = read('folder', rate(tmp_path, 'a/1.png,10', 'b/1.png,90'), scale=(0, 100))
    assert made.columns['file'].tolist() == [str(tmp_path / 'b/1.png')]
    assert [entry['file'] for entry in made.quarantine] == ['folder__a__1']
    assert made.quarantine[0]['reason'] == f'{tmp_path}/a/1.png is not a file'
    assert not found.unlisted


def test_a_bare_name_is_searched_and_must_be_there_once(tmp_path):
    layouts.picture(tmp_path / 'a/1.PNG')
    found, made = read('folder', rate(tmp_path, '1.png,10'), scale=(0, 100))
    assert made.columns['file'].tolist() == [str(tmp_path / 'a/1.PNG')]
    layouts.picture(tmp_path / 'b/1.PNG')
    with pytest.raises(ValueError, match='names 1.png, which may be .*a/1.PNG or .*b/1.PNG; write'):
        read('folder', tmp_path, scale=(0, 100))
    layouts.picture(tmp_path / 'b/1.png')  # the exact name counts
    found, made = read('folder', tmp_path, scale=(0, 100))
    assert made.columns['file'].tolist() == [str(tmp_path / 'b/1.png')]
    assert sorted(f.relative_to(tmp_path).as_posix() for f in found.unlisted) == [
        'a/1.PNG', 'b/1.PNG',
    ]  # fmt: skip


def test_a_table_as_excel_saves_it_and_sets_in_koniqs_words(tmp_path):
    words = {'training': 'train', 'validation': 'val', 'test': 'test', 'pool': 'pool', '': 'train'}
    lines = []
    for i, word in enumerate(words):
        layouts.picture(tmp_path / f'{i}.png', i)
        lines.append(f'{i}.png,{20 * i},{word}')
    text = '\r\n'.join(['file,mos,set', *lines, '', '', ''])
    (tmp_path / 'x.csv').write_bytes(text.encode('utf-8-sig'))
    _, made = read('folder', tmp_path, scale=(0, 100))
    assert made.columns['split'].tolist() == list(words.values())
    assert made.columns['mos'].tolist() == [0, 20, 40, 60, 80]


def test_references_of_equal_names_are_two(tmp_path):
    for content, name in enumerate(('a/ref.png', 'b/ref.png', 'c/1.png', '1.png', '2.png')):
        layouts.picture(tmp_path / name, content)
    lines = ('1.png,a/ref.png,10', '2.png,b/ref.png,90', 'c/1.png,c/1.png,50')
    rate(tmp_path, *lines, header='file,reference,mos')
    _, made = read('folder', tmp_path, scale=(0, 100))
    assert made.columns['ref_id'][:3].tolist() == [
        'folder__a__ref', 'folder__b__ref', 'folder__c__1',
    ]  # fmt: skip
    assert made.references == 2, 'c/1.png is an image and its own reference'


def test_a_ref_id_is_of_one_picture(tmp_path):
    lines = ('1.png,a/ref.png,R,10', '2.png,b/ref.png,R,90')
    rate(tmp_path, *lines, header='file,reference,ref_id,mos')
    with pytest.raises(ValueError, match='gives ref_id R to both .*a/ref.png and .*b/ref.png'):
        read('folder', tmp_path, scale=(0, 100))


def test_an_image_never_stands_for_a_reference_of_its_name(tmp_path):
    for content, name in enumerate(('1.png', 'ref/1.png', 'a b.png', 'ref/a_b.png')):
        layouts.picture(tmp_path / name, content)
    rate(tmp_path, '1.png,ref/1.png,10', header='file,reference,mos')
    _, made = read('folder', tmp_path, scale=(0, 100))
    assert made.columns['image_id'].tolist() == ['folder__1', 'folder__ref__1']
    assert made.columns['ref_id'].tolist() == ['folder__ref__1'] * 2
    rate(tmp_path, 'a b.png,ref/a_b.png,10', header='file,reference,mos')
    with pytest.raises(ValueError, match='a b.png and its reference .*a_b.png would both be'):
        read('folder', tmp_path, scale=(0, 100))


def test_equal_names_with_two_suffixes_are_two_pictures(tmp_path):
    for name in ('a.png', 'a.jpg', 'sub/a.png'):
        layouts.picture(tmp_path / name)
    (tmp_path / 'x.csv').write_text('file,mos\na.png,10\na.jpg,50\nsub/a.png,90\n')
    _, made = read('folder', tmp_path, scale=(0, 100))
    assert made.columns['image_id'].tolist() == [
        'folder__a.png', 'folder__a.jpg', 'folder__sub__a',
    ]  # fmt: skip


def test_a_stored_image_with_a_reference_is_no_recipe(tmp_path):
    _, made = read('kadid10k', layouts.kadid10k(tmp_path))
    row = made.columns['image_id'].tolist().index('kadid10k__I02_11_05')
    pixels = store.ImageStore(made.columns).load([row])[0]
    np.testing.assert_array_equal(pixels, io.decode(tmp_path / 'images/I02_11_05.png'))
    references = contents.references({'kadid10k': tables.select(made.columns, np.array([row]))})
    assert references['file'].tolist() == [str(tmp_path / 'images/I02.png')]
    assert references['sha256'].tolist() == [made.columns['ref_sha256'][row]]


@pytest.mark.parametrize('check', importer.CHECKS)
def test_pictures_may_be_records_of_an_array_record_file(tmp_path, check):
    layouts.picture(tmp_path / 'a.png')
    data = (tmp_path / 'a.png').read_bytes()
    with records.writer(tmp_path / 'x.array_record') as append:
        append(data)
    (tmp_path / 'x.csv').write_text('image_id,file,mos\na,x.array_record#0,10\n')
    _, made = read('folder', tmp_path, scale=(0, 100), check=check)
    assert made.columns['sha256'].tolist() == ['' if check == 'presence' else io.sha256(data)]
    ((_, example),) = builder.examples(made.columns)
    assert example['image'] == data


def test_missing_and_damaged_files_are_quarantined(tmp_path):
    layouts.kadid10k(tmp_path)
    (tmp_path / 'images/I01_11_01.png').unlink()
    (tmp_path / 'images/I01_11_02.png').write_text('<html>')
    (tmp_path / 'images/I03.png').unlink()
    layouts.picture(tmp_path / 'images/more.png')
    found, made = read('kadid10k', tmp_path)
    reasons = {entry['file']: entry['reason'] for entry in made.quarantine}
    assert {*reasons} == {'kadid10k__I01_11_01', 'kadid10k__I01_11_02', 'kadid10k__I03'}
    assert 'is not a file' in reasons['kadid10k__I01_11_01']
    assert 'I01_11_02.png is not an image' in reasons['kadid10k__I01_11_02']
    assert (made.references, made.images) == (3, 18)
    assert len(made.pairs['image_id']) == 13, 'pairs of I03 need the reference, its images do not'
    assert [path.name for path in found.unlisted] == ['more.png']
    orphans = [row for row in rated(made).values() if row['ref_id'] == 'kadid10k__I03']
    assert len(orphans) == 5 and {row['ref_file'] + row['ref_sha256'] for row in orphans} == {''}
    assert read('kadid10k', tmp_path, check='digest')[1].images == 19
    assert read('kadid10k', tmp_path, check='presence')[1].images == 19


def test_a_missing_reference_takes_its_recipes_along(tmp_path):
    (layouts.kadis700k(tmp_path) / 'ref_imgs/b.png').unlink()
    _, made = read('kadis700k', tmp_path)
    assert (made.references, made.images, len(made.quarantine)) == (3, 15, 6)


def test_an_image_without_opinion_is_quarantined(tmp_path):
    path = layouts.kadid10k(tmp_path) / 'dmos.csv'
    path.write_text(path.read_text().replace('I01.png,4.21,', 'I01.png,,'))
    _, made = read('kadid10k', tmp_path)
    assert [entry['reason'] for entry in made.quarantine] == ['it has no finite opinion']


def test_other_numbers_than_the_official_ones_need_to_be_allowed(tmp_path, caplog):
    _, made = read('kadid10k', layouts.kadid10k(tmp_path))
    database = get('kadid10k')
    said = '4 usable references of 81 and 20 usable images of 10,125'
    with pytest.raises(ValueError, match=said):
        importer.check_counts(database, made.references, made.images, allow_partial=False)
    importer.check_counts(database, made.references, made.images, allow_partial=True)
    assert 'This is a part of KADID-10k' in caplog.text
    caplog.clear()
    right = dataclasses.replace(database, references=4, images=20)
    importer.check_counts(right, made.references, made.images, allow_partial=False)
    assert not caplog.text


def test_no_reference_is_in_two_splits(tmp_path):
    layouts.kadid10k(tmp_path, references=10, levels=2)
    options = {'split_shares': (5, 1, 2, 2)}
    columns = read('kadid10k', tmp_path, **options)[1].columns
    finite = np.isfinite(columns['mos'])
    split = dict(zip(columns['ref_id'][finite], columns['split'][finite], strict=True))
    assert sorted(split.values()) == sorted(['train'] * 5 + ['val'] + ['test'] * 2 + ['pool'] * 2)
    for ref_id, name in zip(columns['ref_id'][finite], columns['split'][finite], strict=True):
        assert split[ref_id] == name
    again = read('kadid10k', tmp_path, **options)[1].columns
    assert again['split'].tolist() == columns['split'].tolist()
    other = read('kadid10k', tmp_path, **options, seed=1)[1].columns
    assert other['split'].tolist() != columns['split'].tolist()


def test_every_database_is_in_the_table_of_the_page():
    text = (Path(__file__).resolve().parents[2] / 'docs/import_database.md').read_text()
    lines = {line.split('`')[1]: line for line in text.splitlines() if line.startswith('| `')}
    for name, database in DATABASES.items():
        cells = lines[name].split('|')
        numbers = (database.references, database.images)
        if None not in numbers:
            assert cells[2].startswith(' {:,}, {:,}'.format(*numbers)), name
        if database.scale:
            assert cells[3].endswith(' {}, {} '.format(*database.scale)), name


@pytest.mark.parametrize('name', list(DATABASES))
def test_an_empty_folder_says_what_it_lacks(tmp_path, name):
    with pytest.raises(ValueError, match=r'config\.(folder|table)'):
        read(name, tmp_path)


def test_opinions_far_beyond_the_scale_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'reach from 1.2 to 4.2, far beyond 0 \(worst\) to 1'):
        read('folder', layouts.folder(tmp_path), scale=(0, 1))
    with pytest.raises(ValueError, match='has no extent'):
        read('folder', tmp_path, scale=(1, 1))


def test_opinions_that_span_almost_nothing_are_warned_about(tmp_path, caplog):
    read('folder', layouts.folder(tmp_path), scale=(0, 10))
    assert not caplog.text
    read('folder', tmp_path, scale=(0, 100))
    assert 'Opinions span 3.0 % of the scale 0 to 100' in caplog.text


def test_an_unknown_database_is_answered_with_those_there_are():
    with pytest.raises(
        ValueError, match="config.name='kadid' is no database; known are kadis700k, kadid10k"
    ):
        get('kadid')
