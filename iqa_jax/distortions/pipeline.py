"""The pipeline around every distortion: stretch, distort, stretch, round half up to 8 bits."""

import concurrent.futures
import functools
import operator
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.distortions import registry
from iqa_jax.distortions.stretch import FLAT_RANGE, stretch
from iqa_jax.runtime import parallel


def distort(
    image: np.ndarray | jax.Array,
    name_or_number: str | int,
    level: int | Sequence[int] | np.ndarray,
    key: int | jax.Array | None = None,
) -> np.ndarray:
    """Distorts one image [H, W, 3] or a batch [N, H, W, 3]: uint8 to uint8, float to float32.

    Floats are in [0, 1] on both sides. `level` is 1..5 or one per image. Image i of a batch takes
    seed `key` + i (default 0); a `jax.random.key` draws one seed per image instead. Raises
    ValueError for a distortion, level, key, shape, type or range that is not allowed. Source: the
    KADIS-700k code.
    """
    entry = registry.get(name_or_number)
    images = _checked_images(image)
    single = images.ndim == 3
    images = images[None] if single else images
    levels = _checked_levels(np.broadcast_to(level, len(images)) if np.ndim(level) == 0 else level)
    distorted = _run(entry, images, levels, _seeds(key, len(images)))
    return distorted[0] if single else distorted


def distort_batch(
    images: np.ndarray, number: int, levels: np.ndarray, seeds: np.ndarray
) -> np.ndarray:
    """Distorts uint8 [N, H, W, 3] by one type at levels int [N] in 1..5 with 64-bit seeds [N].

    The bytes of image i depend on its pixels, the type, its level and its seed only, not on the
    rest of the batch. Raises ValueError as `distort` does.
    """
    images = _checked_images(images)
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(
            f'images must be uint8 [N, H, W, 3], not {images.dtype} of shape {images.shape}.'
        )
    seeds = np.asarray(seeds, np.int64)
    if seeds.shape != images.shape[:1]:
        raise ValueError(f'seeds must be one per image, not {seeds.shape} for {len(images)}.')
    return _run(registry.get(number), images, _checked_levels(levels), seeds)


def _run(
    entry: registry.Distortion, images: np.ndarray, levels: np.ndarray, seeds: np.ndarray
) -> np.ndarray:
    if levels.shape != images.shape[:1]:
        raise ValueError(f'levels must be one per image, not {levels.shape} for {len(images)}.')
    if reason := entry.refusal(*images.shape[1:3]):
        raise ValueError(f'this image cannot be distorted: {reason}.')
    words = np.ascontiguousarray(seeds).view(np.uint32).reshape(-1, 2)
    program = None if entry.host else _program(entry)
    distorted = np.empty_like(images)

    def distort_one(i: int) -> None:
        if entry.host:
            distorted[i] = _through_codec(entry.function, images[i], levels[i])
        else:
            distorted[i] = program(images[i], levels[i], words[i])

    # One program for one image, not one per batch size: no rounding can depend on the batch, and
    # a level runs its own branch only. A thread for each core keeps them all at work: XLA's CPU
    # backend runs what one thread starts one after the other, and much of it on one core only.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(distort_one, range(len(images))))
    return distorted


@functools.cache
def _program(entry: registry.Distortion) -> Callable:
    """The jitted pipeline of one type: (image [H, W, 3], level int32, seed uint32 [2]) -> image."""

    def program(image: jax.Array, level: jax.Array, seed: jax.Array) -> jax.Array:
        # The generator is named, as a process may set another default.
        key = jax.random.fold_in(jax.random.key(0, impl='threefry2x32'), entry.number)
        key = jax.random.fold_in(jax.random.fold_in(key, seed[0]), seed[1])
        x = stretch(image, 255 if image.dtype == jnp.uint8 else 1)
        x = stretch(entry.function(x, level, key))
        return jnp.floor(255 * x + 0.5).astype(jnp.uint8) if image.dtype == jnp.uint8 else x

    return parallel.reproducible_jit(program)


def _through_codec(codec: Callable, image: np.ndarray, level: int) -> np.ndarray:
    coded = _stretch_on_host(codec(_to_8_bits(_stretch_on_host(image)), int(level)))
    return _to_8_bits(coded) if image.dtype == np.uint8 else coded


def _stretch_on_host(image: np.ndarray) -> np.ndarray:
    low, high = (np.float32(x) for x in (image.min(), image.max()))
    if high - low < FLAT_RANGE:
        return image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    return (image - low) / (high - low)


def _to_8_bits(x: np.ndarray) -> np.ndarray:
    return np.floor(255 * x + np.float32(0.5)).astype(np.uint8)


def _checked_images(image: np.ndarray | jax.Array) -> np.ndarray:
    images = np.asarray(image)
    if images.ndim not in (3, 4) or images.shape[-1] != 3 or 0 in images.shape:
        raise ValueError(
            f'an image must have shape [H, W, 3] or [N, H, W, 3], not {list(images.shape)}.'
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f'an image must be uint8 or float in [0, 1], not {images.dtype}.')
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError('a float image must lie in [0, 1]; divide 0..255 values by 255.')
    return images.astype(np.float32)


def _checked_levels(levels: Sequence[int] | np.ndarray) -> np.ndarray:
    levels = np.asarray(levels)
    whole = levels.size and np.issubdtype(levels.dtype, np.integer)
    if not whole or levels.min() < 1 or levels.max() > 5:
        raise ValueError(
            f'level must be a whole number from 1 to 5, not {levels.tolist()}; '
            'a pristine image is copied, not distorted.'
        )
    return levels.astype(np.int32)


def _seeds(key: int | jax.Array | None, count: int) -> np.ndarray:
    shape = f'{key.dtype} {list(key.shape)}' if hasattr(key, 'shape') else repr(key)
    problem = f'key must be a whole number of 64 bits or one jax.random.key, not {shape}.'
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape:
            raise ValueError(problem)
        return np.asarray(jax.random.bits(key, (count, 2))).view(np.int64).reshape(-1)
    try:
        first = operator.index(0 if key is None else key)
    except TypeError as error:
        raise ValueError(problem) from error
    if not -(2**63) <= first <= 2**63 - count:
        raise ValueError(problem)
    return np.int64(first) + np.arange(count)
