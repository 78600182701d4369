"""Pairwise preferences from the votes on single images."""

import numpy as np
import pytest
import scipy.stats

from iqa_jax.study.preferences import pairwise_preferences

VOTES = {
    'rater_id': np.array(['a', 'b', 'c', 'd', 'a', 'b', 'c', 'a', 'c'], object),
    'image_id': np.array(['x', 'x', 'x', 'x', 'y', 'y', 'y', 'z', 'x'], object),
    'vote': np.array([60, 50, 70, 99, 40, 55, 70, 10, 70], np.float32),
}


def _pairs(*pairs):
    best, worst = np.array(pairs, object).T
    return {'image_id_best': best, 'image_id_worst': worst, 'level': np.arange(len(pairs))}


def test_only_raters_of_both_images_count_and_ties_count_half():
    found = pairwise_preferences(VOTES, _pairs(('x', 'y'), ('y', 'x'), ('x', 'z'), ('x', 'w')))
    assert found['raters'].tolist() == [3, 3, 1, 0]
    difference = np.array([20.0, -5.0, 0.0])
    np.testing.assert_allclose(found['mean_difference'], [5, -5, 50, np.nan])
    np.testing.assert_allclose(found['share_preferring_best'], [0.5, 0.5, 1, np.nan])
    error = scipy.stats.sem(difference)
    np.testing.assert_allclose(found['standard_error'], [error, error, np.nan, np.nan])
    low, high = scipy.stats.t.interval(0.95, 2, 5, error)
    np.testing.assert_allclose([found['low'][0], found['high'][0]], [low, high])


def test_a_rater_s_bias_and_repeated_votes_cancel_and_excluded_raters_do_not_count():
    shifted = VOTES | {'vote': VOTES['vote'] + np.where(VOTES['rater_id'] == 'a', -7, 0)}
    pairs = _pairs(('x', 'y'))
    same = pairwise_preferences(shifted, pairs)
    np.testing.assert_allclose(same['mean_difference'], [5])
    fewer = pairwise_preferences(VOTES, pairs, exclude_raters={'b'})
    assert fewer['raters'].tolist() == [2] and fewer['mean_difference'].tolist() == [10]


def test_errors_and_the_empty_pair_list():
    nothing = pairwise_preferences(VOTES, {'image_id_best': [], 'image_id_worst': []})
    assert all(len(column) == 0 for column in nothing.values())
    with pytest.raises(ValueError, match=r"pairs table lacks the columns \['image_id_worst'\]"):
        pairwise_preferences(VOTES, {'image_id_best': ['x']})
    with pytest.raises(ValueError, match="rater 'a' for image 'x' is not a number"):
        pairwise_preferences(VOTES | {'vote': VOTES['vote'] * np.nan}, _pairs(('x', 'y')))
