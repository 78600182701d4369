"""Statistics and the logistic mapping against SciPy, closed forms and published figures."""

import csv
import pathlib
import time

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from iqa_jax.evaluation import logistic, statistics

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'scores' / 'kadid10k_500.csv'
METRICS = ('DSSIM', 'SSIMULACRA', 'Butteraugli')
PUBLISHED = {  # SROCC, KROCC on all 10,125 images
    'DSSIM': (0.856, 0.670),
    'SSIMULACRA': (0.700, 0.508),
    'Butteraugli': (0.735, 0.546),
}


@pytest.fixture(scope='module')
def kadid():
    with open(GOLDEN, newline='') as file:
        rows = list(csv.DictReader(file))
    table = {key: np.array([float(row[key]) for row in rows]) for key in ('dmos', *METRICS)}
    return table | {'ref': np.array([row['ref_img'] for row in rows], object)}


@pytest.mark.parametrize('metric', METRICS)
def test_real_scores_agree_with_scipy_and_approach_the_published_figures(kadid, metric):
    x, y = kadid[metric], kadid['dmos']
    found = {name: statistics.STATISTICS[name](x, y) for name in ('srcc', 'krcc', 'plcc')}
    assert found['srcc'] == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found['krcc'] == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)
    assert found['plcc'] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    srcc, krcc = PUBLISHED[metric]
    # Distances against quality: negative. A sample of 500 has a standard error near .02.
    assert -found['srcc'] == pytest.approx(srcc, abs=0.03)
    assert -found['krcc'] == pytest.approx(krcc, abs=0.03)
    interval = statistics.bootstrap(x, y, kadid['ref'])
    assert interval['low'] < -srcc < interval['high']


def test_rmse_is_the_root_of_the_mean_squared_difference():
    assert statistics.rmse([1, 2, 3], [1, 2, 6]) == pytest.approx(3**0.5)


def _expanded(statistic, x, y, code, counts):
    """The same samples drawn for real: every image repeated as often as its content is held."""
    values = []
    for row in counts:
        images = np.repeat(np.arange(len(x)), row[code])
        values.append(statistics.STATISTICS[statistic](x[images], y[images]))
    return np.array(values)


@pytest.mark.parametrize('statistic', statistics.STATISTICS)
def test_resampled_statistics_equal_those_of_the_expanded_samples(statistic):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 12, 60).astype(float)  # with ties
    y = (x + rng.normal(0, 4, 60)).round()
    code = rng.integers(0, 9, 60)
    counts = rng.multinomial(9, np.full(9, 1 / 9), 25)
    found = statistics._resample(statistic, x, y, code, counts)
    np.testing.assert_allclose(found, _expanded(statistic, x, y, code, counts), atol=1e-12)


def test_bootstrap_is_seeded_and_wider_by_content_than_by_image():
    rng = np.random.default_rng(2)
    code = np.repeat(np.arange(25), 20)
    y = rng.random(500)
    x = y + rng.normal(0, 0.3, 25)[code] + 0.05 * rng.normal(size=500)
    by_content = statistics.bootstrap(x, y, code)
    assert by_content == statistics.bootstrap(x, y, code)
    assert by_content != statistics.bootstrap(x, y, code, seed=1)
    by_image = statistics.bootstrap(x, y, np.arange(500))
    assert by_content['std'] > 2 * by_image['std']
    assert by_content['low'] < by_content['value'] < by_content['high']
    assert (by_content['references'], by_content['resamples']) == (25, 1000)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    truth, hits = 6 / np.pi * np.arcsin(0.6 / 2), 0  # Spearman of a Gaussian pair with rho 0.6
    for seed in range(200):
        x = rng.normal(size=80)
        y = 0.6 * x + 0.8 * rng.normal(size=80)
        interval = statistics.bootstrap(x, y, np.arange(80), resamples=200, seed=seed)
        hits += interval['low'] <= truth <= interval['high']
    assert 180 <= hits <= 198


@pytest.mark.parametrize('statistic', ['srcc', 'krcc'])
def test_a_thousand_resamples_of_500_images_take_less_than_two_seconds(kadid, statistic):
    start = time.process_time()
    statistics.bootstrap(kadid['DSSIM'], kadid['dmos'], kadid['ref'], statistic)
    assert time.process_time() - start < 2


def test_paired_difference_sees_a_better_model_and_no_difference_of_a_model_to_itself(kadid):
    x, y, ref = (-kadid['DSSIM'], kadid['dmos'], kadid['ref'])
    better = statistics.paired_difference(x, -kadid['SSIMULACRA'], y, ref)
    assert 0 < better['low'] < better['value'] < better['high'] and better['p_value'] < 0.01
    same = statistics.paired_difference(x, 3 * x + 1, y, ref)
    assert same['value'] == same['low'] == same['high'] == 0 and same['p_value'] == 1
    # Two models share their images, so the difference is surer than two intervals side by side.
    alone = [statistics.bootstrap(s, y, ref)['std'] for s in (x, -kadid['SSIMULACRA'])]
    assert better['std'] < np.hypot(*alone)


def test_constant_predictions_give_nan_and_say_why():
    for statistic in (statistics.srcc, statistics.krcc, statistics.plcc):
        with pytest.warns(UserWarning, match='is nan: all 4 predictions are equal'):
            assert np.isnan(statistic([2, 2, 2, 2], [1, 2, 3, 4]))
    with pytest.warns(UserWarning, match='is nan: all 3 targets are equal'):
        assert np.isnan(statistics.srcc([1, 2, 3], [5, 5, 5]))
    with pytest.warns(UserWarning):
        interval = statistics.bootstrap([2, 2, 2], [1, 2, 3], ['a', 'b', 'c'])
    assert np.isnan(interval['low']) and interval['undefined'] == 1000


def test_resamples_without_a_correlation_are_left_out_and_counted():
    x, y = np.array([0.1, 0.1, 0.7, 0.7]), np.array([0.0, 1.0, 2.0, 3.0])
    for statistic in ('srcc', 'krcc', 'plcc'):
        found = statistics.bootstrap(x, y, ['a', 'a', 'b', 'b'], statistic)
        assert 400 < found['undefined'] < 600 and found['low'] == pytest.approx(found['value'])


def test_errors_are_sentences():
    with pytest.raises(ValueError, match='1 of 3 predictions are NaN or infinite'):
        statistics.srcc([1, np.nan, 2], [1, 2, 3])
    with pytest.raises(ValueError, match='2 of 3 targets are NaN or infinite'):
        statistics.rmse([1, 2, 3], [np.inf, np.nan, 3])
    with pytest.raises(ValueError, match='2 images are too few; at least 3'):
        statistics.plcc([1, 2], [1, 2])
    with pytest.raises(ValueError, match=r'must be two \[N\]'):
        statistics.krcc([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(ValueError, match='at least 2 different ref_ids'):
        statistics.bootstrap([1, 2, 3], [1, 2, 4], ['a', 'a', 'a'])
    with pytest.raises(ValueError, match='one entry for each of 3 images'):
        statistics.bootstrap([1, 2, 3], [1, 2, 4], ['a', 'b'])


def test_pairwise_accuracy_counts_predicted_ties_half_and_leaves_human_ties_out():
    better, worse = np.array([9, 9, 1, 5]), np.array([1, 1, 9, 5])
    assert statistics.pairwise_accuracy([2, -1, 0, 7], better, worse) == pytest.approx(1.5 / 3)
    with pytest.warns(UserWarning, match='all pairs equal'):
        assert np.isnan(statistics.pairwise_accuracy([1.0], [3], [3]))


def test_bootstrap_of_pairs_resamples_those_people_decided():
    # Every decided pair is right: pairs that people find equal must not pull the interval down.
    better, worse = np.array([9.0, 8, 7, 5, 5, 5]), np.array([1.0, 2, 3, 5, 5, 5])
    found = statistics.bootstrap_pairs(better - worse, better, worse)
    assert found == {'value': 1.0, 'low': 1.0, 'high': 1.0}
    rng = np.random.default_rng(0)
    a, b, gap = rng.random(50), rng.random(50), rng.normal(size=50)
    found = statistics.bootstrap_pairs(gap, a, b)
    assert found == statistics.bootstrap_pairs(gap, a, b)
    assert found['value'] == statistics.pairwise_accuracy(gap, a, b)
    assert found['low'] < found['value'] < found['high']
    with pytest.warns(UserWarning, match='all pairs equal'):
        assert np.isnan([*statistics.bootstrap_pairs([1.0], [3], [3]).values()]).all()


def test_intervals_of_means_and_of_their_difference_are_near_the_normal_ones():
    rng = np.random.default_rng(1)
    a, b = rng.random(60) < 0.8, rng.random(90) < 0.5
    found = statistics.bootstrap_mean(a, resamples=4000)
    reach = 1.96 * a.std() / np.sqrt(60)
    assert found['value'] == pytest.approx(a.mean())
    assert [found['low'], found['high']] == pytest.approx([a.mean() - reach, a.mean() + reach],
                                                          abs=0.02)  # fmt: skip
    # Two sets of pairs that share none are independent, and one set differs from itself by nothing.
    values, in_a = np.concatenate([a, b]).astype(float), np.arange(150) < 60
    found = statistics.masked_difference(values, in_a, values, ~in_a, resamples=4000)
    reach, value = 1.96 * np.sqrt(a.var() / 60 + b.var() / 90), a.mean() - b.mean()
    assert found['value'] == pytest.approx(value)
    assert [found['low'], found['high']] == pytest.approx([value - reach, value + reach], abs=0.02)
    same = statistics.masked_difference(values, in_a, values, in_a)
    assert same == {'value': 0.0, 'low': 0.0, 'high': 0.0}
    none = statistics.masked_difference(values, in_a, values, in_a & ~in_a)
    assert np.isnan([*none.values(), *statistics.bootstrap_mean([]).values()]).all()
    assert len(statistics.right_pairs([], [], [])) == 0


# ---- logistic mapping ---------------------------------------------------------------------------


def _curve(x, slope=0.0):
    return 20 + 60 / (1 + np.exp(-(x - 5) / 0.7)) + slope * x


@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize(('parameters', 'slope'), [(4, 0.0), (5, 1.5)])
def test_fit_recovers_a_logistic_in_either_direction(sign, parameters, slope):
    x = np.linspace(0, 10, 200)
    fit = logistic.fit_logistic(sign * x, _curve(x, slope), parameters)
    assert (fit.parameters, fit.monotone, fit.note) == (parameters, True, '')
    assert fit.rmse < 1e-5
    between = np.array([2.2, 7.7])
    np.testing.assert_allclose(fit(sign * between), _curve(between, slope), atol=1e-4)


def test_five_parameter_fit_that_turns_back_is_not_called_monotone():
    x = np.linspace(0, 10, 200)
    assert not logistic.fit_logistic(x, _curve(x, -3.0), 5).monotone
    assert logistic.fit_logistic(x, _curve(x, -3.0), 4).monotone


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('parameters', [4, 5])
def test_fit_of_real_scores_is_no_worse_than_a_general_optimizer(kadid, metric, parameters):
    x, y = kadid[metric], kadid['dmos']
    fit = logistic.fit_logistic(x, y, parameters)

    z = (x - x.mean()) / x.std()

    def error(p):
        steepness, centre = np.exp(p[0]), p[1]
        bend = 1 / (1 + np.exp(np.clip(steepness * (z - centre), -500, 500)))
        basis = np.stack([np.ones_like(z), bend, z][: parameters - 2], 1)
        return np.mean((basis @ np.linalg.lstsq(basis, y, rcond=1e-12)[0] - y) ** 2)

    other = scipy.optimize.differential_evolution(
        error, [(-2, 3), (-4, 4)], seed=0, maxiter=40, popsize=10, polish=False
    )
    assert fit.rmse <= np.sqrt(other.fun) * (1 + 1e-6)
    assert fit.rmse == pytest.approx(statistics.rmse(fit(x), y), rel=1e-9)
    assert statistics.plcc(fit(x), y) > abs(statistics.plcc(x, y))


def test_four_parameter_mapping_keeps_the_order_beyond_the_fitted_scores(kadid):
    fit = logistic.fit_logistic(kadid['Butteraugli'], kadid['dmos'])
    scores = np.linspace(-5, 3 * kadid['Butteraugli'].max(), 500)
    assert fit.monotone and (np.diff(fit(scores)) <= 0).all()


def test_fit_does_not_depend_on_units_or_on_the_order_of_images(kadid):
    x, y = kadid['DSSIM'], kadid['dmos']
    rows = np.random.default_rng(0).permutation(len(x))
    plain = logistic.fit_logistic(x, y)
    moved = 1e4 * x - 3
    other = logistic.fit_logistic(moved[rows], 25 * (y[rows] - 1))
    assert other.rmse == pytest.approx(25 * plain.rmse, rel=1e-6)
    agreement = [statistics.plcc(fit(s), y) for fit, s in ((plain, x), (other, moved))]
    assert agreement[1] == pytest.approx(agreement[0], abs=1e-6)


def test_too_few_distinct_scores_fall_back_to_a_line_with_a_warning():
    with pytest.warns(UserWarning, match='3 distinct scores are too few for 4 parameters'):
        fit = logistic.fit_logistic([1, 2, 3, 3], [2, 4, 6, 6])
    assert fit.parameters == 2 and 'line' in fit.note
    np.testing.assert_allclose(fit([0, 10]), [0, 20], atol=1e-9)
    with pytest.warns(UserWarning, match='1 distinct scores are too few'):
        flat = logistic.fit_logistic([1, 1, 1], [1, 2, 3])
    np.testing.assert_allclose(flat([1, 9]), [2, 2])


def test_no_convergence_falls_back_to_a_line_with_a_warning(monkeypatch):
    monkeypatch.setattr(logistic, '_best_bend', lambda *_: None)
    x = np.arange(10.0)
    with pytest.warns(UserWarning, match='converged, so the mapping is a line'):
        fit = logistic.fit_logistic(x, 3 * x - 1)
    np.testing.assert_allclose(fit(x), 3 * x - 1, atol=1e-9)


def test_logistic_refuses_other_parameter_counts_and_bad_numbers():
    with pytest.raises(ValueError, match='parameters must be 4 or 5'):
        logistic.fit_logistic([1, 2, 3], [1, 2, 3], 3)
    with pytest.raises(ValueError, match='NaN or infinite'):
        logistic.fit_logistic([1, 2, np.inf], [1, 2, 3])
