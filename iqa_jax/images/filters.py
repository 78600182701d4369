"""Filters as sums of shifted slices, with MATLAB's borders and window positions.

A fused sum of shifted slices is 20 to 70 times faster on CPU than `lax.conv` with few channels and
rounds in float32 on every backend. Everywhere in this file x is float [..., H, W, C], a window of
length n covers samples i-(n-1)//2 .. i+n//2 of output i, and taps are applied as correlation (not
flipped).
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import ad, batching, mlir

PADDING_MODES = {
    'zero': 'constant',
    'symmetric': 'symmetric',  # mirror that repeats the edge sample
    'reflect': 'reflect',  # mirror that does not repeat it
    'edge': 'edge',
}
GRADIENT_SMOOTHING = {'prewitt': (1 / 3, 1 / 3, 1 / 3), 'scharr': (3 / 16, 10 / 16, 3 / 16)}

Taps = Sequence[float] | np.ndarray | jax.Array


def materialize(x: jax.Array) -> jax.Array:
    """The same float32 x, on CPU written to memory before it is used.

    XLA's CPU backend fuses a chain of filters into one loop and recomputes the first steps once per
    tap of the later ones; SSIM at full size then takes 2.5 times as long, and the slopes of longer
    chains compile for minutes. It drops optimization_barrier early, but it does not fuse across a
    branch that depends on data.
    """
    given = _condition.get()
    return _materialize.bind(jnp.asarray(x), _always(x) if given is None else given)


@contextlib.contextmanager
def conditioned_on(data: jax.Array) -> Iterator[None]:
    """Within it, the branches of `materialize` depend on `data`, an input of the program.

    Otherwise each of them depends on its own x, of which the compiler then makes a second copy.
    """
    token = _condition.set(_always(data))
    try:
        yield
    finally:
        _condition.reset(token)


_condition: contextvars.ContextVar[jax.Array | None] = contextvars.ContextVar(
    'condition', default=None
)


def _always(x: jax.Array) -> jax.Array:
    """True, in a way that the compiler does not see."""
    first = jax.lax.stop_gradient(jnp.asarray(x, jnp.float32))[(0,) * np.ndim(x)]
    return (jax.lax.bitcast_convert_type(first, jnp.int32) | 1) != 0


def _branch(x: jax.Array, condition: jax.Array) -> jax.Array:
    return jax.lax.cond(condition, lambda x, _: x, lambda _, x: x, x, x)


def _batch(args: tuple, axes: tuple) -> tuple[jax.Array, int | None]:
    """Under vmap one condition is as good as all: a branch per row would become a selection."""
    (x, condition), (axis, condition_axis) = args, axes
    if condition_axis is not None:
        condition = jax.lax.index_in_dim(condition, 0, condition_axis, keepdims=False)
    return _materialize.bind(x, condition), axis


def _jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    x, condition = primals
    slope = tangents[0]
    if not isinstance(slope, ad.Zero):
        slope = _materialize.bind(slope, condition)
    return _materialize.bind(x, condition), slope


def _transpose(slope: jax.Array, x: jax.Array, condition: jax.Array) -> list:
    return [None if isinstance(slope, ad.Zero) else _materialize.bind(slope, condition), None]


_materialize = core.Primitive('materialize')
_materialize.def_impl(jax.jit(lambda x, condition: _materialize.bind(x, condition)))
_materialize.def_abstract_eval(lambda x, condition: x)
ad.primitive_jvps[_materialize] = _jvp
ad.primitive_transposes[_materialize] = _transpose
batching.primitive_batchers[_materialize] = _batch
mlir.register_lowering(_materialize, mlir.lower_fun(lambda x, _: x, multiple_results=False))
mlir.register_lowering(
    _materialize, mlir.lower_fun(_branch, multiple_results=False), platform='cpu'
)


def gaussian_taps(size: int, sigma: float | jax.Array) -> np.ndarray | jax.Array:
    """Unit-sum Gaussian [size] centred at (size-1)/2, or [N, size] for traced sigma [N]."""
    offsets = np.arange(size) - (size - 1) / 2
    if isinstance(sigma, jax.Array):
        weights = jnp.exp(-(offsets.astype(np.float32) ** 2) / (2 * sigma[..., None] ** 2))
        return weights / weights.sum(-1, keepdims=True)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def _pad(x: jax.Array, rows: tuple[int, int], cols: tuple[int, int], padding: str) -> jax.Array:
    """Pads H and W, negative widths crop; raises ValueError for an unknown padding."""
    if padding not in PADDING_MODES:
        raise ValueError(f'padding must be valid or one of {sorted(PADDING_MODES)}, not {padding}')
    height, width = x.shape[-3:-1]
    x = x[..., : height + min(rows[1], 0), : width + min(cols[1], 0), :]
    rows, cols = (rows[0], max(rows[1], 0)), (cols[0], max(cols[1], 0))
    if not any(rows + cols):
        return x
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [rows, cols, (0, 0)], PADDING_MODES[padding])


def _margins(length: int) -> tuple[int, int]:
    return (length - 1) // 2, length // 2


def _weighted_sum(slices: list, taps: Taps) -> jax.Array:
    """Sum of slice times tap; zero constant taps cost nothing, taps [N, K] differ per image."""
    constant = not isinstance(taps, jax.Array)
    total = None
    for k, part in enumerate(slices):
        if constant and float(taps[k]) == 0.0:
            continue
        weight = float(taps[k]) if constant else taps[..., k]
        if not constant and weight.ndim == 1:
            weight = weight[:, None, None]
        term = part() * weight
        total = term if total is None else total + term
    return jnp.zeros_like(slices[0]()) if total is None else total


def correlate_separable(
    x: jax.Array, rows_taps: Taps, cols_taps: Taps, padding: str = 'valid'
) -> jax.Array:
    """Correlates x with the outer product of taps down the rows and taps along the columns.

    Taps are constants [K], a traced array [K], or traced [N, K] with one filter per image of
    x [N, H, W, C]. The size stays, or shrinks by K-1 with padding='valid'.
    """
    height_taps, width_taps = np.shape(rows_taps)[-1], np.shape(cols_taps)[-1]
    if padding != 'valid':
        x = _pad(x, _margins(height_taps), _margins(width_taps), padding)
    *lead, height, width, channels = x.shape
    out_height, out_width = height - height_taps + 1, width - width_taps + 1
    if out_height < 1 or out_width < 1:
        raise ValueError(
            f'an image of {height}x{width} is smaller than a {height_taps}x{width_taps} filter'
        )
    # Columns and channels as one axis keep the innermost loop long, which is what vectorises.
    x = x.reshape(*lead, height, width * channels)
    x = _weighted_sum(
        [lambda k=k: x[..., k : k + out_height, :] for k in range(height_taps)], rows_taps
    )
    span = out_width * channels
    starts = [k * channels for k in range(width_taps)]
    x = _weighted_sum([lambda k=k: x[..., k : k + span] for k in starts], cols_taps)
    return x.reshape(*lead, out_height, out_width, channels)


def downsample_factor(height: int, width: int) -> int:
    """max(1, round-half-up(min(H, W) / 256)), as MATLAB rounds and Python does not."""
    return max(1, (min(height, width) + 128) // 256)


def box_downsample(x: jax.Array, factor: int, padding: str = 'zero') -> jax.Array:
    """Mean over factor x factor windows, then every factor-th sample from 0: ceil(H/F), ceil(W/F).

    Even windows look forward (factor 2 averages i and i+1), as MATLAB's imfilter does.
    """
    if factor == 1:
        return x
    height, width = x.shape[-3:-1]
    rows, cols = -(-height // factor), -(-width // factor)
    before = (factor - 1) // 2
    pad_rows = (before, rows * factor - height - before)
    pad_cols = (before, cols * factor - width - before)
    x = _pad(x, pad_rows, pad_cols, padding)
    x = sum(x[..., k::factor, :, :] for k in range(factor))
    return sum(x[..., k::factor, :] for k in range(factor)) * (1.0 / factor**2)


def gradient_magnitude(x: jax.Array, kind: str) -> jax.Array:
    """sqrt(gx^2 + gy^2) of the 3x3 'prewitt' (/3) or 'scharr' (/16) filters, zero padded.

    The gradient at flat places is 0, not infinite.
    """
    smooth, difference = GRADIENT_SMOOTHING[kind], (1.0, 0.0, -1.0)
    x = _pad(x, (1, 1), (1, 1), 'zero')
    across = correlate_separable(x, smooth, difference)
    down = correlate_separable(x, difference, smooth)
    squared = across * across + down * down
    # Both branches must be finite: sqrt has infinite slope at 0, also behind a where.
    flat = squared == 0
    return jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, squared)))
