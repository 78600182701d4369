"""The figures of a competition: valid, the same bytes again, nothing on top of anything else."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from iqa_jax.evaluation import figures_competition

NAN = float('nan')
HOSTILE = '<script>alert("$x^2$ & \x00")</script>'


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith('svg') and b'dc:date' not in svg
    return [''.join(e.itertext()) for e in root.iter() if e.tag.endswith('}text')]


def names_of(count: int) -> list[str]:
    return [f'a long name of model {i:02d}' for i in range(count)]


def random_matrices(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    blank = np.where(np.eye(count, dtype=bool), NAN, 0)
    return rng.uniform(-100, 100, (count, count)) + blank, rng.uniform(0, 100, (count,) * 2) + blank


def random_scores(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    value, width = rng.normal(0, 1, count), rng.uniform(0.1, 0.8, count)
    place = (-value).argsort().argsort() + 1.0
    ends = np.maximum(place - 2, 1), np.minimum(place + 3, count)
    return np.stack([value, value - width, value + width, place, *ends], 1)


def draw_matrices(count: int, simulated: bool = True, names=None) -> bytes:
    names = names or names_of(count)
    return figures_competition.matrices(names, *random_matrices(count), simulated)


def draw_ranking(count: int, simulated: bool = True, names=None) -> bytes:
    scores = random_scores(count)
    return figures_competition.ranking(names or names_of(count), scores, scores[::-1], simulated)


DRAWN = {
    'matrices': lambda: draw_matrices(3),
    'matrices of many': lambda: draw_matrices(9),
    'matrices of two': lambda: draw_matrices(2),
    'matrices unknown': lambda: figures_competition.matrices(['a'], [[NAN]], [[NAN]], False),
    'matrices empty': lambda: figures_competition.matrices([], [], [], False),
    'ranking': lambda: draw_ranking(3),
    'ranking of many': lambda: draw_ranking(9),
    'ranking without ends': lambda: figures_competition.ranking(
        ['a', 'b'], [[1, NAN, NAN, 1, NAN, NAN]] * 2, [[NAN] * 6, [0, -1, 1, 1, 1, 2]], False
    ),
    'ranking unknown': lambda: figures_competition.ranking(
        ['a'], np.full((1, 6), NAN), np.full((1, 6), NAN), True
    ),
    'ranking empty': lambda: figures_competition.ranking([], [], [], False),
}


@pytest.mark.parametrize('name', DRAWN)
def test_figures_are_valid_svg_and_the_same_bytes_again(name):
    svg = DRAWN[name]()
    assert svg == DRAWN[name]()
    assert 'nan' not in ' '.join(texts(svg)).lower()


@pytest.mark.parametrize('draw', [draw_matrices, draw_ranking])
def test_what_was_simulated_says_so_and_only_that(draw):
    assert 'SIMULATED observers' in texts(draw(3, True))
    assert 'SIMULATED observers' not in texts(draw(3, False))


@pytest.mark.parametrize('draw', [draw_matrices, draw_ranking])
def test_hostile_labels_are_text(draw):
    svg = draw(3, names=[HOSTILE, 'b', 'c'])
    root = ElementTree.fromstring(svg)
    assert not [e for e in root.iter() if e.tag.endswith('script')]
    assert any(t.startswith('<script>alert("$x^2$') for t in texts(svg))


def test_cells_hold_their_number_in_their_place():
    a, r = np.array([[NAN, -7.4], [100, NAN]]), np.array([[NAN, 55.0], [3, NAN]])
    said = texts(figures_competition.matrices(['x', 'y'], a, r, False))
    assert [t for t in said if re.fullmatch('−?[0-9]+', t)] == [
        '1', '2', '−7', '100', '1', '2', '55', '3',
    ]  # fmt: skip
    assert [t for t in said if t.startswith('x')] == ['x\N{EM SPACE}1'] * 2


def test_the_ranking_is_sorted_with_the_unknown_last():
    scores = np.array([[-1.0, -2, 0, 2, 2, 3], [NAN] * 6, [1.5, 1, 2, 1, 1, 2]])
    said = texts(figures_competition.ranking(['low', 'none', 'high'], scores, scores, False))
    assert [t for t in said if t in ('low', 'none', 'high')] == ['high', 'low', 'none']
    assert [t for t in said if t in ('+1.50', '−1.00', 'n/a')][:3] == ['+1.50', '−1.00', 'n/a']
    assert '1 (1 to 2)' in said and '2 (2 to 3)' in said


@pytest.mark.parametrize(
    ('draw', 'count'),
    [(draw_matrices, 2), (draw_matrices, 8), (draw_matrices, 16), (draw_ranking, 2),
     (draw_ranking, 16)],
)  # fmt: skip
def test_no_text_lies_on_another_or_outside(draw, count, monkeypatch):
    kept = []
    monkeypatch.setattr(figures_competition, 'to_svg', lambda figure: kept.append(figure) or b'')
    draw(count, names=['W' * 40, *names_of(count - 1)])
    (figure,) = kept
    renderer, drawn, draw_text = FigureCanvasAgg(figure).get_renderer(), {}, Text.draw
    # Ticks outside the axes exist but are not drawn.
    monkeypatch.setattr(Text, 'draw', lambda t, r: (drawn.update({t: None}), draw_text(t, r)))
    figure.draw(renderer)
    found = [text for text in drawn if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent(renderer) for text in found]
    assert len(boxes) > 4 * count
    width, height = figure.bbox.size
    for text, box in zip(found, boxes, strict=True):
        inside = min(box.x0, box.y0) > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert inside, text.get_text()
    for i, one in enumerate(boxes):
        for j, other in enumerate(boxes[:i]):
            apart = (
                one.x0 >= other.x1 or other.x0 >= one.x1 or one.y0 >= other.y1 or other.y0 >= one.y1
            )
            assert apart, (found[i].get_text(), found[j].get_text())


@pytest.mark.parametrize('value', [-100, -60, -20, 0, 20, 60, 100])
def test_numbers_can_be_read_on_their_cells(value, monkeypatch):
    kept = []
    monkeypatch.setattr(figures_competition, 'to_svg', lambda figure: kept.append(figure) or b'')
    matrix = np.array([[NAN, value], [value, NAN]])
    figures_competition.matrices(['a', 'b'], matrix, abs(matrix), False)
    for axes in kept[0].axes:
        shown = axes.patches[0].get_facecolor(), colors.to_rgb(axes.texts[0].get_color())
        light = [figures_competition._luminance(colour) for colour in shown]
        # WCAG AA for large or bold text is 3; this text is small, so 4.
        assert (max(light) + 0.05) / (min(light) + 0.05) >= 4
