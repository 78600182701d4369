"""How pictures of any size become few shapes: padded to buckets, and cut into tiles if too large.

Both follow from the size of a picture alone, so its score does not depend on what else is scored.
"""

import math
from typing import NamedTuple

import numpy as np

STEP = 64  # sides of buckets are its multiples
LIMIT = 2**21  # pixels; 1920x1080 pictures stay whole


class Tile(NamedTuple):
    """A rectangle of a picture, in pixels, and its share of the picture's score."""

    top: int
    left: int
    height: int
    width: int
    weight: float


def check(step: int, limit: int) -> None:
    """Raises a ValueError for a step or a limit that no picture can be scored with."""
    if step < 1:
        raise ValueError(f'bucket_step={step} is too small; use 1 (no padding) or more.')
    if limit < step**2 or limit < 256**2:
        raise ValueError(
            f'pixel_limit={limit} is too small; use at least {max(step, 256) ** 2}, '
            'a tile of one bucket_step and of 256 pixels each way.'
        )


def bucket(height: int, width: int, step: int) -> tuple[int, int]:
    """The sides rounded up to multiples of `step`."""
    return -(-height // step) * step, -(-width // step) * step


def tiles(height: int, width: int, step: int, limit: int) -> list[Tile]:
    """Equal tiles that cover a picture; one, the whole, if its bucket has at most `limit` pixels.

    Tiles have sides of at most sqrt(limit), multiples of `step` or else the picture's own, as few
    as possible and spread evenly, so that they overlap. The weight of a tile is the mean over all
    pixels of the picture of 1 / (number of tiles on the pixel), 0 where it is not: the weights add
    up to 1, and the weighted mean of the tiles' scores is the mean over pixels of the mean score of
    the tiles on them.
    """
    if math.prod(bucket(height, width, step)) <= limit:
        return [Tile(0, 0, height, width, 1.0)]
    longest = math.isqrt(limit) // step * step
    rows, columns = _cover(height, step, longest), _cover(width, step, longest)
    return [
        Tile(top, left, tall, wide, a * b) for top, tall, a in rows for left, wide, b in columns
    ]


def _cover(length: int, step: int, longest: int) -> list[tuple[int, int, float]]:
    """(start, side, weight) of equal parts of one axis."""
    fewest = -(-length // longest)
    side = min(length, bucket(-(-length // fewest), 1, step)[0])
    count = -(-length // side)
    starts = [(length - side) * k // max(count - 1, 1) for k in range(count)]
    on = np.zeros(length)
    for start in starts:
        on[start : start + side] += 1
    return [(start, side, float((1 / on[start : start + side]).sum() / length)) for start in starts]


def pad(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h,w,3] at the top left of [*size,3]; the rest mirrors it, or repeats the edge if too far."""
    rows, columns = size[0] - image.shape[0], size[1] - image.shape[1]
    if not rows and not columns:
        return image
    mirrored = rows < image.shape[0] and columns < image.shape[1]
    around = ((0, rows), (0, columns), (0, 0))
    return np.pad(image, around, 'reflect' if mirrored else 'edge')
