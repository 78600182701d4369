"""Image quality assessment in JAX: distort, score, learn, find counterexamples, ask, learn again.

`metric`, `metrics`, `distort`, `distortions`, `load_model` and `gmad` are the public face; each is
imported on first use, so that `import iqa_jax` stays quick.
"""

import importlib

from iqa_jax.version import __version__

__all__ = ['__version__', 'distort', 'distortions', 'gmad', 'load_model', 'metric', 'metrics']

_HOMES = {
    'metric': ('iqa_jax.fr_metrics', 'metric'),
    'metrics': ('iqa_jax.fr_metrics', 'metrics'),
    'distort': ('iqa_jax.distortions', 'distort'),
    'distortions': ('iqa_jax.distortions', ''),  # the package itself, which can be called
    'gmad': ('iqa_jax.competition.gmad', 'gmad'),
    'load_model': ('iqa_jax.training.saved_model', 'load'),
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f'module iqa_jax has no attribute {name!r}')
    module, attribute = _HOMES[name]
    home = importlib.import_module(module)
    return getattr(home, attribute) if attribute else home
