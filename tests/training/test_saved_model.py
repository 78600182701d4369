"""A saved model scores pictures of any size, with uncertainty, and maps its scores to opinions."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import models
from iqa_jax.evaluation import logistic
from iqa_jax.runtime import artifacts
from iqa_jax.training import calibration, saved_model

SPEC = {'backbone': 'tiny', 'head': 'mlsp', 'normalise': 'layer'}
TILED = {'bucket_step': 64, 'pixel_limit': 2**16}


@functools.cache
def made(uncertainty: bool) -> saved_model.SavedModel:
    spec = SPEC | {'uncertainty': uncertainty}
    model = models.build(**spec, outputs=1)
    start = jnp.zeros((1, 64, 64, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), start, train=False))()
    twin = {f'twin_{k}': jax.tree.map(lambda x: 0.9 * x, v) for k, v in variables.items()}
    meta = {'config': {}, 'origin': '', 'simulated': False, 'step': 0}
    return saved_model.SavedModel(spec, ('mos',), jax.tree.map(np.asarray, variables | twin), meta)


@pytest.fixture(scope='module')
def model():
    return made(True)


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    sizes = ((64, 64), (50, 70), (64, 64), (33, 90))
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def fitted(rise: float = 1.0) -> dict:
    rng = np.random.default_rng(3)
    x = rng.normal(size=200)
    y = 50 + 40 * np.tanh(rise * x) + rng.normal(size=200)
    mapping = logistic.fit_logistic(x, y)
    return {
        'logistic': {k: getattr(mapping, k) for k in calibration.PARAMETERS},
        'residual_std': 1.5, 'opinion_noise': 1.2, 'simulated': True,
    }  # fmt: skip


def test_a_score_does_not_depend_on_what_else_is_scored(model, images):
    together = model.score(images)
    assert together.dtype == np.float32 and together.shape == (4,)
    alone = np.concatenate([model.score(image) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    exact = model.score(images[1], bucket_step=1)
    np.testing.assert_allclose(together[1:2], exact, rtol=1e-4, atol=1e-5)
    stacked = model.score(np.stack([images[0], images[2]]))
    np.testing.assert_allclose(stacked, together[[0, 2]], rtol=1e-4, atol=1e-5)
    as_float = model.score(images[0].astype(np.float64) / 255)
    np.testing.assert_allclose(as_float, together[:1], rtol=1e-4, atol=1e-5)


def test_pictures_that_fill_their_bucket_run_the_program_without_a_mask(model, images):
    key = json.dumps(model.spec, sort_keys=True)
    batch = {'image': np.stack([images[0], images[2]])}
    direct = saved_model.score_step(key, 1, False)(model.placed(False), batch)
    scores = model.score(batch['image'])
    np.testing.assert_array_equal(scores, direct['prediction'].mean(axis=1))


def test_a_network_that_sees_padding_scores_pictures_at_their_own_size(images):
    spec = {'backbone': 'lfc', 'head': 'gap'}
    network = models.build(**spec, outputs=1)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    saved = saved_model.SavedModel(spec, ('mos',), {'batch_stats': {}, **variables}, {})
    assert not saved.exact_when_padded
    expected = network.apply(variables, images[1][None] / np.float32(255), train=False)[0]
    np.testing.assert_allclose(saved.score(images[1]), expected[0], rtol=1e-4, atol=1e-5)


def test_tiles_share_the_score_and_add_their_disagreement(model):
    rng = np.random.default_rng(1)
    image = np.full((256, 448, 3), 90, np.uint8)
    image[:, 256:] = rng.integers(0, 256, (256, 192, 3), np.uint8)
    whole = model.score(image, uncertainty=True, **TILED)
    left, right = (model.score(x, uncertainty=True) for x in (image[:, :256], image[:, 192:]))
    score = (left['score'] + right['score']) / 2
    np.testing.assert_allclose(whole['score'], score, rtol=1e-4)
    variance = (left['std'] ** 2 + right['std'] ** 2 + (left['score'] - score) ** 2
                + (right['score'] - score) ** 2) / 2  # fmt: skip
    np.testing.assert_allclose(whole['std'], np.sqrt(variance), rtol=1e-4)
    flat = model.score(image[:, :1].repeat(448, 1), uncertainty=True, **TILED)
    tile = model.score(image[:, :256], uncertainty=True, **TILED)
    for name in ('score', 'std'):
        np.testing.assert_allclose(flat[name], tile[name], rtol=1e-5)
    both = model.score(image, twin=True, **TILED)
    np.testing.assert_allclose(both['prediction'][:, 0], whole['score'], rtol=1e-5)
    assert both['twin'].shape == (1, 1) and both['twin'][0, 0] != both['prediction'][0, 0]


def test_calibrated_scores_and_their_spread(model, images):
    record = fitted()
    known = dataclasses.replace(model, calibration=record)
    raw = model.score(images, uncertainty=True)
    found = known.score(images, calibrated=True, uncertainty=True)
    np.testing.assert_allclose(found['score'], calibration.to_mos(record, raw['score']), rtol=1e-5)
    own = calibration.slope(record, raw['score']) * raw['std']
    np.testing.assert_allclose(found['std'], np.hypot(own, 1.2), rtol=1e-4)
    # Where the logistic is flat, opinions scatter all the same.
    far = {'prediction': np.array([[1e6]]), 'std': np.ones(1), 'spread': np.zeros(1)}
    np.testing.assert_allclose(known.with_std(far, True)[1], 1.2, rtol=1e-6)
    np.testing.assert_allclose(known.with_std(far, False)[1], 1.0)
    spread = {'spread': np.array([0.0, 2.0]), 'prediction': np.zeros((2, 1), np.float32)}
    plain = dataclasses.replace(made(False), calibration=record)
    std = plain.with_std(spread, True)[1]
    expected = [1.5, np.hypot(1.5, 2 * calibration.slope(record, 0.0))]
    np.testing.assert_allclose(std, expected, rtol=1e-5)
    assert plain.with_std(spread, False)[1] is None


def test_a_warm_start_takes_layers_whole_or_not_at_all():
    def tree(inputs: int, outputs: int, value: float, heads: int = 7) -> dict:
        dense = {'kernel': np.full((inputs, outputs), value), 'bias': np.full(outputs, value)}
        task = {'kernel_0': np.full((2, heads, 1), value), 'bias_0': np.full((2, 1), value)}
        body = {'scale': np.full(3, value)}
        return {'params': {'regressor': {'output': dense}, 'task': task, 'backbone': body}}

    def started(ours: dict, theirs: dict) -> dict:
        params = saved_model.warm_start(ours, theirs, 0.5)['params']
        return {
            'output': {k: float(x.mean()) for k, x in params['regressor']['output'].items()},
            'task': {k: float(x.mean()) for k, x in params['task'].items()},
            'backbone': float(params['backbone']['scale'].mean()),
        }

    theirs = tree(5, 3, 4.0)
    theirs['params']['regressor']['output']['bias'] = np.array([1.0, 2.0, 6.0])
    found = started(tree(5, 1, 9.0), theirs)
    assert found['output'] == {'kernel': 0.5 * 4, 'bias': 0.5 * 3}  # the mean of three outputs
    assert found['task'] == {'kernel_0': 4, 'bias_0': 4} and found['backbone'] == 4
    other = started(tree(6, 1, 9.0, heads=8), theirs)
    assert other['output'] == {'kernel': 9, 'bias': 9} and other['backbone'] == 4
    assert other['task'] == {'kernel_0': 9, 'bias_0': 9}
    assert started(tree(5, 3, 9.0), theirs)['output'] == {'kernel': 4, 'bias': 3}


@pytest.mark.parametrize('rise', [0.3, 1.0, 20.0])
def test_the_stored_logistic_is_the_fitted_one(rise):
    record = json.loads(json.dumps(fitted(rise)))
    x = np.linspace(-6, 6, 101)
    rng = np.random.default_rng(3)
    scores = rng.normal(size=200)
    mapping = logistic.fit_logistic(scores, 50 + 40 * np.tanh(rise * scores) + rng.normal(size=200))
    np.testing.assert_allclose(calibration.to_mos(record, x), mapping(x).clip(0, 100), atol=1e-9)
    step = 1e-5
    numeric = (mapping(x + step) - mapping(x - step)) / (2 * step)
    np.testing.assert_allclose(calibration.slope(record, x), numeric, rtol=1e-4, atol=1e-6)
    assert (np.diff(calibration.to_mos(record, x)) >= 0).all()


def test_what_a_model_cannot_give_is_a_sentence(images):
    variables = {k: v for k, v in made(False).variables.items() if 'twin' not in k}
    plain = dataclasses.replace(made(False), variables=variables)
    for options, sentence in (
        ({'calibrated': True}, 'has no calibration; export it with config.calibration'),
        ({'uncertainty': True}, 'train it with config.model.uncertainty or export it'),
        ({'twin': True}, 'trained without a pruned twin'),
    ):
        with pytest.raises(ValueError, match=sentence):
            plain.score(images, **options)
    known = dataclasses.replace(plain, calibration=fitted())
    with pytest.raises(ValueError, match='set calibrated=True'):
        known.score(images, uncertainty=True)


@pytest.mark.parametrize(
    ('bad', 'sentence'),
    [
        ([], 'no image to score'),
        (['a.png'], r'not str; read a file with iqa_jax\.images\.io\.decode'),
        (np.zeros((64, 64)), r'must be \[H, W, 3\]'),
        (np.zeros((2, 64, 64, 4), np.uint8), r'must be \[H, W, 3\]'),
        (np.zeros((64, 31, 3), np.uint8), 'is 31x64 pixels, smaller than 32x32'),
        (np.full((64, 64, 3), np.nan), r'uint8, or float in \[0, 1\]'),
        (np.full((64, 64, 3), 1.1), r'uint8, or float in \[0, 1\]'),
        (np.zeros((64, 64, 3), np.int64), r'uint8, or float in \[0, 1\]'),
    ],
)
def test_bad_images_are_sentences(model, bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.score(bad)


def test_a_calibration_of_other_weights_is_refused(tmp_path):
    artifacts.commit(tmp_path / 'weights.msgpack', b'weights')
    calibration.write(tmp_path, fitted(), tmp_path / 'weights.msgpack', '')
    assert calibration.read(tmp_path, b'weights')['simulated'] is True
    with pytest.raises(ValueError, match='belongs to other weights'):
        calibration.read(tmp_path, b'others')
    old = {k: v for k, v in fitted().items() if k != 'opinion_noise'}
    calibration.write(tmp_path, old, tmp_path / 'weights.msgpack', '')
    with pytest.raises(ValueError, match='of an earlier version'):
        calibration.read(tmp_path, b'weights')
    calibration.forget(tmp_path)
    assert calibration.read(tmp_path, b'others') is None
    assert not list(tmp_path.glob('calibration*'))
