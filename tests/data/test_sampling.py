"""The papers' pair lists: exact, without repetition, within one database."""

import itertools

import numpy as np
import pytest

from iqa_jax.data import sampling


def as_set(pairs):
    return {tuple(pair) for pair in np.asarray(pairs).tolist()}


@pytest.mark.parametrize('images', [2, 3, 7, 40])
def test_all_pairs_are_drawn_when_all_are_asked_for(images):
    every = set(itertools.combinations(range(images), 2))
    pairs = sampling.draw_pairs(images, len(every), np.random.default_rng(0))
    assert len(pairs) == len(every) and as_set(pairs) == every


def test_pairs_of_many_images_are_different_and_their_numbers_exact():
    images, count = 100_000, 20_000  # five thousand million pairs
    pairs = sampling.draw_pairs(images, count, np.random.default_rng(1))
    assert len(as_set(pairs)) == count
    assert (pairs[:, 0] < pairs[:, 1]).all() and pairs.min() >= 0 and pairs.max() < images
    # Uniform over pairs: the larger index is, on average, at two thirds.
    assert pairs[:, 1].mean() / images == pytest.approx(2 / 3, abs=0.01)
    assert pairs[:, 0].mean() / images == pytest.approx(1 / 3, abs=0.01)


class Numbers:
    """A generator that draws the numbers it is given."""

    def __init__(self, numbers):
        self._numbers = np.array(numbers)

    def choice(self, *_, **__):
        return self._numbers


def test_the_first_and_last_pair_of_a_row_are_not_rounded():
    images = 3_000_000_000
    rows = np.array([1, 2, 9_999, 94_906_266, 2_999_999_999], np.int64)
    first = rows * (rows - 1) // 2
    for number, want in ((first, 0 * rows), (first + rows - 1, rows - 1)):
        pairs = sampling.draw_pairs(images, len(rows), Numbers(number))
        np.testing.assert_array_equal(pairs, np.stack([want, rows], axis=1))


def test_every_pair_is_as_likely_as_every_other():
    counts = np.zeros((6, 6), int)
    for seed in range(900):
        for one, other in sampling.draw_pairs(6, 5, np.random.default_rng(seed)):
            counts[one, other] += 1
    found = counts[np.triu_indices(6, 1)]  # 15 pairs, each expected 300 times, deviation 14
    assert found.sum() == 4500 and abs(found - 300).max() < 60


def test_too_many_pairs_are_a_sentence():
    with pytest.raises(ValueError, match='asks for 11 pairs of 5 images, which have 10; lower it'):
        sampling.draw_pairs(5, 11, np.random.default_rng(0))


def test_lists_are_fixed_and_epochs_shuffle_all_databases_together():
    lists = sampling.PairLists([5, 0, 40], [10, 0, 30], 8, seed=3)
    assert lists.images == 16 and lists.steps_per_epoch == 5
    assert as_set(lists.pairs[:10]) == set(itertools.combinations(range(5), 2))
    assert lists.pairs[10:].min() >= 5 and len(as_set(lists.pairs)) == 40
    epochs = [np.concatenate([lists.numbers(5 * e + i) for i in range(5)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(40))
    assert not np.array_equal(epochs[0], epochs[1])
    assert 0 < np.sum(epochs[0][:20] < 10) < 10  # both databases in the first half
    again = sampling.PairLists([5, 0, 40], [10, 0, 30], 8, seed=3)
    for step in (7, 2):
        np.testing.assert_array_equal(again.indices(step), lists.indices(step))
        np.testing.assert_array_equal(
            lists.indices(step).reshape(8, 2), lists.pairs[lists.numbers(step)]
        )
    other = sampling.PairLists([5, 0, 40], [10, 0, 30], 8, seed=4)
    assert as_set(other.pairs) != as_set(lists.pairs)


COMPONENT = np.array([0, 1, 0, 2, 1, 2, 3, 4, 3, 4])  # pairs, in no order


def test_pairs_are_of_one_component():
    pairs = sampling.draw_pairs(10, 5, np.random.default_rng(0), COMPONENT)
    assert as_set(pairs) == {(0, 2), (1, 4), (3, 5), (6, 8), (7, 9)}
    uneven = np.array([0, 0, 0, 0, 1, 2, 2, 2])
    pairs = sampling.draw_pairs(8, 9, np.random.default_rng(0), uneven)
    every = itertools.combinations(range(8), 2)
    assert as_set(pairs) == {(i, j) for i, j in every if uneven[i] == uneven[j]}
    with pytest.raises(ValueError, match='asks for 6 pairs of 10 images, which have 5; lower it'):
        sampling.draw_pairs(10, 6, np.random.default_rng(0), COMPONENT)
    lists = sampling.PairLists([10, 4], [5, 6], 4, seed=1, components=[COMPONENT, None])
    assert (COMPONENT[lists.pairs[:5, 0]] == COMPONENT[lists.pairs[:5, 1]]).all()
    assert as_set(lists.pairs[5:]) == set(itertools.combinations(range(10, 14), 2))


def test_a_mixture_keeps_components_together_and_leaves_others_as_they_were():
    plain = sampling.Mixture([7, 10], [0.5, 0.5], 8, seed=2)
    mixture = sampling.Mixture([7, 10], [0.5, 0.5], 8, seed=2, components=[np.zeros(7), COMPONENT])
    seen = []
    for step in range(5):
        index = mixture.indices(step)
        np.testing.assert_array_equal(index[:4], plain.indices(step)[:4])
        inside = COMPONENT[index[4:] - 7]
        assert (inside[::2] == inside[1::2]).all()
        seen += (index[4:] - 7).tolist()
    assert sorted(seen) == sorted([*range(10)] * 2)
    assert seen[:10] != seen[10:]
    with pytest.raises(ValueError, match='only one image at a time; raise the batch size or the w'):
        sampling.Mixture([7, 10], [0.8, 0.2], 4, seed=2, components=[None, COMPONENT])
