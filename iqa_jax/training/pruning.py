"""The pruned twin: a copy of the model that shares its weights, the smallest of them masked out.

The twin is `apply(params * mask)`, so it works for any model; where the two disagree an example is
hard (OHEM by a pruned self-competitor).
"""

import math

import jax
import jax.numpy as jnp

REFRESHES = ('fixed', 'epoch', 'step')


def prunable(path: tuple, leaf: jax.Array) -> bool:
    """Convolution kernels are prunable; dense layers, biases and normalisation are not."""
    return leaf.ndim == 4 and getattr(path[-1], 'key', '') == 'kernel'


def magnitude_mask(params: dict, ratio: float) -> dict:
    """Masks the ceil(ratio * N) smallest of all N prunable weights by one global threshold.

    Args:
      params: model parameters.
      ratio: share to prune, 0 <= ratio < 1.

    Returns:
      A tree like `params`: bool arrays for prunable leaves, a bool scalar True for the others.
      Weights that equal the threshold stay.

    Raises:
      ValueError: the ratio is out of range or nothing is prunable.
    """
    if not 0 <= ratio < 1:
        raise ValueError(f'config.ohem.ratio={ratio} is not in [0, 1).')
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [jnp.abs(leaf).ravel() for path, leaf in leaves if prunable(path, leaf)]
    if not kernels:
        raise ValueError('The model has no convolution kernel to prune; set config.ohem=None.')
    weights = jnp.sort(jnp.concatenate(kernels))
    threshold = weights[math.ceil(ratio * weights.size)]
    return jax.tree_util.tree_map_with_path(
        lambda path, w: jnp.abs(w) >= threshold if prunable(path, w) else jnp.array(True), params
    )


def apply_mask(params: dict, mask: dict) -> dict:
    """The twin's parameters: weights where the mask holds, zero elsewhere."""
    return jax.tree.map(lambda w, m: w * m, params, mask)


def sparsity(params: dict, mask: dict) -> tuple[int, int]:
    """(pruned, prunable) numbers of weights."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(mask), strict=True)
    chosen = [(m.size, int(jnp.sum(~m))) for (path, w), m in pairs if prunable(path, w)]
    return sum(pruned for _, pruned in chosen), sum(size for size, _ in chosen)
