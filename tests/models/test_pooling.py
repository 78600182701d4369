"""What the poolings give, against NumPy in float64, and the heads on top of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from iqa_jax import models
from iqa_jax.models import heads

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 32, 48, 3)), jnp.float32)


def init(model) -> dict:
    return jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), IMAGES)


def cell_means(x: np.ndarray) -> np.ndarray:
    """[H,W,C] -> [5,5,C]: every position repeated five times each way, then plain block means."""
    fine = x.astype(np.float64).repeat(5, 0).repeat(5, 1)
    return fine.reshape(5, x.shape[0], 5, x.shape[1], -1).mean((1, 3))


@pytest.mark.parametrize('size', [(5, 10), (3, 7), (1, 1), (16, 12), (23, 4)])
def test_grid_is_the_area_average(size):
    x = np.random.default_rng(1).normal(size=(2, *size, 3)).astype(np.float32)
    expected = np.stack([cell_means(image) for image in x])
    np.testing.assert_allclose(heads.grid(x), expected, rtol=1e-5, atol=1e-6)


def test_grid_is_the_box_filter_of_pillow():
    # Where sides divide by five; elsewhere Pillow counts a position in one cell only.
    x = np.random.default_rng(2).uniform(size=(15, 20)).astype(np.float32)
    expected = np.asarray(Image.fromarray(x, 'F').resize((5, 5), Image.Resampling.BOX))
    np.testing.assert_allclose(heads.grid(x[None, ..., None])[0, ..., 0], expected, rtol=1e-5)


def test_grid_sees_the_valid_part_alone():
    x = np.random.default_rng(3).normal(size=(2, 8, 12, 3)).astype(np.float32)
    inside = np.ones((2, 8, 12, 1), bool)
    inside[1, 5:] = inside[1, :, 7:] = False
    got = heads.grid(x, inside)
    np.testing.assert_allclose(got[0], cell_means(x[0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[1], cell_means(x[1, :5, :7]), rtol=1e-5, atol=1e-6)


def test_shares_of_the_cells_are_exact():
    for length in (1, 4, 5, 17, 64):
        shares = np.asarray(heads._cell_shares(jnp.array([length]), length)[0], np.float64)
        np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
        np.testing.assert_allclose(shares.sum(0), 5 / length, rtol=1e-6)


@pytest.mark.parametrize('pooling', sorted(heads.POOLINGS))
@pytest.mark.parametrize('backbone', ['tiny', 'resnet18'])
def test_every_pooling_on_every_kind_of_backbone(backbone, pooling):
    cells = (4,) if pooling == 'grid5' else ()
    model = models.build(backbone, pooling=pooling, cells=cells, outputs=2, hidden=(8,))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))
    prediction, out = jax.eval_shape(lambda v: model.apply(v, IMAGES, train=False), variables)
    taps = sum(out[name].shape[-1] for name in model.backbone.taps())
    last = 32 if backbone == 'tiny' else 512
    width = {'gap': last, 'mean': taps, 'mean_std': 2 * taps + last, 'grid5': taps}[pooling]
    cells = (5, 5) if pooling == 'grid5' else ()
    assert out['features'].shape == (2, *cells, width) and prediction.shape == (2, 2)
    bare = models.extractor(backbone, pooling)
    extracted = jax.eval_shape(
        lambda v: bare.apply(v, IMAGES, train=False, method='extract')[0], variables
    )
    assert extracted.shape == out['features'].shape


def test_narrow_features_are_the_means_of_the_taps_in_order():
    model = models.build('tiny', pooling='mean', outputs=1)
    _, out = jax.jit(functools.partial(model.apply, train=False))(init(model), IMAGES)
    expected = [np.asarray(out[name], np.float64).mean((1, 2)) for name in model.taps]
    np.testing.assert_allclose(out['features'], np.concatenate(expected, 1), rtol=1e-5, atol=1e-6)


def float64(tree: dict) -> dict:
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def dense(x: np.ndarray, layer: dict) -> np.ndarray:
    return x @ layer['kernel'] + layer['bias']


def test_cells_are_layers_of_each_and_then_a_mean():
    x = np.random.default_rng(4).normal(size=(3, 5, 5, 7)).astype(np.float32)
    module = heads.Cells((6, 4))
    variables = module.init(jax.random.key(0), x)
    params = float64(variables['params'])
    y = np.maximum(dense(x.astype(np.float64), params['layer_0']), 0)
    expected = np.maximum(dense(y, params['layer_1']), 0).mean((1, 2))
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_of_the_hidden_layers_comes_after_the_activation():
    x = np.random.default_rng(5).normal(size=(16, 7)).astype(np.float32)
    module = heads.Regressor(1, (6,), (0.0,), norm='batch')
    variables = module.init(jax.random.key(0), x, train=False)
    got, moved = module.apply(variables, x, train=True, mutable=['batch_stats'])
    params = float64(variables['params'])
    y = np.maximum(dense(x.astype(np.float64), params['hidden_0']), 0)
    z = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-3)
    np.testing.assert_allclose(got, dense(z, params['output']), rtol=1e-4, atol=1e-4)
    mean = moved['batch_stats']['hidden_0_bn']['mean']
    np.testing.assert_allclose(mean, 0.1 * y.mean(0), rtol=1e-4, atol=1e-6)


def test_published_heads_have_the_published_sizes():
    f = 32

    def count(module) -> int:
        init = functools.partial(module.init, train=False)
        params = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, f)))['params']
        return sum(x.size for x in jax.tree.leaves(params))

    short = f * 512 + 512 + 512 * 256 + 256 + 256 + 1
    rates = (0.25, 0.5)
    assert count(heads.MultitaskRegressor(11, (512, 256), rates)) == 11 * short
    assert count(heads.Regressor(1, (512, 256), rates)) == short
    long = f * 2048 + 2048 + 2048 * 1024 + 1024 + 1024 * 256 + 256 + 256 + 1
    got = count(heads.Regressor(1, (2048, 1024, 256), (0.25, 0.25, 0.5), norm='batch'))
    assert got == long + 2 * (2048 + 1024 + 256)


def test_first_weights_of_the_eleven_heads_are_he_normal():
    module = heads.MultitaskRegressor(11, (512, 256), (0.25, 0.5))
    params = module.init(jax.random.key(0), jnp.zeros((1, 32)), train=False)['params']
    for name, fan_in in (('kernel_0', 32), ('kernel_1', 512), ('kernel_2', 256)):
        spread = np.asarray(params[name]).std((1, 2))
        np.testing.assert_allclose(spread, np.sqrt(2 / fan_in), rtol=0.15)
        assert not np.any(params[name.replace('kernel', 'bias')])


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'pooling': 'max'}, "config.model.pooling is 'max'"),
        ({'pooling': 'grid5'}, 'needs the widths of its cell layers'),
        ({'cells': (4,)}, r'every other takes \(\)'),
        ({'hidden_norm': 'layer'}, "hidden_norm is 'layer'; use none or batch"),
        ({'hidden_norm': 'batch', 'head': 'multitask'}, 'is not for multitask'),
    ],
)
def test_what_does_not_fit_is_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.build('tiny', outputs=1, **options)
