"""Distorts photographs and scores the results: one pass, no file in between.

While one photograph's versions of a type are scored, the next are distorted and the photograph
after them is decoded, each in a thread of its own.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from iqa_jax import distortions, fr_metrics
from iqa_jax.data import tables

Item, Result = TypeVar('Item'), TypeVar('Result')


class Cell(NamedTuple):
    """The versions of one photograph by one type; its pristine row comes with the first type."""

    rows: tables.Table
    photo: np.ndarray  # uint8 [H, W, 3]
    images: np.ndarray  # uint8 [len(rows), H, W, 3]


def labelled(
    photos: Iterable[tuple[tables.Table, np.ndarray]], metrics: list[str]
) -> Iterator[tuple[Cell, dict[str, np.ndarray]]]:
    """Distorted images and their full-reference scores, in the order of the rows.

    Args:
      photos: rows of one photograph (image_id, type, level, seed; type 0 is the pristine one,
        first) and its pixels uint8 [H, W, 3].
      metrics: names of full-reference metrics.

    Yields:
      A cell and metric -> float32 [len(rows)].
    """
    score = fr_metrics.metrics(metrics)
    parts = (part for rows, photo in photos for part in _by_type(rows, photo))
    for cell in ahead(_distorted, parts):
        references = np.broadcast_to(cell.photo, cell.images.shape)
        scores = score(references, cell.images)
        yield cell, {name: np.asarray(values) for name, values in scores.items()}


def ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` of each item in order, computed one item ahead of the consumer in a thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 1:
                yield waiting.pop(0).result()
        for last in waiting:
            yield last.result()


def _by_type(rows: tables.Table, photo: np.ndarray) -> Iterator[tuple[tables.Table, np.ndarray]]:
    starts = np.flatnonzero(np.diff(rows['type'])) + 1
    # The pristine image is scored with the first type: a batch of its own would leave cores idle.
    parts = np.split(np.arange(len(rows['type'])), starts[1:])
    for part in parts:
        yield tables.select(rows, part), photo


def _distorted(part: tuple[tables.Table, np.ndarray]) -> Cell:
    rows, photo = part
    images = np.broadcast_to(photo, (len(rows['type']), *photo.shape))
    made = rows['type'] > 0
    if made.any():
        images = images.copy()
        images[made] = distortions.distort_batch(
            images[made], int(rows['type'][-1]), rows['level'][made], rows['seed'][made]
        )
    return Cell(rows, photo, images)
