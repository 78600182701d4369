"""Votes and answers in the forms of sureal and pwcmp; sureal reads them where it is installed."""

import csv
import io
import json

import numpy as np
import pytest

from iqa_jax.study import exports, panel
from iqa_jax.study.scaling import mos_from_votes

ANSWERS = {
    'rater_id': ['ann', 'ann', 'bob', 'bob', 'bob', 'bob'],
    'image_id_a': ['x', 'y', 'y', 'z', 'x', 'x'],
    'image_id_b': ['y', 'z', 'x', 'x', 'z', 'z'],
    'choice': ['a', 'tie', 'a', 'b', 'a', 'b'],
}


def _rows(data):
    return list(csv.reader(io.StringIO(data.decode())))


def test_votes_as_a_sureal_dataset():
    votes = {'rater_id': ['ann', 'bob', 'ann', 'ann'], 'image_id': ['x', 'x', 'y', 'y']}
    votes['vote'] = np.array([10.0, 20.5, 30.0, 50.0], np.float32)
    found = json.loads(exports.sureal_votes(votes))
    assert found['dis_videos'] == [
        {'content_id': 0, 'asset_id': 0, 'os': {'ann': 10.0, 'bob': 20.5}, 'path': 'x'},
        {'content_id': 1, 'asset_id': 1, 'os': {'ann': [30.0, 50.0]}, 'path': 'y'},
    ]
    same = json.loads(exports.sureal_votes(votes, {'x': 'sea', 'y': 'sea'}))
    assert [video['content_id'] for video in same['dis_videos']] == [0, 0]
    assert same['ref_videos'] == [{'content_id': 0, 'content_name': 'sea', 'path': 'sea'}]
    with pytest.raises(ValueError, match='outside 0..100'):
        exports.sureal_votes(votes | {'vote': [0, 0, 0, 101]})


def test_votes_as_a_matrix_of_images_and_raters():
    votes = {'rater_id': ['ann', 'bob', 'ann', 'ann'], 'image_id': ['x', 'x', 'y', 'y']}
    votes['vote'] = np.array([10.0, 20.5, 30.0, 50.0], np.float32)
    assert _rows(exports.sureal_matrix(votes)) == [
        ['image_id', 'ann', 'bob'], ['x', '10', '20.5'], ['y', '40', ''],
    ]  # fmt: skip


@pytest.mark.parametrize('cell', ['=1+1', '+cmd', '-x', '@SUM(A1)', '\t=1'])
def test_no_cell_is_a_formula(cell):
    assert exports.harmless(cell) == f"'{cell}"
    written = exports.table_csv({'id': np.array([cell], object), cell: np.array([-2.5])})
    assert list(csv.reader(io.StringIO(written.decode(), newline=''))) == [
        ['id', f"'{cell}"], [f"'{cell}", '-2.5'],
    ]  # fmt: skip


def test_numbers_stay_numbers():
    for cell in ('-5', '+1e3', -5.0, 0, 'a=1', ''):
        assert exports.harmless(cell) == cell


def test_answers_as_a_sureal_dataset():
    found = {}
    exec(exports.sureal_answers(ANSWERS), found)
    opinions = [video['os'] for video in found['dis_videos']]
    assert [video['path'] for video in found['dis_videos']] == ['x', 'y', 'z']
    assert opinions[0] == {('ann', 1): 1.0, ('bob', 1): 0.0, ('bob', 2): 1.0}  # 2 of 3 against z
    assert opinions[1] == {('ann', 0): 0.0, ('ann', 2): 0.5, ('bob', 0): 1.0}
    assert opinions[2] == {('ann', 1): 0.5, ('bob', 0): 0.0}


def test_comparison_matrix_counts_ties_half():
    ids, matrix = exports.comparison_matrix(ANSWERS)
    assert ids.tolist() == ['x', 'y', 'z']
    np.testing.assert_array_equal(matrix, [[0, 1, 2], [1, 0, 0.5], [1, 0.5, 0]])
    assert _rows(exports.pwcmp_matrix(ANSWERS)) == [
        ['image_id', 'x', 'y', 'z'], ['x', '0', '1', '2'], ['y', '1', '0', '0.5'],
        ['z', '1', '0.5', '0'],
    ]  # fmt: skip


def test_answers_in_pwcmps_long_form():
    untied = {key: [column[i] for i in (0, 2, 3)] for key, column in ANSWERS.items()}
    rows = _rows(exports.pwcmp_answers(untied, {'x': 'sea', 'y': 'sea', 'z': 'sky'}))
    assert rows == [
        ['scene', 'observer', 'condition_A', 'condition_B', 'selected_A'],
        ['sea', 'ann', 'x', 'y', '1'], ['sea', 'bob', 'y', 'x', '1'],
        ['all', 'bob', 'z', 'x', '0'],
    ]  # fmt: skip
    assert _rows(exports.pwcmp_answers(untied))[1][0] == 'all'
    with pytest.raises(ValueError, match="ann found y and z equal; pwcmp's long form has no ties"):
        exports.pwcmp_answers(ANSWERS)


def test_sureal_reads_the_votes_and_gives_the_same_scores(tmp_path):
    pytest.importorskip('sureal')
    from sureal import dataset_reader, subjective_model

    quality = np.linspace(15, 85, 40)
    votes = panel.simulate_votes(
        [f'i{i:02d}' for i in range(40)], quality, raters=24, bias_std=6, noise_std=10,
        spammer_fraction=0.1, votes_per_image=18, seed=0,
    )  # fmt: skip
    dataset = type('Dataset', (), json.loads(exports.sureal_votes(votes)))
    reader = dataset_reader.RawDatasetReader(dataset)
    theirs = subjective_model.SubjectMLEModelProjectionSolver(reader).run_modeling()
    ours, raters = mos_from_votes(votes, method='ml')
    np.testing.assert_allclose(ours['mos'], theirs['quality_scores'], atol=1e-3)
    np.testing.assert_allclose(raters['bias'], theirs['observer_bias'], atol=1e-3)
