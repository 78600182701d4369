"""Roots and powers against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.images import powers

# Exponent, range and the relative error that the docstring states.
STATED = {
    powers.cube_root: (1 / 3, 1e-30, 1e30, 0.8e-7),
    powers.power_12_5: (2.4, 1e-12, 1e12, 2.2e-7),
    powers.power_5_12: (1 / 2.4, 1e-30, 1e30, 1.5e-7),
}


@pytest.mark.parametrize('power', STATED)
def test_values_are_within_the_stated_error(power):
    exponent, low, high, error = STATED[power]
    rng = np.random.default_rng(0)
    # Over all of the range, and densely over the octaves of each remainder of the exponent.
    wide = np.exp(rng.uniform(np.log(low), np.log(high), 200_000))
    dense = rng.uniform(2**-7, 2**3, 800_000)
    x = np.float32(np.concatenate([wide, dense, [low, high, 1.0]]))
    exact = x.astype(np.float64) ** exponent
    assert np.abs(np.asarray(jax.jit(power)(x)) / exact - 1).max() <= error
    assert power(jnp.float32(1)) == 1


@pytest.mark.parametrize('power', STATED)
def test_slopes_and_their_slopes(power):
    exponent = STATED[power][0]
    for x in (0.004, 0.5, 1.0, 7.0):
        slope, curvature = jax.grad(power)(x), jax.grad(jax.grad(power))(x)
        assert slope == pytest.approx(exponent * x ** (exponent - 1), rel=1e-6)
        expected = exponent * (exponent - 1) * x ** (exponent - 2)
        assert curvature == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('power', STATED)
def test_nan_stays_nan(power):
    assert np.isnan(power(jnp.float32(np.nan)))
