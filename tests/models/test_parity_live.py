"""Files that the peers write themselves, through `load_pretrained`, against the peers as they run.

Needs the extra 'parity'; `test_parity.py` compares with what they gave earlier.
"""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from PIL import Image

from iqa_jax import models

torch = pytest.importorskip('torch')
# Not imported to find out: torchvision needs what `peers` does before.
NEEDED = ('efficientnet_lite_pytorch', 'timm', 'torchvision')
if missing := [module for module in NEEDED if importlib.util.find_spec(module) is None]:
    pytest.skip(f"{missing} are of the extra 'parity'", allow_module_level=True)

import peers  # noqa: E402

PHOTOS = pathlib.Path(models.__file__).parents[1] / 'data/photos'


def photos():
    """Two photographs with sides that are no multiples of 32, float32 [1, H, W, 3] in [0, 1]."""
    pixels = np.asarray(Image.open(PHOTOS / 'budgerigar.png').convert('RGB'))[:121, :90]
    return [parity.photo(), pixels[None].astype(np.float32) / 255]


def save(net, peer, path):
    """As the peer's users save it: .safetensors from timm, .pth from the others."""
    if not peer.startswith('timm'):
        torch.save(net.state_dict(), path / 'weights.pth')
        return path / 'weights.pth'
    from safetensors.torch import save_file

    save_file(net.state_dict(), path / 'weights.safetensors')
    return path / 'weights.safetensors'


@pytest.mark.parametrize('peer', peers.PEERS)
def test_a_file_of_the_peer_makes_its_maps(peer, tmp_path):
    name, preprocess = peers.PEERS[peer][:2]
    net = peers.build(peer)
    peers.load(net, parity.random_state(peers.shapes(net)))
    file = save(net, peer, tmp_path)
    tree = models.load_pretrained(name, file, preprocess)
    file.unlink()  # VGG's is half a gigabyte
    params = {key: value for key, value in tree['params'].items() if key != 'classifier'}
    backbone = models.BACKBONES[name](preprocess=preprocess)
    apply = jax.jit(lambda variables, x: backbone.apply(variables, x, train=False)[1])
    worst = 0.0
    for image in photos():
        ours = apply(tree | {'params': params}, jnp.asarray(image))
        for key, theirs in peers.run(peer, net, image).items():
            difference = np.abs(np.asarray(ours[key], np.float64) - theirs).max()
            worst = max(worst, difference / np.sqrt(np.square(theirs, dtype=np.float64).mean()))
    print(peer, f'{worst:.1e}')
    assert worst <= parity.TOLERANCE
