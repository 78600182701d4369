"""Cube roots and the two powers of the sRGB curve by Newton's method, which vectorises.

XLA's CPU backend computes `x ** y` and the cube root several times more slowly than the handful of
products here, and no more exactly: the errors named below were found against float64.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Read as a whole number, the bits of a float32 are its logarithm to base 2, too small by 0 to 0.086
# within each octave. This much off the exponent's origin splits the error of the first guess evenly
# between both signs.
_LOG2_OFFSET = 0.0497
_NEWTON_STEPS = 3  # the fifth root: 3.1 % -> 0.3 % -> 3e-5 -> 3e-9


@jax.custom_jvp
def cube_root(x: jax.Array) -> jax.Array:
    """x ** (1/3) of float32 x in [1e-30, 1e30], within 0.8e-7 of the value; NaN stays NaN."""
    return _root(x, 3)


@jax.custom_jvp
def power_12_5(x: jax.Array) -> jax.Array:
    """x ** 2.4 of float32 x in [1e-12, 1e12], within 2.2e-7 of the value; NaN stays NaN."""
    square = x * x
    return square * _root(square, 5)


@jax.custom_jvp
def power_5_12(x: jax.Array) -> jax.Array:
    """x ** (1 / 2.4) of float32 x in [1e-30, 1e30], within 1.5e-7 of the value; NaN stays NaN."""
    return jnp.sqrt(jnp.sqrt(x) * _root(x, 3))


def _root(x: jax.Array, degree: int) -> jax.Array:
    """x ** (1 / degree): a guess from the bits, then Newton's steps for the inverse root."""
    share = np.float32(1 / degree)
    bits = jax.lax.bitcast_convert_type(x, jnp.int32).astype(jnp.float32)
    origin = np.float32((1 + 1 / degree) * (127 - _LOG2_OFFSET) * 2**23)
    guess = (origin - bits * share).astype(jnp.int32)
    inverse = jax.lax.bitcast_convert_type(guess, jnp.float32)
    for _ in range(_NEWTON_STEPS):
        inverse += inverse * (1 - x * jax.lax.integer_pow(inverse, degree)) * share
    # One step for the root itself, as a power of the inverse has several times its rounding error.
    slope = jax.lax.integer_pow(inverse, degree - 1)
    root = x * slope
    return root - (jax.lax.integer_pow(root, degree) - x) * (slope * share)


# The bits have no slope, so each power states its own.
cube_root.defjvp(lambda x, dx: _slope(cube_root, 1 / 3, *x, *dx))
power_12_5.defjvp(lambda x, dx: _slope(power_12_5, 2.4, *x, *dx))
power_5_12.defjvp(lambda x, dx: _slope(power_5_12, 1 / 2.4, *x, *dx))


def _slope(
    power: jax.custom_jvp, exponent: float, x: jax.Array, dx: jax.Array
) -> tuple[jax.Array, jax.Array]:
    y = power(x)
    return y, exponent * y / x * dx
