"""Scores of paired comparisons: against choix and sureal, bootstrap, recovery, and odd designs."""

import numpy as np
import peers
import pytest
import scipy.special

from iqa_jax.study import pairwise, tie_models

TOLERANCE = 1e-3
MODELS = tuple(pairwise.MODELS)
CHAIN = {
    'rater_id': ['r'] * 4,
    'image_id_a': ['a', 'a', 'c', 'c'],
    'image_id_b': ['b', 'b', 'd', 'd'],
    'choice': ['a', 'a', 'b', 'b'],
}


def _simulated(model, tie, images=12, answers=2000, seed=0):
    """True scores, centred, and answers drawn from `model` by its definition."""
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 1.2, images)
    score -= score.mean()
    a = rng.integers(0, images, answers)
    b = (a + rng.integers(1, images, answers)) % images
    d = score[a] - score[b]
    if model == 'thurstone':
        noise = rng.standard_normal((2, answers))
        gap = (score[a] + noise[0]) - (score[b] + noise[1])
        choice = np.where(gap > tie, 'a', np.where(gap < -tie, 'b', 'tie'))
    else:
        odds = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(answers, tie)])
        u = rng.random(answers) * odds.sum(0)
        choice = np.where(u < odds[0], 'a', np.where(u < odds[0] + odds[1], 'b', 'tie'))
    names = np.array([f'i{i:02d}' for i in range(images)])
    raters = np.array([f'r{i}' for i in range(20)])[rng.integers(0, 20, answers)]
    return score, {
        'rater_id': raters, 'image_id_a': names[a], 'image_id_b': names[b], 'choice': choice
    }  # fmt: skip


@pytest.mark.parametrize(
    ('peer', 'model', 'prior_std', 'unit'),
    [
        ('choix_prior', 'bradley_terry', 1.5, 1.0),
        ('choix', 'bradley_terry', 1e3, 1.0),
        ('sureal_bradley_terry', 'bradley_terry', 1e3, 1.0),
        ('sureal_thurstone', 'thurstone', 1e3, 2**0.5),  # its unit is that of a difference
    ],
)
def test_agrees_with_choix_and_sureal(peer, model, prior_std, unit):
    scores, _ = pairwise.scores_from_answers(peers.answers(), model=model, prior_std=prior_std)
    theirs = peers.ARCHIVE[peer] * unit
    np.testing.assert_allclose(scores['score'], theirs - theirs.mean(), atol=TOLERANCE)


@pytest.mark.parametrize(
    ('likelihood', 't'),
    [(tie_models.davidson, -0.7), (tie_models.threshold, 0.6), (tie_models.threshold, 1e-3)],
)
def test_tie_models_are_distributions_and_their_derivatives_are_right(likelihood, t):
    d = np.array([-30.0, -2.0, -0.3, 0.0, 0.3, 2.0, 30.0])
    outcomes = [likelihood(np.tile(row, (7, 1)), d, t)[0] for row in np.eye(3)]
    np.testing.assert_allclose(np.exp(outcomes).sum(0), 1, atol=1e-9)
    np.testing.assert_allclose(outcomes[0], outcomes[1][::-1], rtol=1e-9)
    counts, step = np.random.default_rng(0).integers(0, 9, (7, 3)).astype(float), 1e-6

    def slope(part, column, along):  # central difference
        ends = [likelihood(counts, d + s * (along == 'd'), t + s * (along == 't'))
                for s in (step, -step)]  # fmt: skip
        ends = [end[part] if column is None else end[part][:, column] for end in ends]
        return (ends[0] - ends[1]) / (2 * step)

    _, gradient, bend = likelihood(counts, d, t)
    for column, along in enumerate('dt'):
        np.testing.assert_allclose(gradient[:, column], slope(0, None, along), rtol=2e-4, atol=1e-6)
    for column, (part, along) in enumerate(((0, 'd'), (0, 't'), (1, 't'))):
        np.testing.assert_allclose(bend[:, column], -slope(1, part, along), rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize(('model', 'tie'), [('thurstone', 0.5), ('bradley_terry', 0.6)])
def test_scores_and_ties_are_recovered_with_honest_intervals(model, tie):
    inside, found = [], []
    for seed in range(12):
        truth, answers = _simulated(model, tie, seed=seed)
        scores, report = pairwise.scores_from_answers(answers, model=model)
        inside.append((scores['low'] < truth) & (truth < scores['high']))
        found.append(report['tie_parameter'])
        assert np.corrcoef(scores['score'], truth)[0, 1] > 0.98
        assert abs(scores['score'].sum()) < 1e-9
        assert report['components'] == report['ranked_groups'] == 1
        assert report['tied'] == (answers['choice'] == 'tie').sum() > 100
    assert 0.91 < np.mean(inside) < 0.99
    assert np.mean(found) == pytest.approx(tie, rel=0.05)


@pytest.mark.parametrize('model', MODELS)
def test_standard_errors_are_those_of_a_bootstrap(model):
    _, answers = _simulated(model, 0.4, images=6, answers=500, seed=3)
    scores, _ = pairwise.scores_from_answers(answers, model=model)
    rng, again = np.random.default_rng(0), []
    for _ in range(100):
        rows = rng.integers(0, 500, 500)
        drawn = {key: column[rows] for key, column in answers.items()}
        again.append(pairwise.scores_from_answers(drawn, model=model)[0]['score'])
    ratio = np.std(again, axis=0) / scores['standard_error']
    # One standard deviation of 100 draws is known to 7 %.
    assert np.mean(ratio) == pytest.approx(1, abs=0.07)
    assert np.abs(ratio - 1).max() < 3 * 0.07


def test_sides_names_and_order_of_rows_do_not_matter():
    _, answers = _simulated('thurstone', 0.5, answers=400)
    scores, report = pairwise.scores_from_answers(answers)
    turned = {'rater_id': answers['rater_id'], 'image_id_a': answers['image_id_b']}
    turned |= {'image_id_b': answers['image_id_a']}
    turned['choice'] = np.array([{'a': 'b', 'b': 'a'}.get(x, x) for x in answers['choice']])
    rows = np.random.default_rng(0).permutation(400)
    turned = {key: column[rows] for key, column in turned.items()}
    other, again = pairwise.scores_from_answers(turned)
    for key in ('score', 'standard_error', 'answers', 'component'):
        np.testing.assert_allclose(other[key], scores[key], atol=1e-9)
    assert again['log_likelihood'] == pytest.approx(report['log_likelihood'], abs=1e-9)
    assert scores['answers'].sum() == 800


@pytest.mark.parametrize('model', MODELS)
def test_perfect_and_disconnected_answers_stay_finite_and_are_reported(model):
    scores, report = pairwise.scores_from_answers(CHAIN, model=model)
    assert scores['score'][0] == pytest.approx(-scores['score'][1]) and scores['score'][0] > 0.5
    np.testing.assert_allclose(scores['score'], scores['score'][[0, 1, 1, 0]], atol=1e-9)
    assert np.isfinite(scores['standard_error']).all()
    assert (report['components'], report['ranked_groups']) == (2, 4)
    assert scores['component'].tolist() == [0, 0, 1, 1] and '2 groups' in report['connectivity']
    linked = {'image_id_b': ['b', 'c', 'd', 'd'], 'choice': ['a'] * 4}
    _, report = pairwise.scores_from_answers(CHAIN | linked, model=model)
    assert report['components'] == 1 and 'always won' in report['connectivity']
    wide, _ = pairwise.scores_from_answers(CHAIN, model=model, prior_std=30)
    assert wide['score'][0] > 1.3 * scores['score'][0]
    for ties in pairwise.TIES:
        tied, report = pairwise.scores_from_answers(
            CHAIN | {'choice': ['tie'] * 4}, model=model, ties=ties
        )
        np.testing.assert_allclose(tied['score'], 0, atol=1e-9)
        assert np.isfinite([*tied['standard_error'], report['tie_parameter']]).all()


def test_rated_table_keeps_thurstones_chances():
    _, answers = _simulated('thurstone', 0.5)
    scores, _ = pairwise.scores_from_answers(answers)
    for given, used in ((9.0, 9.0), (1000.0, 50 / np.abs(scores['score']).max())):
        rated, points = pairwise.rated(scores, 'thurstone', given)
        assert points == pytest.approx(used)
        assert list(rated) == [
            'image_id', 'mos', 'mos_std', 'votes', 'standard_error', 'low', 'high', 'component'
        ]  # fmt: skip
        assert rated['mos'].mean() == pytest.approx(50)
        assert rated['mos'].min() > -1e-9 and rated['mos'].max() < 100 + 1e-9
        gap = (rated['mos'][0] - rated['mos'][1:]) / np.hypot(
            rated['mos_std'][0], rated['mos_std'][1:]
        )
        expected = (scores['score'][0] - scores['score'][1:]) / np.sqrt(2)
        np.testing.assert_allclose(scipy.special.ndtr(gap), scipy.special.ndtr(expected))
        width = (rated['high'] - rated['low']) / rated['standard_error']
        np.testing.assert_allclose(width, 2 * 1.95996, atol=1e-4)
    same, points = pairwise.rated(scores | {'score': np.zeros(12)}, 'thurstone')
    assert points == 10 and set(same['mos']) == {50.0}
    with pytest.raises(ValueError, match='points_per_unit must be above 0'):
        pairwise.rated(scores, 'thurstone', -1)


@pytest.mark.parametrize('model', MODELS)
def test_components_are_scored_as_if_each_were_alone(model):
    _, one = _simulated(model, 0.0, images=5, answers=400, seed=1)
    _, other = _simulated(model, 0.0, images=4, answers=60, seed=2)
    other = other | {side: np.char.add('z', other[side]) for side in ('image_id_a', 'image_id_b')}
    both, report = pairwise.scores_from_answers(
        {key: np.concatenate([one[key], other[key]]) for key in one}, model=model, ties='half'
    )
    assert both['component'].tolist() == [0] * 5 + [1] * 4 and report['components'] == 2
    assert 'the 9 images to 2 groups of up to 5 images, i00 and zi00' in report['connectivity']
    for answers, rows in ((one, slice(5)), (other, slice(5, 9))):
        alone, _ = pairwise.scores_from_answers(answers, model=model, ties='half')
        for key in ('score', 'standard_error', 'low', 'high', 'answers'):
            np.testing.assert_allclose(both[key][rows], alone[key], atol=1e-7)


@pytest.mark.parametrize(
    ('change', 'options', 'sentence'),
    [
        ({'choice': ['a', 'B', 'a', '']}, {}, "2 of 4 choices are none of a, .* 'B' in row 1 the"),
        ({'image_id_b': ['b', 'a', 'd', 'd']}, {}, "1 answers .* an image with itself, 'a' the"),
        ({key: [] for key in CHAIN}, {}, 'The answers table is empty'),
        ({}, {'model': 'elo'}, "model must be one of bradley_terry, thurstone, not 'elo'"),
        ({}, {'ties': 'drop'}, "ties must be one of model, half, not 'drop'"),
        ({}, {'prior_std': 0.0}, 'prior_std must be above 0 and finite, not 0.0'),
    ],
)  # fmt: skip
def test_errors_are_sentences(change, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        pairwise.scores_from_answers(CHAIN | change, **options)
    lacking = {key: CHAIN[key] for key in CHAIN if key != 'choice'}
    with pytest.raises(ValueError, match=r"lacks the columns \['choice'\]"):
        pairwise.scores_from_answers(lacking)
