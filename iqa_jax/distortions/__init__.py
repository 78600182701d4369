"""The distortions of KADIS-700k and KADID-10k: pure functions, one registry, one pipeline.

The package can be called: `iqa_jax.distortions()` lists what there is.
"""

import sys

from iqa_jax.distortions.identity import identity
from iqa_jax.distortions.listing import CallableModule
from iqa_jax.distortions.pipeline import distort, distort_batch
from iqa_jax.distortions.registry import DISTORTIONS, Distortion, get

__all__ = ['DISTORTIONS', 'Distortion', 'distort', 'distort_batch', 'get', 'identity']

sys.modules[__name__].__class__ = CallableModule
