"""Splits by photograph and recipes that depend on nothing but themselves."""

import numpy as np
import pytest

from iqa_jax.data import kadis

REFS = [f'p{i:02d}' for i in range(21)]


def test_splits_have_the_shares_and_every_photo_one_split():
    splits = kadis.assign_splits(REFS, (11, 2, 4, 4), 0)
    counts = {s: sum(v == s for v in splits.values()) for s in kadis.SPLITS}
    assert counts == {'train': 11, 'val': 2, 'test': 4, 'pool': 4}
    assert sorted(splits) == REFS
    assert splits == kadis.assign_splits(REFS[::-1], (11, 2, 4, 4), 0)
    assert splits != kadis.assign_splits(REFS, (11, 2, 4, 4), 1)


def test_too_few_photos_is_a_sentence():
    with pytest.raises(ValueError, match='2 photographs are too few: split'):
        kadis.assign_splits(REFS[:2], (1, 1, 1, 1), 0)


@pytest.mark.parametrize(
    ('shares', 'count', 'enough', 'split'),
    [((2, 1, 1, 1), 5, 9, 'test'), ((4, 0, 0, 1), 6, 8, 'pool'), ((11, 2, 4, 4), 6, 10, 'test')],
)
def test_a_tested_split_of_one_photo_is_refused_with_the_number_that_works(
    shares, count, enough, split
):
    want = f'{count} photographs are too few: split {split} would get 1 and needs 2; .*'
    with pytest.raises(ValueError, match=f'{want} need {enough} photographs'):
        kadis.assign_splits(REFS[:count], shares, 0)
    with pytest.raises(ValueError, match='too few'):
        kadis.assign_splits(REFS[: enough - 1], shares, 0)
    dealt = list(kadis.assign_splits(REFS[:enough], shares, 0).values())
    assert dealt.count(split) >= 2


def test_training_and_validation_may_have_one_photo():
    splits = kadis.assign_splits(REFS[:2], (1, 1, 0, 0), 0)
    assert sorted(splits.values()) == ['train', 'val']


def test_versions_are_the_pristine_row_and_every_cell_once():
    rows = kadis.versions('p03', [1, 10], (1, 2, 3, 4, 5), 0, 7)
    cells = list(zip(rows['type'].tolist(), rows['level'].tolist(), strict=True))
    assert cells == [(0, 0), *((number, level) for number in (1, 10) for level in range(1, 6))]
    assert len(set(rows['image_id'])) == len(set(rows['seed'])) == 11
    assert rows['image_id'][[0, 1]].tolist() == ['p03', 'p03_01_01']
    assert set(rows['ref_id']) == {'p03'}


def test_types_per_photo_draws_that_many_all_of_them_about_equally_often():
    drawn = [kadis.versions(f'p{i}', [1, 2, 3, 10, 11], (1, 5), 2, 7) for i in range(500)]
    types = [sorted(set(rows['type'].tolist()) - {0}) for rows in drawn]
    assert {len(chosen) for chosen in types} == {2}
    counts = np.unique(np.concatenate(types), return_counts=True)[1]
    # 200 of 500 expected each, standard deviation 11.
    assert len(counts) == 5 and abs(counts - 200).max() < 44
    again = kadis.versions('p3', [1, 2, 3, 10, 11], (1, 5), 2, 7)
    np.testing.assert_array_equal(again['type'], drawn[3]['type'])
    other = kadis.versions('p3', [1, 2, 3, 10, 11], (1, 5), 2, 8)
    assert not set(other['seed']) & set(again['seed'])
