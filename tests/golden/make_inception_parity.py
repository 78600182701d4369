"""Writes inception_parity.npz: what Keras's and timm's own networks give with random weights.

    pip install -e '.[test,pretrained,parity]' && python tests/golden/make_inception_parity.py

A photograph and weights are those of tests/models/parity.py. Keras's tensors are in the order in
which it lists the layers of its model, by which older versions count them in their files.
"""

import pathlib
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'models'))

import inception_peers
import parity
import torch

from iqa_jax.models.keras_file import read_keras

ARCHIVE = parity.GOLDEN / 'inception_parity.npz'


def from_keras() -> tuple[dict, dict]:
    """Shapes by the names that `read_keras` finds in a file, and maps."""
    net = inception_peers.build_keras()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / 'net.h5'
        net.save(file)
        found = {name: array.shape for name, array in read_keras(file).items()}
    order = [layer.name for layer in net.layers]
    shapes = dict(
        sorted(found.items(), key=lambda item: order.index(inception_peers.layer_name(item[0])))
    )
    inception_peers.load_keras(net, parity.random_state(shapes, outputs_axis=-1))
    maps = inception_peers.keras_maps(net, parity.photo())
    return shapes, maps


def from_timm() -> tuple[dict, dict]:
    """Shapes by the names of a state dict, and maps."""
    net = inception_peers.build_timm()
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    state = parity.random_state(shapes)
    net.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in state.items()})
    return shapes, inception_peers.timm_maps(net, parity.photo())


def main() -> None:
    for peer, make in (('keras', from_keras), ('timm', from_timm)):
        shapes, maps = make()
        summaries = parity.summary(maps)
        parity.write({peer: (shapes, summaries)}, ARCHIVE)
        scales = [x[0] for x in summaries.values()]
        print(f'{peer}: {len(maps)} maps, root mean square {min(scales):.3g} to {max(scales):.3g}')


if __name__ == '__main__':
    main()
