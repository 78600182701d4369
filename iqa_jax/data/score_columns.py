"""Columns of score tables by label: who made them, which direction, joined to a list of images."""

import numpy as np

from iqa_jax.data import tables


def oriented(ids: np.ndarray, column: dict) -> np.ndarray:
    """One score column for the given images, turned so that higher is better.

    Args:
      ids: [N] image ids.
      column: {'scores': path of a score table, 'column': its name there}.

    Returns:
      float32 [N].

    Raises:
      ValueError: the table, the column, an image or the column's direction is missing.
    """
    table, meta = tables.read(column['scores'])
    values = tables.join(ids, table, [column['column']], column['scores'])[column['column']]
    described = meta.get('columns', {}).get(column['column'], {})
    direction = column.get('higher_is_better', described.get('higher_is_better'))
    if direction is None:
        raise ValueError(
            f'{column["scores"]} does not say whether a higher {column["column"]} is better; '
            'set higher_is_better beside the column in the config.'
        )
    return np.asarray(values, np.float32) * np.float32(1 if direction else -1)


def mean_proxy(ids: np.ndarray, path: str) -> np.ndarray:
    """Mean of all equalised proxies of a table for the given images: float32 [N], higher better."""
    table, meta = tables.read(path)
    names = list(meta['columns'])
    found = tables.join(ids, table, names, path)
    return np.mean([found[name] for name in names], axis=0).astype(np.float32)
