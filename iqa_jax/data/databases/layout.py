"""Files of a published database as its authors laid them out: found in any case, read as tables.

Every reader of a database returns a `Found`; nothing here or there opens an image.
"""

import csv
import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iqa_jax.data import sources, tables

SETS = {'training': 'train', 'validation': 'val', 'test': 'test'}  # words of KonIQ-10k and others
DEPTH = 2  # folders below the given one that are searched; archives unpack into some


@dataclasses.dataclass
class Found:
    """What a reader found.

    `rows` has the columns name (text, becomes the image_id), file ('' for a recipe), ref_name and
    reference ('' where there is none), all text; opinion and spread, float64 in the database's own
    units, NaN where there is none; votes, type and level, integers; split, text, '' where the
    database has none of its own. `scores` are columns [N] beside the rows, `directions` say of each
    whether higher is better. `unlisted` are pictures that the score file does not know, `sources`
    the files that were read. `scale` and `spread` are those of `registry.Database` where only the
    score file tells them.
    """

    rows: tables.Table
    sources: list[Path]
    references: dict[str, str] = dataclasses.field(default_factory=dict)  # name -> file
    unlisted: list[Path] = dataclasses.field(default_factory=list)
    scores: tables.Table = dataclasses.field(default_factory=dict)
    directions: dict[str, bool] = dataclasses.field(default_factory=dict)
    own_ids: bool = False  # names are ids already and get no prefix
    simulated: bool = False  # opinions of no people
    scale: tuple[float, float] | None = None
    spread: str = ''


def rows(names: Sequence[str], files: Sequence[str], **columns) -> tables.Table:
    """The columns of `Found.rows`; what is not given is filled with its empty value."""
    n = len(names)
    empty = {'ref_name': '', 'reference': '', 'split': '', 'opinion': np.nan, 'spread': np.nan}
    empty |= {'votes': 0, 'type': -1, 'level': 0}
    table = {'name': _texts(names), 'file': _texts(files)}
    for key, value in empty.items():
        given = columns.pop(key, None)
        given = [value] * n if given is None else given
        if isinstance(value, str):
            table[key] = _texts(given)
        else:
            table[key] = np.asarray(given, np.float64 if isinstance(value, float) else np.int64)
    assert not columns, f'unknown columns {sorted(columns)}'
    return table


def find(folder: Path, *names: str, optional: bool = False) -> Path | None:
    """The file or folder of one of these names, in any case, in `folder` or up to two levels below.

    Of several levels the uppermost counts, of several names the first.

    Raises:
      ValueError: there is none and it is not optional, or there are two on one level.
    """
    level = [Path(folder)]
    for _ in range(DEPTH + 1):
        there: dict[str, list[Path]] = {}
        below = []
        for directory in level:
            for entry in sorted(os.scandir(directory), key=lambda e: e.name):
                there.setdefault(entry.name.casefold(), []).append(Path(entry.path))
                if entry.is_dir():
                    below.append(Path(entry.path))
        for name in names:
            hits = there.get(name.casefold(), [])
            if len(hits) > 1:
                raise ValueError(f'{folder} holds both {hits[0]} and {hits[1]}; keep one of them.')
            if hits:
                return hits[0]
        level = below
    if optional:
        return None
    raise ValueError(
        f'{folder} holds no {" or ".join(names)}; config.folder is the directory that the archive '
        'of the database was unpacked into.'
    )


def pictures(folder: Path, deep: bool = False) -> dict[str, Path]:
    """Picture files of a folder, with `deep` also below it, by name and by name in lower case."""
    walk = os.walk(folder) if deep else [(folder, [], [e.name for e in os.scandir(folder)])]
    exact, folded = {}, {}
    for directory, _, names in walk:
        for name in names:
            if os.path.splitext(name)[1].lower() in sources.SUFFIXES:
                exact[name] = Path(directory) / name
                folded[name.casefold()] = exact[name]
    return folded | exact


def lookup(files: dict[str, Path], name: str, folder: Path) -> str:
    """Path of a picture by its name in any case; where it should be if it is not there."""
    return str(files.get(name) or files.get(name.casefold()) or Path(folder) / name)


def unlisted(files: dict[str, Path], *listed: Sequence[str]) -> list[Path]:
    """Pictures that none of the lists of paths names, in name order."""
    known = {str(file) for part in listed for file in part}
    return sorted({file for file in files.values() if str(file) not in known})


def stem(name: str) -> str:
    """A picture's name without its suffix; other dots belong to the name."""
    return os.path.splitext(name)[0]


def read_csv(path: Path) -> dict[str, list[str]]:
    """Columns of a CSV with a header as text; blank lines are skipped.

    Raises:
      ValueError: it is empty, not text, or a row is longer or shorter than the header.
    """
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            lines = [(i, row) for i, row in enumerate(csv.reader(file), 1) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{path} is not a readable CSV: {error}.') from error
    if len(lines) < 2:
        raise ValueError(f'{path} has no row below its header.')
    header = [name.strip() for name in lines[0][1]]
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise ValueError(
                f'{path} line {number} has {len(row)} fields, the header {len(header)}.'
            )
    columns = zip(*(row for _, row in lines[1:]), strict=True)
    return {name: list(column) for name, column in zip(header, columns, strict=True)}


def read_sheet(path: Path, *header: str, sheet: str = '') -> dict[str, list]:
    """Columns of an Excel workbook below the first row that holds all names of `header`.

    Args:
      path: of the .xlsx file.
      header: names that make the header row, in any case; the row may lie anywhere.
      sheet: name of the sheet; '' searches all of them.

    Raises:
      ValueError: openpyxl is not installed, the file cannot be read, or no row holds the header.
    """
    try:
        import openpyxl  # only three of the databases come as Excel workbooks
    except ImportError as error:
        raise ValueError(
            f"Reading {path} needs openpyxl; install it with pip install 'iqa-jax-gmad[databases]'."
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        chosen = [s for s in book.sheetnames if not sheet or s.casefold() == sheet.casefold()]
        cells = {name: list(book[name].iter_rows(values_only=True)) for name in chosen}
        book.close()
    # A damaged workbook makes openpyxl raise almost any class; all of them mean the same here.
    except Exception as error:
        raise ValueError(f'{path} is not a readable Excel workbook: {error}.') from error
    wanted = {_folded(name) for name in header}
    for grid in cells.values():
        for i, row in enumerate(grid):
            if wanted <= {_folded(str(cell)) for cell in row if cell is not None}:
                body = [r for r in grid[i + 1 :] if any(c is not None for c in r)]
                return {str(n): [r[k] for r in body] for k, n in enumerate(row) if n is not None}
    where = f'sheet {sheet}' if sheet else 'any sheet'
    raise ValueError(f'{path} has no row with the header {", ".join(header)} in {where}.')


def read_mat(path: Path, *names: str) -> list[np.ndarray]:
    """Variables of a MATLAB file, each [N]: numbers as float64, cells of text as objects.

    Raises:
      ValueError: the file cannot be read, a variable is missing, or they differ in length.
    """
    import scipy.io  # takes a tenth of a second that no other importer needs

    try:
        content = scipy.io.loadmat(path, squeeze_me=True)
    # As above: whatever scipy raises on a damaged file means one thing.
    except Exception as error:
        raise ValueError(f'{path} is not a readable MATLAB file: {error}.') from error
    if missing := [name for name in names if name not in content]:
        there = ', '.join(key for key in content if not key.startswith('__'))
        raise ValueError(f'{path} has no variable {", ".join(missing)}; it has {there}.')
    found = [np.atleast_1d(content[name]).ravel() for name in names]
    found = [_texts(x) if x.dtype.kind in 'OU' else x.astype(np.float64) for x in found]
    same_length(path, **dict(zip(names, found, strict=True)))
    return found


def column(table: dict[str, list], *names: str, where: Path, optional: bool = False) -> list | None:
    """The column of one of these names; case, spaces, `_` and `-` do not count.

    Raises:
      ValueError: there is none and it is not optional.
    """
    known = {_folded(key): key for key in reversed(table)}
    for name in names:
        if _folded(name) in known:
            return table[known[_folded(name)]]
    if optional:
        return None
    raise ValueError(f'{where} has no column {" or ".join(names)}; it has {", ".join(table)}.')


def numbers(values: Sequence | None, name: str, where: Path) -> np.ndarray | None:
    """float64 [N], NaN for empty cells; None stays None.

    Raises:
      ValueError: a value is no number.
    """
    if values is None:
        return None
    result = np.empty(len(values), np.float64)
    for i, value in enumerate(values):
        try:
            result[i] = np.nan if value in (None, '') else float(value)
        except (TypeError, ValueError):
            raise ValueError(f'{where}: {name} of row {i + 1} is {value!r}, no number.') from None
    return result


def whole(
    values: Sequence | None, name: str, where: Path, empty: int | None = None
) -> np.ndarray | None:
    """int64 [N], `empty` for empty cells; None stays None.

    Raises:
      ValueError: a value is no whole number, or a cell is empty and `empty` is None.
    """
    found = numbers(values, name, where)
    if found is None:
        return None
    if empty is not None:
        found = np.where(np.isnan(found), empty, found)
    if (bad := np.flatnonzero(found != np.rint(found))).size:
        value = values[bad[0]]
        raise ValueError(f'{where}: {name} of row {bad[0] + 1} is {value!r}, no whole number.')
    return found.astype(np.int64)


def same_length(where: Path | str, **columns) -> None:
    """Raises a ValueError that gives the lengths if they differ."""
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ', '.join(f'{name} {n}' for name, n in lengths.items())
        raise ValueError(f'{where}: entries differ in number: {said}.')


def _folded(name: str) -> str:
    return re.sub(r'[\s_-]', '', name.casefold())


def _texts(values: Sequence) -> np.ndarray:
    return np.array([str(value) for value in values], object)
