"""Splits by content: no content on two sides, every database its shares, the same every time."""

import collections

import numpy as np
import pytest

from iqa_jax.data import kadis, splits

# As large as the databases, with 21 photographs that two of them share.
MEMBERS = {
    'live': {f'kodak{i:02d}' for i in range(21)} | {f'live{i}' for i in range(8)},
    'tid2013': {f'kodak{i:02d}' for i in range(21)} | {f'tid{i}' for i in range(4)},
    'csiq': {f'csiq{i:02d}' for i in range(30)},
    'kadid10k': {f'kadid{i:02d}' for i in range(81)},
}
WANTED = {'live': (23, 6), 'tid2013': (20, 5), 'csiq': (24, 6), 'kadid10k': (65, 16)}
SHARES = (8, 0, 2, 0)


def sizes(sides: dict, contents: set) -> tuple[int, int]:
    counts = collections.Counter(sides[content] for content in contents)
    assert set(counts) <= {'train', 'test'}
    return counts['train'], counts['test']


@pytest.mark.parametrize('index', range(10))
def test_every_database_has_the_sizes_of_the_literature_though_two_share_contents(index):
    sides = splits.divide(MEMBERS, SHARES, 0, index, {})
    assert {name: sizes(sides, inside) for name, inside in MEMBERS.items()} == WANTED


def test_splits_differ_and_depend_on_nothing_but_seed_index_and_contents():
    found = [splits.divide(MEMBERS, SHARES, 0, index, {}) for index in range(10)]
    assert len({tuple(sorted(sides.items())) for sides in found}) == 10
    turned = {name: set(MEMBERS[name]) for name in reversed(MEMBERS)}
    assert [splits.divide(turned, SHARES, 0, index, {}) for index in range(10)] == found
    assert splits.divide(MEMBERS, SHARES, 1, 0, {}) != found[0]


def test_every_content_is_tested_about_as_often_as_its_share():
    tested = collections.Counter()
    for index in range(200):
        sides = splits.divide(MEMBERS, SHARES, 0, index, {})
        tested.update(content for content, side in sides.items() if side == 'test')
    every = [tested[content] / 200 for inside in MEMBERS.values() for content in inside]
    # Of 200 draws with p = 0.2 one in a million lies beyond 5 standard deviations of 0.028.
    assert min(every) > 0.2 - 5 * 0.028
    assert max(every) < 0.2 + 5 * 0.028


def test_four_shares_and_fixed_contents():
    fixed = {'kodak00': 'test', 'kodak01': 'pool', 'live0': 'val'}
    sides = splits.divide(MEMBERS, (6, 1, 2, 1), 0, 0, fixed)
    assert {content: sides[content] for content in fixed} == fixed
    counts = collections.Counter(sides[content] for content in MEMBERS['kadid10k'])
    want = kadis.counts(np.array([6, 1, 2, 1.0]), 81)
    assert [counts[split] for split in kadis.SPLITS] == want.tolist()


def test_what_cannot_be_divided_is_a_sentence():
    with pytest.raises(ValueError, match='Database few has 3 contents, too few: split test'):
        splits.divide({'few': {'a', 'b', 'c'}}, SHARES, 0, 0, {})
    fixed = dict.fromkeys('abc', 'train')  # its own split needs no test images
    assert splits.divide({'few': {'a', 'b', 'c'}}, SHARES, 0, 0, fixed) == fixed
    with pytest.raises(ValueError, match='four non-negative numbers'):
        splits.divide(MEMBERS, (1, 1), 0, 0, {})


def test_groups_are_what_pairs_connect():
    assert splits.group(7, [(5, 2), (0, 6), (2, 3)]).tolist() == [0, 1, 2, 2, 4, 2, 0]
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 60, (40, 2))
    reach = np.eye(60, dtype=bool)
    reach[pairs[:, 0], pairs[:, 1]] = reach[pairs[:, 1], pairs[:, 0]] = True
    for _ in range(6):  # paths of up to 64 steps
        reach = reach @ reach
    want = reach.argmax(axis=1)
    np.testing.assert_array_equal(splits.group(60, map(tuple, pairs.tolist())), want)


def test_a_content_is_named_by_its_hashes_in_any_order():
    exact, groups = ['c' * 64, 'a' * 64, 'b' * 64, 'c' * 64], np.array([0, 1, 0, 0])
    both = 'b' * 16 + '+' + 'c' * 16
    assert splits.contents(exact, groups).tolist() == [both, 'a' * 16, both, both]
    turned = splits.contents(exact[::-1], np.array([0, 0, 1, 0]))
    assert turned.tolist() == [both, both, 'a' * 16, both]
