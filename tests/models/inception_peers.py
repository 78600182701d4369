"""Keras's and timm's own Inception-ResNet-v2, with their maps under our names; extra 'parity'."""

import os
import re
from collections.abc import Mapping

import numpy as np

os.environ.setdefault('KERAS_BACKEND', 'jax')
import keras
import torch
from peers import _timm as timm_net

from iqa_jax.models.inception_resnet_v2 import InceptionResNetV2

Maps = dict[str, np.ndarray]
MAPS = (*InceptionResNetV2().taps(), 'conv_7b_ac')


def build_keras() -> keras.Model:
    """Keras's network with its classifier, for pictures of any size."""
    pictures = keras.Input((None, None, 3))
    return keras.applications.InceptionResNetV2(weights=None, input_tensor=pictures)


def layer_name(name: str) -> str:
    """Keras's layer of a weight that `read_keras` found."""
    return re.sub(r'^#\d+ ', '', name).rpartition('/')[0]


def load_keras(net: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Gives the network weights by the names that `read_keras` has for them; none may be left."""
    state = {f'{layer_name(name)}/{name.rsplit("/")[-1]}': x for name, x in state.items()}
    for layer in net.layers:
        for weight in layer.weights:
            weight.assign(state.pop(f'{layer.name}/{weight.name}'))
    assert not state


def keras_maps(net: keras.Model, images: np.ndarray) -> Maps:
    """Its maps for pictures [N,H,W,3] in [0,1]."""
    maps = keras.Model(net.input, [net.get_layer(name).output for name in MAPS])
    x = keras.applications.inception_resnet_v2.preprocess_input(images.astype(np.float64) * 255)
    return dict(zip(MAPS, map(np.asarray, maps(x.astype(np.float32))), strict=True))


def build_timm() -> torch.nn.Module:
    """timm's network for inference."""
    return timm_net('inception_resnet_v2').eval()


def timm_maps(net: torch.nn.Module, images: np.ndarray) -> Maps:
    """Its maps for pictures [N,H,W,3] in [0,1]; a block's is what its 1x1 projection reads."""
    found: Maps = {}

    def keep(module: torch.nn.Module, name: str, of_input: bool) -> None:
        def hook(_, inputs, output):
            x = inputs[0] if of_input else output
            found[name] = x.permute(0, 2, 3, 1).numpy().copy()

        module.register_forward_hook(hook)

    for name in ('mixed_5b', 'mixed_6a', 'mixed_7a'):
        keep(getattr(net, name), name, of_input=False)
    for kind, blocks in (
        ('block35', net.repeat),
        ('block17', net.repeat_1),
        ('block8', [*net.repeat_2, net.block8]),
    ):
        for index, block in enumerate(blocks, 1):
            keep(block.conv2d, f'{kind}_{index}_mixed', of_input=True)
    keep(net.conv2d_7b, 'conv_7b_ac', of_input=False)
    x = torch.from_numpy((images.astype(np.float64) * 2 - 1).astype(np.float32))
    with torch.no_grad():
        net(x.permute(0, 3, 1, 2))
    return {name: found[name] for name in MAPS}
