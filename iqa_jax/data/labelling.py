"""Distorts photographs and scores the results: one pass, no file in between.

While one photograph's versions of a type are scored, the next are distorted and the photograph
after them is decoded, each in a thread of its own.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from absl import logging

from iqa_jax import distortions, fr_metrics
from iqa_jax.data import tables
from iqa_jax.runtime import memory

Item, Result = TypeVar('Item'), TypeVar('Result')
AT_ONCE = memory.AtOnce('distorted images', 'config.size')


class Cell(NamedTuple):
    """The versions of one photograph by one type; its pristine row comes with the first type."""

    rows: tables.Table
    photo: np.ndarray  # uint8 [H, W, 3]
    images: np.ndarray  # uint8 [len(rows), H, W, 3]


def labelled(
    photos: Iterable[tuple[tables.Table, np.ndarray]], metrics: list[str]
) -> Iterator[tuple[Cell, dict[str, np.ndarray] | memory.DoesNotFit]]:
    """Distorted images and their full-reference scores, in the order of the rows.

    Args:
      photos: rows of one photograph (image_id, ref_id, type, level, seed; type 0 is the pristine
        one, first) and its pixels uint8 [H, W, 3].
      metrics: names of full-reference metrics.

    Yields:
      A cell and metric -> float32 [len(rows)], or why memory does not suffice for the
      photograph, of which no further cell comes then.
    """
    score = fr_metrics.metrics(metrics)
    parts = (part for rows, photo in photos for part in _by_type(rows, photo))
    refused: set[str] = set()
    for cell, problem in ahead(_distorted, parts):
        ref_id = cell.rows['ref_id'][0]
        if ref_id in refused:
            continue
        scores = problem or _scores(score, cell)
        if isinstance(scores, memory.DoesNotFit):
            refused.add(ref_id)
            logging.warning('%s is left out: %s', ref_id, scores)
        yield cell, scores


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


def _distorted(part: tuple[tables.Table, np.ndarray]) -> tuple[Cell, memory.DoesNotFit | None]:
    rows, photo = part
    images = np.broadcast_to(photo, (len(rows['type']), *photo.shape))
    made = np.flatnonzero(rows['type'])
    if len(made):
        images = images.copy()

    def compute(first: int, last: int) -> None:
        at = made[first:last]
        images[at] = distortions.distort_batch(
            images[at], int(rows['type'][-1]), rows['level'][at], rows['seed'][at]
        )

    refused = _refused(AT_ONCE.parts(compute, len(made), len(made), photo.shape[:2]))
    return Cell(rows, photo, images), refused


def _scores(score: Callable, cell: Cell) -> dict[str, np.ndarray] | memory.DoesNotFit:
    images, n = cell.images, len(cell.images)
    references = np.broadcast_to(cell.photo, images.shape)

    def compute(first: int, last: int) -> dict[str, np.ndarray]:
        scores = score(references[first:last], images[first:last])
        return {name: np.asarray(values) for name, values in scores.items()}

    found = list(AT_ONCE.parts(compute, n, n, images.shape[1:3]))
    if refused := _refused(found):
        return refused
    parts = [part for _, _, part in found]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _refused(parts: Iterable[tuple]) -> memory.DoesNotFit | None:
    """The first of all parts that is one, with the mend."""
    found = next((part for *_, part in parts if isinstance(part, memory.DoesNotFit)), None)
    mend = f'lower config.size, or {memory.ELSEWHERE}'
    return found and memory.DoesNotFit(f'{found}; {mend}', found.item)
