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


def load(source: str, backbone: str) -> dict:
    """Variables {'params': {'backbone'}, 'batch_stats': {'backbone'}} of 'imagenet' or a model.

    Raises:
      ValueError: the folder `source` holds another backbone.
    """
    if source == 'imagenet':
        found = models.load_pretrained(backbone)
        bare = {name: dict(found[name]) for name in PARTS}
        bare['params'].pop('classifier', None)
        return {name: {'backbone': tree} for name, tree in bare.items()}
    saved = saved_model.load(source)
    if saved.spec['backbone'] != backbone:
        raise ValueError(
            f'{source} holds {saved.spec["backbone"]}, config.features.backbone is {backbone}; '
            'make them equal.'
        )
    return backbone_of(saved.variables)


def backbone_of(variables: dict) -> dict:
    """The backbone's part of a model's variables."""
    return {name: {'backbone': variables[name]['backbone']} for name in PARTS}


def digest(variables: dict) -> str:
    """SHA-256 (hex) of the backbone's weights and statistics: what gives the same features."""
    flat = flax.traverse_util.flatten_dict(backbone_of(variables), sep='/')
    found = hashlib.sha256()
    for path in sorted(flat):
        value = np.ascontiguousarray(flat[path], np.float32)
        found.update(f'{path} {value.shape}\0'.encode() + value.tobytes())
    return found.hexdigest()


def shape(backbone: str, pooling: str) -> tuple[int, ...]:
    """Shape of one image's features, found without computing any."""
    model = models.extractor(backbone, pooling)
    images = jax.ShapeDtypeStruct((1, PROBE, PROBE, 3), jnp.float32)
    init = functools.partial(model.init, train=False, method='extract')
    variables = jax.eval_shape(init, jax.random.key(0), images)
    extract = functools.partial(model.apply, train=False, method='extract')
    return jax.eval_shape(extract, variables, images)[0].shape[1:]


@functools.cache
def step(backbone: str, pooling: str):
    """Mapped `(variables, {'image': [B,H,W,3]}) -> {'features': [B,...] float32}`."""
    return parallel.eval_step(steps.make_extract_step(models.extractor(backbone, pooling)))
