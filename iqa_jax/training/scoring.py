"""Scoring of pictures of any size: buckets and tiles (`models.tiling`) in batches of one shape."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from iqa_jax.models import tiling
from iqa_jax.runtime import memory, parallel

AT_ONCE = memory.AtOnce('images or tiles', 'config.batch_size')


def checked(images: np.ndarray | Sequence[np.ndarray], least: int) -> list[np.ndarray]:
    """The images [H, W, 3] of an array or a list, uint8 or float32.

    Raises:
      ValueError: no image, or one of wrong shape, dtype or range, or a side below `least`.
    """
    is_one = isinstance(images, np.ndarray) and images.ndim == 3
    found = [_checked(image, least) for image in ([images] if is_one else images)]
    if not found:
        raise ValueError('There is no image to score; give at least one.')
    return found


def _checked(image: np.ndarray, least: int) -> np.ndarray:
    if not hasattr(image, '__array__'):
        raise ValueError(
            f'Images are arrays, not {type(image).__name__}; '
            'read a file with iqa_jax.images.io.decode(path).'
        )
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            'Images must be [H, W, 3], [N, H, W, 3] or a list of [H, W, 3], '
            f'but one is {image.shape}.'
        )
    height, width = image.shape[:2]
    if min(height, width) < least:
        raise ValueError(
            f'An image is {width}x{height} pixels, smaller than {least}x{least}; leave it out.'
        )
    if image.dtype == np.uint8:
        return image
    # NaN fails both comparisons.
    if image.dtype.kind != 'f' or not (image.min() >= 0 and image.max() <= 1):
        raise ValueError('Images must be uint8, or float in [0, 1].')
    return image.astype(np.float32, copy=False)


def predict(
    step: Callable[[dict], dict], images: list[np.ndarray], bucket_step: int, pixel_limit: int
) -> dict[str, np.ndarray]:
    """Predictions of pictures of any size, never resized.

    Args:
      step: batch {'image': [B, H, W, 3], perhaps 'valid': int32 [B, 2]} -> {'prediction': [B, K],
        perhaps 'twin': [B, K] and 'std': [B, K]}.
      images: of `checked`.
      bucket_step, pixel_limit: see `models.tiling`; batches of a device stay below the limit, and
        are halved when memory runs out.

    Returns:
      'prediction' and, where `step` gives it, 'twin', float32 [N, K]: means weighted by tile; 'std'
      float64 [N], where given: root of the weighted mean of the tiles' variances; 'spread' float64
      [N]: weighted standard deviation of the tiles' scores, 0 for a picture that is not cut.

    Raises:
      memory.DoesNotFit: a picture, its `item`, is too large for the memory.
    """
    tiling.check(bucket_step, pixel_limit)
    groups: dict[tuple, list[tuple[int, tiling.Tile]]] = {}
    for number, image in enumerate(images):
        for tile in tiling.tiles(*image.shape[:2], bucket_step, pixel_limit):
            size = tiling.bucket(tile.height, tile.width, bucket_step)
            # Pictures that fill their bucket run the program without a mask, as in training.
            exact = size == (tile.height, tile.width)
            groups.setdefault((size, exact, image.dtype), []).append((number, tile))
    parts = []
    for (size, exact, _), pieces in groups.items():
        rows = max(1, pixel_limit // (size[0] * size[1])) * parallel.local_device_count()

        make = functools.partial(_batch, images, pieces, size, exact)
        compute = lambda first, last, make=make: step(make(first, last))  # noqa: E731
        for first, _, part in AT_ONCE.parts(compute, len(pieces), rows, size):
            if isinstance(part, memory.DoesNotFit):
                sentence = f'{part}; lower config.pixel_limit below {size[0] * size[1]}'
                raise memory.DoesNotFit(sentence, pieces[first][0])
            parts.append(part)
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = [piece for pieces in groups.values() for piece in pieces]
    owner = np.array([number for number, _ in order])
    weight = np.array([tile.weight for _, tile in order])
    return _combined(found, owner, weight, len(images))


def _batch(
    images: list[np.ndarray],
    pieces: list[tuple[int, tiling.Tile]],
    size: tuple,
    exact: bool,
    first: int,
    last: int,
) -> dict[str, np.ndarray]:
    cut = [
        images[number][t.top : t.top + t.height, t.left : t.left + t.width]
        for number, t in pieces[first:last]
    ]
    batch = {'image': np.stack([tiling.pad(image, size) for image in cut])}
    if not exact:
        batch['valid'] = np.array([image.shape[:2] for image in cut], np.int32)
    return batch


def _combined(
    found: dict[str, np.ndarray], owner: np.ndarray, weight: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    """Tiles to pictures, see `predict`; the law of total variance is 'std'^2 + 'spread'^2."""

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.zeros((n, *values.shape[1:]))
        np.add.at(total, owner, values * weight.reshape(-1, *[1] * (values.ndim - 1)))
        return total

    names = [name for name in ('prediction', 'twin') if name in found]
    result = {name: mean(found[name]).astype(np.float32) for name in names}
    score = found['prediction'].astype(np.float64).mean(axis=1)
    result['spread'] = np.sqrt(mean(np.square(score - mean(score)[owner])))
    if 'std' in found:
        # The errors of several outputs are taken to go together, which bounds that of their mean.
        result['std'] = np.sqrt(mean(np.square(found['std'].astype(np.float64).mean(axis=1))))
    return result
