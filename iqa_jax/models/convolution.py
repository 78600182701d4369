"""Convolutions in the form that is fast on each backend; the choice is made here and nowhere else.

XLA's CPU backend runs a depthwise lax.conv 10 to 30 times slower than a sum of shifted slices and
a 1x1 one several times slower than a matrix product (benchmarks/conv_forms.py). Kernels have one
layout, HWIO, whichever form runs.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from iqa_jax.models import winograd

Padding = str | winograd.Pads
PADS_3 = {'SAME': ((1, 1), (1, 1)), 'VALID': ((0, 0), (0, 0))}  # of 3x3 at stride 1


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, depthwise: bool
) -> jax.Array:
    """Convolve [N,H,W,C] with [h,w,C,D], or [h,w,1,C] if depthwise ('SAME' only), without bias."""
    if depthwise:
        form = depthwise_shifted if jax.default_backend() == 'cpu' else depthwise_lax
        return form(x, kernel, stride)
    if kernel.shape[:2] == (1, 1):
        return pointwise(x[:, ::stride, ::stride], kernel)
    if jax.default_backend() == 'cpu' and stride == 1 and _pays(x, kernel):
        return winograd.winograd(x, kernel, PADS_3.get(padding, padding))
    if jax.default_backend() == 'cpu' and (_is_stem(x, kernel) or _is_reduction(x, kernel, stride)):
        return patched(x, kernel, stride, padding)
    return dense(x, kernel, stride, padding)


def _pays(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether Winograd's form is the faster one: 3x3 in float32 with enough channels."""
    wide = min(kernel.shape[2:]) >= 64
    return wide and kernel.shape[:2] == (3, 3) and x.dtype == jnp.float32


def _is_stem(x: jax.Array, kernel: jax.Array) -> bool:
    """Few input channels and a large kernel, as first layers have."""
    return x.shape[-1] <= 4 and kernel.size // kernel.shape[-1] >= 64


def _is_reduction(x: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Many channels at a stride, where XLA's slope of the kernel is a dilated convolution."""
    return stride > 1 and min(kernel.shape[2:]) >= 64 and x.dtype == jnp.float32


@jax.custom_vjp
def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution [N,H,W,C] * [1,1,C,D] -> [N,H,W,D] as a matrix product."""
    y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
    return y.reshape(*x.shape[:-1], -1)


def _pointwise_forward(x, kernel):
    return pointwise(x, kernel), (x, kernel)


def _pointwise_backward(saved, slope):
    # Written out because the transposed einsum makes XLA copy both operands into another layout.
    x, kernel = saved
    slope = slope.reshape(-1, slope.shape[-1])
    into_kernel = x.reshape(-1, x.shape[-1]).T @ slope
    return (slope @ kernel[0, 0].T).reshape(x.shape), into_kernel.reshape(kernel.shape)


pointwise.defvjp(_pointwise_forward, _pointwise_backward)


def dense(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Dense convolution [N,H,W,C] * [h,w,C,D] through lax.conv."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def patched(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """The same as `dense`, but in reverse mode alone; the kernel's slope is a product of patches.

    [N,H,W,C] * [h,w,C,D] -> [N,H',W',D].
    """
    return dense(x, kernel, stride, padding)


def _patched_forward(x, kernel, stride, padding):
    return patched(x, kernel, stride, padding), (x, kernel)


def _patched_backward(stride, padding, saved, slope):
    x, kernel = saved
    into_x = jax.vjp(lambda x: dense(x, kernel, stride, padding), x)[1](slope)[0]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    form = _stem_kernel_slope if _is_stem(x, kernel) else _reduction_kernel_slope
    return into_x, form(x, slope, kernel, stride, padding)


patched.defvjp(_patched_forward, _patched_backward)


def _reduction_kernel_slope(
    x: jax.Array, slope: jax.Array, kernel: jax.Array, stride: int, pads: winograd.Pads
) -> jax.Array:
    """All patches side by side, [positions, taps x channels], and one product."""
    h, w, channels, features = kernel.shape
    rows, columns = slope.shape[1:3]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)])
    taps = (_shift(x, i, j, rows, columns, stride) for i in range(h) for j in range(w))
    patches = jnp.concatenate(list(taps), -1).reshape(-1, h * w * channels)
    # The slope is transposed, as a rule the narrower of both.
    found = lax.dot_general(slope.reshape(-1, features), patches, (((0,), (0,)), ((), ())))
    return found.reshape(features, h, w, channels).transpose(1, 2, 3, 0)


def _stem_kernel_slope(
    x: jax.Array, slope: jax.Array, kernel: jax.Array, stride: int, pads: winograd.Pads
) -> jax.Array:
    """Picture by picture, so that it stays in cache, the product of its patches with the slope."""
    h, w, channels, _ = kernel.shape
    rows, columns = slope.shape[1:3]
    high, wide = rows + (h - 1) // stride, columns + (w - 1) // stride
    (top, _), (left, _) = pads
    # A plane for each phase (position mod stride) and channel: each patch entry is a slice of one.
    ends = [(top, stride * high - x.shape[1] - top), (left, stride * wide - x.shape[2] - left)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((a, b, 0) for a, b in ends), (0, 0, 0)])
    planes = x.reshape(-1, high, stride, wide, stride, channels).transpose(0, 2, 4, 5, 1, 3)
    taps = [(i, j, c) for i in range(h) for j in range(w) for c in range(channels)]

    def one_more(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        plane, slope = pair
        patches = [
            plane[i % stride, j % stride, c, i // stride :, j // stride :][:rows, :columns]
            for i, j, c in taps
        ]
        product = jnp.stack(patches).reshape(len(taps), -1) @ slope.reshape(-1, slope.shape[-1])
        return total + product, None

    start = jnp.zeros((len(taps), slope.shape[-1]), slope.dtype)
    return lax.scan(one_more, start, (planes, slope))[0].reshape(kernel.shape)


def depthwise_lax(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Depthwise convolution [N,H,W,C] * [h,w,1,C], 'SAME' padding, through lax.conv."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1],
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_shifted(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """The same as `depthwise_lax` as a sum of shifted slices, with gradients that are fast too."""
    h, w = kernel.shape[:2]
    rows, columns = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    x = _pad_same(x, h, w, stride)
    shifts = ((i, j) for i in range(h) for j in range(w))
    return sum(_shift(x, i, j, rows, columns, stride) * kernel[i, j, 0] for i, j in shifts)


def _depthwise_forward(x, kernel, stride):
    return depthwise_shifted(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride, saved, slope):
    x, kernel = saved
    return _input_slope(slope, kernel, stride, x.shape), _kernel_slope(x, slope, kernel, stride)


depthwise_shifted.defvjp(_depthwise_forward, _depthwise_backward)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis by XLA's 'SAME' rule: ceil(size / stride) outputs."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pad_same(x: jax.Array, h: int, w: int, stride: int) -> jax.Array:
    rows, columns = (_same_padding(x.shape[1], h, stride), _same_padding(x.shape[2], w, stride))
    return jnp.pad(x, ((0, 0), rows, columns, (0, 0)))


def _shift(x: jax.Array, i: int, j: int, rows: int, columns: int, stride: int = 1) -> jax.Array:
    """The [rows, columns] samples of the padded x that kernel tap (i, j) meets."""
    bottom, right = (start + max((n - 1) * stride + 1, 0) for start, n in ((i, rows), (j, columns)))
    return x[:, i:bottom:stride, j:right:stride]


def _input_slope(
    slope: jax.Array, kernel: jax.Array, stride: int, shape: tuple[int, ...]
) -> jax.Array:
    """Slope of the input: the pixels of one phase (position mod stride) meet the same taps.

    So each phase is again a sum of shifted slices, and the phases are interleaved.
    """
    h, w = kernel.shape[:2]
    rows, columns = slope.shape[1:3]
    top = _same_padding(shape[1], h, stride)[0]
    left = _same_padding(shape[2], w, stride)[0]
    reach = max(h, w) // stride + 1
    padded = jnp.pad(slope, ((0, 0), (reach, reach), (reach, reach), (0, 0)))

    def phase(a: int, b: int) -> jax.Array:
        taps = [
            (reach + (a + top - i) // stride, reach + (b + left - j) // stride, kernel[i, j, 0])
            for i in range(h)
            for j in range(w)
            if (a + top - i) % stride == 0 and (b + left - j) % stride == 0
        ]
        parts = (_shift(padded, i, j, rows, columns) * tap for i, j, tap in taps)
        return sum(parts, start=jnp.zeros((), slope.dtype))

    if stride == 1:
        return phase(0, 0)
    lines = [jnp.stack([phase(a, b) for b in range(stride)], 3) for a in range(stride)]
    whole = jnp.stack(lines, 2).reshape(
        slope.shape[0], rows * stride, columns * stride, slope.shape[-1]
    )
    return whole[:, : shape[1], : shape[2]]


def _kernel_slope(x: jax.Array, slope: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Slope of the kernel [h,w,1,C]: one pass with an accumulator per tap, not one pass per tap."""
    h, w = kernel.shape[:2]
    rows, columns = slope.shape[1:3]
    x = _pad_same(x, h, w, stride)
    products = [_shift(x, i, j, rows, columns, stride) * slope for i in range(h) for j in range(w)]
    zeros = [jnp.zeros((), x.dtype)] * len(products)
    # Whole small maps, single lines of large ones: what the accumulators read stays in cache.
    axes = (1, 2) if columns <= 32 else (2,)
    sums = lax.reduce(
        products, zeros, lambda a, b: [p + q for p, q in zip(a, b, strict=True)], axes
    )
    sums = [part.reshape(-1, part.shape[-1]).sum(0) for part in sums]
    return jnp.stack(sums).reshape(h, w, 1, -1).astype(kernel.dtype)
