"""Every metric against the authors' own code, run on public photographs."""

import pathlib

import cases
import numpy as np
import pytest

from iqa_jax import fr_metrics

PAIRS = sorted({(row['ref_path'], row['dist_path']) for row in cases.ROWS})


def rows_of(pair):
    """{metric: value of the original} of a pair; NaN where it stops with an error."""
    rows = [row for row in cases.ROWS if (row['ref_path'], row['dist_path']) == pair]
    return {row['metric']: float(row['value']) for row in rows}


@pytest.mark.parametrize('pair', PAIRS, ids=lambda pair: pathlib.Path(pair[1]).stem)
def test_scores_equal_the_original_code(pair):
    """With the parity policy, which gives the original's NaN and -Inf too."""
    expected, images = rows_of(pair), cases.golden_images(*pair)
    assert set(expected) == set(cases.NAMES)
    # One size, an odd one, is enough for them.
    left_out = set() if images[0].shape[0] == 255 else cases.SLOW_VARIANTS
    names = [name for name in cases.NAMES if name not in left_out]
    scores = fr_metrics.metrics(names, policy='parity')(*images)
    for name in names:
        value = expected[name]
        allowed = cases.tolerance(name, value, flat='flat_' in pair[0])
        assert float(scores[name][0]) == pytest.approx(value, abs=allowed, nan_ok=True), name
        if 'identical' in pair[1]:
            assert float(scores[name][0]) == cases.ideal(name), name


@pytest.mark.parametrize('pair', PAIRS, ids=lambda pair: pathlib.Path(pair[1]).stem)
def test_the_float64_ports_equal_the_original_code(pair):
    """They stand in for it at other sizes, on other pairs and for slopes."""
    images = cases.golden_images(*pair)
    for name, value in rows_of(pair).items():
        if min(images[0].shape[:2]) >= fr_metrics.metric(name).min_side:
            port = cases.PORTS[name](*images)
            # The smallest singular value of the blurred photograph is lost in float64 already.
            close = 1e-8 if name.startswith('vifp') else 1e-9
            assert port == pytest.approx(value, abs=close, nan_ok=True), name


# 640 and 1152 have factors of 3 and 5, where rounding halves to even gives 2 and 4.
@pytest.mark.parametrize('height,width', [(389, 401), (640, 644), (1152, 1160)])
def test_automatic_factors_are_those_of_matlab(height, width):
    names = ['ssim', 'mdsi', 'vsi', 'fsimc', 'sr_sim']
    image = cases.photo(height, width)
    distorted = cases.noisy(image, 15)
    scores = fr_metrics.metrics(names)(image, distorted)
    for name in names:
        expected = cases.PORTS[name](image, distorted)
        allowed = cases.tolerance(name, expected)
        assert float(scores[name][0]) == pytest.approx(expected, abs=allowed), name


def test_images_too_small_for_a_metric_are_refused_unless_the_original_answers():
    image = cases.golden_images('ref/astronaut_64x64.png')[0]
    for name, value in {'ms_ssim': -np.inf, 'iw_ssim': -np.inf, 'vif': np.nan}.items():
        with pytest.raises(ValueError, match=f'64x64 are too small for {name}'):
            fr_metrics.metric(name)(image, image)
        parity = fr_metrics.metric(name, policy='parity')(image, image)
        np.testing.assert_array_equal(parity, [value])
    with pytest.raises(ValueError, match='too small for vifp'):
        fr_metrics.metric('vifp', policy='parity')(image[:40], image[:40])
