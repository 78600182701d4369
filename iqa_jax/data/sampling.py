"""Which images a batch holds, as a function of (seed, step): a mixture, or the papers' pair lists.

Images are counted through all databases in order. Each epoch of either is a new shuffle, and a
batch may hold the end of one and the beginning of the next.
"""

import functools

import numpy as np


class Mixture:
    """Unique images: each database runs through its own sequence of shuffles.

    Args:
      sizes: images per database.
      weights: share of every batch that comes from each.
      batch_size: images per batch.
      seed: of the order.
      components: by database int [size], which of its images are comparable; None: all are. Images
        of one component follow each other, so that batches hold pairs of them.

    Attributes:
      images: per batch.
      steps_per_epoch: steps after which the first database has been seen once.
    """

    is_paired = False

    def __init__(
        self,
        sizes: list[int],
        weights: list[float],
        batch_size: int,
        seed: int,
        components: list[np.ndarray] | None = None,
    ):
        self._offsets = np.cumsum([0, *sizes])
        self._sizes, self._seed = sizes, seed
        self._counts = _shares(weights, batch_size)
        self._components = [_divided(c) for c in components or [None] * len(sizes)]
        if any(
            c is not None and n < 2 for c, n in zip(self._components, self._counts, strict=True)
        ):
            raise ValueError(
                f'config.batch_size={batch_size} gives a database whose opinions are comparable '
                'within components only one image at a time; raise the batch size or the weight.'
            )
        self.images = batch_size
        self.steps_per_epoch = max(1, int(sizes[0] // max(1, self._counts[0])))

    def indices(self, step: int) -> np.ndarray:
        """int64 [images] of a step."""
        chosen = []
        both = zip(self._sizes, self._counts, self._components, strict=True)
        for i, (n, count, component) in enumerate(both):
            order = _positions([self._seed, i], n, step * count, count, component)
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
      components: as of `Mixture`; both images of a pair belong to one.

    Attributes:
      pairs: int64 [N, 2], each pair once.
      images: per batch, twice the pairs.
      steps_per_epoch: whole batches of an epoch.

    Raises:
      ValueError: a database has fewer pairs than asked for.
    """

    is_paired = True

    def __init__(
        self,
        sizes: list[int],
        counts: list[int],
        batch_size: int,
        seed: int,
        components: list[np.ndarray] | None = None,
    ):
        offsets = np.cumsum([0, *sizes])
        components = [_divided(c) for c in components or [None] * len(sizes)]
        self.pairs = np.concatenate(
            [
                offsets[i] + draw_pairs(n, count, np.random.default_rng([seed, 1 << 21, i]), c)
                for i, (n, count, c) in enumerate(zip(sizes, counts, components, strict=True))
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


def draw_pairs(
    images: int, count: int, rng: np.random.Generator, component: np.ndarray | None = None
) -> np.ndarray:
    """`count` different pairs of different images, in random order: int64 [count, 2], first < last.

    With `component`, int [images] from 0, both are of one. Every pair is as likely as every other.
    Memory is that of some 50 times `count` numbers at most.

    Raises:
      ValueError: there are fewer pairs.
    """
    sizes = np.array([images]) if component is None else np.bincount(component)
    begins = np.cumsum([0, *(sizes * (sizes - 1) // 2)])  # numbers of each component's first pair
    if count > begins[-1]:
        raise ValueError(
            f'config.pairs_per_database asks for {count} pairs of {images} images, which have '
            f'{begins[-1]}; lower it.'
        )
    number = rng.choice(int(begins[-1]), count, replace=False)
    at = np.searchsorted(begins, number, side='right') - 1
    place = np.cumsum([0, *sizes])[at, None] + _pair_of_number(number - begins[at])
    return place if component is None else np.argsort(component, kind='stable')[place]


def _pair_of_number(number: np.ndarray) -> np.ndarray:
    """Pair number last (last - 1) / 2 + first, int64 [N, 2]."""
    # The root may be off by one where it is rounded.
    last = ((1 + np.sqrt(1 + 8 * number.astype(np.float64))) / 2).astype(np.int64)
    last -= last * (last - 1) // 2 > number
    last += last * (last + 1) // 2 <= number
    return np.stack([number - last * (last - 1) // 2, last], axis=1)


def _divided(component: np.ndarray | None) -> np.ndarray | None:
    """Components numbered from 0, or None where there is one."""
    names, number = np.unique([] if component is None else component, return_inverse=True)
    return number if len(names) > 1 else None


def _positions(
    seed: list[int], n: int, start: int, count: int, component: np.ndarray | None = None
) -> np.ndarray:
    """Elements start..start+count-1 of a sequence of shuffles of n elements."""
    positions = np.arange(start, start + count)
    epochs = np.unique(positions // n)
    inside = [positions[positions // n == epoch] % n for epoch in epochs]
    orders = [_order((*seed, int(epoch)), n) for epoch in epochs]
    if component is not None:
        orders = [_together(order, component[order]) for order in orders]
    return np.concatenate([order[i] for order, i in zip(orders, inside, strict=True)])


def _together(order: np.ndarray, component: np.ndarray) -> np.ndarray:
    """The same elements with each component where its first one is; `component` is in order."""
    first = np.unique(component, return_index=True)[1]
    return order[np.argsort(first[component], kind='stable')]


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
