"""The manifest: one row per image, a file with its digest or a recipe that makes it."""

import collections

import numpy as np
from absl import logging

from iqa_jax import distortions
from iqa_jax.data import tables
from iqa_jax.runtime import paths
from iqa_jax.runtime.paths import Path, as_path

COLUMNS = {
    'image_id': object,
    'ref_id': object,  # image_id of the pristine photograph; images without one name themselves
    'file': object,  # relative to the manifest's folder; '' when the row is a recipe only
    'sha256': object,  # of the file's bytes
    'ref_file': object,  # pristine file, relative like `file`; a recipe is made from it
    'ref_sha256': object,  # of that file's bytes
    'type': np.int32,  # KADID's distortion number, 0 is pristine, -1 is unknown
    'level': np.int32,  # 1..5, 0 for pristine
    'seed': np.int64,
    'split': object,  # train | val | test | pool
    'content': object,  # names joined by +, equal for pictures of one scene; '' is unknown
    'database': object,  # scores are comparable within one database only
    'mos': np.float32,  # mean opinion score 0..100, higher is better; NaN when nobody rated
    'mos_std': np.float32,  # standard deviation of the opinions
    'votes': np.int32,
    'component': np.int32,  # opinions from pairs are comparable within one only
}
_DEFAULTS = {'file': '', 'sha256': '', 'ref_file': '', 'ref_sha256': ''}
_DEFAULTS |= {'type': -1, 'level': 0, 'seed': 0, 'split': 'pool', 'content': '', 'database': ''}
_DEFAULTS |= {'mos': np.nan, 'mos_std': np.nan, 'votes': 0, 'component': 0}
_PATHS = ('file', 'ref_file')


def complete(columns: tables.Table, where: str | Path) -> tables.Table:
    """Brings a table to the manifest's columns and dtypes, and checks ids.

    Raises:
      ValueError: no image_id column, an id twice, an unknown split, or text for a number.
    """
    tables.require(columns, ['image_id'], where)
    n = len(columns['image_id'])
    ids = columns['image_id'].tolist()
    if len(set(ids)) < n:
        twice = next(x for x, count in collections.Counter(ids).items() if count > 1)
        raise ValueError(f'{where} lists image_id {twice} more than once; keep one row per image.')
    result = {}
    for name, dtype in COLUMNS.items():
        if name in columns:
            result[name] = _converted(columns[name], dtype, f'{where}: column {name}')
        elif name == 'ref_id':
            result[name] = columns['image_id'].astype(object)
        else:
            result[name] = np.full(n, _DEFAULTS[name], dtype)
    for name in (*_PATHS, 'split'):
        result[name] = _texts(result[name], f'{where}: column {name}')
    unknown = set(result['split'].tolist()) - {'train', 'val', 'test', 'pool'}
    if unknown:
        raise ValueError(f'{where} has split {min(unknown)!r}; use train, val, test or pool.')
    return result


def _texts(column: np.ndarray, where: str) -> np.ndarray:
    """A column of text, '' where there is none."""
    column = np.array(['' if value is None else value for value in column], object)
    for value in column:
        if not isinstance(value, str):
            raise ValueError(f'{where} has {value!r}, which is no text; write text.')
    return column


def _converted(column: np.ndarray, dtype: type, where: str) -> np.ndarray:
    """A column of the manifest's type; whole numbers that do not fit are no other numbers."""
    try:
        with np.errstate(invalid='ignore', over='ignore'):
            made = column.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        mend = 'write nan where there is none' if dtype is np.float32 else 'it takes whole numbers'
        raise ValueError(f'{where} has something that is no number ({error}); {mend}.') from None
    if np.issubdtype(dtype, np.integer) and not np.all(wrong := made == column):
        value = column[~wrong][0]
        raise ValueError(f'{where} has {value}, which is no whole number of {made.itemsize} bytes.')
    return made


def read(path: str | Path) -> tables.Table:
    """Reads a manifest in Parquet or CSV; its paths come back joined to the manifest's folder.

    Warns when it has recipes that other code, libraries or another kind of device made.
    """
    path = as_path(path)
    table, meta = tables.read(path)
    columns = complete(table, path)
    made_by = meta.get('recipes_by')
    # Asking who we are hashes files and starts the device: only where there are recipes.
    if made_by and np.any(columns['file'] == '') and made_by != (here := distortions.identity()):
        changed = ', '.join(key for key in here if here[key] != made_by.get(key))
        logging.warning(
            'Recipes of %s may give other pixels than those that were scored, as %s changed since; '
            'run make_data again to be sure.', path, changed,
        )  # fmt: skip
    for name in _PATHS:
        files = columns[name].tolist()
        files = [paths.normal(paths.join(path.parent, f)) if f else '' for f in files]
        columns[name] = np.array(files, object)
    return columns


def write(path: str | Path, columns: tables.Table, meta: dict, fingerprint: str = '') -> None:
    """Commits a manifest; its paths are stored relative to the manifest's folder."""
    path = as_path(path)
    columns = complete(columns, path)
    for name in _PATHS:
        files = [paths.relative(f, path.parent) if f else '' for f in columns[name].tolist()]
        columns[name] = np.array(files, object)
    tables.write(path, columns, meta=meta, fingerprint=fingerprint)


def check_one_scale(columns: tables.Table, where: str | Path, mend: str) -> None:
    """Raises a ValueError that ends in `mend` where the opinions are of several components."""
    groups = len(np.unique(columns['component'][np.isfinite(columns['mos'])]))
    if groups > 1:
        raise ValueError(
            f'{where}: answers to pairs link its images to {groups} groups, between which opinions '
            f'are not comparable; {mend}.'
        )


def in_splits(columns: tables.Table, splits: tuple[str, ...], where: str | Path) -> tables.Table:
    """Rows of the named splits, in manifest order; a ValueError when there are none."""
    chosen = tables.select(columns, np.isin(columns['split'].astype(str), list(splits)))
    if not len(chosen['image_id']):
        there = sorted(set(columns['split'].tolist()))
        raise ValueError(f'{where} has no image in split {", ".join(splits)}; it has {there}.')
    return chosen
