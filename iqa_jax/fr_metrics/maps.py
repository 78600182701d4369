"""Pieces that several metrics share: planes, gradients, dissimilarity maps, means and powers.

Metrics add up dissimilarities (1 - similarity) instead of similarities: equal pixels then give an
exact 0, whatever the compiler fuses, and float32 keeps its precision where images are nearly equal.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp

from iqa_jax.images import colour, filters

_made: contextvars.ContextVar[dict | None] = contextvars.ContextVar('made', default=None)


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Within it, a `shared` function called again with the same arrays returns the same result.

    The compiler alone would not see it: it keeps what `filters.materialize` writes apart.
    """
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def shared(function: Callable) -> Callable:
    """Marks a function of arrays and hashable settings whose result several metrics may share."""

    @functools.wraps(function)
    def call(*args):
        made = _made.get()
        if made is None:
            return function(*args)
        key = (function, *(id(x) if isinstance(x, jax.Array) else x for x in args))
        if key not in made:
            made[key] = args, function(*args)  # the arrays are kept, so that no id is used twice
        return made[key][1]

    return call


@shared
def luma(x255: jax.Array, rounded: bool) -> jax.Array:
    """MATLAB's rgb2gray float32 [N,H,W] of RGB float32 [N,H,W,3] in 0..255.

    Rounding has no slope, so gradients pass it as if it were not there.
    """
    gray = colour.rgb_to_gray(x255, rounded=False)
    if rounded:
        gray = gray + jax.lax.stop_gradient(jnp.floor(gray + 0.5) - gray)
    return filters.materialize(gray)


@shared
def planes(x255: jax.Array, factor: int) -> jax.Array:
    """Colour planes float32 [3,N,h,w] of RGB [N,H,W,3], box downsampled with zero padding."""
    colours = jnp.moveaxis(x255, -1, 0)[..., None]
    return filters.materialize(filters.box_downsample(colours, factor)[..., 0])


@shared
def mixture(x255: jax.Array, factor: int, weights: tuple[float, float, float]) -> jax.Array:
    """Weighted sum [N,h,w] of the downsampled colour planes."""
    colours = planes(x255, factor)
    return filters.materialize(sum(w * colours[i] for i, w in enumerate(weights)))


@shared
def gradient(plane: jax.Array, kind: str) -> jax.Array:
    """Gradient magnitude [N,h,w] of a plane, 'prewitt' or 'scharr', zero padded."""
    return filters.materialize(filters.gradient_magnitude(plane[..., None], kind)[..., 0])


def dissimilarity(a: jax.Array, b: jax.Array, constant: float) -> jax.Array:
    """1 - (2ab + c) / (a^2 + b^2 + c), exactly 0 where a equals b."""
    return (a - b) ** 2 / (a * a + b * b + constant)


def mean(x: jax.Array) -> jax.Array:
    """Mean [...] over the last two axes of float32 [..., H, W]."""
    height, width = x.shape[-2:]
    return x.sum(-2).sum(-1) / (height * width)


def power(x: jax.Array, exponent: float) -> jax.Array:
    """x ** exponent with x clamped at 0; the gradient at 0 is 0, not infinite."""
    positive = ~(x <= 0)  # NaN counts as positive, so that it stays visible
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** exponent, 0.0)


def product_of_powers(
    terms: list[jax.Array], exponents: Sequence[float], parity: bool
) -> jax.Array:
    """Product [N] of terms [N] to the exponents; 0 where a term is below 0.

    With `parity` it is the real part of MATLAB's complex number there.
    """
    pairs = list(zip(terms, exponents, strict=True))
    powers = (power(jnp.where(parity, abs(t), t), e) for t, e in pairs)
    turns = sum(jnp.where(t < 0, e, 0.0) for t, e in pairs)
    return functools.reduce(jnp.multiply, powers) * jnp.where(
        (turns > 0) & parity, jnp.cos(jnp.pi * turns), 1.0
    )


def log_similarity(error: jax.Array) -> jax.Array:
    """log |1 - error|, precise for small errors, with finite value and slope at error = 1."""
    near = error < 0.5
    precise = jnp.log1p(-jnp.where(near, error, 0.0))
    return jnp.where(near, precise, jnp.log(jnp.maximum(jnp.abs(1 - error), 1e-30)))


def weighted_mean(error: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean [...] of error [..., H, W] under weights >= 0, and where these are all 0: a plain mean.

    The second result [...] tells where that was so; the weighted mean itself would be 0/0 there.
    """
    total = mean(weight)
    empty = total == 0
    weighted = mean(weight * error) / jnp.where(empty, 1.0, total)
    return jnp.where(empty, mean(error), weighted), empty


def normalize(x: jax.Array) -> jax.Array:
    """Planes [...,H,W] moved and scaled to 0..1; constant planes become 0, with a finite slope."""
    # First along the columns, which vectorises.
    low = jnp.min(x, axis=-2, keepdims=True).min(-1, keepdims=True)
    span = jnp.max(x, axis=-2, keepdims=True).max(-1, keepdims=True) - low
    return (x - low) / jnp.where(span == 0, 1.0, span)
