"""Training batches as a pure function of (seed, step): nothing to save, nothing to lose."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np

from iqa_jax.data import resizing, sampling, tables
from iqa_jax.data.features import FeatureStore
from iqa_jax.data.store import ImageStore


@dataclasses.dataclass(frozen=True)
class Source:
    """One database of a mixture.

    Attributes:
      columns: manifest rows.
      targets: [N, K] float32, higher is better.
      target_std: [N] float32 spread of the opinions behind the first target.
      weight: share of every batch that comes from here.
      features: features.parquet of what is read instead of the images, '' for images.
      component: [N] int, targets are comparable within one; None: all are.
    """

    columns: tables.Table
    targets: np.ndarray
    target_std: np.ndarray
    weight: float = 1.0
    features: str = ''
    component: np.ndarray | None = None


def feature_store(sources: list[Source]) -> FeatureStore | None:
    """The features of all images of all sources, in order; None where images are read."""
    if not any(source.features for source in sources):
        return None
    return FeatureStore([(source.features, source.columns['image_id']) for source in sources])


def _comparable(sizes: list[int], components: list[np.ndarray | None]) -> np.ndarray:
    """A number of each image, equal within a component of a source, else different: int32."""
    found, first = [], 0
    for size, component in zip(sizes, components, strict=True):
        number = first + (np.zeros(size, int) if component is None else component)
        found.append(number)
        first = number.max(initial=first) + 1
    return np.concatenate(found).astype(np.int32)


class Pipeline:
    """Shuffled, cropped and flipped batches of a mixture of databases.

    Args:
      sources: databases; their images get consecutive indices in this order.
      batch_size: images per global batch, or pairs with `pairs`.
      crop: (height, width) of the random crop.
      different_crops: adds `image_twin`, an independent crop of the same images.
      pairs: pairs per database of the papers' literal lists (see `sampling.PairLists`); None makes
        batches of unique images. Weights do not count then.
      resize: name of a rule of `resizing`, applied before the crop.
      seed: of order, crops and flips.
      cache_bytes: memory for decoded images.
      threads: batches in the making at once, and files decoded at once.
      ahead: batches that `batches` makes before they are asked for.

    Batch `step` holds image uint8 [B, h, w, 3], or features float32 [B, ...] of whole images where
    the sources have them, target float32 [B, K], target_std float32 [B], database int32 [B], equal
    where targets are comparable, and index int32 [B] into the concatenated sources. With `pairs`, B
    is twice the batch size, an image may occur several times, each time with a crop of its own, and
    pair int32 [B] is the number of the pair in the list, the same at 2i and 2i + 1.

    Attributes:
      images: B.
      steps_per_epoch: steps after which the first database, or every pair, has been seen once.
    """

    def __init__(
        self,
        sources: list[Source],
        batch_size: int,
        crop: tuple[int, int],
        *,
        different_crops: bool = False,
        pairs: list[int] | None = None,
        resize: str = '',
        seed: int = 0,
        cache_bytes: int = 0,
        threads: int = 2,
        ahead: int = 4,
    ):
        self.columns = tables.concatenate([s.columns for s in sources])
        self._features = feature_store(sources)
        self._store = ImageStore(self.columns, cache_bytes, threads)
        # More threads than batches ahead would have nothing to do, and grain warns of them.
        self._reading = grain.ReadOptions(min(threads, ahead), ahead)
        self._targets = np.concatenate([s.targets for s in sources]).astype(np.float32)
        self._stds = np.concatenate([s.target_std for s in sources]).astype(np.float32)
        sizes = [len(s.targets) for s in sources]
        components = [s.component for s in sources]
        self._database = _comparable(sizes, components)
        if pairs is None:
            weights = [s.weight for s in sources]
            self._sampler = sampling.Mixture(sizes, weights, batch_size, seed, components)
        else:
            self._sampler = sampling.PairLists(sizes, pairs, batch_size, seed, components)
        self.images, self.steps_per_epoch = self._sampler.images, self._sampler.steps_per_epoch
        self._crop, self._different, self._seed = crop, different_crops, seed
        self._resize = resizing.RULES[resize].train

    def __len__(self) -> int:
        """Number of images in all databases."""
        return len(self._targets)

    def indices(self, step: int) -> np.ndarray:
        """Image indices of a step."""
        return self._sampler.indices(step)

    def batch(self, step: int, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """The batch of a step, or those `rows` of it that one of several processes loads.

        Raises:
          ValueError: an image is smaller than the crop.
          images.io.ImageError: an image cannot be read.
        """
        index = self.indices(step)
        # Drawn for the whole batch, so that every number of processes sees the same crops.
        draws = np.random.default_rng([self._seed, 1 << 20, step]).random((2, len(index), 3))
        index, draws = index[rows], draws[:, rows]
        if self._features is not None:
            batch = {'features': self._features.load(index)}
        else:
            images = [self._resize(image) for image in self._store.load(index)]
            batch = {'image': self._crops(images, index, draws[0])}
            if self._different:
                batch['image_twin'] = self._crops(images, index, draws[1])
        batch['target'] = self._targets[index]
        batch['target_std'] = self._stds[index]
        batch['database'] = self._database[index]
        batch['index'] = index.astype(np.int32)
        if self._sampler.is_paired:
            batch['pair'] = np.repeat(self._sampler.numbers(step), 2)[rows].astype(np.int32)
        return batch

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct] | None:
        """Shapes and dtypes of a batch before one is read; None where it holds features."""
        if self._features is not None:
            return None
        names = ['image', 'image_twin'] if self._different else ['image']
        found = dict.fromkeys(names, ((*self._crop, 3), np.uint8))
        found |= {'target': (self._targets.shape[1:], np.float32), 'target_std': ((), np.float32)}
        numbers = ['database', 'index', *(['pair'] if self._sampler.is_paired else [])]
        found |= dict.fromkeys(numbers, ((), np.int32))
        return {
            name: jax.ShapeDtypeStruct((self.images, *shape), dtype)
            for name, (shape, dtype) in found.items()
        }

    def _crops(self, images: list[np.ndarray], index: np.ndarray, draws: np.ndarray) -> np.ndarray:
        h, w = self._crop
        out = np.empty((len(images), h, w, 3), np.uint8)
        for i, image in enumerate(images):
            rows, columns = image.shape[:2]
            if rows < h or columns < w:
                name = self.columns['image_id'][index[i]]
                raise ValueError(
                    f'{name} is {columns}x{rows} pixels, smaller than config.crop={w}x{h}; '
                    'lower config.crop.'
                )
            top, left = int(draws[i, 0] * (rows - h + 1)), int(draws[i, 1] * (columns - w + 1))
            crop = image[top : top + h, left : left + w]
            out[i] = crop[:, ::-1] if draws[i, 2] < 0.5 else crop
        return out

    def batches(
        self,
        first: int,
        last: int,
        rows: slice = slice(None),
        place: Callable[[dict[str, np.ndarray]], Any] = lambda batch: batch,
    ) -> Iterator[Any]:
        """`place(batch(step, rows))` of steps first..last-1, made ahead in threads of grain.

        `place` runs in the thread that made the batch, so that a copy to the devices overlaps with
        the steps before. Close the iterator if it may be left early (`contextlib.closing`); no
        thread of it lives longer. Raises what `batch` raises, at that batch.
        """
        workers: set[threading.Thread] = set()

        def make(step: int) -> Any:
            workers.add(threading.current_thread())
            return place(self.batch(step, rows))

        # The element is the step: whole batches need no `.batch`, and a restart no saved state.
        made = iter(grain.MapDataset.range(first, last).map(make).to_iter_dataset(self._reading))
        try:
            yield from made
        finally:
            made.close()  # drops what has not begun, but does not wait for what has
            while workers:
                workers.pop().join()
