import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from iqa_jax.evaluation import (
    figures,
    figures_curves,
    figures_pictures,
    figures_repeated,
    figures_rounds,
)

NAN = float('nan')
HOSTILE = '<script>alert("$x^2$ & \x00")</script>'


def parse(svg: bytes) -> ElementTree.Element:
    """Returns the root of an SVG after checking that it is one, without a date in it."""
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith('svg')
    assert b'dc:date' not in svg
    return root


def texts(svg: bytes) -> list[str]:
    return [''.join(e.itertext()) for e in parse(svg).iter() if e.tag.endswith('}text')]


def draw_scatter(x, y, types, **kwargs) -> bytes:
    return figures.scatter(np.array(x), np.array(y), types, figures.type_styles(types), **kwargs)


DRAWN = {
    'srcc_bars': lambda: figures.srcc_bars(
        ['a', 'b'], np.array([[0.8, 0.7, 0.9], [-0.6, -0.7, -0.5]]), ['model', 'metric']
    ),
    'srcc_bars empty': lambda: figures.srcc_bars([], np.zeros((0, 3)), []),
    'srcc_bars one, unknown': lambda: figures.srcc_bars(['a'], np.full((1, 3), NAN), ['model']),
    'srcc_bars no ends': lambda: figures.srcc_bars(['a'], np.array([[0.5, NAN, NAN]]), ['model']),
    'scatter': lambda: draw_scatter(
        [0.1, 0.5, 0.9], [10.0, 50.0, 90.0], ['jpeg', 'blur', 'jpeg'], curve=([0, 1], [0, 100])
    ),
    'scatter empty': lambda: draw_scatter([], [], []),
    'scatter one': lambda: draw_scatter([0.5], [50.0], ['jpeg']),
    'scatter unknown': lambda: draw_scatter([NAN, 1.0], [1.0, NAN], ['jpeg', 'jpeg']),
    'dumbbell': lambda: figures.dumbbell(
        ['old', 'gmad'], [[0.8, 0.7, 0.9], [0.4, 0.3, 0.5]], [[0.8, 0.7, 0.9], [0.6, NAN, NAN]]
    ),
    'dumbbell empty': lambda: figures.dumbbell([], [], []),
    'dumbbell unknown': lambda: figures.dumbbell(['a'], [[NAN] * 3], [[NAN] * 3]),
    'dumbbell half': lambda: figures.dumbbell(['a'], [[NAN] * 3], [[0.5, 0.4, 0.6]]),
    'agreement': lambda: figures.agreement([0.9, 0.1, NAN], [False, True, False]),
    'agreement empty': lambda: figures.agreement([], []),
    'agreement all excluded': lambda: figures.agreement([0.2], [True]),
    'by round': lambda: figures_rounds.by_round(
        {'old': [(0, (0.7, 0.6, 0.8)), (1, (0.6, NAN, NAN))], 'fresh': [(0, (NAN, NAN, NAN))]},
        'SRCC',
        ['first', 'old', 'fresh'],
    ),
    'by round empty': lambda: figures_rounds.by_round({}, 'SRCC', []),
    'histograms': lambda: figures_curves.proxy_histograms(np.arange(50.0), np.arange(50) / 50),
    'histograms empty': lambda: figures_curves.proxy_histograms(np.array([]), np.array([NAN])),
    'histograms one': lambda: figures_curves.proxy_histograms(np.array([0.5]), np.array([0.5])),
    'curve': lambda: figures_curves.curve(np.arange(9), np.arange(9.0), 'loss', markers=True),
    'curve empty': lambda: figures_curves.curve([], [], 'loss'),
    'curve one': lambda: figures_curves.curve([3], [0.25], 'loss'),
    'curve unknown': lambda: figures_curves.curve([1, 2], [NAN, np.inf], 'loss'),
    'differences': lambda: figures_repeated.differences(
        ['a', 'b'], ['all', 'tail'], [[[0.02, 0.01, 0.03], [-0.01, NAN, NAN]], [[NAN] * 3] * 2], 'x'
    ),
    'differences empty': lambda: figures_repeated.differences([], ['all'], [], 'x'),
    'differences unknown': lambda: figures_repeated.differences(['a'], ['all'], [[[NAN] * 3]], 'x'),
}


@pytest.mark.parametrize('name', DRAWN)
def test_figures_are_valid_svg_and_the_same_bytes_again(name):
    svg = DRAWN[name]()
    parse(svg)
    assert svg == DRAWN[name]()
    assert 'nan' not in ' '.join(texts(svg)).lower()


def test_bars_are_sorted_best_first_and_unknown_last():
    intervals = np.array([[0.2, 0.1, 0.3], [NAN] * 3, [0.9, 0.8, 0.95]])
    shown = texts(figures.srcc_bars(['low', 'none', 'high'], intervals, ['m', 'm', 'm']))
    assert [t for t in shown if t in ('low', 'none', 'high')] == ['high', 'low', 'none']
    assert [t for t in shown if t in ('0.200', 'n/a', '0.900')] == ['0.900', '0.200', 'n/a']


def test_negative_numbers_have_a_minus_sign():
    assert '−0.600' in texts(DRAWN['srcc_bars']())


def test_differences_have_their_sign_and_a_legend_of_groups():
    said = texts(DRAWN['differences']())
    assert [t for t in said if t in ('+0.020', '−0.010', 'n/a', 'all', 'tail')] == [
        '+0.020', '−0.010', 'n/a', 'n/a', 'all', 'tail',
    ]  # fmt: skip


def test_hostile_labels_are_text():
    svg = figures.srcc_bars([HOSTILE], np.array([[0.5, 0.4, 0.6]]), [HOSTILE])
    assert not [e for e in parse(svg).iter() if e.tag.endswith('script')]
    assert any(t.startswith('<script>alert("$x^2$') for t in texts(svg))


def test_long_labels_are_cut():
    label = figures.clean_label('x' * 100)
    assert len(label) == figures.LABEL_CHARACTERS and label.endswith('…')


def test_a_user_style_is_left_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    DRAWN['scatter']()
    assert dict(matplotlib.rcParams) == before


def test_types_get_distinct_styles():
    styles = figures.type_styles([f't{i}' for i in range(25)])
    assert len(set(styles.values())) == 25


def test_a_family_shares_its_colour():
    families = {'gaussian': 'blur', 'lens': 'blur', 'jpeg': 'codec'}
    styles = figures.type_styles(list(families), families)
    assert styles['gaussian'][0] == styles['lens'][0] != styles['jpeg'][0]
    assert styles['gaussian'][1] != styles['lens'][1]


def test_scatter_draws_one_mark_per_finite_row():
    svg = draw_scatter([0.1, 0.2, NAN], [1.0, 2.0, 3.0], ['a', 'a', 'a'])
    collection = next(e for e in parse(svg).iter() if e.get('id', '').startswith('PathCollection'))
    assert sum(e.tag.endswith('}use') for e in collection.iter()) == 2


def test_many_points_become_a_picture():
    count = figures.RASTER_POINTS + 1
    x = np.linspace(0, 1, count)
    svg = draw_scatter(x, x, ['a'] * count)
    assert any(e.tag.endswith('}image') for e in parse(svg).iter())
    assert len(svg) < 100_000


def test_short_curves_are_kept_and_long_ones_averaged():
    x, y = figures_curves.shorten([1, 2, 3], [4.0, NAN, 6.0])
    np.testing.assert_array_equal(x, [1, 3])
    np.testing.assert_array_equal(y, [4, 6])
    steps = np.arange(10 * figures_curves.CURVE_POINTS)
    x, y = figures_curves.shorten(steps, 2.0 * steps + 1)
    assert len(x) == figures_curves.CURVE_POINTS
    np.testing.assert_allclose(y, 2 * x + 1)
    assert y.mean() == pytest.approx((2.0 * steps + 1).mean())


def test_histograms_count_every_finite_value_once():
    edges, counts = figures_curves.histogram(np.array([0.0, 0.5, 1.0, NAN]), figures_curves.UNIT)
    assert (edges[0], edges[-1], counts.sum()) == (0, 1, 3)
    edges, counts = figures_curves.histogram(np.array([NAN]), None)
    assert np.isnan(edges).all() and not counts.any()


def test_a_crop_is_a_slice_of_the_same_pixels():
    image = np.random.default_rng(0).integers(0, 256, (31, 40, 3), np.uint8)
    crop = figures_pictures.centre_crop(image, 11, 20)
    np.testing.assert_array_equal(crop, image[10:21, 10:30])
    assert figures_pictures.centre_crop(image, 100, 20).shape == (31, 20, 3)


@pytest.mark.parametrize(
    'image',
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_a_crop_refuses_what_is_not_a_picture(image):
    with pytest.raises(ValueError, match='uint8'):
        figures_pictures.centre_crop(image, 2, 2)


@pytest.mark.parametrize('kind', ['smooth', 'noise'])
def test_a_picture_survives_its_coding(kind):
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 255, 96, dtype=np.uint8)
    planes = np.tile(ramp, (64, 1)), np.tile(ramp[::-1], (64, 1)), np.full((64, 96), 9, np.uint8)
    image = np.stack(planes, axis=-1)
    if kind == 'noise':  # the largest code an encoder's buffer has to hold
        image = rng.integers(0, 256, (204, 272, 3), np.uint8)
    uri = figures_pictures.jpeg_uri(image)
    head, code = uri.split(',', 1)
    assert head == 'data:image/jpeg;base64'
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < (2 if kind == 'smooth' else 16)
