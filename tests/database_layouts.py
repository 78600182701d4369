"""Tiny copies of published databases in their official layouts, made by the tests."""

from pathlib import Path

import numpy as np
import openpyxl
import scipy.io
from PIL import Image

SHAPE = (32, 40, 3)
FRIQA = 'ssim,msssim,iwssim,mdsi,vsi,fsim,gmsd,sff,scqi,add_gsim,sr_sim'


def picture(path: Path, content: int = 0, noise: float = 0.0) -> None:
    """A texture of its own for each content, with noise of the given standard deviation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    wave = 120 + 60 * np.sin(0.3 * x + content) + 40 * np.cos(0.2 * y * (1 + content % 3))
    image = np.repeat(wave[..., None], 3, axis=2) + np.array([0, 10, 20])
    seed = sum(map(ord, path.name)) + content
    image = image + np.random.default_rng(seed).normal(0, 1, SHAPE) * noise
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)


def workbook(path: Path, rows: list[list], sheet: str = 'Sheet1', corner: int = 0) -> None:
    """An Excel file whose table starts `corner` rows and columns away from the first cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    for _ in range(corner):
        page.append(['about this file'])
    for row in rows:
        page.append([None] * corner + list(row))
    book.save(path)


def cells(texts: list[str], column: bool = False) -> np.ndarray:
    """A MATLAB cell array of text, 1xN or Nx1."""
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(-1, 1) if column else found.reshape(1, -1)


def kadid10k(root: Path, references: int = 4, levels: int = 5) -> Path:
    lines = ['dist_img,ref_img,dmos,var']
    for ref in range(1, references + 1):
        picture(root / f'images/I{ref:02d}.png', ref)
        for level in range(1, levels + 1):
            name = f'I{ref:02d}_11_{level:02d}.png'
            picture(root / 'images' / name, ref, 8.0 * level)
            lines.append(f'{name},I{ref:02d}.png,{4.9 - 0.7 * level + 0.01 * ref:.2f},0.{level}5')
    (root / 'dmos.csv').write_text('\n'.join(lines) + '\n')
    return root


def tid2013(root: Path) -> Path:
    """Names in the mixed case of the original: I01 and i01, .bmp and .BMP."""
    lines, spread = [], []
    for ref in range(1, 5):
        picture(root / f'reference_images/I{ref:02d}.BMP', ref)
        for number, level in ((8, 1), (10, 5), (21, 3)):
            on_disk = f'i{ref:02d}_{number:02d}_{level}.bmp'
            picture(root / 'distorted_images' / on_disk, ref, 8.0 * level)
            listed = on_disk.upper().replace('BMP', 'bmp') if level == 1 else on_disk
            lines.append(f'{6.5 - level:.5f} {listed}')
            spread.append(f'0.1{level}')
    (root / 'mos_with_names.txt').write_text('\n'.join(lines) + '\n')
    (root / 'mos_std.txt').write_text('\n'.join(spread) + '\n')
    return root


def live(root: Path, entries: int = 6) -> Path:
    """The first pictures of jp2k; entry 3 is the reference once more."""
    references = [f'ref{i % 2}.bmp' for i in range(entries)]
    for i in range(2):
        picture(root / f'refimgs/ref{i}.bmp', i)
    for i in range(entries):
        picture(root / f'jp2k/img{i + 1}.bmp', i % 2, 0.0 if i == 2 else 10.0 * i)
    dmos = np.array([20.0 + 10 * i for i in range(entries)])
    dmos[2] = 0
    content = {'dmos_new': dmos[None], 'orgs': np.uint8(dmos[None] == 0)}
    content['dmos_std'] = np.full((1, entries), 5.0)
    scipy.io.savemat(root / 'dmos_realigned.mat', content)
    scipy.io.savemat(root / 'refnames_all.mat', {'refnames_all': cells(references)})
    return root


def csiq(root: Path) -> Path:
    rows = [['image', 'dst_idx', 'dst_type', 'dst_lev', 'dmos_std', 'dmos']]
    words = {'noise': 'AWGN', 'jpeg 2000': 'jpeg2000'}
    for content, name in enumerate([1600, 'aerial_city']):
        picture(root / f'src_imgs/{name}.png', content)
        for kind, word in words.items():
            for level in (1, 4):
                rows.append([name, 1, kind, level, 0.05, 0.2 * level])
                file = root / f'dst_imgs/{word.lower()}/{name}.{word}.{level}.png'
                picture(file, content, 9.0 * level)
    workbook(root / 'csiq.DMOS.xlsx', rows, 'all_by_image', corner=3)
    return root


def live_challenge(root: Path) -> Path:
    names = ['t1.bmp', '10.bmp', '11.JPG', '12.bmp']
    for content, name in enumerate(names):
        place = 'Images/trainingImages' if name.startswith('t') else 'Images'
        picture(root / place / name, content)
    (root / 'Data').mkdir()
    columns = {'Images': cells(names, column=True), 'MOS': np.array([[80.0, 60, 40, 20]])}
    columns['StdDev'] = np.array([[10.0, 11, 12, 13]])
    for kind, values in columns.items():
        path = root / f'Data/All{kind}_release.mat'
        scipy.io.savemat(path, {f'All{kind}_release': values})
    return root


def koniq10k(root: Path, sets: bool = True) -> Path:
    for i in range(4):
        picture(root / f'1024x768/{1000 + i}.jpg', i)
    values = ['0.0,0.0,0.25,0.5,0.25,104']
    rows = [f'{1000 + i}.jpg,{values[0]},{{}}' for i in range(4)]
    names = ('training', 'validation', 'test', 'training')
    if sets:
        head, name = 'c_total,MOS,SD,set', 'koniq10k_distributions_sets.csv'
        rows = [r.format(f'{1 + 33 * i},0.5,{names[i]}') for i, r in enumerate(rows)]
    else:
        head, name = 'c_total,MOS,SD,MOS_zscore', 'koniq10k_scores_and_distributions.csv'
        rows = [r.format(f'{1 + i},0.5,{1 + 33 * i}') for i, r in enumerate(rows)]
    (root / name).write_text('\n'.join([f'image_name,c1,c2,c3,c4,c5,{head}', *rows]) + '\n')
    return root


def bid(root: Path) -> Path:
    rows = [['Image Number', 'Average Subjective Grade', 'std']]
    for i in range(1, 5):
        picture(root / f'ImageDatabase/DatabaseImage{i:04d}.JPG', i)
        rows.append([i, 1.25 * i, 0.5])
    workbook(root / 'DatabaseGrades.xlsx', rows, 'Plan1')
    return root


def spaq(root: Path) -> Path:
    rows = [['Image name', 'MOS', 'Brightness']]
    for i in range(1, 5):
        picture(root / f'TestImage/{i:05d}.jpg', i)
        rows.append([f'{i:05d}.jpg', 20.0 * i, 50])
    workbook(root / 'Annotations/MOS and Image attribute scores.xlsx', rows)
    return root


def biq2021(root: Path) -> Path:
    """Header, names and empty last columns as in the authors' files."""
    names = {'Train': ['ss03 (3753).jpg', 'ss01 (1726).jpg'], 'Test': ['ss02 (9).jpg']}
    for split, listed in names.items():
        lines = ['Image Name,MOS,,']
        for i, name in enumerate(listed):
            picture(root / 'Images' / name, len(lines) + len(split))
            lines.append(f'{name},{0.25 + 0.5 * i},,')
        (root / f'{split} (Images and MOS).csv').write_text('\n'.join(lines) + '\n')
    return root


def pipal(root: Path, parts: bool = False) -> Path:
    (root / 'Train_Label').mkdir(parents=True)
    for ref in range(1, 3):
        picture(root / f'Train_Ref/A{ref:04d}.bmp', ref)
        lines = []
        for i in range(3):
            place = f'Distortion_{i + 1}' if parts else 'Train_Dist'
            picture(root / place / f'A{ref:04d}_{i:02d}_00.bmp', ref, 10.0 * i)
            lines.append(f'A{ref:04d}_{i:02d}_00.bmp,{1350 - 55 * i}.0')
        (root / f'Train_Label/A{ref:04d}.txt').write_text('\n'.join(lines) + '\n')
    return root


def waterloo(root: Path) -> Path:
    for i in range(1, 4):
        picture(root / f'exploration_database_and_code/pristine_images/{i:05d}.bmp', i)
    return root


def kadis700k(root: Path, scores: bool = True) -> Path:
    """Four photographs; the third says 7 and 8."""
    types = {'a.png': (1, ''), 'b.png': (10, ''), 'c.png': (7, 8), 'd.png': (7, '')}
    words = {'a.png': 'gblur', 'b.png': 'jpeg', 'c.png': 'saturate', 'd.png': 'colorsaturate'}
    lines, rows = ['ref_im,dist_type_1,dist_type_2'], [f'dist_im,ref_im,{FRIQA}']
    for content, (name, (first, second)) in enumerate(types.items()):
        picture(root / 'ref_imgs' / name, content)
        lines.append(f'{name},{first},{second}')
        for level in range(1, 6):
            good = 1 - 0.1 * level - 0.01 * content
            lower = {'mdsi', 'gmsd'}
            values = [f'{1 - good if s in lower else good:.4f}' for s in FRIQA.split(',')]
            rows.append(f'{name[0]}_{words[name]}_{level}.bmp,{name},{",".join(values)}')
    (root / 'kadis700k_ref_imgs.csv').write_text('\n'.join(lines) + '\n')
    if scores:
        (root / 'kadis700k_friqa.csv').write_text('\n'.join(rows) + '\n')
    return root


def folder(root: Path) -> Path:
    """References, distorted pictures and a table with a column of opinions of 1 (bad) to 5."""
    lines = ['file,reference,mos,std,type']
    for ref in range(4):
        picture(root / f'ref/{ref}.png', ref)
        for level in range(1, 5):
            picture(root / f'{ref}_{level}.png', ref, 10.0 * level)
            lines.append(f'{ref}_{level}.png,ref/{ref}.png,{5.2 - level},0.4,11')
    (root / 'opinions.csv').write_text('\n'.join(lines) + '\n')
    return root
