"""The public face: names, inputs that are accepted, inputs that are refused."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import fr_metrics
from iqa_jax.fr_metrics import bank

FAST = ['ssim_fullres', 'gmsd', 'mdsi']
PROXIES = (
    'ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'vsi', 'fsimc', 'gmsd', 'sff', 'sr_sim', 'haarpsi',
    'nlpd',
)  # fmt: skip


@pytest.fixture(scope='module')
def pairs():
    """Three pairs uint8 [3,40,48,3] of a textured picture and noisy, blurred, brighter ones."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[0:40, 0:48]
    waves = np.stack([np.sin(rows / 3), np.cos(cols / 4), np.sin((rows + cols) / 6)], -1)
    reference = np.clip(128 + 80 * waves + rng.normal(0, 8, waves.shape), 0, 255).round()
    noisy = reference + rng.normal(0, 15, reference.shape)
    blurred = (reference + np.roll(reference, 1, 0) + np.roll(reference, 1, 1)) / 3
    distorted = np.clip(np.stack([noisy, blurred, reference + 9]), 0, 255).astype(np.uint8)
    return np.stack([reference.astype(np.uint8)] * 3), distorted


def test_every_metric_says_what_it_is():
    for name, metric in fr_metrics.METRICS.items():
        assert fr_metrics.metric(name) is metric and metric.name == name
        low, high = metric.range
        assert low < high and metric.min_side >= 1 and metric.source and metric.status
        assert isinstance(metric.higher_is_better, bool) and isinstance(metric.symmetric, bool)
    assert set(PROXIES) <= set(fr_metrics.METRICS)
    assert not {'scqi', 'sc_qi', 'add_gsim'} & set(fr_metrics.METRICS)


def test_one_pass_equals_single_metrics(pairs):
    together = fr_metrics.metrics(FAST)(*pairs)
    assert list(together) == FAST
    for name in FAST:
        alone = fr_metrics.metric(name)(*pairs)
        assert alone.shape == (3,) and alone.dtype == jnp.float32
        np.testing.assert_allclose(together[name], alone, atol=1e-6)


def test_a_batch_scores_each_pair_as_if_alone(pairs):
    batch = fr_metrics.metrics(FAST)(*pairs)
    for i in range(3):
        single = fr_metrics.metrics(FAST)(pairs[0][i], pairs[1][i])
        for name in FAST:
            assert single[name].shape == (1,)
            np.testing.assert_allclose(single[name][0], batch[name][i], atol=1e-6)


def test_the_form_for_accelerators_scores_the_same(pairs, monkeypatch):
    """On CPU pairs are mapped one by one, elsewhere the whole batch is one computation."""
    names = [*FAST, 'vsi', 'fsimc', 'sr_sim']  # the last three have forms of their own
    expected = fr_metrics.metrics(names)(*pairs)
    bank.scorer.cache_clear()
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    batched = fr_metrics.metrics(names)(*pairs)
    bank.scorer.cache_clear()
    for name in names:
        np.testing.assert_allclose(batched[name], expected[name], atol=1e-6)


def test_bytes_and_floats_and_mixtures_score_alike(pairs):
    reference, distorted = pairs
    gmsd = fr_metrics.metric('gmsd')
    expected = gmsd(reference, distorted)
    for first, second in [
        (reference / np.float32(255), distorted / np.float32(255)),
        (reference / 255, distorted),
        (jnp.asarray(reference), jnp.asarray(distorted) / 255),
    ]:
        np.testing.assert_allclose(gmsd(first, second), expected, atol=1e-6)


def test_metrics_work_inside_jit_and_vmap(pairs):
    reference, distorted = (jnp.asarray(x) / 255 for x in pairs)
    metric = fr_metrics.metric('gmsd')
    expected = metric(reference, distorted)
    np.testing.assert_allclose(jax.jit(metric)(reference, distorted), expected, atol=1e-6)
    mapped = jax.vmap(metric)(reference, distorted)
    np.testing.assert_allclose(mapped[:, 0], expected, atol=1e-6)


def test_policies(pairs):
    flat = np.full_like(pairs[0], 100)
    names = ['sr_sim', 'gmsd']
    safe, parity = (fr_metrics.metrics(names, policy=p)(flat, flat) for p in bank.POLICIES)
    assert (safe['sr_sim'] == 1).all() and np.isnan(parity['sr_sim']).all()
    assert (safe['gmsd'] == 0).all() and (parity['gmsd'] == 0).all()
    assert np.isnan(fr_metrics.metric('sr_sim', policy='parity')(flat, flat)).all()
    for ask in (fr_metrics.metric, lambda name, **policy: fr_metrics.metrics([name], **policy)):
        with pytest.raises(ValueError, match="policy must be one of safe, parity, not 'strict'"):
            ask('sr_sim', policy='strict')


def test_all_255_levels_survive_the_way_through_floats():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    psnr = fr_metrics.metric('psnr')(levels, levels / np.float32(255))
    assert float(psnr[0]) > 140


def test_a_repeated_name_is_scored_once(pairs):
    for names in (['gmsd', 'gmsd'], iter(['gmsd']), np.array(['gmsd'])):
        assert list(fr_metrics.metrics(names)(*pairs)) == ['gmsd']


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown metric 'simm'.* ssim"):
        fr_metrics.metric('simm')
    with pytest.raises(ValueError, match='unknown metric'):
        fr_metrics.metrics(['ssim', 'simm'])
    with pytest.raises(ValueError, match='at least one'):
        fr_metrics.metrics([])
    with pytest.raises(ValueError, match=r"takes a list of names; for one it is \['ssim'\]"):
        fr_metrics.metrics('ssim')


@pytest.mark.parametrize(
    'change,message',
    [
        (lambda x: x.astype(np.int32), 'distorted must be uint8 or float32.*int32'),
        (lambda x: x.astype(np.float16) / 255, 'float16'),
        (lambda x: x.astype(np.float32), r'distorted must be float in \[0, 1\]'),
        (lambda x: x / np.float32(255) - 0.1, r'in \[0, 1\]'),
        (lambda x: np.where(x == x.max(), np.nan, 0.5), 'without NaN'),
        (lambda x: x[:, :-1], 'differ in shape'),
        (lambda x: x[:2], 'differ in shape'),
        (lambda x: x[..., :1], r'must be \[H,W,3\]'),
        (lambda x: x[0, 0], r'must be \[H,W,3\]'),
        (lambda x: x[:0], r'must be \[H,W,3\]'),
        (lambda x: np.moveaxis(x, -1, 1), r'must be \[H,W,3\]'),
    ],
)
def test_wrong_inputs_are_refused(pairs, change, message):
    with pytest.raises(ValueError, match=message):
        fr_metrics.metric('ssim')(pairs[0], change(pairs[1]))


@pytest.mark.parametrize('name', fr_metrics.METRICS)
def test_too_small_images_are_refused_while_tracing(name):
    metric = fr_metrics.metric(name)
    for height, width in [(metric.min_side - 1, 300), (300, metric.min_side - 1)]:
        image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
        with pytest.raises(ValueError, match=f'{height}x{width} are too small for {name}: at leas'):
            jax.eval_shape(metric, image, image)
    smallest = jax.ShapeDtypeStruct((2, metric.min_side, metric.min_side, 3), jnp.uint8)
    assert jax.eval_shape(metric, smallest, smallest).shape == (2,)


def test_the_page_lists_every_metric_with_its_facts():
    text = (pathlib.Path(__file__).parents[2] / 'docs' / 'fr_metrics.md').read_text()
    for name, metric in fr_metrics.METRICS.items():
        assert f'`{name}`' in text or name.endswith('_floatgray'), name
        row = re.search(
            rf'^\| (?:`\w+`, )?`{name}`(?:, `\w+`)? \| (?:high|low) .*$', text, re.MULTILINE
        )
        if row:
            better, _, order, sees, side = (x.strip() for x in row[0].split('|')[2:7])
            assert better == ('high' if metric.higher_is_better else 'low'), name
            assert order == ('no' if metric.symmetric else 'yes'), name
            assert sees == ('colour' if metric.colour else 'gray'), name
            assert int(side) == metric.min_side, name
    assert 'SC-QI and ADD-GSIM are not here' in text


@pytest.mark.parametrize(
    'operation,names,most',
    [
        ('stablehlo.fft', ['fsim', 'fsimc'], ['fsimc']),
        ('stablehlo.floor', ['ssim', 'ms_ssim', 'iw_ssim', 'gmsd', 'nlpd', 'vif'], ['iw_ssim']),
        ('stablehlo.sqrt', ['fsimc', 'sr_sim'], ['fsimc']),
    ],
)
def test_metrics_share_what_they_have_in_common(operation, names, most):
    """Phase congruency, gray planes and gradients are there as often as in one of them alone."""

    def count(chosen):
        image = jax.ShapeDtypeStruct((1, 176, 200, 3), jnp.float32)
        function = jax.jit(lambda *pair: fr_metrics.metrics(chosen)(*pair))
        return function.lower(image, image).as_text().count(operation)

    own = {'stablehlo.sqrt': 1}.get(operation, 0)  # of SR-SIM, of a similarity
    assert count(most) <= count(names) <= count(most) + own
