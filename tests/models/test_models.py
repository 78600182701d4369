"""The model table: shapes, intermediates, frozen statistics, heads, sentences for wrong names."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import models
from iqa_jax.models import heads, preprocess

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 48, 64, 3)), jnp.float32)


def init(model):
    return model.init(jax.random.key(0), IMAGES[:1], train=False)


# Parameters without the classifier (torchvision's and timm's less 1000 x (width + 1)), and the
# numbers of the MLSP vector.
NUMBERS = {
    'efficientnet_lite0': (4_652_008 - 1000 * 1281, 19_200),
    'efficientnet_lite1': (5_416_680 - 1000 * 1281, 24_576),
    'efficientnet_lite2': (6_092_072 - 1000 * 1281, 26_592),
    'resnet18': (11_689_512 - 1000 * 513, 4_352),
    'resnet34': (21_797_672 - 1000 * 513, 8_064),
    'resnet50': (25_557_032 - 1000 * 2049, 32_256),
    'vgg16': (14_714_688, 8_960),
    'vgg16_bn': (14_723_136, 8_960),
}


@pytest.mark.parametrize('backbone', NUMBERS)
def test_parameters_and_mlsp_numbers_are_the_stated_ones(backbone):
    net = models.BACKBONES[backbone](dtype=jnp.bfloat16)
    run = functools.partial(net.init_with_output, train=False)
    (last, maps), variables = jax.eval_shape(run, jax.random.key(0), IMAGES[:1])
    leaves = jax.tree.leaves(variables['params'])
    assert 'stem' in maps or not backbone.startswith(('resnet', 'efficientnet'))
    mlsp = last.shape[-1] + 2 * sum(maps[tap].shape[-1] for tap in net.taps())
    assert (sum(x.size for x in leaves), mlsp) == NUMBERS[backbone]
    assert {x.dtype for x in leaves} == {jnp.dtype('float32')}
    assert {x.dtype for x in maps.values()} == {jnp.dtype('bfloat16')}


def test_the_input_is_normalised_as_the_weights_expect():
    image = jnp.asarray([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    half = preprocess.preprocess(image, 'half').ravel()
    np.testing.assert_allclose(half, [-1, 0, 1])
    lite = preprocess.preprocess(image, 'lite').ravel()
    np.testing.assert_allclose(lite, [-127 / 128, 0.5 / 128, 1], atol=1e-7)
    imagenet = preprocess.preprocess(image, 'imagenet').ravel()
    np.testing.assert_allclose(imagenet, [-0.485 / 0.229, 0.044 / 0.224, 0.594 / 0.225], rtol=1e-6)
    model = models.build('tiny', outputs=1, preprocess='half')
    assert model.backbone.preprocess == 'half'


@pytest.mark.parametrize('backbone', ['tiny', 'resnet18'])
@pytest.mark.parametrize('head', ['gap', 'mlsp', 'multitask'])
def test_shapes_and_intermediates(backbone, head):
    model = models.build(backbone, head=head, outputs=3, hidden=(8,), dropout=0.5)
    shapes = jax.eval_shape(lambda: model.apply(init(model), IMAGES, train=False))
    prediction, out = shapes
    assert prediction.shape == (2, 3) and prediction.dtype == jnp.float32
    taps = model.backbone.taps()
    assert set(taps) <= set(out)
    last = 32 if backbone == 'tiny' else 512
    width = last + 2 * sum(out[t].shape[-1] for t in taps) if head == 'mlsp' else last
    assert out['features'].shape == (2, width)


def test_frozen_statistics_stay_and_others_move():
    for frozen in (True, False):
        model = models.build('tiny', outputs=1, normalise='layer', frozen_statistics=frozen)
        variables = init(model)
        _, updated = model.apply(variables, IMAGES, train=True, mutable=['batch_stats'])
        same = jax.tree.map(
            lambda a, b: bool(jnp.all(a == b)), variables['batch_stats'], updated['batch_stats']
        )
        assert all(jax.tree.leaves(same)) == frozen


def test_subheads_of_the_multitask_head_are_independent():
    model = models.build('tiny', head='multitask', outputs=2, hidden=(4,))
    variables = init(model)

    def second(params):
        full = {'params': params, 'batch_stats': variables['batch_stats']}
        return model.apply(full, IMAGES, train=False)[0][:, 1].sum()

    slope = jax.grad(second)(variables['params'])['regressor']
    assert np.any(slope['kernel_0'][1]) and not np.any(slope['kernel_0'][0])


def test_power_normalisation_is_a_standardised_signed_root():
    rng = np.random.default_rng(0)
    x = rng.exponential(2.0, (500, 3)) * rng.choice([-1, 1], (500, 3))
    norm = heads.Normalise('power', momentum=0.0)
    variables = norm.init(jax.random.key(0), x[:2], train=False)
    found, _ = norm.apply(variables, x, train=True, mutable=['batch_stats'])
    root = np.sign(x) * np.sqrt(np.abs(x))
    expected = np.clip((root - root.mean(0)) / root.std(0), -3, 3)
    np.testing.assert_allclose(found, expected, atol=0.05)  # the root is softened around 0
    roots = np.asarray(heads.signed_root(jnp.array([0.0, 4.0, -9.0])))
    assert np.abs(roots - [0, 2, -3]).max() < 0.04


def test_half_precision_is_of_the_backbone_alone():
    spec = {'backbone': 'tiny', 'head': 'mlsp', 'normalise': 'layer', 'hidden': (8,), 'outputs': 2}
    whole, half = models.build(**spec), models.build(**spec, dtype='bfloat16')
    variables = init(half)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    exact, (found, out) = (
        whole.apply(variables, IMAGES, False)[0],
        half.apply(variables, IMAGES, False),
    )
    assert found.dtype == jnp.float32 and out['block_00'].dtype == jnp.bfloat16
    assert 0 < np.abs(found - exact).max() < 0.05


def test_the_uncertainty_head_is_positive():
    model = models.build('tiny', outputs=1, uncertainty=True)
    _, out = model.apply(init(model), IMAGES, train=False)
    assert out['std'].shape == (2, 1) and (out['std'] > 0).all()


@pytest.mark.parametrize('normalise', ['layer', 'power'])
def test_black_and_flat_pictures_have_finite_slopes(normalise):
    model = models.build('tiny', outputs=1, head='mlsp', normalise=normalise)
    variables = init(model)
    for value in (0.0, 0.5, 1.0):
        images = jnp.full((1, 32, 32, 3), value)
        slope = jax.grad(lambda x: model.apply(variables, x, train=False)[0].sum())(images)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'backbone': 'vgg'}, "config.model.backbone is 'vgg'"),
        ({'head': 'top'}, "config.model.head is 'top'"),
        ({'preprocess': 'grey'}, r"config.model.preprocess is 'grey'; for tiny .*'half'"),
        ({'hidden': (4, 4), 'dropout': (0.1,)}, '1 rates for 2 hidden layers'),
        ({'dtype': 'float16'}, "config.model.dtype is 'float16'; use float32 or bfloat16"),
    ],
)
def test_wrong_names_are_sentences(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.build(**({'backbone': 'tiny', 'outputs': 1} | options))


def test_a_backbone_without_a_choice_of_preprocess_says_so(monkeypatch):
    monkeypatch.setitem(models.BACKBONES, 'plain', lambda **_: nn.Dense(1))
    with pytest.raises(ValueError, match="preprocess is 'half'; for plain there is None only"):
        models.build('plain', outputs=1, preprocess='half')


def test_wrong_pictures_and_normalisation_are_sentences():
    model = models.build('tiny', outputs=1)
    with pytest.raises(ValueError, match='sides of at least 32'):
        model.init(jax.random.key(0), jnp.zeros((1, 31, 64, 3)), train=False)
    with pytest.raises(ValueError, match="config.model.normalise is 'sum'"):
        init(models.build('tiny', outputs=1, normalise='sum'))
