"""A folder and a table: any database that has no importer of its own."""

import collections
import os
from pathlib import Path

from iqa_jax.data import sources, tables
from iqa_jax.data.databases import layout

# Column -> names under which tables are read; all but `file` may be missing.
COLUMNS = {
    'file': ('file', 'image', 'image_name', 'filename', 'name', 'dist_img', 'path'),
    'image_id': ('image_id',),
    'mos': ('mos', 'dmos', 'opinion', 'score'),
    'mos_std': ('mos_std', 'std', 'sd'),
    'variance': ('var', 'variance'),
    'votes': ('votes',),
    'reference': ('reference', 'ref_img', 'ref', 'reference_image'),
    'ref_id': ('ref_id',),
    'type': ('type',),
    'level': ('level',),
    'split': ('split', 'set'),
}


def read_folder(folder: Path, options: dict) -> layout.Found:
    """A folder with a CSV or Parquet table that names its pictures, `options['table']`.

    Of each of COLUMNS the first name that the table has is taken. Files are relative to the table;
    a name without a folder may also lie in one place anywhere below config.folder. Opinions are in
    the units of config.scale; a manifest of this program says by its metadata that they are 0..100.
    With a column image_id its ids are kept; otherwise they come from the files' names.

    Raises:
      ValueError: there is not one table, it names no file in a row, a bare name lies in two places,
        a ref_id has two pictures, a cell is no number, or opinions of pairs are not one scale.
    """
    path = _table(Path(folder), options['table'])
    table, meta = tables.read(path)
    columns = {name: values.tolist() for name, values in table.items()}
    if 'scaling' in meta and len(set(columns.get('component', []))) > 1:
        raise ValueError(
            f'{path} holds opinions from pairs, comparable within their component only; name it in '
            'config.databases of a training as it is.'
        )
    given = {
        key: layout.column(columns, *names, where=path, optional=key != 'file')
        for key, names in COLUMNS.items()
    }
    listed = [str(name) for name in given['file']]
    if not all(listed) or not listed:
        raise ValueError(f'{path} names no file in some row; name a picture in each.')
    places = _places(Path(folder))
    paths = [_path(name, path, places) for name in listed]
    reference = [_path(str(r), path, places) if r else '' for r in given['reference'] or []]
    names = given['image_id'] or _names(listed)
    called = _reference_names(reference, path.parent, dict(zip(names, paths, strict=True)))
    ref_names = given['ref_id'] or [called[r] for r in reference]
    rows = layout.rows(
        names,
        paths,
        ref_name=ref_names or None,
        reference=reference or None,
        opinion=layout.numbers(given['mos'], 'mos', path),
        spread=layout.numbers(given['mos_std'] or given['variance'], 'the spread', path),
        votes=layout.whole(given['votes'], 'votes', path, 0),
        type=layout.whole(given['type'], 'type', path, -1),
        level=layout.whole(given['level'], 'level', path, 0),
        split=[layout.SETS.get(word, word) for word in given['split'] or []] or None,
    )
    found = {}
    for ref_id, file in zip(rows['ref_name'], rows['reference'], strict=True):
        if file and found.setdefault(ref_id, file) != file:
            raise ValueError(f'{path} gives ref_id {ref_id} to both {found[ref_id]} and {file}.')
    return layout.Found(
        rows,
        [path],
        found,
        layout.unlisted({str(f): f for there in places.values() for f in there}, paths, reference),
        own_ids=given['image_id'] is not None,
        simulated=bool(meta.get('simulated', False)),
        scale=(0, 100) if meta and 'mos' in table else None,
        spread='variance' if given['variance'] and not given['mos_std'] else '',
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


def _places(folder: Path) -> dict[str, list[Path]]:
    """Pictures in and below a folder by their names in lower case."""
    places = collections.defaultdict(list)
    for directory, _, names in os.walk(folder):
        for name in names:
            if os.path.splitext(name)[1].lower() in sources.SUFFIXES:
                places[name.casefold()].append(Path(directory) / name)
    return places


def _path(name: str, table: Path, places: dict[str, list[Path]]) -> str:
    """A named picture beside the table; a bare name also elsewhere; else where it should be.

    Raises:
      ValueError: pictures of that bare name lie in several places.
    """
    beside = table.parent / name
    # A name with a folder says where it lies; another picture of its name is another picture.
    if beside.is_file() or Path(name).name != name:
        return str(beside)
    there = places.get(name.casefold(), [])
    there = [place for place in there if place.name == name] or there
    if len(there) > 1:
        first, second = sorted(there)[:2]
        raise ValueError(
            f'{table} names {name}, which may be {first} or {second}; write its folder before it.'
        )
    return str(there[0] if there else beside)


def _names(listed: list[str]) -> list[str]:
    """Names without suffix; those that would be equal keep it."""
    stems = [layout.stem(name) for name in listed]
    count = collections.Counter(stems)
    return [s if count[s] == 1 else n for s, n in zip(stems, listed, strict=True)]


def _reference_names(files: list[str], folder: Path, images: dict[str, str]) -> dict[str, str]:
    """File -> name of each reference: its stem, or its path where that would name two pictures.

    Args:
      files: references, '' where an image has none.
      folder: of the table.
      images: name -> file of the images.
    """
    distinct = sorted({*files} - {''})
    count = collections.Counter(Path(file).stem for file in distinct)
    whole = dict(zip(distinct, _names([os.path.relpath(f, folder) for f in distinct]), strict=True))
    found = {'': ''}
    for file in distinct:
        stem = Path(file).stem
        alone = count[stem] == 1 and images.get(stem, file) == file
        found[file] = stem if alone else whole[file]
    return found
