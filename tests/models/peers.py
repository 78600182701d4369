"""The peers' own backbones in torch, with their maps under our names; needs the extra 'parity'."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from iqa_jax import models

Maps = dict[str, np.ndarray]


def _torchvision():
    """The package; a build for another torch has no box operators, which no backbone needs."""
    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for name in ('nms', 'qnms'):
            library.define(f'{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor')
        import torchvision
    return torchvision


def _timm(name: str) -> torch.nn.Module:
    _torchvision()  # which timm imports
    import timm

    return timm.create_model(name)


def _package(name: str) -> torch.nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    # Without a size it pads by what it is given, as TensorFlow does.
    return EfficientNet.from_name(name, image_size=None)


def _resnet_modules(net: torch.nn.Module) -> dict[str, torch.nn.Module]:
    stages = (f'layer{i}' for i in range(1, 5))
    return {f'{s}_{i}': block for s in stages for i, block in enumerate(getattr(net, s))}


def _vgg_modules(net: torch.nn.Module) -> dict[str, torch.nn.Module]:
    names = list(models.BACKBONES['vgg16']().taps())
    activations = [layer for layer in net.features if isinstance(layer, torch.nn.ReLU)]
    return dict(zip([*names, 'pool5'], [*activations, net.features[-1]], strict=True))


def _timm_lite_modules(net: torch.nn.Module) -> dict[str, torch.nn.Module]:
    found = {}
    for stage, blocks in enumerate(net.blocks):
        for block in blocks:
            index = len(found) // 2
            found[f'block_{index:02d}_depthwise'] = block.bn1 if stage == 0 else block.bn2
            found[f'block_{index:02d}'] = block
    return found | {'top': net.bn2}


def _package_lite_modules(net: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Its activations are functions inside the blocks, so only whole blocks can be seen."""
    return {f'block_{i:02d}': block for i, block in enumerate(net._blocks)}


# Written again here, in float64: ours are what is tested.
NORMALISE = {
    'imagenet': lambda x: (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    'half': lambda x: x * 2 - 1,
    'lite': lambda x: (x * 255 - 127) / 128,
}
TV = {
    **dict.fromkeys(('resnet18', 'resnet34', 'resnet50'), _resnet_modules),
    **dict.fromkeys(('vgg16', 'vgg16_bn'), _vgg_modules),
}
LITES = [f'efficientnet_lite{i}' for i in range(3)]
# Peer: (our backbone, what the peer expects of its input, the network, its modules by our names).
PEERS: dict[str, tuple[str, str, Callable, Callable]] = {
    **{
        f'torchvision/{n}': (n, 'imagenet', lambda n=n: getattr(_torchvision().models, n)(), find)
        for n, find in TV.items()
    },
    **{f'timm/{n}': (n, 'imagenet', lambda n=n: _timm(n), find) for n, find in TV.items()},
    **{
        f'timm/tf_{n}': (n, 'half', lambda n=n: _timm(f'tf_{n}'), _timm_lite_modules) for n in LITES
    },
    **{
        f'package/{n}': (
            n,
            'lite',
            lambda n=n: _package(n.replace('_', '-')),
            _package_lite_modules,
        )
        for n in LITES
    },
}


def build(peer: str) -> torch.nn.Module:
    """The peer's network for inference."""
    return PEERS[peer][2]().eval()


def shapes(net: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of its state dict by name, as its files have them."""
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def load(net: torch.nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Gives the network these weights; all of its tensors must be there."""
    net.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in state.items()})


def run(peer: str, net: torch.nn.Module, images: np.ndarray) -> Maps:
    """Its maps by our names, [N,H,W,C] float32, for pictures [N,H,W,3] in [0,1]."""
    maps: Maps = {}

    def keep(name: str):
        def hook(module, inputs, output):
            maps[name] = output.detach().permute(0, 2, 3, 1).numpy().copy()

        return hook

    handles = [
        module.register_forward_hook(keep(name)) for name, module in PEERS[peer][3](net).items()
    ]
    x = torch.from_numpy(NORMALISE[PEERS[peer][1]](images.astype(np.float64)).astype(np.float32))
    with torch.no_grad():
        net(x.permute(0, 3, 1, 2))
    for handle in handles:
        handle.remove()
    return maps
