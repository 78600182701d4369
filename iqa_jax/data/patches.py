"""Patches of single colour planes as a pure function of (seed, step)."""

from collections.abc import Iterator

import numpy as np

LUMA = np.float32([0.299, 0.587, 0.114])  # ITU-R BT.601, rounded as JPEG does


def planes(photo: np.ndarray) -> np.ndarray:
    """The planes R, G, B and gray, uint8 [4, H, W], of a photograph uint8 [H, W, 3]."""
    gray = np.floor(photo @ LUMA + np.float32(0.5)).astype(np.uint8)
    return np.concatenate([photo.transpose(2, 0, 1), gray[None]])


class Patches:
    """Random square patches of photographs, turned and mirrored.

    Args:
      photos: uint8 [H, W, 3] each, all sides at least `size`.
      batch_size: patches per global batch.
      size: side of a patch.
      seed: of everything that is drawn.

    Batch `step` holds patch uint8 [B, size, size].
    """

    def __init__(self, photos: list[np.ndarray], batch_size: int, size: int, seed: int = 0):
        self._planes = [planes(photo) for photo in photos]
        self._count, self._size, self._seed = batch_size, size, seed

    def batch(self, step: int, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        """The batch of a step, or those `rows` of it that one of several processes loads."""
        # Drawn for the whole batch, so that every number of processes sees the same patches.
        draws = np.random.default_rng([self._seed, step]).random((self._count, 6))
        return {'patch': np.stack([self._patch(draw) for draw in draws[rows]])}

    def batches(
        self, first: int, last: int, rows: slice = slice(None)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Batches first..last-1."""
        return (self.batch(step, rows) for step in range(first, last))

    def _patch(self, draw: np.ndarray) -> np.ndarray:
        photo = self._planes[int(draw[0] * len(self._planes))]
        plane = photo[int(draw[1] * len(photo))]
        top, left = (
            int(u * (side - self._size + 1)) for u, side in zip(draw[2:4], plane.shape, strict=True)
        )
        patch = np.rot90(plane[top : top + self._size, left : left + self._size], int(draw[4] * 4))
        return patch[:, ::-1] if draw[5] < 0.5 else patch
