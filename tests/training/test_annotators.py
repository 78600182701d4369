"""Votes of annotators: the likelihood against float64 sums, rates found again, devices."""

import functools
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit
from scipy.stats import norm

from iqa_jax.training import annotator_estimates, annotators, losses, pruning, steps

OPTIONS = {'optimise': 'gradient', 'first_rate': 0.62, 'abstain_below': 0.0, 'em_memory': 0.9}
EM = OPTIONS | {'optimise': 'em'}
J = 4
RNG = np.random.default_rng(0)
SCORE = RNG.normal(size=8).astype(np.float32)
STD = RNG.uniform(0.4, 2, 8).astype(np.float32)
DATABASE = np.array([0, 0, 0, 0, 0, 1, 1, 1])
TARGET = RNG.uniform(0, 1, (8, J)).astype(np.float32)
TARGET[1, 0] = TARGET[2, 0] = np.nan
TARGET[3, 1] = TARGET[0, 1]
TARGET[:, 2] = [0.1, 0.2, np.inf, np.inf, 0.3, 0.4, -np.inf, 0.5]
LOGITS = {
    'hit': RNG.normal(1, 1, J).astype(np.float32),
    'correct_rejection': RNG.normal(1, 1, J).astype(np.float32),
}


@functools.partial(jax.jit, static_argnums=0)
def applied(options, *arguments):
    prediction, out, batch, own, state = arguments
    return losses.get('annotators').apply(prediction, out, batch, dict(options), own, state)


def value(score, own, options=OPTIONS, out=None, state=(), target=TARGET, database=DATABASE):
    batch = {'target': jnp.array(target), 'database': jnp.array(database)}
    score = jnp.asarray(score)[:, None]
    return applied(tuple(options.items()), score, out or {}, batch, own, state)


def pairs(target=TARGET, database=DATABASE, below=0.0):
    """(x, y, [(annotator, vote), ...]) of every pair within a database."""
    for x in range(len(target)):
        for y in range(x + 1, len(target)):
            if database[x] == database[y]:
                s, t = target[x].astype(np.float64), target[y].astype(np.float64)
                found = [
                    (j, float(s[j] > t[j]))
                    for j in range(len(s))
                    if not np.isnan([s[j], t[j]]).any() and s[j] != t[j]
                    and (np.isinf([s[j], t[j]]).any() or abs(s[j] - t[j]) >= below)
                ]  # fmt: skip
                yield x, y, found


def factors(ballot, hit, rejection):
    a = np.prod([hit[j] if r else 1 - hit[j] for j, r in ballot])
    b = np.prod([1 - rejection[j] if r else rejection[j] for j, r in ballot])
    return a, b


def reference(score, hit, rejection, std=None, below=0.0):
    """Minus log(a P + b (1 - P)) with raw products, summed over pairs, per vote."""
    score = np.asarray(score, np.float64)
    variance = np.ones(len(score)) if std is None else np.asarray(std, np.float64) ** 2
    total, number = 0.0, 0
    for x, y, ballot in pairs(below=below):
        p = norm.cdf((score[x] - score[y]) / np.sqrt(variance[x] + variance[y] + 1e-4))
        a, b = factors(ballot, hit, rejection)
        total -= np.log(a * p + b * (1 - p))
        number += len(ballot)
    return total / number


def hits(own):
    return expit(np.float64(own['hit'])), expit(np.float64(own['correct_rejection']))


@pytest.mark.parametrize('below', [0.0, 0.3])
@pytest.mark.parametrize('std', [None, STD])
def test_the_likelihood_equals_raw_products_with_abstentions(std, below):
    out = {} if std is None else {'std': jnp.array(std)[:, None]}
    got, state = value(SCORE, LOGITS, OPTIONS | {'abstain_below': below}, out)
    np.testing.assert_allclose(got, reference(SCORE, *hits(LOGITS), std, below), atol=2e-6)
    assert state == ()


def test_gradients_equal_finite_differences():
    slope = jax.grad(lambda s, own: value(s, own)[0], argnums=(0, 1))(jnp.array(SCORE), LOGITS)
    h = 1e-5

    def difference(change):
        return (change(h) - change(-h)) / (2 * h)

    for i in range(len(SCORE)):
        want = difference(lambda d, i=i: reference(SCORE + d * np.eye(8)[i], *hits(LOGITS)))
        np.testing.assert_allclose(slope[0][i], want, atol=2e-6)
    for name in LOGITS:
        for j in range(J):
            shift = lambda d, j=j, n=name: LOGITS | {n: np.float64(LOGITS[n]) + d * np.eye(J)[j]}  # noqa: E731
            want = difference(lambda d, shift=shift: reference(SCORE, *hits(shift(d))))
            np.testing.assert_allclose(slope[1][name][j], want, atol=2e-6)


def test_pairs_turned_round_exchange_the_two_rates():
    turned = {'hit': LOGITS['correct_rejection'], 'correct_rejection': LOGITS['hit']}
    got = value(SCORE[::-1].copy(), turned, target=TARGET[::-1], database=DATABASE[::-1])[0]
    np.testing.assert_allclose(got, value(SCORE, LOGITS)[0], rtol=1e-6)
    assert not np.isclose(got, value(SCORE, turned)[0], rtol=1e-3)


def state_of(own, truth=0.4):
    hit, rejection = hits(own)
    parts = {'truth': np.full(J, truth), 'hit': truth * hit}
    parts['correct_rejection'] = (1 - truth) * rejection
    return {name: jnp.array(x, jnp.float32) for name, x in parts.items()}


def test_em_gives_the_network_the_gradient_of_the_likelihood():
    score = jnp.array(SCORE)
    joint = jax.grad(lambda s: value(s, LOGITS)[0])(score)
    expected = jax.grad(lambda s: value(s, {}, EM, state=state_of(LOGITS))[0])(score)
    np.testing.assert_allclose(expected, joint, atol=1e-6)


def test_em_mixes_a_batch_into_its_memory_and_who_abstains_forgets_nothing():
    target = TARGET.copy()
    target[:, 3] = 0.5
    old = state_of(LOGITS)
    _, new = value(SCORE, {}, EM, state=old, target=target)
    seen = {name: np.zeros(J) for name in old}
    number, voted = np.zeros(J), 0
    for x, y, ballot in pairs(target):
        p = norm.cdf((np.float64(SCORE[x]) - SCORE[y]) / np.sqrt(2 + 1e-4))
        a, b = factors(ballot, *hits(LOGITS))
        pi = a * p / (a * p + b * (1 - p))
        voted += bool(ballot)
        for j, r in ballot:
            number[j] += 1
            seen['truth'][j] += pi
            seen['hit'][j] += pi * r
            seen['correct_rejection'][j] += (1 - pi) * (1 - r)
    kept = EM['em_memory'] ** (number / voted)
    assert number[3] == 0 and (kept[:3] < 1).all()
    for name in old:
        want = kept * old[name] + (1 - kept) * seen[name] / np.maximum(number, 1)
        np.testing.assert_allclose(new[name], want, atol=1e-6)
    rates = annotators.rates({}, new)
    np.testing.assert_allclose(rates['hit_rate'], new['hit'] / new['truth'], rtol=1e-6)
    np.testing.assert_allclose(
        rates['correct_rejection_rate'], new['correct_rejection'] / (1 - new['truth']), rtol=1e-6
    )


@pytest.mark.parametrize('options', [OPTIONS, EM])
def test_everyone_starts_at_the_first_rate(options):
    loss = losses.get('annotators')
    rates = loss.readings(loss.parameters(J, options), loss.state(J, options))
    for values in rates.values():
        np.testing.assert_allclose(values, np.full(J, 0.62), rtol=1e-6)


@pytest.mark.parametrize('options', [OPTIONS, EM])
def test_extreme_rates_and_scores_stay_finite(options):
    count = 11
    sure = {name: jnp.full(count, np.float32(np.log(1e7))) for name in LOGITS}
    truth = jnp.full(count, 0.5)
    state = {'truth': truth, 'hit': truth, 'correct_rejection': truth}  # rates of exactly 1
    own, state = (sure, ()) if options is OPTIONS else ({}, state)
    score = jnp.array([-200.0, 200.0, 0.0, 1e-6])
    target = np.tile(np.array([[4.0], [3.0], [2.0], [1.0]], np.float32), (1, count))
    target[1, ::2] = -9
    objective = lambda s, own: value(s, own, options, {}, state, target, np.zeros(4, int))  # noqa: E731
    (loss, after), slope = jax.value_and_grad(objective, (0, 1), has_aux=True)(score, own)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((loss, after, slope)))
    assert np.any(slope[0])


def test_a_batch_without_any_vote_teaches_nothing():
    for options, own, state in ((OPTIONS, LOGITS, ()), (EM, {}, state_of(LOGITS))):
        loss = lambda s, options=options, own=own, state=state: value(  # noqa: E731
            s, own, options, {}, state, np.full((8, J), np.nan, np.float32)
        )
        (got, after), slope = jax.value_and_grad(loss, has_aux=True)(jnp.array(SCORE))
        assert got == 0 and not np.any(slope)
        jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize(
    ('targets', 'change', 'sentence'),
    [
        (2, {}, 'with 3 annotators or more, not 2'),
        (3, {'first_rate': 0.5}, 'first_rate=0.5; use more than 0.5'),
        (3, {'first_rate': 1.0}, 'first_rate=1.0; use more than 0.5, below 1'),
        (3, {'optimise': 'sgd'}, "optimise='sgd'; use one of gradient, em"),
        (3, {'abstain_below': -0.1}, 'abstain_below=-0.1; use 0 or more'),
        (3, {'em_memory': 1.0}, r'em_memory=1.0; use a number in \(0, 1\)'),
    ],
)
def test_options_that_cannot_work_are_refused(targets, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        annotators.check(targets, OPTIONS | change)


def test_the_twin_prunes_no_rate():
    params = {'body': {'kernel': jnp.ones((3, 3, 2, 2))}, 'loss': LOGITS}
    ohem = {'ratio': 0.9, 'mask': 'magnitude', 'layers': 'convolutions'}
    mask = pruning.make_mask(params, ohem, jax.random.key(0), 0)
    jax.tree.map(np.testing.assert_array_equal, pruning.apply_mask(params, mask)['loss'], LOGITS)


class Line(nn.Module):
    """A linear score of the mean colour."""

    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(1)(images.mean((1, 2))), {}


@pytest.mark.parametrize('options', [OPTIONS, EM], ids=['gradient', 'em'])
def test_beside_a_twin_rates_learn_from_both_branches_by_gradient_and_from_one_by_em(options):
    images = np.random.default_rng(4).uniform(size=(8, 4, 4, 3)).astype(np.float32)
    params = dict(Line().init(jax.random.key(0), images, train=False)['params'])
    params['loss'] = LOGITS if options is OPTIONS else {}
    batch = {'image': images, 'target': TARGET, 'database': DATABASE, 'index': np.arange(8)}
    state, key = annotators.first_state(J, options), jax.random.key_data(jax.random.key(0))
    # With nothing pruned the branches are equal.
    twin = {'ratio': 0.0, 'mask': 'none', 'refresh': 'fixed', 'layers': 'all', 'crops': 'same'}
    twin |= {'twin_weight': 1.0, 'consistency_weight': 1.0, 'stop_gradient': False}
    twin |= {'batch_stats': 'shared'}
    moved = {}
    for name, ohem in (('alone', None), ('beside', twin)):
        tx = optax.sgd(1.0)
        first = steps.create_state({'params': params}, tx, ohem, 8, state, key)
        step = steps.make_train_step(Line(), tx, losses.get('annotators'), options, ohem)
        after, _ = jax.jit(step)(first, batch, key)
        change = jax.tree.map(lambda new, old: np.asarray(new - old), after.params, params)
        moved[name] = change['loss'], after.loss_state
    (alone, seen), (beside, seen_beside) = moved['alone'], moved['beside']
    for name in alone:
        assert np.abs(alone[name]).max() > 1e-3
        np.testing.assert_allclose(beside[name], 2 * alone[name], rtol=1e-4, atol=1e-6)
    for name in seen:
        assert np.abs(seen[name] - state[name]).max() > 1e-4
        np.testing.assert_allclose(seen_beside[name], seen[name], rtol=1e-5)


# ---- known rates, found again -------------------------------------------------------------------


def simulated(count, images=120, number=24_000, seed=1):
    """Pairs (x, y) with votes of annotators of known, unequal rates; a tenth abstains."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 1.5, images)
    x = rng.integers(images, size=number)
    y = (x + rng.integers(1, images, size=number)) % images
    truth = rng.random(number) < norm.cdf((quality[x] - quality[y]) / np.sqrt(2))
    hit, rejection = (rng.permutation(np.linspace(0.6, 0.96, count)) for _ in range(2))
    yes = rng.random((number, count)) < np.where(truth[:, None], hit, 1 - rejection)
    ballot = np.where(rng.random(yes.shape) < 0.1, np.nan, yes)
    return quality, x, y, ballot, hit, rejection


@pytest.mark.parametrize('count', [9, 11])
def test_em_and_gradient_estimate_the_same_rates_and_the_true_ones(count):
    *_, ballot, hit, rejection = simulated(count, seed=count)
    em, gradient = (
        annotator_estimates.estimate(ballot, optimise=name) for name in ('em', 'gradient')
    )
    assert (np.diff(em['log_likelihood']) > -1e-12).all() and len(em['log_likelihood']) > 3
    assert em['log_likelihood'][-1] > em['log_likelihood'][0] + 1e-3
    for name, true in (('hit_rate', hit), ('correct_rejection_rate', rejection)):
        np.testing.assert_allclose(em[name], gradient[name], atol=1e-5)
        np.testing.assert_allclose(em[name], true, atol=0.02)


def test_the_estimate_knows_the_likelihood_and_refuses_a_silent_annotator():
    hit, rejection = hits(LOGITS)
    ballots = [ballot for *_, ballot in pairs()]
    table = np.full((len(ballots), J), np.nan)
    for i, ballot in enumerate(ballots):
        for j, r in ballot:
            table[i, j] = r
    p = RNG.uniform(0.1, 0.9, len(ballots))
    got, posterior = annotator_estimates.log_likelihood(table, p, hit, rejection)
    for i, ballot in enumerate(ballots):
        a, b = factors(ballot, hit, rejection)
        np.testing.assert_allclose(np.exp(got[i]), a * p[i] + b * (1 - p[i]), rtol=1e-12)
        np.testing.assert_allclose(posterior[i], a * p[i] / np.exp(got[i]), rtol=1e-12)
    table[:, 2] = np.nan
    with pytest.raises(ValueError, match='Annotator 2 casts no vote'):
        annotator_estimates.estimate(table)


@pytest.mark.parametrize('optimise', ['gradient', 'em'])
def test_training_finds_scores_and_rates_together(optimise):
    quality, x, y, ballot, hit, rejection = simulated(9)
    loss, slots, steps = losses.get('annotators'), 24, 3000
    options = OPTIONS | {'optimise': optimise, 'em_memory': 0.998}
    # Every pair is a database of its own, so its votes need not agree with those on other pairs.
    database = jnp.repeat(jnp.arange(slots), 2)
    target = jnp.array(np.stack([ballot, 1 - ballot], axis=1), jnp.float32)
    image = jnp.array(np.stack([x, y], axis=1))
    params = {'score': jnp.zeros(len(quality)), 'loss': loss.parameters(9, options)}
    tx = optax.adam(optax.cosine_decay_schedule(0.03, steps))

    def step(carry, rows):
        params, opt, state = carry

        def objective(params):
            batch = {'target': target[rows].reshape(-1, 9), 'database': database}
            score = params['score'][image[rows].reshape(-1)][:, None]
            return loss.apply(score, {}, batch, options, params['loss'], state)

        (_, state), slope = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt = tx.update(slope, opt)
        return (optax.apply_updates(params, updates), opt, state), ()

    rng = np.random.default_rng(0)
    epochs = np.concatenate([rng.permutation(len(x)) for _ in range(3)])
    rows = jnp.array(epochs.reshape(steps, slots))
    first = (params, tx.init(params), loss.state(9, options))
    (params, _, state), _ = jax.lax.scan(step, first, rows)
    rates = loss.readings(params['loss'], state)
    np.testing.assert_allclose(rates['hit_rate'], hit, atol=0.02)
    np.testing.assert_allclose(rates['correct_rejection_rate'], rejection, atol=0.02)
    # The noise of the hidden truth fixes the scale of the scores as well; higher is better.
    assert np.corrcoef(params['score'], quality)[0, 1] > 0.98
    np.testing.assert_allclose(np.polyfit(quality, params['score'], 1)[0], 1, atol=0.1)


def test_mean_ranks_need_no_common_unit_and_no_complete_scores():
    scores = np.array([[1.0, 10.0], [2.0, np.nan], [3.0, 30.0], [np.nan, np.nan]])
    got = annotator_estimates.mean_rank(scores)
    np.testing.assert_allclose(got, [(1 / 6 + 1 / 4) / 2, 1 / 2, (5 / 6 + 3 / 4) / 2, np.nan])
    np.testing.assert_array_equal(got, annotator_estimates.mean_rank(np.exp(scores)))


# ---- devices ------------------------------------------------------------------------------------

PROGRAM = """
import flax.linen as nn, jax, numpy as np, optax
from iqa_jax.runtime import parallel
from iqa_jax.training import losses, steps
class Model(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(2)(images.reshape(len(images), -1))
        return x[:, :1], {{'std': nn.softplus(x[:, 1:])}}
def train(options):
    loss = losses.get('annotators')
    variables = Model().init(jax.random.key(0), np.zeros((1, 2, 2, 3), np.float32), train=False)
    variables['params'] |= {{'loss': loss.parameters(4, options)}}
    tx = optax.sgd(0.2)
    state = parallel.place(steps.create_state(variables, tx, None, 0, loss.state(4, options)))
    step = parallel.TrainStep(steps.make_train_step(Model(), tx, loss, options, None))
    rng, key, values = np.random.default_rng(0), jax.random.key_data(jax.random.key(1)), []
    for i in range(5):
        target = rng.uniform(0, 1, (8, 4)).astype(np.float32)
        target[rng.random((8, 4)) < 0.2] = np.nan
        batch = dict(image=rng.uniform(0, 1, (8, 2, 2, 3)).astype(np.float32), target=target)
        batch['database'] = np.repeat([0, 1], 4).astype(np.int32)
        state, metrics = step(state, batch, key)
        values.append(float(metrics['loss']))
    state = parallel.fetch(state)
    return jax.tree.leaves((state.params, state.loss_state)), values
(joint, a), (em, b) = train({joint}), train({em})
assert len(joint) == 4 and len(em) == 5
np.savez('{path}', *joint, *em, a=a, b=b, devices=jax.local_device_count())
"""


def test_four_devices_equal_one(tmp_path):
    found = []
    for devices in (1, 4):
        path = tmp_path / f'{devices}.npz'
        flags = f'--xla_force_host_platform_device_count={devices}'
        subprocess.run(
            [sys.executable, '-c', PROGRAM.format(path=path, joint=OPTIONS, em=EM)],
            env=os.environ | {'XLA_FLAGS': flags}, check=True,
        )  # fmt: skip
        found.append(dict(np.load(path)))
    one, four = found
    assert one.pop('devices') == 1 and four.pop('devices') == 4
    assert one.keys() == four.keys()
    for name in one:
        np.testing.assert_allclose(four[name], one[name], atol=1e-5, rtol=1e-5, err_msg=name)
