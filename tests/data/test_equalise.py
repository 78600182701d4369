"""Histogram equalisation against its defining formula."""

import numpy as np
import pytest

from iqa_jax.data import equalise


def formula(train: np.ndarray, s: float) -> float:
    return (np.sum(train < s) + 0.5 * np.sum(train == s) + 0.5) / (len(train) + 1)


def test_training_scores_map_to_the_formula():
    train = np.round(np.random.default_rng(0).beta(8, 1, 200), 2)  # piled up near 1, with ties
    mapping = equalise.fit(train, True)
    got = equalise.apply(mapping, train)
    want = [formula(train, s) for s in train]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_lower_is_better_is_turned_round():
    train = np.linspace(0, 0.4, 50)
    got = equalise.apply(equalise.fit(train, False), train)
    assert (np.diff(got) < 0).all() and got.min() > 0 and got.max() < 1


def test_many_scores_keep_256_knots_and_stay_close_to_the_formula():
    train = np.random.default_rng(1).normal(size=5000)
    mapping = equalise.fit(train, True)
    assert len(mapping['knots']) == 256
    want = [formula(train, s) for s in train]
    np.testing.assert_allclose(equalise.apply(mapping, train), want, atol=3e-3)


def test_outside_scores_are_clipped_and_nan_stays():
    mapping = equalise.fit(np.array([0.0, 1.0]), True)
    got = equalise.apply(mapping, np.array([-5, 0, 1, 5, np.nan]))
    np.testing.assert_allclose(got, [1 / 3, 1 / 3, 2 / 3, 2 / 3, np.nan], rtol=1e-6)


def test_constant_scores_map_to_the_middle():
    assert equalise.apply(equalise.fit(np.ones(4), True), np.array([0.3])).tolist() == [0.5]


def test_other_kinds():
    minmax = equalise.fit(np.array([2.0, 4.0]), True, 'minmax')
    assert equalise.apply(minmax, np.array([3.0, 9.0])).tolist() == [0.5, 1.0]
    none = equalise.fit(np.array([2.0, 4.0]), False, 'none')
    assert equalise.apply(none, np.array([3.0])).tolist() == [-3.0]
    with pytest.raises(ValueError, match='use one of histogram, minmax, none'):
        equalise.fit(np.ones(2), True, 'quantile')


def test_nan_in_training_scores_is_refused_with_a_count():
    with pytest.raises(ValueError, match='1 of 2 are not'):
        equalise.fit(np.array([1.0, np.nan]), True)
