"""Distorting and scoring in one pass: which images belong together, and what runs ahead."""

import threading

import numpy as np
import pytest

from iqa_jax import distortions, fr_metrics
from iqa_jax.data import kadis, labelling
from iqa_jax.images import io


@pytest.fixture
def photo(photos):
    return io.decode(photos / 'photo0.png')


def test_images_and_scores_are_those_of_the_public_functions(photo):
    rows = kadis.versions('p', [10, 11], (1, 5), 0, 3)
    cells = list(labelling.labelled([(rows, photo)], ['gmsd', 'ssim']))
    assert [cell.rows['type'].tolist() for cell, _ in cells] == [[0, 10, 10], [11, 11]]
    score = fr_metrics.metrics(['gmsd', 'ssim'])
    for cell, scores in cells:
        for row, image in enumerate(cell.images):
            number, level = int(cell.rows['type'][row]), int(cell.rows['level'][row])
            seed = int(cell.rows['seed'][row])
            want = distortions.distort(photo, number, level, seed) if number else photo
            np.testing.assert_array_equal(image, want)
            alone = score(photo, image)
            assert all(scores[name][row] == np.asarray(alone[name])[0] for name in alone)


def test_a_photograph_without_distortions_is_scored_against_itself(photo):
    rows = kadis.versions('p', [], (1, 5), 0, 3)
    [(cell, scores)] = labelling.labelled([(rows, photo)], ['gmsd'])
    assert cell.images.shape == (1, *photo.shape) and scores['gmsd'].tolist() == [0.0]


def test_ahead_keeps_the_order_and_works_one_item_ahead_in_a_thread():
    started = []
    results = labelling.ahead(lambda x: started.append(x) or -x, range(5))
    for x in range(5):
        assert next(results) == -x
        # Item x + 1 has been handed over, item x + 2 not.
        assert set(started) <= set(range(x + 2)) and x in started
    assert next(results, 'end') == 'end'


def test_ahead_raises_what_an_item_raises_and_leaves_no_thread():
    before = set(threading.enumerate())
    results = labelling.ahead(lambda x: 1 // x, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    stopped = labelling.ahead(lambda x: x, range(9))
    next(stopped)
    stopped.close()
    assert set(threading.enumerate()) == before
