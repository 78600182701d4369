"""What every metric promises on any input: ideal values, symmetry, finiteness, right gradients."""

import functools

import float64_port
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax import fr_metrics

# One of each code path; the other variants are held to the golden values.
PORTS = {
    'ssim': float64_port.ssim,
    'ssim_floatgray': functools.partial(float64_port.ssim, rounded=False),
    'ms_ssim': float64_port.ms_ssim,
    'gmsd': float64_port.gmsd,
    'gmsd_floatgray': functools.partial(float64_port.gmsd, rounded=False),
    'mdsi': float64_port.mdsi,
    'mdsi_mult': functools.partial(float64_port.mdsi, weighted_sum=False),
}
NAMES = list(PORTS)
IDENTICAL, SWAPPED, INVERTED, NOISY = slice(0, 4), ([4, 7], [5, 8]), 11, slice(12, 16)


def picture(height, width, seed=0):
    """A colourful textured uint8 picture with smooth and noisy parts."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 9), np.cos(cols / 7), np.sin((rows + 2 * cols) / 15)]
    noise = rng.normal(0, 12, (height, width, 3)) * (cols > width / 2)[..., None]
    return np.clip(128 + 90 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def noisy(image, amount, seed=1):
    noise = np.random.default_rng(seed).normal(0, amount, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def size(name):
    """The smallest odd size the metric takes and no size under 33, to keep compiling short."""
    side = max(33, fr_metrics.metric(name).min_side)
    return side, side + 4


def flat(name, *values):
    return np.stack([np.full((*size(name), 3), value, np.uint8) for value in values])


def ideal(name):
    return 1.0 if fr_metrics.metric(name).higher_is_better else 0.0


@functools.cache
def hard_pairs(name):
    """Pairs [N,H,W,3] that divide by zero, take roots of zero or differ by hardly anything."""
    image = picture(*size(name))
    one_pixel = image.copy()
    one_pixel[7, 9] ^= 1
    black, gray, grey_up, white = flat(name, 0, 100, 101, 255)
    pairs = [
        (image, image),
        (gray, gray),
        (black, black),
        (white, white),
        (black, white),
        (white, black),
        (gray, grey_up),
        (gray, noisy(gray, 4)),
        (noisy(gray, 4), gray),
        (image, one_pixel),
        (image, np.minimum(image, 254) + np.uint8(1)),
        (image, 255 - image),
        *((image, noisy(image, amount)) for amount in (1, 4, 12, 40)),
    ]
    return tuple(np.stack(images) for images in zip(*pairs, strict=True))


@functools.cache
def hard_scores_and_gradients(name):
    """Scores [N] and gradients by both images, one compilation for all."""
    metric = fr_metrics.metric(name)

    def total(reference, distorted):
        scores = metric(reference, distorted)
        return scores.sum(), scores

    images = [jnp.asarray(x) / 255 for x in hard_pairs(name)]
    run = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    (_, scores), gradients = run(*images)
    return np.asarray(scores), [np.asarray(gradient) for gradient in gradients]


@pytest.mark.parametrize('name', NAMES)
def test_identical_images_score_the_ideal_value_exactly(name):
    scores = hard_scores_and_gradients(name)[0]
    np.testing.assert_array_equal(scores[IDENTICAL], ideal(name))
    assert (scores[4:9] != ideal(name)).all()


@pytest.mark.parametrize('name', NAMES)
def test_hard_pairs_have_finite_scores_in_range_and_finite_gradients(name):
    scores, gradients = hard_scores_and_gradients(name)
    low, high = fr_metrics.metric(name).range
    assert np.isfinite(scores).all() and (scores >= low).all() and (scores <= high).all()
    for gradient in gradients:
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize('name', NAMES)
def test_hard_pairs_score_as_the_float64_port(name):
    scores = hard_scores_and_gradients(name)[0]
    # Flat images: the fourth root of MDSI magnifies rounding, the window of SSIM does not cancel.
    allowed = 2e-3 if name.startswith('mdsi') else 2e-4
    for reference, distorted, score in zip(*hard_pairs(name), scores, strict=True):
        expected = PORTS[name](reference, distorted)
        # float64 rounding alone gives identical images an MDSI of 1e-4.
        assert score == pytest.approx(expected, abs=allowed)


@pytest.mark.parametrize('name', [name for name in NAMES if fr_metrics.metric(name).symmetric])
def test_symmetric_metrics_do_not_depend_on_the_order(name):
    scores = hard_scores_and_gradients(name)[0]
    np.testing.assert_allclose(scores[SWAPPED[0]], scores[SWAPPED[1]], atol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_gradients_match_finite_differences_of_the_float64_port(name):
    """Along random directions; rounding is passed straight through, so without it in the port."""
    gradients = hard_scores_and_gradients(name)[1]
    last = [images[-1].astype(np.float64) for images in hard_pairs(name)]
    options = {} if name.startswith('mdsi') else {'rounded': False}
    port = functools.partial(PORTS[name], **options)
    # Rounding the gray image moves the point at which the slope is taken.
    close = 1e-3 if options == {} or name.endswith('floatgray') else 0.1
    for i, gradient in enumerate(gradients):
        step = np.random.default_rng(i).normal(0, 1e-4, last[i].shape)
        steps = [step * (j == i) for j in range(2)]
        ahead, behind = (
            [x + sign * d for x, d in zip(last, steps, strict=True)] for sign in (1, -1)
        )
        slope = (port(*ahead) - port(*behind)) / 2
        assert (gradient[-1] * step).sum() / 255 == pytest.approx(slope, rel=close)


@pytest.mark.parametrize('name', NAMES)
def test_stronger_noise_scores_worse(name):
    steps = np.diff(hard_scores_and_gradients(name)[0][NOISY])
    assert ((steps < 0) == fr_metrics.metric(name).higher_is_better).all() and (steps != 0).all()


@pytest.mark.parametrize('name', ['ssim', 'mdsi'])
def test_function_gives_the_same_with_and_without_jit_and_hides_no_nan(name):
    image = picture(*size(name))
    pair = [x.astype(np.float32)[None] for x in (image, noisy(image, 10))]
    function = fr_metrics.metric(name).function
    eager = function(*(jnp.asarray(x) for x in pair))
    np.testing.assert_allclose(jax.jit(function)(*pair), eager, atol=1e-6)
    np.testing.assert_allclose(fr_metrics.metric(name)(*(x / 255 for x in pair)), eager, atol=1e-6)
    pair[1][0, 20, 20, 1] = np.nan
    assert np.isnan(jax.jit(function)(*pair)).all()


def test_a_negative_scale_mean_is_clamped_at_zero():
    scores, gradients = hard_scores_and_gradients('ms_ssim')
    assert scores[INVERTED] == 0 and (gradients[0][INVERTED] == 0).all()


@pytest.mark.parametrize(
    'height,width,names',
    [
        (389, 401, ['ssim', 'gmsd', 'mdsi']),
        (640, 700, ['ssim', 'mdsi']),  # a factor of 3, where Python's round gives 2
        (1152, 1160, ['ssim', 'mdsi']),  # 5, not 4
    ],
)
def test_sizes_between_the_golden_ones_score_as_the_float64_port(height, width, names):
    image = picture(height, width)
    distorted = noisy(image, 15)
    scores = fr_metrics.metrics(names)(image, distorted)
    for name in names:
        assert float(scores[name][0]) == pytest.approx(PORTS[name](image, distorted), abs=3e-5)
