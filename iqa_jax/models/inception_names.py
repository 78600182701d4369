"""What Keras and timm call the tensors of Inception-ResNet-v2, and where each belongs in ours."""

import re

from iqa_jax.models.inception_resnet_v2 import BRANCHES, STEM, modules
from iqa_jax.models.weight_names import CLASSIFIER, NORM_LEAVES, Place, Rule

# A weight is known by its name or, in .weights.h5 files, by its number within the layer.
KERAS_CONV = {'kernel': 'kernel', '0': 'kernel', 'bias': 'bias', '1': 'bias'}
KERAS_NORM = {
    'beta': ('params', 'bias'),
    'moving_mean': ('batch_stats', 'mean'),
    'moving_variance': ('batch_stats', 'var'),
    '0': ('params', 'bias'),
    '1': ('batch_stats', 'mean'),
    '2': ('batch_stats', 'var'),
}
TIMM_NAME = re.compile(
    r'(?:(repeat(?:_\d)?)\.(\d+)|(\w+))(?:\.branch(\d)(?:\.(\d))?)?\.(conv|bn|conv2d)\.(\w+)'
)
TIMM_REPEATS = {'repeat': 'block35', 'repeat_1': 'block17', 'repeat_2': 'block8'}
TIMM_HEADS = {'block8': 'block8_10', 'conv2d_7b': 'conv_7b'}


def creation_order() -> tuple[str, ...]:
    """Units without a name of their own as Keras creates and numbers them: branch by branch."""
    branches = [
        f'{name}_branch{branch}_{index}'
        for name, kind in modules()
        for branch, units in enumerate(BRANCHES[kind])
        for index in range(len(units))
    ]
    return (*STEM, *branches)


def graph_order() -> tuple[str, ...]:
    """All convolutions as Keras lists a model's layers: by their distance to the output.

    The branches of a module end together, so the longest begins first.
    """
    found = list(STEM)
    for name, kind in modules():
        lengths = [len(units) for units in BRANCHES[kind]]
        for left in range(max(lengths), 0, -1):
            ends = [(branch, length - left) for branch, length in enumerate(lengths)]
            found += [f'{name}_branch{branch}_{i}' for branch, i in ends if i >= 0]
        if name != kind:
            found.append(f'{name}_conv')
    return (*found, 'conv_7b')


CREATED = creation_order()
LISTED = {
    'conv2d': graph_order(),
    'batch_normalization': tuple(name for name in graph_order() if not name.endswith('_conv')),
}


def _keras_place(name: str) -> Place | None:
    """Where an array that `keras_file.read_keras` names belongs."""
    layer, _, leaf = name.rpartition('/')
    if layer in ('predictions', 'layers/dense'):
        leaf = KERAS_CONV.get(leaf)
        return None if leaf is None else ('params', f'classifier/{leaf}')
    if match := re.fullmatch(r'#(\d+) (conv2d|batch_normalization)(?:_\d+)?', layer):
        kind, order, index = match[2], CREATED, int(match[1])
    elif match := re.fullmatch(r'layers/(conv2d|batch_normalization)(?:_(\d+))?', layer):
        kind, order, index = match[1], LISTED[match[1]], int(match[2] or 0)
    else:
        kind = 'batch_normalization' if layer == 'conv_7b_bn' else 'conv2d'
        order, index = (layer.removesuffix('_bn'),), 0
    if index >= len(order):
        return None
    if kind == 'conv2d':
        return _conv_place(order[index], KERAS_CONV.get(leaf))
    collection, ours = KERAS_NORM.get(leaf, (None, None))
    return None if collection is None else (collection, f'{order[index]}/bn/{ours}')


def _conv_place(unit: str, leaf: str | None) -> Place | None:
    """A convolution of a unit, or the 1x1 projection of a residual block."""
    if leaf is None:
        return None
    return 'params', f'{unit}/{leaf}' if unit.endswith('_conv') else f'{unit}/conv/{leaf}'


def _timm_place(name: str) -> Place | None:
    """Where a tensor of timm's inception_resnet_v2 belongs."""
    if name.startswith('classif.'):
        leaf = name.removeprefix('classif.')
        return ('params', CLASSIFIER[leaf]) if leaf in CLASSIFIER else None
    match = TIMM_NAME.fullmatch(name)
    if match is None:
        return None
    repeat, block, unit, branch, index, layer, leaf = match.groups()
    if repeat is not None:
        unit = f'{TIMM_REPEATS.get(repeat)}_{int(block) + 1}'
    unit = TIMM_HEADS.get(unit, unit)
    if layer == 'conv2d':
        return _conv_place(f'{unit}_conv', {'weight': 'kernel'}.get(leaf, leaf))
    if branch is not None:
        # In this one branch timm counts the pooling as well.
        index = int(index or 0) - ((unit, branch) == ('mixed_5b', '3'))
        unit = f'{unit}_branch{branch}_{index}'
    if layer == 'conv':
        return _conv_place(unit, {'weight': 'kernel'}.get(leaf, leaf))
    collection, ours = NORM_LEAVES.get(leaf, (None, None))
    return None if collection is None else (collection, f'{unit}/bn/{ours}')


def _nothing(name: str) -> bool:
    return False


def _counter(name: str) -> bool:
    return name.endswith('.bn.num_batches_tracked')


INCEPTION_RULES = (
    # Keras trains this network without the factor of batch norm: it is one.
    Rule('Keras', _keras_place, _nothing, transpose=False, absent={'scale': 1.0}),
    Rule('timm', _timm_place, _counter, transpose=True),
)
