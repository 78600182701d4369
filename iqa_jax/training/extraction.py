"""The frozen half of a model, a backbone and a pooling, as an extractor of features."""

import functools
import hashlib

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax import models
from iqa_jax.runtime import parallel
from iqa_jax.training import saved_model, steps

PARTS = ('params', 'batch_stats')
PROBE = 128  # side of a picture that every backbone takes


def load(source: str, backbone: str, preprocess: str | None = None) -> dict:
    """Variables {'params': {'backbone'}, 'batch_stats': {'backbone'}} of pretrained weights.

    Args:
      source: 'imagenet' for those of an installed package, a weight file, or the folder of a saved
        model.
      backbone, preprocess: see `models.build`.

    Raises:
      ValueError: `source` holds another backbone, or weights for another preprocessing.
    """
    if source == 'imagenet' or models.is_weight_file(source):
        path = None if source == 'imagenet' else source
        found = models.load_pretrained(backbone, path, preprocess)
        bare = {name: dict(found[name]) for name in PARTS}
        bare['params'].pop('classifier', None)
        return {name: {'backbone': tree} for name, tree in bare.items()}
    saved = saved_model.load(source)
    if saved.spec['backbone'] != backbone:
        raise ValueError(
            f'{source} holds {saved.spec["backbone"]}, config.features.backbone is {backbone}; '
            'make them equal.'
        )
    theirs, ours = (reads(backbone, p) for p in (saved.spec.get('preprocess'), preprocess))
    if theirs != ours:
        raise ValueError(
            f'{source} holds a model whose preprocess is {theirs!r}, '
            f'config.features.preprocess is {ours!r}; make them equal.'
        )
    return backbone_of(saved.variables)


def backbone_of(variables: dict) -> dict:
    """The backbone's part of a model's variables."""
    return {name: {'backbone': variables[name]['backbone']} for name in PARTS}


def reads(backbone: str, preprocess: str | None) -> str:
    """Name of what the backbone does to pictures first: `preprocess`, or its own for None."""
    return models.extractor(backbone, 'gap', preprocess).backbone.preprocess


def digest(variables: dict) -> str:
    """SHA-256 (hex) of the backbone's weights and statistics: what gives the same features."""
    flat = flax.traverse_util.flatten_dict(backbone_of(variables), sep='/')
    found = hashlib.sha256()
    for path in sorted(flat):
        value = np.ascontiguousarray(flat[path], np.float32)
        found.update(f'{path} {value.shape}\0'.encode() + value.tobytes())
    return found.hexdigest()


def shape(backbone: str, pooling: str, preprocess: str | None = None) -> tuple[int, ...]:
    """Shape of one image's features, found without computing any."""
    model = models.extractor(backbone, pooling, preprocess)
    images = jax.ShapeDtypeStruct((1, PROBE, PROBE, 3), jnp.float32)
    init = functools.partial(model.init, train=False, method='extract')
    variables = jax.eval_shape(init, jax.random.key(0), images)
    extract = functools.partial(model.apply, train=False, method='extract')
    return jax.eval_shape(extract, variables, images)[0].shape[1:]


@functools.cache
def step(backbone: str, pooling: str, preprocess: str | None = None):
    """Mapped `(variables, {'image': [B,H,W,3]}) -> {'features': [B,...] float32}`."""
    model = models.extractor(backbone, pooling, preprocess)
    return parallel.eval_step(steps.make_extract_step(model))
