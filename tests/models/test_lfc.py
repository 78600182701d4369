"""LFC against float64 and, where it is installed, torch: normalisation, pyramid, whole network."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from iqa_jax import models
from iqa_jax.models import lfc, pretrained, torch_file

NET = models.build('lfc', head='gap', outputs=1, hidden=(128,), uncertainty='exp')
# Names and shapes in the published file; it has the network under 'cnn', activations counted.
SHAPES = {
    **{f'cnn.{3 * i}.weight': (48, 48 if i else 3, 3, 3) for i in range(4)},
    **{f'cnn.{3 * i}.bias': (48,) for i in range(4)},
    **{f'cnn.{3 * i + 1}.gamma': (48, 48) for i in range(4)},
    **{f'cnn.{3 * i + 1}.beta': (48,) for i in range(4)},
    'cnn.12.weight': (128, 672),
    'cnn.12.bias': (128,),
    'cnn.14.weight': (2, 128),
    'cnn.14.bias': (2,),
}


def random_state():
    """Random weights; what the roots are taken of is positive."""
    state = parity.random_state(SHAPES)
    return {k: np.abs(x) if k.endswith(('gamma', 'beta')) else x for k, x in state.items()}


def variables_of(state):
    """A quality model's variables: the converted backbone, and the regressor by hand."""
    tree = pretrained.convert(state, lfc.LFC(), pretrained.SOURCES['lfc'].rules[0])
    dense = {'hidden_0': '12', 'output': '14'}
    regressor = {
        ours: {'kernel': state[f'cnn.{index}.weight'].T, 'bias': state[f'cnn.{index}.bias']}
        for ours, index in dense.items()
    }
    return {'params': {'backbone': tree['params'], 'regressor': regressor}}


def gdn(x, gamma, beta):
    """The definition in float64, one output channel at a time."""
    x, gamma, beta = (np.asarray(a, np.float64) for a in (x, gamma, beta))
    channels = range(x.shape[-1])
    energy = [sum(x[..., k] ** 2 * gamma[k, c] for k in channels) + beta[c] for c in channels]
    return x / np.sqrt(np.stack(energy, -1))


def pyramid(x):
    """The published bins in float64: equal windows over a padded map of one picture [H,W,C]."""
    x, found = np.asarray(x, np.float64), []
    for level in (1, 2, 3):
        windows = [math.ceil(length / level) for length in x.shape[:2]]
        shift = [
            math.floor((window * level - length + 1) / 2)
            for window, length in zip(windows, x.shape[:2], strict=True)
        ]
        pads = [(before, w * level) for before, w in zip(shift, windows, strict=True)]
        padded = np.pad(x, (*pads, (0, 0)), constant_values=-np.inf)
        for channel in range(x.shape[-1]):
            for i in range(level):
                for j in range(level):
                    rows = slice(i * windows[0], (i + 1) * windows[0])
                    columns = slice(j * windows[1], (j + 1) * windows[1])
                    found.append(padded[rows, columns, channel].max())
    return np.array(found)


def test_it_has_the_published_number_of_parameters():
    images = jnp.zeros((1, 32, 40, 3))
    shapes = jax.eval_shape(lambda key: NET.init(key, images, train=False), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 159_506


def test_it_starts_as_published():
    init = jax.jit(lambda key: lfc.LFC().init(key, jnp.zeros((1, 32, 32, 3)), train=False))
    params = init(jax.random.key(0))['params']
    kernel = params['conv_2']['kernel']
    limit = math.sqrt(6 / (9 * 96))
    assert 0.95 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_array_equal(params['gdn_3']['gamma'], np.eye(48))
    np.testing.assert_array_equal(params['gdn_3']['beta'], np.full(48, 1e-4, np.float32))


def test_normalisation_equals_its_definition():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    gamma, beta = rng.uniform(size=(7, 7)), rng.uniform(1e-4, 1, 7)
    params = {'gamma': jnp.asarray(gamma), 'beta': jnp.asarray(beta)}
    got = lfc.GDN().apply({'params': params}, jnp.asarray(x))
    np.testing.assert_allclose(got, gdn(x, gamma, beta), rtol=1e-5)


def test_bounds_hold_and_can_be_left_again():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 3, 2)), jnp.float32)
    params = {'gamma': jnp.array([[-1.0, 0.5], [0.5, -2.0]]), 'beta': jnp.array([-1.0, 0.0])}
    got = lfc.GDN().apply({'params': params}, x)
    expected = gdn(x, [[0, 0.5], [0.5, 0]], [1e-6, 1e-6])
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    up, down = (
        jax.grad(lambda g, sign=sign: sign * lfc.at_least(g, 0.0))(-1.0) for sign in (-1.0, 1.0)
    )
    assert (up, down) == (-1.0, 0.0)


@pytest.mark.parametrize('size', [(4, 5), (7, 6), (11, 16)])
def test_the_pyramid_has_the_published_bins(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    got = jax.jit(lfc.pyramid_max)(jnp.asarray(x))
    np.testing.assert_array_equal(got, np.stack([pyramid(one) for one in x]).astype(np.float32))


def test_the_pyramid_of_a_part_is_that_of_the_part_alone():
    x = np.random.default_rng(0).normal(size=(2, 12, 16, 3)).astype(np.float32)
    sizes = [(12, 7), (5, 16)]
    inside = np.zeros((2, 12, 16, 1), bool)
    for mask, (height, width) in zip(inside, sizes, strict=True):
        mask[:height, :width] = True
    got = jax.jit(lfc.pyramid_max)(jnp.asarray(x), jnp.asarray(inside))
    for one, part, (height, width) in zip(got, x, sizes, strict=True):
        np.testing.assert_array_equal(one, pyramid(part[:height, :width]).astype(np.float32))


def test_the_variance_is_the_exponential_of_the_second_output():
    state = random_state()
    apply = jax.jit(lambda variables, x: NET.apply(variables, x, train=False))
    prediction, out = apply(variables_of(state), jnp.asarray(parity.photo()))
    features = np.asarray(out['features'], np.float64)
    hidden = np.maximum(0, features @ state['cnn.12.weight'].T + state['cnn.12.bias'])
    both = hidden @ state['cnn.14.weight'].T + state['cnn.14.bias']
    np.testing.assert_allclose(prediction, both[:, :1], rtol=1e-4)
    np.testing.assert_allclose(np.square(out['std']), np.exp(both[:, 1:]), rtol=1e-4)
    with pytest.raises(ValueError, match="config.model.uncertainty is 'log'; use False"):
        models.build('lfc', outputs=1, uncertainty='log')


def test_files_place_every_tensor_of_the_backbone():
    state = random_state()
    rule = pretrained.SOURCES['lfc'].rules[0]
    assert sum(rule.ignored(name) for name in state) == 4
    # Without the prefix, as a file of the bare network has them, and not turned.
    bare = {name.removeprefix('cnn.'): array for name, array in state.items()}
    tree = pretrained.convert(bare, lfc.LFC(), rule)
    np.testing.assert_array_equal(tree['params']['gdn_2']['gamma'], state['cnn.4.gamma'])
    kernel = state['cnn.9.weight'].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(tree['params']['conv_4']['kernel'], kernel)
    for name in ('cnn.2.weight', 'cnn.1.weight', 'cnn.3.gamma', 'head.0.weight'):
        assert rule.place(name) is None and not rule.ignored(name)


# --- with torch installed -------------------------------------------------------------------------


def published_network(torch):
    """The layers of the published network in torch, written from their description."""

    class Divide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = torch.nn.Parameter(torch.eye(48))
            self.beta = torch.nn.Parameter(torch.full((48,), 1e-4))

        def forward(self, x):
            kernel = self.gamma.T[:, :, None, None]
            return x / torch.nn.functional.conv2d(x * x, kernel, self.beta).sqrt()

    class Pyramid(torch.nn.Module):
        def forward(self, x):
            found = []
            for level in (1, 2, 3):
                window = [-(-length // level) for length in x.shape[2:]]
                pairs = zip(window, x.shape[2:], strict=True)
                over = [(size * level - length + 1) // 2 for size, length in pairs]
                found.append(torch.nn.functional.max_pool2d(x, window, window, over).flatten(1))
            return torch.cat(found, 1)

    layers = []
    for index in range(4):
        layers += [torch.nn.Conv2d(48 if index else 3, 48, 3, padding=1), Divide()]
        layers.append(torch.nn.MaxPool2d(2) if index < 3 else Pyramid())
    layers += [torch.nn.Linear(672, 128), torch.nn.ReLU(), torch.nn.Linear(128, 2)]
    return torch.nn.ModuleDict({'cnn': torch.nn.Sequential(*layers)})


def test_a_checkpoint_of_torch_gives_its_maps_and_outputs(tmp_path):
    torch = pytest.importorskip('torch')
    net = published_network(torch)
    state = random_state()
    net.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in state.items()})
    optimizer = torch.optim.Adam(net.parameters())
    net['cnn'](torch.rand(1, 3, 40, 40)).sum().backward()
    optimizer.step()
    net.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in state.items()})
    saved = {'epoch': 3, 'state_dict': net.state_dict(), 'optimizer': optimizer.state_dict()}
    maps = {}
    for index in range(4):
        net['cnn'][3 * index + 1].register_forward_hook(
            lambda _, __, x, key=f'gdn_{index + 1}': maps.update({key: x})
        )
    apply = jax.jit(lambda variables, x: NET.apply(variables, x, train=False))
    for legacy in (False, True):
        path = tmp_path / f'{legacy}.pt'
        torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
        found = torch_file.read_state_dict(path)
        assert found.keys() == SHAPES.keys()
        with torch.no_grad():
            both = net['cnn'](torch.from_numpy(parity.photo().transpose(0, 3, 1, 2))).numpy()
        variables = variables_of(found)
        loaded = pretrained.load_pretrained('lfc', path)['params']
        jax.tree.map(np.testing.assert_array_equal, loaded, variables['params']['backbone'])
        prediction, out = apply(variables, jnp.asarray(parity.photo()))
        theirs = parity.summary({k: x.permute(0, 2, 3, 1).numpy() for k, x in maps.items()})
        ours = parity.summary({name: np.asarray(out[name]) for name in theirs})
        errors = [parity.error(ours[name], theirs[name]) for name in theirs]
        print(f'{max(errors):.2g}')
        assert len(errors) == 4 and max(errors) <= parity.TOLERANCE
        np.testing.assert_allclose(prediction, both[:, :1], rtol=1e-4)
        np.testing.assert_allclose(np.square(out['std']), np.exp(both[:, 1:]), rtol=1e-4)
