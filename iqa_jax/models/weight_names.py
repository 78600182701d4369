"""What tensors of published torch files are called, and where each belongs in our backbones."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
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
TIMM_OUTER = {'conv_stem': 'stem', 'bn1': 'stem', 'conv_head': 'top', 'bn2': 'top'}
TIMM_INNER = {
    'conv_pw': 'expand',
    'bn1': 'expand',
    'conv_dw': 'depthwise',
    'bn2': 'depthwise',
    'conv_pwl': 'project',
    'bn3': 'project',
}
# The first stage does not expand, and its blocks count their layers from the depthwise one.
TIMM_FIRST = {'conv_dw': 'depthwise', 'bn1': 'depthwise', 'conv_pw': 'project', 'bn2': 'project'}


class Rule(NamedTuple):
    """How one family of weight files names a backbone's tensors.

    origin: whose files they are, for messages. place: a tensor's name to its (collection, path) in
    the backbone, None where it has none. ignored: whether a name may be left out. transpose:
    whether kernels are OIHW and matrices [outputs, inputs], as torch has them. preprocess: what
    the weights expect of their input where that is not the backbone's own default. absent: leaves
    of the backbone that no such file has, and the value they all have.
    """

    origin: str
    place: Callable[[str], Place | None]
    ignored: Callable[[str], bool]
    transpose: bool
    preprocess: str | None = None
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


def _lite_unit_place(
    block: int | None, layer: str, leaf: str, units: Mapping[str, str]
) -> Place | None:
    """Where a tensor of one convolution or batch norm belongs; `block` counts from 0."""
    if layer not in units:
        return None
    unit = units[layer] if block is None else f'block_{block:02d}_{units[layer]}'
    if layer.startswith('bn'):
        return _norm_place(f'{unit}/bn', leaf)
    return ('params', f'{unit}/conv/kernel') if leaf == 'weight' else None


def _lite_place(name: str) -> Place | None:
    """Where a tensor of the Lite packages belongs."""
    if name.startswith('_fc.'):
        return _classifier_place(name, '_fc')
    match = re.fullmatch(r'(?:_blocks\.(\d+)\.)?_(\w+)\.(\w+)', name)
    if match is None:
        return None
    block, layer, leaf = match.groups()
    if block is None:
        return _lite_unit_place(None, layer, leaf, LITE_OUTER)
    return _lite_unit_place(int(block), layer, leaf, LITE_INNER)


def _timm_lite_place(name: str, repeats: Sequence[int]) -> Place | None:
    """Where a tensor of timm's tf_efficientnet_lite belongs; `repeats` are blocks per stage."""
    if name.startswith('classifier.'):
        return _classifier_place(name, 'classifier')
    match = re.fullmatch(r'(?:blocks\.(\d+)\.(\d+)\.)?(\w+)\.(\w+)', name)
    if match is None:
        return None
    stage, repeat, layer, leaf = match.groups()
    if stage is None:
        return _lite_unit_place(None, layer, leaf, TIMM_OUTER)
    stage, repeat = int(stage), int(repeat)
    if stage >= len(repeats) or repeat >= repeats[stage]:
        return None
    units = TIMM_FIRST if stage == 0 else TIMM_INNER
    return _lite_unit_place(sum(repeats[:stage]) + repeat, layer, leaf, units)


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


def _vgg_place(name: str, layers: Mapping[int, str]) -> Place | None:
    """Where a tensor of torchvision's VGG belongs; `layers` are our names by position."""
    match = re.fullmatch(r'features\.(\d+)\.(\w+)', name)
    layer = layers.get(int(match[1])) if match else None
    if layer is None:
        return None
    if layer.startswith('bn'):
        return _norm_place(layer, match[2])
    leaf = {'weight': 'kernel', 'bias': 'bias'}.get(match[2])
    return None if leaf is None else ('params', f'{layer}/{leaf}')


RESNET_RULES = (Rule('torchvision or timm', _resnet_place, _counter, True),)


def lite_rules(repeats: Sequence[int]) -> tuple[Rule, ...]:
    """The families of files of an EfficientNet-Lite with so many blocks in each stage."""
    timm = functools.partial(_timm_lite_place, repeats=tuple(repeats))
    return (
        Rule('the efficientnet-lite packages', _lite_place, _counter, True),
        Rule("timm's tf_efficientnet_lite", timm, _counter, True, 'half'),
    )


def vgg_rules(convolutions: Sequence[int], batch_norm: bool) -> tuple[Rule, ...]:
    """The families of files of a VGG with so many convolutions in each stage.

    Its classifier reads 7x7 maps, so it is of no use for pictures of other sizes and let out.
    """
    layers, position = {}, 0
    for stage, count in enumerate(convolutions, 1):
        for index in range(1, count + 1):
            layers[position] = f'conv{stage}_{index}'
            if batch_norm:
                layers[position + 1] = f'bn{stage}_{index}'
            position += 3 if batch_norm else 2
        position += 1
    place = functools.partial(_vgg_place, layers=layers)

    def ignored(name: str) -> bool:
        return _counter(name) or bool(re.match(r'(classifier|pre_logits|head)\.', name))

    return (Rule('torchvision or timm', place, ignored, True),)


def _lfc_place(name: str) -> Place | None:
    """Where a tensor of the published LFC belongs: its layers have numbers, activations too."""
    match = re.fullmatch(r'(?:cnn\.)?(\d+)\.(weight|bias|gamma|beta)', name)
    if match is None:
        return None
    index, leaf = int(match[1]), match[2]
    layer = {0: 'conv', 1: 'gdn'}.get(index % 3)
    if layer is None or (layer == 'gdn') != (leaf in ('gamma', 'beta')):
        return None
    return 'params', f'{layer}_{index // 3 + 1}/{"kernel" if leaf == "weight" else leaf}'


def _lfc_regressor(name: str) -> bool:
    """Whether it is one of the two dense layers after the pyramid, which are no backbone."""
    return re.match(r'(?:cnn\.)?1[24]\.', name) is not None


LFC_RULES = (Rule('the published LFC', _lfc_place, _lfc_regressor, True),)
