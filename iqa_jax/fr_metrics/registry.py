"""The table of full-reference metrics; a new metric is one file and one row."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics.gmsd import gmsd
from iqa_jax.fr_metrics.mdsi import mdsi
from iqa_jax.fr_metrics.ssim import ms_ssim, ssim

Images = np.ndarray | jax.Array


@dataclass(frozen=True)
class Metric:
    """One metric and what is known about it; calling it scores pairs of images.

    `function` is the pure form for use inside jit: RGB float32 [N,H,W,3] in 0..255 -> float32 [N].
    """

    name: str
    function: Callable[[jax.Array, jax.Array], jax.Array]
    higher_is_better: bool
    range: tuple[float, float]
    symmetric: bool
    min_side: int
    source: str
    status: str

    def __call__(self, reference: Images, distorted: Images) -> jax.Array:
        """Scores float32 [N] of [H,W,3] (N is 1) or [N,H,W,3], uint8 or float in [0, 1].

        Identical images score the ideal value exactly. Raises ValueError for another shape, dtype
        or range (the range only outside jit), and for images under `min_side` pixels.
        """
        return metrics([self.name])(reference, distorted)[self.name]


_ssim = functools.partial(
    Metric,
    higher_is_better=True,
    range=(-1.0, 1.0),
    symmetric=True,
    min_side=11,
    source='Wang, Bovik, Sheikh and Simoncelli, TIP 2004; ssim.m (2009)',
    status="verified: equals the authors' code and published MATLAB values",
)
_ms_ssim = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, 1.0),
    symmetric=True,
    min_side=176,
    source='Wang, Simoncelli and Bovik, Asilomar 2003; msssim.m',
    status="verified: equals the authors' code; the product clamps negative means at 0",
)
_gmsd = functools.partial(
    Metric,
    higher_is_better=False,
    range=(0.0, 1.0),
    symmetric=True,
    min_side=3,
    source='Xue, Zhang, Mou and Bovik, TIP 2014; GMSD.m',
    status="verified: equals the authors' code and published MATLAB values",
)
_mdsi = functools.partial(
    Metric,
    higher_is_better=False,
    range=(0.0, 1.0),
    symmetric=False,
    min_side=2,
    source='Ziaei Nafchi, Shahkolaei, Hedjam and Cheriet, IEEE Access 2016; MDSI.m',
    status="verified: equals the authors' code and published MATLAB values",
)

METRICS = {
    metric.name: metric
    for metric in (
        _ssim('ssim', ssim),
        _ssim('ssim_fullres', functools.partial(ssim, downsample=False)),
        _ssim('ssim_floatgray', functools.partial(ssim, rounded=False)),
        _ms_ssim('ms_ssim', ms_ssim),
        _ms_ssim('ms_ssim_floatgray', functools.partial(ms_ssim, rounded=False)),
        _ms_ssim('ms_ssim_wtdsum', functools.partial(ms_ssim, product=False), range=(-1.0, 1.0)),
        _gmsd('gmsd', gmsd),
        _gmsd('gmsd_floatgray', functools.partial(gmsd, rounded=False)),
        _mdsi('mdsi', mdsi),
        _mdsi('mdsi_mult', functools.partial(mdsi, weighted_sum=False)),
    )
}


def metric(name: str) -> Metric:
    """The metric called `name`; raises ValueError for an unknown one."""
    if name not in METRICS:
        raise ValueError(f'unknown metric {name!r}; the known ones are {", ".join(METRICS)}')
    return METRICS[name]


def metrics(names: Sequence[str]) -> Callable[[Images, Images], dict[str, jax.Array]]:
    """A function like a Metric that scores all `names` in one compiled pass: dict of float32 [N].

    Raises ValueError for unknown names, and when called for what a Metric refuses.
    """
    wanted = tuple(dict.fromkeys(names))
    min_side = max((metric(name).min_side for name in wanted), default=0)
    if not wanted:
        raise ValueError('metrics() needs at least one name')

    def score(reference: Images, distorted: Images) -> dict[str, jax.Array]:
        reference = _checked('reference', reference)
        distorted = _checked('distorted', distorted)
        if reference.shape != distorted.shape:
            raise ValueError(
                f'reference {reference.shape} and distorted {distorted.shape} differ in shape'
            )
        height, width = reference.shape[1:3]
        if min(height, width) < min_side:
            small = [name for name in wanted if METRICS[name].min_side > min(height, width)]
            raise ValueError(
                f'images of {height}x{width} are too small for {", ".join(small)}: '
                f'at least {min_side} pixels per side are needed'
            )
        scores = _compiled(wanted)(reference, distorted)
        return {name: scores[name] for name in wanted}  # jit sorts the keys

    return score


def _checked(role: str, images: Images) -> Images:
    """The images as [N,H,W,3] of a supported dtype and range, or ValueError."""
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if images.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f'{role} must be uint8 or float32 in [0, 1], not {images.dtype}')
    if images.ndim not in (3, 4) or images.shape[-1] != 3 or images.size == 0:
        raise ValueError(f'{role} must be [H,W,3] or [N,H,W,3], not {images.shape}')
    if images.dtype != np.uint8 and not isinstance(images, jax.core.Tracer):
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f'{role} must be float in [0, 1] without NaN, not {low} to {high}')
    return images if images.ndim == 4 else images[None]


def _to_255(images: jax.Array) -> jax.Array:
    scale = 1.0 if images.dtype == jnp.uint8 else 255.0
    return images.astype(jnp.float32) * scale


@functools.lru_cache(maxsize=64)
def _compiled(names: tuple[str, ...]) -> Callable:
    def batch(pair: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        reference, distorted = (_to_255(images) for images in pair)
        return {name: METRICS[name].function(reference, distorted) for name in names}

    def one(pair: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        scores = batch((pair[0][None], pair[1][None]))
        return {name: score[0] for name, score in scores.items()}

    @jax.jit
    def scores(reference: jax.Array, distorted: jax.Array) -> dict[str, jax.Array]:
        # Pair by pair on CPU: what one pair needs stays in the cache.
        if jax.default_backend() == 'cpu':
            return jax.lax.map(one, (reference, distorted))
        return batch((reference, distorted))

    return scores
