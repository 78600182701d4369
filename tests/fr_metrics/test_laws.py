"""What every metric promises on any input: ideal values, symmetry, finiteness, right slopes."""

import functools
import pathlib

import cases
import float64_ssim
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import iqa_jax
from iqa_jax import fr_metrics
from iqa_jax.images import io

# Too little is left of these pairs for float32 and float64 to agree on what is rounding.
SINGULAR = {
    'vif': {'speck', 'stripes'},
    'vifp': {'speck'},
    'iw_ssim': {'speck', 'stripes'},
    'sr_sim': {'stripes'},
}
# Patches of SFF that tie at the median are chosen by rounding. VIF divides by the energy of windows
# that reach over the edge of a flat half by a pixel: two programs differ more, see check_alike.
LOOSE = {
    'sff': {'noisy_flat': 1e-2, 'coloured_noisy': 1e-2, 'one_level': 1e-3},
    'vif': {'from_half_black': 1e-4, 'from_half_white': 1e-4, 'faint': 1e-4},  # faint: 9 to 15
}
# Two programs round differently; patches of SFF near the median then change sides.
CLOSE = {'sff': 1e-4, 'vif': 2e-5, 'vsi': 5e-5, 'ms_ssim': 3e-5, 'psnr': 1e-4, 'psnr_gray': 1e-4}
# pmap compiles for long; these differ from their families by the rounding only.
MAPPED = [name for name in cases.NAMES if name not in cases.SLOW_VARIANTS]
# Slopes are checked, not timed.
QUICK = {'xla_backend_optimization_level': 0, 'xla_cpu_use_fusion_emitters': False}


def family(name):
    return name.removesuffix('_floatgray')


def pairs_of(name):
    return cases.hard_pairs(*cases.size(name))


@functools.cache
def scores_at(height, width, policy):
    """{metric: {pair: score}} of uint8 pairs in one batch, of all metrics tested at this size."""
    names = [name for name in cases.NAMES if cases.size(name) == (height, width)]
    found = fr_metrics.metrics(names, policy=policy)(*cases.batch(cases.hard_pairs(height, width)))
    keys = list(cases.hard_pairs(height, width))
    return {n: dict(zip(keys, np.asarray(found[n]).tolist(), strict=True)) for n in names}


def scores(name, policy='safe'):
    return scores_at(*cases.size(name), policy)[name]


@functools.cache
def traced(name):
    """Scores [pairs] and slopes per grey level by both images, under jit of vmap of grad.

    And the scores once more with a NaN pixel in the last pair.
    """
    metric = fr_metrics.metric(name)
    pairs = pairs_of(name)

    def value(reference, distorted, broken):
        distorted = jnp.where(broken & (jnp.arange(3) == 1), jnp.nan, distorted)
        return metric(reference, distorted)[0]

    images = [jnp.asarray(x) / 255 for x in cases.batch(pairs)]
    broken = np.zeros((2, *images[0].shape[:-1], 1), bool)
    broken[1, -1, 20, 20] = True
    run = jax.jit(jax.vmap(jax.value_and_grad(value, argnums=(0, 1))), compiler_options=QUICK)
    (values, slopes), (with_nan, _) = (run(*images, where) for where in broken)
    return np.asarray(values), [np.asarray(slope) / 255 for slope in slopes], np.asarray(with_nan)


@functools.cache
def mapped(height, width):
    """{metric: scores [pairs]} of all metrics tested at this size, under pmap of vmap."""
    names = [name for name in MAPPED if cases.size(name) == (height, width)]
    images = [jnp.asarray(x)[None] / 255 for x in cases.batch(cases.hard_pairs(height, width))]
    found = jax.pmap(jax.vmap(fr_metrics.metrics(names)), devices=jax.devices()[:1])(*images)
    return {name: np.asarray(scores)[0, :, 0] for name, scores in found.items()}


@pytest.mark.parametrize('name', cases.NAMES)
def test_identical_images_score_the_ideal_value_exactly(name):
    for pair, score in scores(name).items():
        if pair == 'identical' or pair.endswith('itself'):
            assert score == cases.ideal(name), pair
    # SFF does not see a change of brightness, and nothing else of flat patches.
    different = ('noise_4', 'noise_40', 'inverted', *(() if name == 'sff' else ('black_white',)))
    assert all(scores(name)[pair] != cases.ideal(name) for pair in different)


@pytest.mark.parametrize('name', cases.NAMES)
def test_safe_scores_are_never_nan_and_in_range(name):
    low, high = fr_metrics.metric(name).range
    assert fr_metrics.metric(name).ideal == cases.ideal(name)
    for pair, score in scores(name).items():
        assert low <= score <= high, pair
        infinite = np.isinf(score) and not name.startswith('psnr')
        assert not infinite, pair


@pytest.mark.parametrize('name', cases.NAMES)
def test_scores_equal_the_float64_port_and_parity_its_nan(name):
    safe, parity = scores(name), scores(name, 'parity')
    for pair, images in pairs_of(name).items():
        if pair in SINGULAR.get(family(name), ()):
            continue
        try:
            expected = cases.PORTS[name](*images)
        except np.linalg.LinAlgError:  # MATLAB's inverse of a singular matrix is Inf, then NaN
            expected = np.nan
        assert np.isnan(parity[pair]) == np.isnan(expected), pair
        if np.isnan(expected):
            continue
        flat = any(word in pair for word in ('flat', 'itself', 'black', 'coloured', 'speck'))
        allowed = cases.tolerance(name, expected, flat)
        allowed = LOOSE.get(family(name), {}).get(pair, allowed)
        assert safe[pair] == pytest.approx(expected, abs=allowed), pair
        if not (name.startswith(('ms_ssim', 'iw_ssim')) and pair == 'inverted'):
            assert parity[pair] == pytest.approx(safe[pair], abs=1e-6), pair


def test_parity_gives_the_real_part_where_a_product_turns_complex():
    x, y = (float64_ssim.gray(image, True) for image in pairs_of('ms_ssim')['inverted'])
    product = 1.0
    for scale, weight in enumerate(float64_ssim.SCALE_WEIGHTS):
        if scale:
            x, y = (float64_ssim.box(plane, 2, 'reflect') for plane in (x, y))
        luminance, structure = float64_ssim.ssim_terms(x, y)
        product *= complex((luminance * structure if scale == 4 else structure).mean()) ** weight
    assert scores('ms_ssim')['inverted'] == 0
    assert scores('ms_ssim', 'parity')['inverted'] == pytest.approx(product.real, abs=3e-5)
    assert product.real < -0.5


@pytest.mark.parametrize('name', cases.NAMES)
def test_a_metric_is_symmetric_if_it_says_so(name):
    found = scores(name)
    swaps = [('noise_12', 'swapped'), ('black_white', 'white_black'), ('flat_noisy', 'noisy_flat')]
    apart = [abs(found[first] - found[second]) for first, second in swaps]
    if fr_metrics.metric(name).symmetric:
        assert max(apart) <= 1e-6 * max(1.0, abs(found['noise_12']))
    else:
        assert apart[0] > 1e-5


@pytest.mark.parametrize('name', cases.NAMES)
def test_stronger_noise_scores_worse(name):
    steps = np.diff([scores(name)[pair] for pair in ('noise_4', 'noise_12', 'noise_40')])
    assert ((steps < 0) == fr_metrics.metric(name).higher_is_better).all() and (steps != 0).all()


@pytest.mark.parametrize('name', cases.NAMES)
def test_a_pair_scores_in_a_batch_as_alone(name):
    for pair in ('noise_4', 'flat_noisy', 'identical'):
        reference, distorted = pairs_of(name)[pair]
        members = [n for n in cases.NAMES if cases.size(n) == cases.size(name)]
        alone = fr_metrics.metrics(members)(reference, distorted)[name]
        assert alone.shape == (1,) and alone.dtype == jnp.float32
        assert float(alone[0]) == scores(name)[pair], pair


def check_alike(name, found):
    unstable = SINGULAR.get(family(name), set()) | set(LOOSE.get(family(name), ()))
    close = CLOSE.get(family(name), 5e-6)
    for pair, score in zip(pairs_of(name), found.tolist(), strict=True):
        if pair not in unstable:
            assert score == pytest.approx(scores(name)[pair], rel=1e-6, abs=close), pair


@pytest.mark.parametrize('name', MAPPED)
def test_a_batch_of_bytes_and_floats_under_pmap_of_vmap_score_alike(name):
    check_alike(name, mapped(*cases.size(name))[name])


@pytest.mark.parametrize('name', cases.FAMILIES)
def test_a_batch_of_bytes_and_floats_under_jit_of_vmap_of_grad_score_alike(name):
    check_alike(name, traced(name)[0])


@pytest.mark.parametrize('name', cases.FAMILIES)
def test_slopes_are_finite_for_every_pair(name):
    for slopes in traced(name)[1]:
        for pair, slope in zip(pairs_of(name), slopes, strict=True):
            assert np.isfinite(slope).all(), pair


@pytest.mark.parametrize('name', cases.FAMILIES)
def test_a_nan_pixel_is_not_hidden_and_stays_with_its_pair(name):
    assert np.flatnonzero(np.isnan(traced(name)[2])).tolist() == [len(pairs_of(name)) - 1]


@pytest.mark.parametrize('name', cases.FAMILIES)
def test_slopes_match_finite_differences_of_the_float64_port(name):
    """Of whole gray levels: rounding is passed straight through, so the port goes without it."""
    rounds = name.startswith(('ssim', 'ms_ssim', 'iw_ssim', 'gmsd', 'nlpd', 'vif'))
    port = functools.partial(cases.PORTS[name], **({'rounded': False} if rounds else {}))
    pair = 'whole_gray' if rounds else 'noise_12'
    images = [image.astype(np.float64) for image in pairs_of(name)[pair]]
    for i, slopes in enumerate(traced(name)[1]):
        slope = slopes[list(pairs_of(name)).index(pair)]
        step = np.random.default_rng(i).normal(0, 1e-4, slope.shape)
        ahead, behind = (
            port(*(x + sign * step * (i == j) for j, x in enumerate(images))) for sign in (1, -1)
        )
        assert (slope * step).sum() == pytest.approx((ahead - behind) / 2, rel=1e-2)


def test_vif_keeps_its_digits_where_the_axes_of_a_reference_differ_a_millionfold():
    """A slope of grass, brighter on its right: variances of 4e4 and 4e-2 in one coarse band."""
    photo = io.decode(pathlib.Path(iqa_jax.__file__).parent / 'data/photos/green_hills.png')
    reference = photo[23:153, 152:247]
    step = 28.0 * (np.arange(95) > 47)[:, None]
    distorted = np.clip(np.rint(reference + step), 0, 255).astype(np.uint8)
    vif = fr_metrics.metric('vif')
    score = float(vif(reference, distorted)[0])
    assert score == pytest.approx(cases.PORTS['vif'](reference, distorted), abs=2e-5)
    images = [jnp.asarray(x, jnp.float32) / 255 for x in (reference, distorted)]
    traced_score = jax.jit(vif, compiler_options=QUICK)(*images)[0]
    assert float(traced_score) == pytest.approx(score, abs=2e-5)


@pytest.mark.parametrize(('tilt', 'allowed'), [(0.0, 5e-3), (0.2, 1e-3)])
def test_vif_of_drawn_waves_is_off_by_a_bounded_part(tilt, allowed):
    """Without a tilt all fine bands but for rounding to whole levels are constant down columns."""
    y, x = np.mgrid[:130, :95]
    waves = 128 + 50 * np.sin(x / 2.4 + tilt * y) + 40 * np.cos(x / 17 - y / 29)
    reference = np.rint(waves).astype(np.uint8)[..., None].repeat(3, -1)
    pair = reference, cases.noisy(reference, 9)
    score = float(fr_metrics.metric('vif')(*pair)[0])
    assert score == pytest.approx(cases.PORTS['vif'](*pair), abs=allowed)


def test_a_repeated_shape_and_another_batch_size_are_not_compiled_again():
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
    pairs = cases.hard_pairs(32, 64)
    score = fr_metrics.metrics(['gmsd', 'sr_sim'])
    try:
        score(*pairs['noise_4'])
        events.clear()
        score(*cases.batch(pairs))
        assert not any('compile' in name for name in events)
        score(*(x[:31] for x in pairs['noise_4']))
        assert any('compile' in name for name in events)
    finally:
        jax.monitoring.clear_event_listeners()
