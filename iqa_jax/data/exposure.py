"""What a model was trained on, and which images of a manifest it therefore has seen.

An image is identified by the SHA-256 of its file and by its recipe, its reference by the SHA-256 of
the pristine file, by its name within the database and by the content that the split stage found.
A copy that was saved anew by another program has other bytes and is not recognised by its file,
only by its reference or content.
"""

import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging

from iqa_jax.data import records, tables
from iqa_jax.images import io
from iqa_jax.runtime.paths import Path, as_path

# What a model has to do with an image, weakest first; the numbers stand in score tables.
UNSEEN, VALIDATED, REFERENCE, IMAGE = range(4)
JOIN = '+'  # between the names of one content


def record(
    train: list[tables.Table], validation: list[tables.Table], earlier: list[tables.Table]
) -> tables.Table:
    """Everything a model was trained and validated on.

    Args:
      train: manifest rows of each database.
      validation: likewise.
      earlier: records of the models that this one started from.

    Returns:
      {'key': uint64 [K], sorted and unique, digests of images and references, 'validation': bool
      [K], whether it was looked at in validation only}.
    """
    parts = [(_keys(rows)[1], False) for rows in train]
    parts += [(_keys(rows)[1], True) for rows in validation]
    parts += [(table['key'], table['validation']) for table in earlier]
    key = np.concatenate([keys for keys, _ in parts])
    only = np.concatenate([np.broadcast_to(flag, keys.shape) for keys, flag in parts])
    order = np.lexsort((only, key))  # training before validation
    key, only = key[order], only[order]
    first = np.append(True, key[1:] != key[:-1])[: len(key)]
    return {'key': key[first], 'validation': only[first]}


def read(path: str | Path) -> tables.Table | None:
    """The record of a model's training; None, with a warning, where there is none."""
    if as_path(path).is_file():
        return tables.read(path)[0]
    logging.warning('%s is not there: what this model was trained on is not known.', path)
    return None


def seen(rows: tables.Table, known: tables.Table) -> np.ndarray:
    """UNSEEN, VALIDATED, REFERENCE or IMAGE for each manifest row, int8 [N].

    Args:
      rows: of a manifest.
      known: of `record`.

    REFERENCE: another image of the same reference or content was trained on. VALIDATED: image or
    reference was only scored in validation, from which training takes nothing.
    """
    row, key, is_image = _keys(rows)
    found = np.zeros(len(rows['image_id']), np.int8)
    if not len(known['key']):
        return found
    at = np.minimum(np.searchsorted(known['key'], key), len(known['key']) - 1)
    value = np.where(is_image, IMAGE, REFERENCE)
    value = np.where(known['validation'][at], VALIDATED, value)
    value = np.where(known['key'][at] == key, value, UNSEEN)
    np.maximum.at(found, row, value.astype(np.int8))
    return found


def same_image(rows: tables.Table, others: tables.Table) -> np.ndarray:
    """Which rows are an image of `others`, by file or recipe, under whatever id: bool [N]."""
    (row, key, is_image), (_, known, known_image) = _keys(rows), _keys(others)
    found = np.zeros(len(rows['image_id']), bool)
    found[row[is_image & np.isin(key, known[known_image])]] = True
    return found


def file_digests(rows: tables.Table) -> list[str]:
    """SHA-256 of each row's file, from the manifest or of its bytes; '' where there is none."""
    return _digests(rows, 'file', 'sha256')


def _keys(rows: tables.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, uint64 digest, whether it is of the image and not of its reference), [K] each."""
    names = ('ref_id', 'database', 'content', 'file', 'type', 'level', 'seed')
    digests = _digests(rows, 'file', 'sha256')
    references = _reference_digests(rows, digests)
    columns = [rows[name].tolist() for name in names]
    short = functools.lru_cache(1024)(_short)  # images of one reference mostly follow each other
    row, key, is_image = [], [], []
    for number, (digest, reference, values) in enumerate(
        zip(digests, references, zip(*columns, strict=True), strict=True)
    ):
        ref_id, database, content, file, *recipe = values
        if digest:
            key.append(_short(f'file/{digest}'))
        if reference and _is_recipe(file, *recipe):
            key.append(_short(f'recipe/{reference}/{recipe}'))
        is_image += [True] * (len(key) - len(is_image))
        if content:
            key += [short(f'content/{name}') for name in content.split(JOIN)]
        if reference:
            key.append(short(f'reference/{reference}'))
        # Also beside a digest: rows of one split may not tell it, those of another do.
        if database:
            key.append(short(f'name/{database}/{ref_id}'))
        is_image += [False] * (len(key) - len(is_image))
        row += [number] * (len(key) - len(row))
    return np.array(row, int), np.array(key, np.uint64), np.array(is_image, bool)


def _is_recipe(file: str, kind: int, level: int, seed: int) -> bool:
    """Whether type, level and seed single an image of a reference out.

    Stored images of rated databases have no seed, and may have no level or several of one level.
    """
    return kind > 0 and level > 0 and (seed != 0 or not file)


def _short(text: str) -> int:
    """64 bits of a digest: two of a million trained and ten thousand tested agree by 1 in 1e9."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), 'big')


def _digests(rows: tables.Table, file: str, digest: str) -> list[str]:
    """SHA-256 of each row's file: the manifest's, or of the bytes if it has none, or ''."""
    found = rows[digest].tolist()
    unknown = [f for f, d in zip(rows[file].tolist(), found, strict=True) if f and not d]
    unknown = [f for f in dict.fromkeys(unknown) if records.exists(f)]
    with ThreadPoolExecutor(2) as pool:
        known = dict(zip(unknown, pool.map(_file_digest, unknown), strict=True))
    return [d or known.get(f, '') for f, d in zip(rows[file].tolist(), found, strict=True)]


def _file_digest(file: str) -> str:
    try:
        return io.sha256(records.read(file))
    except io.ImageError:
        return ''  # whoever needs the pixels says so


def _reference_digests(rows: tables.Table, digests: list[str]) -> list[str]:
    """SHA-256 of each row's pristine file, '' where the manifest does not tell."""
    ids, refs = rows['image_id'].tolist(), rows['ref_id'].tolist()
    pristine = {i: d for i, r, d in zip(ids, refs, digests, strict=True) if i == r}
    given = _digests(rows, 'ref_file', 'ref_sha256')
    return [digest or pristine.get(r, '') for digest, r in zip(given, refs, strict=True)]
