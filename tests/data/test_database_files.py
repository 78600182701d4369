"""Score files that cannot be read as they should: one sentence that names file and mend."""

import sys

import database_layouts as layouts
import numpy as np
import pytest
import scipy.io

from iqa_jax.data.databases import get, layout


def test_find_looks_below_and_takes_the_uppermost(tmp_path):
    deep = tmp_path / 'archive/database/DMOS.csv'
    deep.parent.mkdir(parents=True)
    deep.write_text('x')
    assert layout.find(tmp_path, 'dmos.csv') == deep
    (tmp_path / 'dmos.CSV').write_text('x')
    assert layout.find(tmp_path, 'dmos.csv').name == 'dmos.CSV'
    assert layout.find(tmp_path, 'other', optional=True) is None
    with pytest.raises(ValueError, match='holds no other or more; config.folder is'):
        layout.find(tmp_path, 'other', 'more')
    (tmp_path / 'Dmos.csv').write_text('y')
    with pytest.raises(ValueError, match='holds both .*Dmos.csv and .*dmos.CSV'):
        layout.find(tmp_path, 'dmos.csv')


def test_lookup_prefers_the_exact_name(tmp_path):
    for name in ('I01.bmp', 'i01.BMP', 'i02.BMP', 'notes.txt'):
        (tmp_path / name).write_text('x')
    files = layout.pictures(tmp_path)
    assert layout.lookup(files, 'I01.bmp', tmp_path) == str(tmp_path / 'I01.bmp')
    assert layout.lookup(files, 'i01.BMP', tmp_path) == str(tmp_path / 'i01.BMP')
    assert layout.lookup(files, 'I02.bmp', tmp_path) == str(tmp_path / 'i02.BMP')
    assert layout.lookup(files, 'I03.bmp', tmp_path) == str(tmp_path / 'I03.bmp')
    assert layout.unlisted(files, [tmp_path / 'I01.bmp']) == [
        tmp_path / 'i01.BMP',
        tmp_path / 'i02.BMP',
    ]


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('dist_img,ref_img,quality,var\na,b,1,2\n', 'no column dmos; it has dist_img, ref_img, q'),
        ('dist_img,ref_img,dmos,var\n', 'has no row below its header'),
        ('dist_img,ref_img,dmos,var\na,b,1\n', 'line 2 has 3 fields, the header 4'),
        ('dist_img,ref_img,dmos,var\nI01_1_1.png,I01.png,good,1\n', "dmos of row 1 is 'good'"),
        ('dist_img,ref_img,dmos,var\nI01.png,I01.png,1,1\n', 'names I01; distorted images are'),
    ],
)
def test_damaged_csv(tmp_path, text, said):
    (layouts.kadid10k(tmp_path) / 'dmos.csv').write_text(text)
    with pytest.raises(ValueError, match=said):
        get('kadid10k').read(tmp_path, {})


def test_damaged_text_and_koniq_sets(tmp_path):
    (layouts.tid2013(tmp_path / 'tid') / 'mos_with_names.txt').write_text('5.5 I01.bmp\n')
    with pytest.raises(ValueError, match='expected like 5.51 I01_08_3.bmp'):
        get('tid2013').read(tmp_path / 'tid', {})
    layouts.tid2013(tmp_path / 'tid')
    (tmp_path / 'tid/mos_std.txt').write_text('0.1\n0.2\n')
    with pytest.raises(ValueError, match='differ in number: mos 12, mos_std 2'):
        get('tid2013').read(tmp_path / 'tid', {})
    (layouts.pipal(tmp_path / 'pipal') / 'Train_Label/A0001.txt').write_text('A0001_00_00.bmp\n')
    with pytest.raises(ValueError, match='expected like A0001_00_00.bmp,1419'):
        get('pipal').read(tmp_path / 'pipal', {})
    path = layouts.koniq10k(tmp_path / 'koniq') / 'koniq10k_distributions_sets.csv'
    path.write_text(path.read_text().replace('validation', 'dev'))
    with pytest.raises(ValueError, match="has set 'dev'; known are training"):
        get('koniq10k').read(tmp_path / 'koniq', {})


def test_damaged_matlab_files(tmp_path):
    path = layouts.live(tmp_path) / 'dmos_realigned.mat'
    scipy.io.savemat(path, {'dmos': np.zeros((1, 6))})
    with pytest.raises(ValueError, match='has no variable dmos_new, orgs, dmos_std; it has dmos'):
        get('live').read(tmp_path, {})
    columns = dict.fromkeys(('dmos_new', 'orgs', 'dmos_std'), np.zeros((1, 5)))
    scipy.io.savemat(path, columns)
    with pytest.raises(ValueError, match='differ in number: dmos_new 5, refnames_all 6'):
        get('live').read(tmp_path, {})
    path.write_bytes(b'no such thing')
    with pytest.raises(ValueError, match='not a readable MATLAB file'):
        get('live').read(tmp_path, {})


def test_damaged_workbooks(tmp_path):
    path = layouts.csiq(tmp_path) / 'csiq.DMOS.xlsx'
    layouts.workbook(path, [['image', 'dst_type', 'dst_lev', 'dmos_std', 'dmos']])
    with pytest.raises(ValueError, match='no row with the header image, .* in sheet all_by_image'):
        get('csiq').read(tmp_path, {})
    rows = [['image', 'dst_type', 'dst_lev', 'dmos_std', 'dmos'], [1600, 'smear', 1, 0.1, 0.1]]
    layouts.workbook(path, rows, 'all_by_image')
    with pytest.raises(ValueError, match='has dst_type smear; known are noise'):
        get('csiq').read(tmp_path, {})
    rows[1] = [1600, 'jpeg', 1.5, 0.1, 0.1]
    layouts.workbook(path, rows, 'all_by_image')
    with pytest.raises(ValueError, match='dst_lev of row 1 is 1.5, no whole number'):
        get('csiq').read(tmp_path, {})
    path.write_bytes(b'PK no such thing')
    with pytest.raises(ValueError, match='not a readable Excel workbook'):
        get('csiq').read(tmp_path, {})


def test_without_openpyxl_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    layouts.bid(tmp_path)
    monkeypatch.setitem(sys.modules, 'openpyxl', None)
    with pytest.raises(ValueError, match=r'needs openpyxl; install it with .*\[databases\]'):
        get('bid').read(tmp_path, {})


@pytest.mark.parametrize(
    ('files', 'table', 'said'),
    [
        ({}, '', 'holds 0 CSV files'),
        ({'a.csv': 'file,mos\n', 'b.csv': 'file,mos\n'}, '', 'holds 2 CSV files'),
        ({}, 'x.csv', 'There is no .*x.csv'),
        ({'a.csv': 'picture,mos\na.png,1\n'}, '', 'has no column file or image'),
        ({'a.csv': 'file,mos\n'}, '', 'names no file in some row'),
        ({'a.csv': 'file,mos\n,1\n'}, '', 'names no file in some row'),
        ({'a.csv': 'file,mos\na.png,bad\n'}, '', "mos of row 1 is 'bad', no number"),
    ],
)
def test_tables_of_a_folder_that_cannot_be_read(tmp_path, files, table, said):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        get('folder').read(tmp_path, {'table': table})
