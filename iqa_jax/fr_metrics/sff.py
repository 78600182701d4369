"""SFF, sparse feature fidelity, as the authors' package 2.0 computes it.

The feature matrix W, which the authors learned by independent component analysis, is theirs; its
licence is beside it in `data/`.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters

SIDE = 8  # of a patch
SAMPLES = SIDE * SIDE * 3
FEATURE_CONSTANT, LIGHT_CONSTANT = 0.08, 0.001
STRENGTH = 0.4  # patches with less than this part of the mean feature energy are left out
LIGHT_WEIGHT = 0.8
_W_FILE = pathlib.Path(__file__).parent / 'data' / 'sff_W_8x192.csv'


@functools.cache
def _features() -> np.ndarray:
    """W float32 [192, 8] for patches in row, column, channel order; the file has it reversed."""
    w = np.loadtxt(_W_FILE, delimiter=',').reshape(-1, 3, SIDE, SIDE)
    return np.float32(w.transpose(3, 2, 1, 0).reshape(SAMPLES, -1))


def _patches(image: jax.Array) -> jax.Array:
    """Patches [N, P, 192] of RGB [N,H,W,3]; the last block of a side of whole blocks is unused."""
    n, height, width, _ = image.shape
    rows, cols = (height - 1) // SIDE, (width - 1) // SIDE
    image = image[:, : rows * SIDE, : cols * SIDE].reshape(n, rows, SIDE, cols, SIDE * 3)
    return filters.materialize(image.swapaxes(2, 3).reshape(n, rows * cols, SAMPLES))


def _project(patches: jax.Array, matrix: np.ndarray) -> jax.Array:
    return jnp.matmul(patches, matrix, precision=jax.lax.Precision.HIGHEST)


def _patch_mean(patches: jax.Array) -> jax.Array:
    """Means [N, P, 1] of patches [N, P, 192]; a product with ones vectorises, a sum does not."""
    return _project(patches, np.ones((SAMPLES, 1), np.float32)) / SAMPLES


def _upper_half(x: jax.Array) -> jax.Array:
    """Which of x [N, P] reach the median of their image, as 1.0 or 0.0; NaN does."""
    x = jax.lax.stop_gradient(x)
    # Of an even count, just the upper of the two middle values and all above reach their mean.
    middle = jnp.sort(x, -1)[:, x.shape[-1] // 2, None]
    return jnp.where(x < middle, 0.0, 1.0)


def _feature_error(patches: jax.Array, change: jax.Array) -> tuple[jax.Array, jax.Array]:
    """1 - feature fidelity [N] of patches and their change without means, both [N, P, 192].

    Also the feature energy [N] of the reference where the error is large.
    """
    chosen = _upper_half(_patch_mean(jnp.abs(change))[..., 0])
    a, step = _project(patches, _features()), _project(change, _features())
    energy = jax.lax.stop_gradient((a * a).sum(-1))
    mean_energy = (energy * chosen).sum(-1) / chosen.sum(-1)
    # >= keeps all patches where the reference has no energy at all.
    weak = energy < STRENGTH * mean_energy[:, None]
    chosen = jnp.where(weak, 0.0, chosen)
    error = (step * step / (a * a + (a - step) ** 2 + FEATURE_CONSTANT)).mean(-1)
    return (error * chosen).sum(-1) / chosen.sum(-1), mean_energy


def _light_error(first: jax.Array, second: jax.Array, change: jax.Array) -> jax.Array:
    """1 - luminance correlation [N] of two images' patch means; all of [N, P]."""
    chosen = _upper_half(jnp.abs(change))
    lengths, directions = [], []
    for mean in (first, second):
        mean = mean - mean[:, :1]
        average = (mean * chosen).sum(-1, keepdims=True) / chosen.sum(-1, keepdims=True)
        centred = (mean - average) * chosen
        length = maps.power((centred * centred).sum(-1, keepdims=True), 0.5)
        lengths.append(length[:, 0])
        directions.append(centred / jnp.where(length == 0, 1.0, length))
    # |p| |q| - pq is |p| |q| times half the square of the difference of their directions.
    apart = directions[0] - directions[1]
    scale = lengths[0] * lengths[1]
    return scale * (apart * apart).sum(-1) / 2 / (scale + LIGHT_CONSTANT)


def sff(reference: jax.Array, distorted: jax.Array, *, parity: bool = False) -> jax.Array:
    """SFF float32 [N] of RGB float32 [N,H,W,3] in 0..255; HIGHER is better, 1 is identical.

    At most 1, below 0 for inverted images; not symmetric: the reference chooses the features.
    Source: Chang, Yang, Gan and Wang, TIP 2013, SFF package 2.0 with its matrix W.

    A reference without features, such as a flat gray one, gives NaN in the original and with
    `parity`; otherwise the features of all its badly distorted patches count.
    """
    both = [_patches(image) for image in (reference, distorted)]
    change = both[0] - both[1]
    # An offset per patch that makes a flat gray patch exactly 0.
    anchors = [patches[..., :1] for patches in both]
    flattened = [patches - anchor for patches, anchor in zip(both, anchors, strict=True)]
    means = [_patch_mean(patches) for patches in flattened]
    mean_change = _patch_mean(change)
    feature_error, energy = _feature_error(flattened[0] - means[0], change - mean_change)
    levels = [(mean + anchor)[..., 0] for mean, anchor in zip(means, anchors, strict=True)]
    light_error = _light_error(*levels, mean_change[..., 0])
    score = 1 - (LIGHT_WEIGHT * light_error + (1 - LIGHT_WEIGHT) * feature_error)
    return jnp.where((energy == 0) & parity, jnp.nan, score)
