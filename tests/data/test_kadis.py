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


def test_plan_has_every_cell_once_and_no_content_on_two_sides():
    splits = kadis.assign_splits(REFS, (11, 2, 4, 4), 0)
    plan = kadis.plan(splits, [1, 10], (1, 2, 3, 4, 5), 0, 7, 'bundled')
    assert len(plan['image_id']) == 21 * (1 + 2 * 5)
    assert len(set(plan['image_id'])) == len(plan['image_id'])
    for ref in REFS:
        assert len(set(plan['split'][plan['ref_id'] == ref])) == 1


def test_types_per_photo_draws_that_many_and_seeds_do_not_depend_on_other_photos():
    splits = dict.fromkeys(REFS, 'train')
    plan = kadis.plan(splits, [1, 2, 3, 10, 11], (1, 5), 2, 7, 'x')
    for ref in REFS:
        types = set(plan['type'][(plan['ref_id'] == ref) & (plan['type'] > 0)].tolist())
        assert len(types) == 2
    alone = kadis.plan({'p03': 'test'}, [1, 2, 3, 10, 11], (1, 5), 2, 7, 'x')
    rows = plan['ref_id'] == 'p03'
    np.testing.assert_array_equal(plan['seed'][rows], alone['seed'])
    np.testing.assert_array_equal(plan['type'][rows], alone['type'])
