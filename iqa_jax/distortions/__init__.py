"""The distortions of KADIS-700k and KADID-10k: pure functions, one registry, one pipeline."""

from iqa_jax.distortions.pipeline import distort, distort_batch
from iqa_jax.distortions.registry import DISTORTIONS, Distortion, get

__all__ = ['DISTORTIONS', 'Distortion', 'distort', 'distort_batch', 'get']
