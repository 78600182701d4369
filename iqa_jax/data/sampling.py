"""Which images a batch holds, as a function of (seed, step): a mixture, or the papers' pair lists.

Images are counted through all databases in order. Each epoch of either is a new shuffle, and a
batch may hold the end of one and the beginning of the next.
"""

import functools
import math

import numpy as np


class Mixture:
    """Unique images: each database runs through its own sequence of shuffles.

    Args:
      sizes: images per database.
      weights: share of every batch that comes from each.
      batch_size: images per batch.
      seed: of the order.

    Attributes:
      images: per batch.
      steps_per_epoch: steps after which the first database has been seen once.
    """

    is_paired = False

    def __init__(self, sizes: list[int], weights: list[float], batch_size: int, seed: int):
        self._offsets = np.cumsum([0, *sizes])
        self._sizes, self._seed = sizes, seed
        self._counts = _shares(weights, batch_size)
        self.images = batch_size
        self.steps_per_epoch = max(1, int(sizes[0] // max(1, self._counts[0])))

    def indices(self, step: int) -> np.ndarray:
        """int64 [images] of a step."""
        chosen = []
        for i, (n, count) in enumerate(zip(self._sizes, self._counts, strict=True)):
            order = _positions([self._seed, i], n, step * count, count)
            chosen.append(self._offsets[i] + order)
        return np.concatenate(chosen)


class PairLists:
    """The papers' literal lists: so many random pairs within each database, the same every epoch.

    An epoch goes through the pairs of all databases in one shuffled order. Nothing keeps pairs of
    one content, near ties or ties out.

    Args:
      sizes: images per database.
      counts: pairs per database.
      batch_size: pairs per batch.
      seed: of the pairs and of the order.

    Attributes:
      pairs: int64 [N, 2], each pair once.
      images: per batch, twice the pairs.
      steps_per_epoch: whole batches of an epoch.

    Raises:
      ValueError: a database has fewer pairs than asked for.
    """

    is_paired = True

    def __init__(self, sizes: list[int], counts: list[int], batch_size: int, seed: int):
        offsets = np.cumsum([0, *sizes])
        self.pairs = np.concatenate(
            [
                offsets[i] + draw_pairs(n, count, np.random.default_rng([seed, 1 << 21, i]))
                for i, (n, count) in enumerate(zip(sizes, counts, strict=True))
            ]
        )
        self._batch_size, self._seed = batch_size, seed
        self.images = 2 * batch_size
        self.steps_per_epoch = max(1, len(self.pairs) // batch_size)

    def numbers(self, step: int) -> np.ndarray:
        """int64 [pairs] rows of `pairs` of a step."""
        start = step * self._batch_size
        return _positions([self._seed, 1 << 22], len(self.pairs), start, self._batch_size)

    def indices(self, step: int) -> np.ndarray:
        """int64 [images] of a step, a pair side by side at 2i and 2i + 1."""
        return self.pairs[self.numbers(step)].ravel()


def draw_pairs(images: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` different pairs of different images, in random order: int64 [count, 2], first < last.

    Every pair is as likely as every other. Memory is that of some 50 times `count` numbers at most.

    Raises:
      ValueError: there are fewer pairs.
    """
    available = math.comb(images, 2)
    if count > available:
        raise ValueError(
            f'config.pairs_per_database asks for {count} pairs of {images} images, which have '
            f'{available}; lower it.'
        )
    number = rng.choice(available, count, replace=False)
    # Pair number last (last - 1) / 2 + first; the root may be off by one where it is rounded.
    last = ((1 + np.sqrt(1 + 8 * number.astype(np.float64))) / 2).astype(np.int64)
    last -= last * (last - 1) // 2 > number
    last += last * (last + 1) // 2 <= number
    return np.stack([number - last * (last - 1) // 2, last], axis=1)


def _positions(seed: list[int], n: int, start: int, count: int) -> np.ndarray:
    """Elements start..start+count-1 of a sequence of shuffles of n elements."""
    positions = np.arange(start, start + count)
    epochs = np.unique(positions // n)
    inside = [positions[positions // n == epoch] % n for epoch in epochs]
    orders = [_order((*seed, int(epoch)), n) for epoch in epochs]
    return np.concatenate([order[i] for order, i in zip(orders, inside, strict=True)])


@functools.lru_cache(maxsize=16)
def _order(seed: tuple[int, ...], n: int) -> np.ndarray:
    """One shuffle, kept because every batch of an epoch asks for it; do not write to it."""
    return np.random.default_rng(list(seed)).permutation(n)


def _shares(weights: list[float], total: int) -> list[int]:
    """Splits a batch by weight (largest remainder), at least one image per database."""
    exact = np.asarray(weights, np.float64) / np.sum(weights) * total
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind='stable')[: total - counts.sum()]] += 1
    if (counts < 1).any():
        raise ValueError(
            f'config.batch_size={total} gives a database with weight {min(weights)} no image; '
            'raise the batch size or the weight.'
        )
    return counts.tolist()
