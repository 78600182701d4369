"""The global magnitude mask."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import models
from iqa_jax.training import pruning


@pytest.fixture(scope='module')
def params():
    model = models.build('tiny', head='mlsp', outputs=1, hidden=(8,))
    return model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False)['params']


@pytest.mark.parametrize('ratio', [0.0, 0.3, 0.7, 0.95])
def test_exactly_the_ceiling_of_the_share_is_pruned_and_the_smallest(params, ratio):
    mask = pruning.magnitude_mask(params, ratio)
    pruned, prunable = pruning.sparsity(params, mask)
    assert pruned == math.ceil(ratio * prunable)
    kept, gone = [], []
    for (path, w), m in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(mask), strict=True
    ):
        if pruning.prunable(path, w):
            kept.append(np.abs(w)[np.asarray(m)])
            gone.append(np.abs(w)[~np.asarray(m)])
        else:
            assert bool(m)
    if ratio:
        assert np.concatenate(gone).max() <= np.concatenate(kept).min()


def test_the_twin_is_zero_where_masked_and_shares_the_rest(params):
    mask = pruning.magnitude_mask(params, 0.5)
    twin = pruning.apply_mask(params, mask)
    for w, t, m in zip(
        jax.tree.leaves(params), jax.tree.leaves(twin), jax.tree.leaves(mask), strict=True
    ):
        np.testing.assert_array_equal(t, np.where(m, w, 0))


def test_all_convolution_kernels_of_resnet18_are_prunable():
    model = models.build('resnet18', head='gap', outputs=1)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False)
    )['params']
    sizes = [
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
        if pruning.prunable(path, leaf)
    ]
    assert sum(sizes) == 11_166_912


def test_bad_ratios_and_models_without_convolutions_are_refused(params):
    for ratio in (1.0, -0.1):
        with pytest.raises(ValueError, match=r'is not in \[0, 1\)'):
            pruning.magnitude_mask(params, ratio)
    with pytest.raises(ValueError, match='no convolution kernel to prune'):
        pruning.magnitude_mask({'kernel': jnp.ones((3, 3))}, 0.5)
