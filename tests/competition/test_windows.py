"""Levels of a defender, the cells between their ends, and exact quantiles of long columns."""

import numpy as np
import pytest

from iqa_jax.competition import kernel, quantiles, windows


def test_equal_width_levels_follow_the_toolbox_rule():
    # Scores of 20..90 on a scale of 0..100: 9 points stay 9 points.
    low, high = windows.equal_width(np.array([20.0, 90.0]), 6, half_points=9)
    centres = 20 + (np.arange(6) + 0.5) * 70 / 6
    np.testing.assert_allclose(low, centres - 9, rtol=1e-6)
    np.testing.assert_allclose(high, centres + 9, rtol=1e-6)
    low, high = windows.equal_width(np.array([20.0, 90.0]), 6)
    np.testing.assert_allclose(high - low, 2 * 0.09 * 70, rtol=1e-6)


@pytest.mark.parametrize('levels', [1, 2, 7])
def test_levels_of_any_number_leave_nobody_out(levels):
    low, high = windows.equal_width(np.array([-1.0, 3.0]), levels)
    axis = np.linspace(-1, 3, 1001)
    assert ((axis > low[:, None]) & (axis < high[:, None])).any(0).all()


def test_quantile_levels_hold_equal_shares():
    scores = np.random.default_rng(0).exponential(size=1000).astype(np.float32)
    ends = np.quantile(scores.astype(np.float64), windows.shares(10, 0.05))
    low, high = windows.quantile(ends)
    held = ((scores[:, None] > low) & (scores[:, None] < high)).sum(0)
    assert held.tolist() == [100] * 10


def test_given_levels_are_taken_as_they_are_and_checked():
    low, high = windows.given([(0, 1), (0.5, np.inf)])
    assert low.tolist() == [0, 0.5] and high.tolist() == [1, np.inf]
    for wrong in ([(1, 1)], [], [(1, 2, 3)], 'low'):
        with pytest.raises(ValueError, match='low'):
            windows.given(wrong)


def test_cells_are_runs_that_make_up_the_windows():
    found = windows.cells(windows.given([(0, 2), (1, 3), (5, 6)]))
    scores = np.linspace(-1, 7, 801, dtype=np.float32)
    cell = found.cell_of[np.searchsorted(found.cuts, windows.keys(scores), 'right')]
    for (low, high), run in zip([(0, 2), (1, 3), (5, 6)], found.runs, strict=True):
        inside = (scores > low) & (scores < high)
        np.testing.assert_array_equal((cell >= run.start) & (cell < run.stop), inside)
    assert (cell == 0).sum() == (
        ~(((scores > 0) & (scores < 3)) | ((scores > 5) & (scores < 6)))
    ).sum()


def test_keys_keep_the_order_of_scores_to_the_last_bit():
    tiny = np.float32(1e-45)
    scores = np.array([-3e38, -1, -2 * tiny, -tiny, 0, tiny, 2 * tiny, 1, 3e38], np.float32)
    for found in (windows.keys(scores), np.asarray(kernel.keys(scores))):
        assert (np.diff(found.astype(np.int64)) > 0).all()
    zeros = np.array([-0.0, 0.0], np.float32)
    assert len(set(windows.keys(zeros).tolist() + np.asarray(kernel.keys(zeros)).tolist())) == 1
    # Smallest scores are listed by complemented keys: those of the negated scores.
    signed = scores[scores != 0]
    np.testing.assert_array_equal(windows.keys(-signed), ~windows.keys(signed))


@pytest.mark.parametrize('size', [2, 3, 1000])
def test_streamed_quantiles_are_those_of_the_whole_columns(size):
    rng = np.random.default_rng(size)
    grades = rng.integers(0, 5, size) * 0.1 - 0.2
    columns = np.stack([rng.standard_normal(size), grades, np.exp(5 * rng.random(size))])
    columns = columns.astype(np.float32)
    shares = np.array([0, 0.001, 0.25, 0.5, 0.77, 0.999, 1])

    def batches():
        return (columns[:, i : i + 77] for i in range(0, size, 77))

    found = quantiles.streamed(batches, 3, shares)
    np.testing.assert_array_equal(found, np.quantile(columns.astype(np.float64), shares, axis=1).T)
