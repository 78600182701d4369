"""HaarPSI, the Haar wavelet perceptual similarity index, as the authors' HaarPSI.m computes it."""

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters

LUMA = (0.299, 0.587, 0.114)
CHROMA_I = (0.596, -0.274, -0.322)
CHROMA_Q = (0.211, -0.523, 0.312)
CONSTANT = 30.0
ALPHA = 4.2  # slope of the logistic function that stretches similarities near 1
SCALES = (1, 2, 3)  # the last one weighs, the others compare


def _responses(light: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
    """Magnitudes of both directions' Haar responses of [...,H,W], a list of each scale's maps.

    All windows of a scale are made of four sums over windows of half the size.
    """
    height, width = light.shape[-2:]
    # The largest window, 8, begins 3 samples before its output.
    sums = jnp.pad(light, [(0, 0)] * (light.ndim - 2) + [(3, 4), (3, 4)])
    down, across = [], []
    for scale in SCALES:
        half = 2 ** (scale - 1)
        top, bottom = sums[..., :-half, :], sums[..., half:, :]
        corners = [
            part[..., cut] for part in (top, bottom) for cut in (np.s_[:-half], np.s_[half:])
        ]
        crop = np.s_[..., 4 - half : 4 - half + height, 4 - half : 4 - half + width]
        top_left, top_right, bottom_left, bottom_right = (corner[crop] for corner in corners)
        diagonals = top_left - bottom_right, top_right - bottom_left
        down.append(jnp.abs(diagonals[0] + diagonals[1]) * 0.5**scale)
        across.append(jnp.abs(diagonals[0] - diagonals[1]) * 0.5**scale)
        if scale < SCALES[-1]:
            sums = filters.materialize(sum(corners))
    return down, across


def _local_mean(plane: jax.Array) -> jax.Array:
    """Magnitude of the 2x2 mean of [...,H,W], zero padded after the last row and column."""
    half = (0.5, 0.5)
    return jnp.abs(filters.correlate_separable(plane[..., None], half, half, 'zero')[..., 0])


def _logistic_loss(error: jax.Array) -> jax.Array:
    """logistic(ALPHA) - logistic(ALPHA * (1 - error)), exactly 0 for no error."""
    floor = np.exp(-ALPHA)
    growth = jnp.expm1(ALPHA * error)
    return floor / (1 + floor) * growth / (1 + floor + floor * growth)


def _score(loss: jax.Array) -> jax.Array:
    """The squared, rescaled logit of logistic(ALPHA) - loss; exactly 1 for no loss."""
    top = 1 / (1 + np.exp(-ALPHA))
    return (1 + (jnp.log1p(-loss / top) - jnp.log1p(loss / (1 - top))) / ALPHA) ** 2


def _index(light: jax.Array, chroma: jax.Array | None, parity: bool) -> jax.Array:
    """HaarPSI [N] of light [2,N,H,W] and chroma [I and Q,2,N,H,W] or None; 2 is the pair."""
    losses, weights = [], []
    for *fine, coarse in _responses(light):
        error = sum(maps.dissimilarity(*pair, CONSTANT) for pair in fine) / len(fine)
        losses.append(_logistic_loss(error))
        weights.append(filters.materialize(jnp.maximum(*coarse)))
    if chroma is not None:
        errors = [maps.dissimilarity(*_local_mean(pair), CONSTANT) for pair in chroma]
        losses.append(_logistic_loss((errors[0] + errors[1]) / 2))
        weights.append((weights[0] + weights[1]) / 2)
    # One sum over all maps: they lie below each other as if they were one tall image.
    loss, empty = maps.weighted_mean(jnp.concatenate(losses, -2), jnp.concatenate(weights, -2))
    return jnp.where(empty & parity, jnp.nan, _score(loss))


def haarpsi(
    reference: jax.Array, distorted: jax.Array, *, parity: bool = False, subsample: bool = True
) -> jax.Array:
    """HaarPSI float32 [N] of RGB float32 [N,H,W,3] in 0..255; HIGHER is better, 0..1, 1 identical.

    `subsample` halves the images first, whatever their size. Symmetric. Black against black has no
    weight anywhere: 1, or NaN with `parity`; every other pair is finite, since the zero padding
    gives flat images edges. Source: Reisenhofer et al., SPIC 2018, HaarPSI.m.
    """
    factor = 2 if subsample else 1
    light, *chroma = (
        jnp.stack([maps.mixture(image, factor, row) for image in (reference, distorted)])
        for row in (LUMA, CHROMA_I, CHROMA_Q)
    )
    return _index(filters.materialize(light), jnp.stack(chroma), parity)


def haarpsi_gray(
    reference: jax.Array, distorted: jax.Array, *, parity: bool = False, rounded: bool = True
) -> jax.Array:
    """HaarPSI float32 [N] of the gray images, `rounded` to whole levels or not.

    Not `haarpsi` of a gray picture: that averages in a chroma map of ones. Source: as `haarpsi`.
    """
    gray = jnp.stack([maps.luma(image, rounded) for image in (reference, distorted)])
    halves = filters.box_downsample(gray[..., None], 2)[..., 0]
    return _index(filters.materialize(halves), None, parity)
