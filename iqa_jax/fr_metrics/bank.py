"""A metric and what is known about it, and the one pass that scores pairs by several of them."""

import dataclasses
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.fr_metrics import maps
from iqa_jax.images import filters
from iqa_jax.runtime import memory, parallel

Images = np.ndarray | jax.Array
Scores = dict[str, jax.Array]
POLICIES = ('safe', 'parity')
PIXELS_AT_ONCE = 2**24  # of all pairs being scored on a CPU; larger ones take fewer threads


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric and what is known about it; calling it scores pairs of images.

    `function` is the pure form for use inside jit: RGB float32 [N,H,W,3] in 0..255 -> float32 [N],
    with `parity` (which may be traced) for the other policy. `ideal` is the score of identical
    images; `colour` tells whether it starts from the colour planes or from MATLAB's gray. Sides
    under `min_side` pixels are refused; with the parity policy they score `below_min_side` where
    the original has an answer to them.
    """

    name: str
    function: Callable[..., jax.Array]
    higher_is_better: bool
    range: tuple[float, float]
    ideal: float
    symmetric: bool
    colour: bool
    min_side: int
    source: str
    status: str
    below_min_side: float | None = None
    policy: str = 'safe'

    def __call__(self, reference: Images, distorted: Images) -> jax.Array:
        """Scores float32 [N] of [H,W,3] (N is 1) or [N,H,W,3], uint8 or float in [0, 1].

        With the safe policy identical images score the ideal value exactly and nothing is NaN.
        Raises ValueError for another shape, dtype or range (the range only outside jit), and for
        images under `min_side` pixels.
        """
        score = scorer((dataclasses.replace(self, policy='safe'),))
        return score(reference, distorted, self.policy)[self.name]

    def refuses(self, height: int, width: int) -> bool:
        """Whether images of this size are an error."""
        answers = self.policy == 'parity' and self.below_min_side is not None
        return min(height, width) < self.min_side and not answers

    def scores(self, reference: jax.Array, distorted: jax.Array, parity: jax.Array) -> jax.Array:
        """Scores [N] of RGB float32 [N,H,W,3] in 0..255, a pure function."""
        if min(reference.shape[1:3]) < self.min_side:
            return jnp.full(reference.shape[:1], self.below_min_side, jnp.float32)
        return self.function(reference, distorted, parity=parity).astype(jnp.float32)


@functools.lru_cache(maxsize=64)
def scorer(members: tuple[Metric, ...]) -> Callable[[Images, Images, str], Scores]:
    """A function (reference, distorted, policy) that scores all members: dict of float32 [N].

    Members share what they have in common. On an accelerator, and inside somebody's jit, the pass
    is one program. On CPU it is one for the gray and one for the colour members, run pair by pair
    on as many threads as there are cores (fewer for large images): what one pair needs stays in the
    cache, a score cannot depend on the rest of the batch, and every batch size uses the same
    programs.
    """
    batched = jax.jit(functools.partial(_batched, members))
    mapped = jax.jit(functools.partial(_one_by_one, members))
    groups = [tuple(m for m in members if m.colour == colour) for colour in (True, False)]

    @functools.lru_cache(maxsize=16)
    def compiled(*kinds: jax.ShapeDtypeStruct) -> list[Callable[..., Scores]]:
        parts = [functools.partial(_together, group) for group in groups if group]
        programs = [parallel.reproducible_jit(part).lower(*kinds).compile() for part in parts]
        memory.release()
        return programs

    def on_cpu(reference: np.ndarray, distorted: np.ndarray, parity: np.ndarray) -> Scores:
        pairs = [
            (_to_255(reference[i : i + 1]), _to_255(distorted[i : i + 1]), parity)
            for i in range(len(reference))
        ]
        programs = compiled(*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in pairs[0]))
        tasks = [(program, pair) for program in programs for pair in pairs]
        done = _all(tasks, _threads(reference[0].size // 3), len(pairs) == 1)
        rows = [done[first : first + len(pairs)] for first in range(0, len(done), len(pairs))]
        scores = {
            name: parallel.send(np.concatenate([row[name] for row in part]))
            for part in rows
            for name in part[0]
        }
        return scores

    def score(reference: Images, distorted: Images, policy: str) -> Scores:
        reference, distorted = _checked(members, reference, distorted, policy)
        parity = np.array(policy == 'parity')
        if jax.default_backend() != 'cpu':
            scores = batched(reference, distorted, parity)
        elif any(isinstance(x, jax.core.Tracer) for x in (reference, distorted)):
            scores = mapped(reference, distorted, parity)
        else:
            scores = on_cpu(np.asarray(reference), np.asarray(distorted), parity)
        return {m.name: scores[m.name] for m in members}  # jit sorts the keys

    return score


def _threads(pixels: int) -> int:
    """As many as cores that this process may use, fewer for large images."""
    affinity = getattr(os, 'sched_getaffinity', None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, PIXELS_AT_ONCE // pixels))


def _all(tasks: list[tuple], threads: int, is_alone: bool) -> list[dict[str, np.ndarray]]:
    """Results of the tasks; those of a lone pair in turn where memory does not suffice for both."""
    if len(tasks) > 1 and threads > 1:
        try:
            with ThreadPoolExecutor(threads) as pool:
                return list(pool.map(_run, tasks))
        except Exception as error:
            if not (is_alone and memory.is_exhausted(error)):
                raise
    return list(map(_run, tasks))


def _run(task: tuple[Callable[..., Scores], tuple]) -> dict[str, np.ndarray]:
    program, arguments = task
    return parallel.fetch(program(*arguments))


def _to_255(images: Images) -> Images:
    """uint8 as it is, which costs nothing to convert later; float as float32 in 0..255."""
    return images if images.dtype == np.uint8 else images * np.float32(255)


def _together(
    members: tuple[Metric, ...], reference: jax.Array, distorted: jax.Array, parity: jax.Array
) -> Scores:
    """Scores [N] of every member for images uint8 or float32, both in 0..255."""
    reference, distorted = (x.astype(jnp.float32) for x in (reference, distorted))
    with maps.sharing(), filters.conditioned_on(reference):
        return {member.name: member.scores(reference, distorted, parity) for member in members}


def _batched(
    members: tuple[Metric, ...], reference: jax.Array, distorted: jax.Array, parity: jax.Array
) -> Scores:
    # Rounded here, not in a later subtraction: equal images stay equal also where the compiler
    # contracts a product and a sum into one operation.
    reference, distorted = (
        x if x.dtype == jnp.uint8 else jax.lax.optimization_barrier(filters.materialize(_to_255(x)))
        for x in (reference, distorted)
    )
    return _together(members, reference, distorted, parity)


def _one_by_one(
    members: tuple[Metric, ...], reference: jax.Array, distorted: jax.Array, parity: jax.Array
) -> Scores:
    def one(pair: tuple[jax.Array, jax.Array]) -> Scores:
        scores = _batched(members, *(x[None] for x in pair), parity)
        return {name: score[0] for name, score in scores.items()}

    return jax.lax.map(one, (reference, distorted))


def _checked(
    members: tuple[Metric, ...], reference: Images, distorted: Images, policy: str
) -> tuple[Images, Images]:
    """Both as [N,H,W,3], uint8 or float32, or ValueError."""
    reference, distorted = _images('reference', reference), _images('distorted', distorted)
    if reference.shape != distorted.shape:
        raise ValueError(
            f'reference {reference.shape} and distorted {distorted.shape} differ in shape'
        )
    height, width = reference.shape[1:3]
    asked = [dataclasses.replace(member, policy=policy) for member in members]
    if small := [member for member in asked if member.refuses(height, width)]:
        raise ValueError(
            f'images of {height}x{width} are too small for {", ".join(m.name for m in small)}: '
            f'at least {max(m.min_side for m in small)} pixels per side are needed'
        )
    return reference, distorted


def _images(role: str, images: Images) -> Images:
    """The images as [N,H,W,3] of a supported dtype and range, or ValueError."""
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if images.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f'{role} must be uint8 or float32 in [0, 1], not {images.dtype}')
    if images.ndim not in (3, 4) or images.shape[-1] != 3 or images.size == 0:
        raise ValueError(f'{role} must be [H,W,3] or [N,H,W,3], not {images.shape}')
    if images.dtype != np.uint8:
        if not isinstance(images, jax.core.Tracer):
            low, high = float(images.min()), float(images.max())
            if not (low >= 0 and high <= 1):
                raise ValueError(f'{role} must be float in [0, 1] without NaN, not {low} to {high}')
        images = images.astype(np.float32, copy=False)
    return images if images.ndim == 4 else images[None]
