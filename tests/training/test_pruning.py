"""The twin's masks: exact numbers, ties, random draws, what is prunable."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import models
from iqa_jax.training import pruning

KEY = jax.random.key_data(jax.random.key(5))
OHEM = {'ratio': 0.5, 'mask': 'magnitude', 'layers': 'convolutions'}


def initial(backbone, **options):
    model = models.build(backbone, outputs=1, **options)
    made = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))()
    return made['params']


@pytest.fixture(scope='module')
def params():
    return initial('tiny', head='mlsp', hidden=(8,))


def divided(params, mask, layers='convolutions'):
    """Absolute values of the kept and of the pruned weights."""
    kept, gone = [], []
    for (path, w), m in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(mask), strict=True
    ):
        if pruning.prunable(path, w, layers):
            kept.append(np.abs(w)[np.asarray(m)])
            gone.append(np.abs(w)[~np.asarray(m)])
        else:
            assert m.shape == () and bool(m)
    return np.concatenate(kept), np.concatenate(gone)


@pytest.mark.parametrize('layers', pruning.LAYERS)
@pytest.mark.parametrize('ratio', [0.0, 0.3, 0.95])
def test_exactly_the_ceiling_of_the_share_is_pruned_and_the_smallest(params, ratio, layers):
    mask = pruning.make_mask(params, OHEM | {'ratio': ratio, 'layers': layers}, KEY, 0)
    pruned, prunable = pruning.sparsity(params, mask, layers)
    assert pruned == math.ceil(ratio * prunable)
    kept, gone = divided(params, mask, layers)
    assert len(gone) == pruned and len(kept) + len(gone) == prunable
    assert not ratio or gone.max() <= kept.min()


def test_all_convolutions_of_resnet18_together_lose_exactly_their_share():
    params = initial('resnet18', head='gap')
    for ratio in (0.3, 0.65, 0.7, 0.75, 0.9):
        mask = pruning.make_mask(params, OHEM | {'ratio': ratio}, KEY, 0)
        found = pruning.sparsity(params, mask)
        assert found == (math.ceil(ratio * 11_166_912), 11_166_912)
    kept, gone = divided(params, mask)
    assert gone.max() <= kept.min()


@pytest.mark.parametrize(
    'x',
    [
        np.zeros(300),
        np.random.default_rng(0).integers(0, 5, 300),
        np.random.default_rng(1).integers(0, 1 << 32, 300),
        np.full(300, (1 << 32) - 1),
    ],
)
@pytest.mark.parametrize('count', [0, 1, 150, 299, 300])
def test_of_equal_numbers_the_first_count_as_smaller(x, count):
    x = x.astype(np.uint32)
    want = np.zeros(len(x), bool)
    want[np.argsort(x, kind='stable')[:count]] = True
    np.testing.assert_array_equal(pruning.smallest(jnp.asarray(x), count), want)


def test_many_zero_weights_do_not_change_the_number():
    params = {'a': {'kernel': jnp.zeros((3, 3, 4, 5))}, 'b': {'kernel': jnp.ones((1, 1, 2, 2))}}
    mask = pruning.make_mask(params, OHEM | {'ratio': 0.7}, KEY, 0)
    assert pruning.sparsity(params, mask) == (math.ceil(0.7 * 184), 184)
    assert bool(mask['b']['kernel'].all())


def test_a_share_that_is_a_whole_number_is_not_rounded_up():
    mask = pruning.make_mask({'kernel': jnp.ones((1, 1, 10, 10))}, OHEM | {'ratio': 0.07}, KEY, 0)
    assert int(jnp.sum(~mask['kernel'])) == 7 < math.ceil(0.07 * 100)


def test_random_masks_are_exact_and_drawn_from_key_and_count(params):
    ohem = OHEM | {'mask': 'random', 'ratio': 0.3}
    masks = [pruning.make_mask(params, ohem, KEY, count) for count in (0, 0, 1)]
    counts = [pruning.sparsity(params, mask) for mask in masks]
    assert counts == [(math.ceil(0.3 * counts[0][1]), counts[0][1])] * 3
    flat = [np.concatenate([np.ravel(m) for m in jax.tree.leaves(mask)]) for mask in masks]
    np.testing.assert_array_equal(flat[0], flat[1])
    # Independent draws agree on the share 0.3^2 + 0.7^2 = 0.58 of the weights.
    assert np.mean(flat[0] == flat[2]) == pytest.approx(0.58, abs=0.02)
    kept, gone = divided(params, masks[0])
    assert np.median(kept) == pytest.approx(np.median(gone), rel=0.05)


def test_without_a_mask_nothing_is_pruned(params):
    mask = pruning.make_mask(params, OHEM | {'mask': 'none'}, KEY, 0)
    assert pruning.sparsity(params, mask)[0] == 0
    jax.tree.map(np.testing.assert_array_equal, pruning.apply_mask(params, mask), params)


def test_the_twin_is_zero_where_masked_and_shares_the_rest(params):
    mask = pruning.make_mask(params, OHEM, KEY, 0)
    twin = pruning.apply_mask(params, mask)
    for w, t, m in zip(
        jax.tree.leaves(params), jax.tree.leaves(twin), jax.tree.leaves(mask), strict=True
    ):
        np.testing.assert_array_equal(t, np.where(m, w, 0))


def test_dense_kernels_are_prunable_on_demand_and_nothing_else_is():
    model = models.build('tiny', head='multitask', outputs=3, hidden=(8,), uncertainty=True)
    key, image = jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda: model.init(key, image, train=False))['params']
    shapes |= {'loss': {'kernel': jax.ShapeDtypeStruct((3, 3), jnp.float32)}}
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    names = {'/'.join(k.key for k in path): (path, leaf) for path, leaf in leaves}
    found = {
        layers: {name for name, entry in names.items() if pruning.prunable(*entry, layers)}
        for layers in pruning.LAYERS
    }
    assert all(name.endswith('/kernel') for name in found['convolutions'])
    dense = {'regressor/kernel_0'}  # neither outputs nor their spread
    assert found['all'] - found['convolutions'] == dense


def test_bad_ratios_and_models_without_convolutions_are_refused(params):
    for ratio in (1.0, -0.1):
        with pytest.raises(ValueError, match=r'is not in \[0, 1\)'):
            pruning.make_mask(params, OHEM | {'ratio': ratio}, KEY, 0)
    with pytest.raises(ValueError, match=r'no kernel to prune among its convolutions; set config'):
        pruning.make_mask({'kernel': jnp.ones((3, 3))}, OHEM, KEY, 0)
