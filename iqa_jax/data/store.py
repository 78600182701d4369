"""Pixels of manifest rows: from files, verified, or made from their recipe."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from iqa_jax import distortions
from iqa_jax.data import records, resizing, tables
from iqa_jax.images import guarded, io


class ImageStore:
    """Random access to the images of a manifest.

    Args:
      columns: manifest rows, `file` resolved (see `manifest.read`).
      cache_bytes: decoded files are kept until they fill this size; the rest is decoded each time.
      threads: files decoded, or codecs run, at once.
      resize: name of the rule of `resizing` by which images that are scored are resized.
      decode: `io.decode`, or what `guarded.decoding` gives.

    Rows with a file are decoded, rows without one are recipes: the pristine photograph `ref_file`
    is distorted anew. The bytes of either must match the digest when the manifest has it.

    Attributes:
      threads: as given.
    """

    def __init__(
        self,
        columns: tables.Table,
        cache_bytes: int = 0,
        threads: int = 2,
        resize: str = '',
        decode: guarded.Decode = io.decode,
    ):
        self.columns, self.threads = columns, threads
        self._resize = resizing.RULES[resize].score
        self._decode = decode
        self._cache: dict[tuple[str, str], np.ndarray] = {}
        self._cache_bytes = cache_bytes
        self._held = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads)  # decoding releases the GIL

    def __len__(self) -> int:
        return len(self.columns['image_id'])

    def load(self, rows: np.ndarray | list[int]) -> list[np.ndarray]:
        """uint8 [H, W, 3] of each row, in order.

        Raises:
          images.io.ImageError: a file is missing, undecodable or not the one of the manifest, or a
            row names none; the sentence names it.
          OSError: the machine could not read a file now.
        """
        rows = [int(row) for row in rows]
        sources = [self._source(row) for row in rows]
        distinct = list(dict.fromkeys(sources))
        pixels = dict(zip(distinct, self._pool.map(self._read, distinct), strict=True))
        images = [pixels[source] for source in sources]
        recipes = [i for i, row in enumerate(rows) if not self.columns['file'][row]]
        made = self._make([rows[i] for i in recipes], [images[i] for i in recipes])
        for i, image in zip(recipes, made, strict=True):
            images[i] = image
        return [self._resize(image) for image in images]

    def _source(self, row: int) -> tuple[str, str]:
        """The file that a row is decoded or made from, and its SHA-256 ('' when unknown)."""
        for file, digest in (('file', 'sha256'), ('ref_file', 'ref_sha256')):
            if self.columns[file][row]:
                return self.columns[file][row], self.columns[digest][row]
        name = self.columns['image_id'][row]
        raise io.ImageError(f'{name} has neither file nor ref_file in the manifest; add one.')

    def _read(self, source: tuple[str, str]) -> np.ndarray:
        with self._lock:
            if source in self._cache:
                return self._cache[source]
        file, digest = source
        data = records.read(file)
        if digest and io.sha256(data) != digest:
            raise io.ImageError(
                f'{file} is not the file of the manifest (SHA-256 differs); '
                'delete it and run make_data again, or correct the manifest.'
            )
        try:
            image = self._decode(data)
        except io.ImageError as error:
            raise io.ImageError(f'{file}: {error}') from error
        with self._lock:
            if source not in self._cache and self._held + image.nbytes <= self._cache_bytes:
                self._cache[source] = image
                self._held += image.nbytes
        return image

    def _make(self, rows: list[int], references: list[np.ndarray]) -> list[np.ndarray]:
        """Recipes grouped by type and size, so that a batch pays for the types that it holds.

        Codecs run in threads while the device makes the other types.
        """
        groups: dict[tuple, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault((int(self.columns['type'][row]), references[i].shape), []).append(i)

        def distort(group: tuple) -> np.ndarray:
            at = np.array([rows[i] for i in groups[group]])
            pristine = np.stack([references[i] for i in groups[group]])
            levels, seeds = self.columns['level'][at], self.columns['seed'][at]
            return distortions.distort_batch(pristine, group[0], levels, seeds)

        coded = [group for group in groups if distortions.get(group[0]).host]
        jobs = {group: self._pool.submit(distort, group) for group in coded}
        made = {group: distort(group) for group in groups if group not in jobs}
        made |= {group: job.result() for group, job in jobs.items()}
        images = {
            i: image
            for group, batch in made.items()
            for i, image in zip(groups[group], batch, strict=True)
        }
        return [images[i] for i in range(len(rows))]
