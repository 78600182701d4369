"""KADIS-700k: recipes for 700,000 distorted images, and the authors' scores of them.

The archive holds 140,000 pristine pictures and no distorted one; a recipe stands for each of them.
"""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from iqa_jax.data import tables
from iqa_jax.data.databases import layout

LEVELS = np.arange(1, 6)
# Words for the types in the names of kadis700k_friqa.csv, number 1 first.
WORDS = (
    'gblur', 'lblur', 'mblur', 'colordiffuse', 'colorshift', 'colorquantize', 'colorsaturate',
    'saturate', 'jp2k', 'jpeg', 'noisegauss', 'noisecolorcomp', 'noiseimpulse',
    'noisemultiplicative', 'denoise', 'brighten', 'darken', 'meanshift', 'jitter',
    'noneccentricity', 'pixelate', 'noisequantize', 'colorblock', 'sharpenhi', 'contrastchange',
)  # fmt: skip
# Name in the file without `_` -> (our name, whether higher is better).
SCORES = {
    'ssim': ('ssim', True),
    'msssim': ('ms_ssim', True),
    'iwssim': ('iw_ssim', True),
    'mdsi': ('mdsi', False),
    'vsi': ('vsi', True),
    'fsim': ('fsim', True),
    'fsimc': ('fsimc', True),
    'gmsd': ('gmsd', False),
    'sff': ('sff', True),
    'scqi': ('scqi', True),
    'addgsim': ('add_gsim', True),
    'srsim': ('sr_sim', True),
}


def read_kadis700k(folder: Path, options: dict) -> layout.Found:
    """KADIS-700k: kadis700k_ref_imgs.csv, ref_imgs/ and, if there, kadis700k_friqa.csv.

    A row of the list names a pristine picture and its type, of which all five levels are made. Rows
    that say 7 and 8 are type 8: the authors' scores name as many images of type 8, though their
    program would read 7.
    """
    path = layout.find(folder, 'kadis700k_ref_imgs.csv')
    images = layout.find(folder, 'ref_imgs')
    table = layout.read_csv(path)
    listed = layout.column(table, 'ref_im', 'image', where=path)
    kinds = [table[name] for name in table if table[name] is not listed]
    if not kinds:
        raise ValueError(f'{path} has no column of types beside {next(iter(table))}.')
    types = [_type(cells, listed[i], path) for i, cells in enumerate(zip(*kinds, strict=True))]
    files = layout.pictures(images)
    paths = [layout.lookup(files, name, images) for name in listed]
    stems = [layout.stem(name) for name in listed]
    names = [f'{s}_{t:02d}_{k:02d}' for s, t in zip(stems, types, strict=True) for k in LEVELS]
    rows = layout.rows(
        names,
        [''] * len(names),
        ref_name=np.repeat(np.array(stems, object), 5),
        reference=np.repeat(np.array(paths, object), 5),
        type=np.repeat(types, 5),
        level=np.tile(LEVELS, len(types)),
    )
    found = layout.Found(rows, [path], dict(zip(stems, paths, strict=True)))
    found.unlisted = layout.unlisted(files, paths)
    scores = layout.find(folder, 'kadis700k_friqa.csv', optional=True)
    if scores:
        found.sources.append(scores)
        found.scores, found.directions = _scores(scores, names)
    return found


def _type(cells: tuple[str, ...], name: str, where: Path) -> int:
    """KADID's number that the cells of a row give; 7 together with 8 is 8."""
    found = {int(x) for cell in cells for x in re.findall(r'\d+', cell)} - {0}
    if found == {7, 8}:
        return 8
    if len(found) != 1 or not 1 <= min(found) <= 25:
        raise ValueError(f'{where} gives {name} the type {", ".join(cells)}; use one of 1 to 25.')
    return found.pop()


def _scores(path: Path, names: list[str]) -> tuple[dict, dict]:
    """Scores of the named recipes, float32 [N], NaN where the file has no row, and directions.

    Raises:
      ValueError: no known column, a name that is not understood, or no row of any recipe.
    """
    try:
        # The file has 8 million cells; as Python text they would fill a gigabyte.
        table = csv.read_csv(path)
    except pa.ArrowException as error:
        raise tables.unreadable(path, error) from error
    known = {re.sub(r'[\s_-]', '', name.casefold()): name for name in table.column_names}
    chosen = {SCORES[key]: name for key, name in known.items() if key in SCORES}
    if not {'distim', 'refim'} <= set(known) or not chosen:
        raise ValueError(
            f'{path} needs the columns dist_im, ref_im and scores such as ssim; '
            f'it has {", ".join(table.column_names)}.'
        )
    numbers = {word: n for n, word in enumerate(WORDS, 1)}
    numbers |= {f'{n:02d}': n for n in range(1, 26)}
    index = {name: i for i, name in enumerate(names)}
    pairs = zip(table[known['distim']].to_pylist(), table[known['refim']].to_pylist(), strict=True)
    at = np.empty(len(table), np.int64)
    for row, (distorted, reference) in enumerate(pairs):
        parts = distorted.rpartition('.')[0].rsplit('_', 2)
        if len(parts) != 3 or parts[1].casefold() not in numbers or not parts[2].isdecimal():
            raise ValueError(
                f'{path} row {row + 1} names {distorted}; expected like {reference}_gblur_1.bmp.'
            )
        number = numbers[parts[1].casefold()]
        stem = reference.rpartition('.')[0]
        at[row] = index.get(f'{stem}_{number:02d}_{int(parts[2]):02d}', -1)
    there = at >= 0
    if not there.any():
        raise ValueError(f'{path} has no score of a picture of the list; are they of one release?')
    scores = {}
    for (name, _), column in chosen.items():
        scores[name] = np.full(len(names), np.nan, np.float32)
        scores[name][at[there]] = table[column].to_numpy()[there]
    return scores, dict(list(chosen))
