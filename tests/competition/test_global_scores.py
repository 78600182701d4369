"""Bradley-Terry and Thurstone against a general optimiser, Perron against eig, and the laws."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from iqa_jax.competition.global_scores import (
    METHODS,
    bradley_terry,
    connected,
    global_scores,
    perron,
    ranks,
    thurstone,
)


def wins_of(seed: int, size: int = 6) -> np.ndarray:
    wins = np.random.default_rng(seed).uniform(0, 100, (size, size))
    np.fill_diagonal(wins, 0)
    return wins


def written_posterior(wins, prior_std, probability):
    """The negative log posterior, term by term as the model is stated."""

    def loss(scores):
        total = (scores**2).sum() / (2 * prior_std**2)
        for i in range(len(wins)):
            for j in range(len(wins)):
                if wins[i, j]:
                    total -= wins[i, j] * np.log(probability(scores[i] - scores[j]))
        return total

    return loss


MODELS = {
    'bradley_terry': (bradley_terry, lambda d: 1 / (1 + np.exp(-d))),
    'thurstone': (thurstone, lambda d: scipy.stats.norm.cdf(d / np.sqrt(2))),
}


@pytest.mark.parametrize('prior_std', [0.5, 1.0, 4.0])
@pytest.mark.parametrize('name', MODELS)
def test_the_most_probable_scores_are_those_of_a_general_optimiser(name, prior_std):
    solve, probability = MODELS[name]
    wins = wins_of(0, 5)
    wins[wins < 30] = 0
    loss = written_posterior(wins, prior_std, probability)
    options = {'xatol': 1e-9, 'fatol': 1e-12, 'maxiter': 40_000, 'maxfev': 40_000}
    best = scipy.optimize.minimize(loss, np.zeros(5), method='BFGS').x
    best = scipy.optimize.minimize(loss, best, method='Nelder-Mead', options=options).x
    found = solve(wins, prior_std)
    # The optimiser sees the loss to about 1e-13 of it, so scores to about the root of that.
    np.testing.assert_allclose(found, best, atol=1e-5)
    assert loss(found) <= loss(best) + 1e-9 and abs(found.sum()) < 1e-12


@pytest.mark.parametrize('name', MODELS)
def test_two_models_solve_their_equation_by_hand(name):
    solve, probability = MODELS[name]
    found = solve(np.array([[0, 75.0], [25.0, 0]]), 1e4)
    assert probability(found[0] - found[1]) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('prior_std', [1.0, 100.0])
def test_scores_are_finite_whoever_wins_everything_and_whoever_never_met(name, prior_std):
    solve, _ = MODELS[name]
    sweep = np.zeros((4, 4))
    sweep[0, 1:] = sweep[1, 2:] = sweep[2, 3:] = 100.0
    found = solve(sweep, prior_std)
    assert np.isfinite(found).all() and (np.diff(found) < 0).all()
    apart = np.zeros((4, 4))
    apart[0, 1], apart[2, 3] = 50.0, 5.0
    found = solve(apart, prior_std)
    # Camps that never met are each centred by the prior.
    np.testing.assert_allclose(found[[0, 2]], -found[[1, 3]], atol=1e-9)
    assert found[0] > found[2] > 0
    np.testing.assert_array_equal(solve(np.zeros((3, 3)), prior_std), np.zeros(3))


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('seed', range(12))
def test_the_gradient_is_zero_for_any_wins_and_prior(name, seed):
    rng = np.random.default_rng(seed)
    size, prior_std = rng.integers(2, 17), 10 ** rng.uniform(-3, 4)
    wins = rng.exponential(10 ** rng.uniform(-3, 5), (size, size))
    wins *= rng.uniform(size=wins.shape) < rng.uniform(0.1, 1)  # few or many who never met
    wins = np.triu(wins, 1) if seed % 3 == 0 else wins * (1 - np.eye(size))
    scores = MODELS[name][0](wins, prior_std)
    difference = scores[:, None] - scores
    if name == 'bradley_terry':
        slope = 1 / (1 + np.exp(difference))
    else:
        u = difference / np.sqrt(2)
        slope = np.exp(scipy.stats.norm.logpdf(u) - scipy.stats.norm.logcdf(u)) / np.sqrt(2)
    push = wins * slope
    gradient = push.sum(0) - push.sum(1) + scores / prior_std**2
    # The documented tolerance, and as much again for rounding here.
    assert np.abs(gradient).max() <= 2e-10 * max(1, wins.sum())


@pytest.mark.parametrize('seed', range(4))
def test_perron_is_the_eigenvector_of_the_largest_eigenvalue(seed):
    wins = wins_of(seed, 7)
    if seed == 1:  # two camps that meet only each other, on which plain power iteration swings
        wins[:3, :3] = wins[3:, 3:] = 0
    if seed == 2:  # a ring: hardly connected
        wins = np.roll(np.diag(np.arange(1.0, 8)), 1, 1)
    values, vectors = np.linalg.eig(wins)
    expected = np.log(np.abs(vectors[:, values.real.argmax()]))
    np.testing.assert_allclose(perron(wins), expected - expected.mean(), atol=1e-9)


def test_perron_favours_the_one_whom_all_met():
    star = np.zeros((5, 5))
    star[0, 1:] = star[1:, 0] = 30.0
    found = perron(star)
    assert found[0] - found[1] == pytest.approx(np.log(np.sqrt(4)))
    np.testing.assert_allclose(bradley_terry(star), 0, atol=1e-12)


def test_perron_says_nan_where_the_vector_is_not_unique():
    wins = wins_of(0)
    wins[:, 2] = 0  # nobody beats model 2
    assert np.isnan(perron(wins)).all() and not connected(wins)
    assert connected(wins_of(0)) and np.isfinite(perron(wins_of(0))).all()
    batch = perron(np.stack([wins, wins_of(0)]))
    assert np.isnan(batch[0]).all() and np.isfinite(batch[1]).all()


@pytest.mark.parametrize('method', METHODS)
def test_a_batch_is_its_members_and_names_do_not_matter(method):
    batch = np.stack([wins_of(seed) for seed in range(5)])
    found = global_scores(batch, method)
    for wins, scores in zip(batch, found, strict=True):
        np.testing.assert_allclose(global_scores(wins, method), scores, atol=1e-9)
    order = np.random.default_rng(0).permutation(6)
    turned = global_scores(batch[:, order][:, :, order], method)
    np.testing.assert_allclose(turned, found[:, order], atol=1e-8)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-9)


@pytest.mark.parametrize('method', METHODS)
def test_only_models_that_attacked_each_other_take_part(method):
    matrix = wins_of(3, 5)
    matrix[2, 3] = np.nan  # 2 never attacked 3: what 3 did to 2 must not count either
    matrix[4] = np.nan  # 4 never attacked
    np.fill_diagonal(matrix, np.nan)
    found = global_scores(matrix, method)
    assert np.isnan(found[4]) and np.isfinite(found[:4]).all()
    changed = matrix.copy()
    changed[3, 2], changed[:4, 4] = 99.0, 77.0
    np.testing.assert_allclose(global_scores(changed, method), found, atol=1e-12)
    negative = np.where(matrix == matrix[0, 1], -40.0, matrix)
    zero = np.where(matrix == matrix[0, 1], 0.0, matrix)
    np.testing.assert_array_equal(global_scores(negative, method), global_scores(zero, method))
    nobody = global_scores(np.full((3, 3), np.nan), method)
    assert np.isnan(nobody).all()


def test_ranks_count_from_the_best_and_share_places():
    found = ranks(np.array([[0.5, np.nan, 2.0, 0.5], [1.0, 2.0, 3.0, 4.0]]))
    np.testing.assert_array_equal(found, [[2, np.nan, 1, 2], [4, 3, 2, 1]])


@pytest.mark.parametrize(
    ('call', 'sentence'),
    [
        (lambda: global_scores(np.zeros((2, 2)), 'elo'), "perron, not 'elo'"),
        (lambda: bradley_terry(np.zeros((2, 3))), r'not \(2, 3\)'),
        (lambda: thurstone(np.array([[0, -1.0], [0, 0]])), 'finite and 0 or more'),
        (lambda: perron(np.array([[0, np.nan], [0, 0]])), 'finite and 0 or more'),
        (lambda: bradley_terry(np.zeros((2, 2)), 0.0), 'prior_std must be above 0'),
    ],
)
def test_bad_input_is_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
