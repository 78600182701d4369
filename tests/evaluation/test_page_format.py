import numpy as np
import pytest

from iqa_jax.evaluation import page_format

NAN = float('nan')


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (0.04, '0.0 s'),
        (9.94, '9.9 s'),
        (9.96, '10 s'),
        (59.4, '59 s'),
        (59.6, '1 min 00 s'),
        (185, '3 min 05 s'),
        (3599.6, '1 h 00 min'),
        (7260, '2 h 01 min'),
        (NAN, 'n/a'),
        (None, 'n/a'),
    ],
)
def test_durations(value, text):
    assert page_format.seconds(value) == text


def test_numbers():
    assert page_format.signed(0.3, 0) == '0' and page_format.signed(0.6, 0) == '+1'
    assert page_format.number(-0.0004) == '0.000'
    assert page_format.number(-1234.5, 1) == '−1,234.5'
    assert page_format.signed(0.25, 2) == '+0.25'
    assert page_format.signed(-0.25, 2) == '−0.25'
    assert page_format.count(26250) == '26,250'
    assert page_format.number(np.float32(0.5)) == '0.500'


def test_scores_of_one_model_share_their_decimals():
    assert page_format.digits_for([0.31, 47.0]) == 1
    assert page_format.digits_for([0.31, 0.0]) == 3
    assert page_format.digits_for([1200.0]) == 0
    assert page_format.digits_for([NAN]) == 2


def test_inlined_figures_have_their_own_ids_and_follow_the_theme():
    svg = (
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 20">'
        b'<metadata>http://example.org</metadata><g id="a" style="fill: #2a6fdb">'
        b'<text>id="b" #2a6fdb</text></g><use href="#a" clip-path="url(#a)"/></svg>'
    )
    text = page_format.inline_svg(svg, 'plot')
    assert 'id="plot-a"' in text and 'href="#plot-a"' in text and 'url(#plot-a)' in text
    assert 'fill: var(--s1)' in text and 'http' not in text
    assert '<text>id="b" #2a6fdb</text>' in text
