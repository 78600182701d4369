"""A folder and a table: any database that has no importer of its own."""

import collections
from pathlib import Path

from iqa_jax.data import tables
from iqa_jax.data.databases import layout

# Column -> names under which tables are read; all but `file` may be missing.
COLUMNS = {
    'file': ('file', 'image', 'image_name', 'filename', 'name', 'dist_img', 'path'),
    'image_id': ('image_id',),
    'mos': ('mos', 'dmos', 'opinion', 'score'),
    'mos_std': ('mos_std', 'std', 'sd', 'var'),
    'votes': ('votes',),
    'reference': ('reference', 'ref_img', 'ref', 'reference_image'),
    'ref_id': ('ref_id',),
    'type': ('type',),
    'level': ('level',),
    'split': ('split', 'set'),
}


def read_folder(folder: Path, options: dict) -> layout.Found:
    """A folder with a CSV or Parquet table that names its pictures, `options['table']`.

    Of each of COLUMNS the first name that the table has is taken. Files are relative to the table,
    or names of pictures anywhere in the folder. Opinions are in the units of config.scale. With a
    column image_id its ids are kept; otherwise they come from the files' names.

    Raises:
      ValueError: there is not one table, it names no file in a row, or a cell is no number.
    """
    path = _table(Path(folder), options['table'])
    table, meta = tables.read(path)
    columns = {name: values.tolist() for name, values in table.items()}
    given = {
        key: layout.column(columns, *names, where=path, optional=key != 'file')
        for key, names in COLUMNS.items()
    }
    listed = [str(name) for name in given['file']]
    if not all(listed) or not listed:
        raise ValueError(f'{path} names no file in some row; name a picture in each.')
    files = layout.pictures(folder, deep=True)
    paths = [_path(name, path, files) for name in listed]
    reference = [_path(str(r), path, files) if r else '' for r in given['reference'] or []]
    ref_names = given['ref_id'] or [Path(r).stem for r in reference]
    rows = layout.rows(
        given['image_id'] or _names(listed),
        paths,
        ref_name=ref_names or None,
        reference=reference or None,
        opinion=layout.numbers(given['mos'], 'mos', path),
        spread=layout.numbers(given['mos_std'], 'mos_std', path),
        votes=layout.whole(given['votes'], 'votes', path, 0),
        type=layout.whole(given['type'], 'type', path, -1),
        level=layout.whole(given['level'], 'level', path, 0),
        split=given['split'],
    )
    found = {n: r for n, r in zip(rows['ref_name'], rows['reference'], strict=True) if r}
    return layout.Found(
        rows,
        [path],
        found,
        layout.unlisted(files, paths, found.values()),
        own_ids=given['image_id'] is not None,
        simulated=bool(meta.get('simulated', False)),
    )


def _table(folder: Path, name: str) -> Path:
    """The table of that name; '' is the only CSV of the folder."""
    if name:
        if not (folder / name).is_file():
            raise ValueError(f'There is no {folder / name}; config.table is below config.folder.')
        return folder / name
    there = sorted(folder.glob('*.csv'))
    if len(there) != 1:
        raise ValueError(f'{folder} holds {len(there)} CSV files; name one in config.table.')
    return there[0]


def _path(name: str, table: Path, files: dict[str, Path]) -> str:
    """A named picture beside the table, else anywhere in the folder, else where it should be."""
    beside = table.parent / name
    if beside.is_file():
        return str(beside)
    return layout.lookup(files, Path(name).name, table.parent)


def _names(listed: list[str]) -> list[str]:
    """Names without suffix; those that would be equal keep it."""
    stems = [layout.stem(name) for name in listed]
    count = collections.Counter(stems)
    return [s if count[s] == 1 else n for s, n in zip(stems, listed, strict=True)]
