"""Columns of score tables by label: who made them, which direction, joined to a list of images."""

import numpy as np
from absl import logging

from iqa_jax.data import tables

Tables = dict[str, tuple[tables.Table, dict]]  # path -> (table, its metadata)


def opened(columns: dict[str, dict]) -> Tables:
    """The score tables of columns {'scores': path, ...}, each read once."""
    paths = dict.fromkeys(column['scores'] for column in columns.values())
    return {path: tables.read(path) for path in paths}


def oriented(
    ids: np.ndarray, columns: dict[str, dict], score_tables: Tables
) -> tuple[np.ndarray, dict[str, np.ndarray], list[dict]]:
    """Score columns of the images that every table holds with a finite value, higher is better.

    Args:
      ids: [N] image ids.
      columns: label -> {'scores': path of a score table, 'column': its name there}.
      score_tables: of `opened`.

    Returns:
      (kept rows of `ids`, int [K]; label -> float32 [K]; {'file', 'reason'} of every other image).

    Raises:
      ValueError: a table, a column or its direction is missing, or no image is left.
    """
    found = {label: _column(ids, column, score_tables) for label, column in columns.items()}
    finite = {label: np.isfinite(values) for label, values in found.items()}
    kept = np.flatnonzero(np.all(list(finite.values()), axis=0))
    if not len(kept):
        label = min(finite, key=lambda k: finite[k].sum())
        lacking = ids[~finite[label]]
        raise ValueError(
            f'No image has a finite score in every table; {columns[label]["scores"]} '
            f'has no row for {len(lacking)} of {len(ids)} images, or no finite score of them, '
            f'{lacking[0]} the first.'
        )
    left_out = []
    for i in np.setdiff1d(np.arange(len(ids)), kept).tolist():
        lacking = ', '.join(label for label in finite if not finite[label][i])
        left_out.append({'file': str(ids[i]), 'reason': f'no finite score of {lacking}'})
    if left_out:
        logging.warning(
            '%d of %d images are left out, %s the first: %s.',
            len(left_out), len(ids), left_out[0]['file'], left_out[0]['reason'],
        )  # fmt: skip
    return kept, {label: values[kept] for label, values in found.items()}, left_out


def seen(
    ids: np.ndarray, columns: dict[str, dict], score_tables: Tables
) -> dict[str, np.ndarray | None]:
    """What each column's model has to do with the images: label -> int8 [N] as in `exposure`.

    None for a column that does not say it: of other programs and of metrics that were not trained.

    Args:
      ids: [N] image ids, all of them in every table.
      columns: as for `oriented`.
      score_tables: likewise.
    """
    found = {}
    for label, column in columns.items():
        table, meta = score_tables[column['scores']]
        name = meta.get('columns', {}).get(column['column'], {}).get('seen')
        found[label] = name and tables.join(ids, table, [name], column['scores'])[name]
    return found


def mean_proxy(ids: np.ndarray, path: str) -> np.ndarray:
    """Mean of all equalised proxies of a table for the given images: float32 [N], higher better."""
    table, meta = tables.read(path)
    names = list(meta['columns'])
    found = tables.join(ids, table, names, path)
    return np.mean([found[name] for name in names], axis=0).astype(np.float32)


def direction(path: str, name: str, meta: dict, given: bool | None = None) -> bool:
    """Whether a higher value is better in a column of a table with that metadata.

    `given` overrules the metadata. Raises a ValueError when neither says it.
    """
    described = meta.get('columns', {}).get(name, {})
    better = described.get('higher_is_better') if given is None else given
    if better is None:
        raise ValueError(
            f'{path} does not say whether a higher {name} is better; '
            'set higher_is_better of it in the config.'
        )
    return better


def _column(ids: np.ndarray, column: dict, score_tables: Tables) -> np.ndarray:
    """One column [N], float32, turned so that higher is better; NaN where the table has no row."""
    path, name = column['scores'], column['column']
    table, meta = score_tables[path]
    tables.require(table, ['image_id', name], path)
    higher = direction(path, name, meta, column.get('higher_is_better'))
    known = set(table['image_id'].tolist())
    there = np.array([image_id in known for image_id in ids.tolist()], bool)
    values = np.full(len(ids), np.nan, np.float32)
    joined = tables.join(ids[there], table, [name], path)[name]
    values[there] = tables.numbers(joined, name, path)
    return values * np.float32(1 if higher else -1)
