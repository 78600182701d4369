"""Pooled features of whole images, extracted once: shards of float16 rows, found by image_id.

A set is a folder with features.parquet (which row of which shard belongs to an image; its metadata
say what extracted it) and the shards, .npy files that are read in place.
"""

import io

import numpy as np

from iqa_jax.data import tables
from iqa_jax.runtime import artifacts, paths
from iqa_jax.runtime.paths import Path, as_path

INDEX = 'features.parquet'
LARGEST = float(np.finfo(np.float16).max)


def refusal(vector: np.ndarray) -> str:
    """Why a pooled vector cannot be stored as float16, or ''."""
    if not np.isfinite(vector).all():
        return 'its features are not finite'
    if (top := float(np.abs(vector).max())) > LARGEST:
        return f'its largest feature is {top:.6g}, more than float16 holds ({LARGEST:.0f})'
    return ''


def write_shard(
    path: Path, ids: list[str], vectors: np.ndarray, quarantine: list[dict], mark: str
) -> None:
    """Commits rows [n,...] as float16 with their ids; `refusal` says what cannot be one."""
    data = io.BytesIO()
    np.save(data, vectors.astype(np.float16), allow_pickle=False)
    meta = {'image_id': ids, 'quarantine': quarantine}
    artifacts.commit(path, data.getvalue(), fingerprint=mark, meta=meta)


def write_index(folder: Path, shards: list[Path], about: dict, mark: str) -> tables.Table:
    """Commits features.parquet over committed shards and returns its columns.

    Args:
      about: 'backbone', 'pooling', 'extractor' (digest of the backbone's weights) and 'shape' of a
        row; the shards' names and digests are added.
    """
    records = [artifacts.meta(path) for path in shards]
    counts = [len(record['meta']['image_id']) for record in records]
    columns = {
        'image_id': np.array([i for r in records for i in r['meta']['image_id']], object),
        'shard': np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        'row': np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
    }
    named = [
        {'file': str(path.relative_to(folder)), 'sha256': record['sha256']}
        for path, record in zip(shards, records, strict=True)
    ]
    tables.write(folder / INDEX, columns, about | {'shards': named}, mark)
    return columns


def describe(path: str | Path) -> dict:
    """What `write_index` was told, and 'shards', of a features.parquet."""
    return tables.read(path)[1]


class FeatureStore:
    """Random access to the features of some images, in the order given.

    Args:
      parts: (features.parquet, image ids) of each database.

    Raises:
      ValueError: an image is not in its set, or sets differ in the shape of a row.
      artifacts.MissingArtifact, artifacts.DamagedArtifact: files are not there or not intact.
    """

    def __init__(self, parts: list[tuple[str, np.ndarray]]):
        self._shards: list[np.ndarray] = []
        shard, row = [], []
        for path, ids in parts:
            table, meta = tables.read(path)
            found = tables.join(ids, table, ['shard', 'row'], path)
            shard.append(found['shard'] + len(self._shards))
            row.append(found['row'])
            self._shards += [_open(as_path(path).parent, entry) for entry in meta['shards']]
        self._shard, self._row = np.concatenate(shard), np.concatenate(row)
        shapes = sorted({x.shape[1:] for x in self._shards})
        if len(shapes) > 1:
            raise ValueError(
                f'{", ".join(path for path, _ in parts)} hold features of shapes {shapes}; '
                'extract all with one backbone and pooling.'
            )
        self.shape = shapes[0]

    def __len__(self) -> int:
        return len(self._row)

    def load(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n, *shape] of the given images."""
        out = np.empty((len(rows), *self.shape), np.float32)
        for i, row in enumerate(rows):
            out[i] = self._shards[self._shard[row]][self._row[row]]
        return out


def _open(folder: Path, entry: dict) -> np.ndarray:
    """One shard, mapped into memory once its digest is that of the index."""
    path = folder / entry['file']
    if artifacts.meta(path)['sha256'] != entry['sha256']:
        raise artifacts.DamagedArtifact(
            f'{path} is not the shard that {INDEX} names; extract the features again.'
        )
    return np.load(paths.local_copy(path), mmap_mode='r', allow_pickle=False)
