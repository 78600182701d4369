"""Pixels of manifest rows: from files, verified, or made from their recipe."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from iqa_jax import distortions
from iqa_jax.data import tables
from iqa_jax.images import io


class ImageStore:
    """Random access to the images of a manifest.

    Args:
      columns: manifest rows, `file` resolved (see `manifest.read`).
      cache_bytes: decoded files are kept until they fill this size; the rest is decoded each time.

    Rows with a file are decoded, and their bytes must match `sha256` when the manifest has it. Rows
    without one are recipes: the pristine photograph of their `ref_id` is distorted anew.
    """

    def __init__(self, columns: tables.Table, cache_bytes: int = 0):
        self.columns = columns
        self._row = {image_id: i for i, image_id in enumerate(columns['image_id'].tolist())}
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = cache_bytes
        self._held = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2)  # decoding releases the GIL

    def __len__(self) -> int:
        return len(self.columns['image_id'])

    def load(self, rows: np.ndarray | list[int]) -> list[np.ndarray]:
        """uint8 [H, W, 3] of each row, in order.

        Raises:
          images.io.ImageError: a file is missing, undecodable or not the one of the manifest; the
            sentence names it.
        """
        rows = [int(row) for row in rows]
        recipes = [row for row in rows if not self.columns['file'][row]]
        made = dict(zip(recipes, self._make(recipes), strict=True)) if recipes else {}
        files = [row for row in rows if row not in made]
        read = dict(zip(files, self._pool.map(self._read, files), strict=True))
        return [made[row] if row in made else read[row] for row in rows]

    def _read(self, row: int) -> np.ndarray:
        with self._lock:
            if row in self._cache:
                return self._cache[row]
        file, digest = Path(self.columns['file'][row]), self.columns['sha256'][row]
        try:
            data = file.read_bytes()
        except OSError as error:
            raise io.ImageError(f'{file} cannot be read: {error.strerror}.') from error
        if digest and io.sha256(data) != digest:
            raise io.ImageError(f'{file} is not the file of the manifest (SHA-256 differs).')
        try:
            image = io.decode(data)
        except io.ImageError as error:
            raise io.ImageError(f'{file}: {error}') from error
        with self._lock:
            if row not in self._cache and self._held + image.nbytes <= self._cache_bytes:
                self._cache[row] = image
                self._held += image.nbytes
        return image

    def _make(self, rows: list[int]) -> list[np.ndarray]:
        """Recipes grouped by type, so that one call makes all images of a type and size."""
        references = self.load([self._row[self.columns['ref_id'][row]] for row in rows])
        groups: dict[tuple, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault((int(self.columns['type'][row]), references[i].shape), []).append(i)
        images: list = [None] * len(rows)
        for (number, _), members in groups.items():
            at = np.array([rows[i] for i in members])
            batch = distortions.distort_batch(
                np.stack([references[i] for i in members]),
                number,
                self.columns['level'][at],
                self.columns['seed'][at],
            )
            for i, image in zip(members, batch, strict=True):
                images[i] = image
        return images
