"""Equalised proxies of a table of raw scores, fitted on its training rows."""

import numpy as np

from iqa_jax.data import equalise, tables


def equalised(
    ids: np.ndarray,
    scores: tables.Table,
    directions: dict[str, bool],
    train: np.ndarray,
    kind: str,
    knots: int,
) -> tuple[tables.Table, dict, dict]:
    """Maps every score column to a proxy, higher is better.

    Args:
      ids: [N] image ids.
      scores: name -> [N] raw scores, finite on the training rows.
      directions: name -> whether a higher raw score is better.
      train: bool [N], the rows to fit on.
      kind: of equalisation, see `equalise.fit`.
      knots: size of the fitted tables.

    Returns:
      (table with image_id and a float32 column per score, metadata of its columns, name -> fitted
      mapping).

    Raises:
      ValueError: no row is for training, a training score is not finite, or the kind is unknown.
    """
    if not train.any():
        raise ValueError('No image is in split train, which proxies are fitted on.')
    mappings = {
        name: equalise.fit(values[train], directions[name], kind, knots)
        for name, values in scores.items()
    }
    table = {'image_id': ids}
    table |= {name: equalise.apply(mappings[name], values) for name, values in scores.items()}
    described = {
        name: {'higher_is_better': True, 'origin': f'{name}, {kind} on train'} for name in scores
    }
    return table, described, mappings
