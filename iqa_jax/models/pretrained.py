"""Pretrained backbones: find the weight file, convert its tensors, put them into a model."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax.models import weight_files
from iqa_jax.models.efficientnet_lite import (
    LITE0_STAGES,
    LITE1_STAGES,
    LITE2_STAGES,
    EfficientNetLite,
    Stage,
)
from iqa_jax.models.inception_names import INCEPTION_RULES
from iqa_jax.models.inception_resnet_v2 import InceptionResNetV2
from iqa_jax.models.lfc import LFC
from iqa_jax.models.quality import minimum_side
from iqa_jax.models.resnet import Bottleneck, ResNet
from iqa_jax.models.vgg import VGG
from iqa_jax.models.weight_names import (
    CLASSIFIER,
    LFC_RULES,
    RESNET_RULES,
    Place,
    Rule,
    lite_rules,
    vgg_rules,
)
from iqa_jax.runtime.paths import Path, as_path


class Source(NamedTuple):
    """A backbone that weight files exist for, the families of files, where one is installed."""

    backbone: nn.Module
    rules: tuple[Rule, ...]
    find: Callable[[], Path] | None


def _lite(name: str, stages: tuple[Stage, ...]) -> Source:
    rules = lite_rules([stage.repeats for stage in stages])
    return Source(
        EfficientNetLite(stages=stages), rules, functools.partial(weight_files.package_file, name)
    )


def _vgg(batch_norm: bool) -> Source:
    backbone = VGG(batch_norm=batch_norm)
    return Source(backbone, vgg_rules([len(s) for s in backbone.stages], batch_norm), None)


SOURCES = {
    'efficientnet_lite0': _lite('efficientnet_lite0', LITE0_STAGES),
    'efficientnet_lite1': _lite('efficientnet_lite1', LITE1_STAGES),
    'efficientnet_lite2': _lite('efficientnet_lite2', LITE2_STAGES),
    'inception_resnet_v2': Source(InceptionResNetV2(), INCEPTION_RULES, None),
    'lfc': Source(LFC(), LFC_RULES, None),
    'resnet18': Source(ResNet((2, 2, 2, 2)), RESNET_RULES, None),
    'resnet34': Source(ResNet((3, 4, 6, 3)), RESNET_RULES, None),
    'resnet50': Source(ResNet((3, 4, 6, 3), Bottleneck), RESNET_RULES, None),
    'vgg16': _vgg(batch_norm=False),
    'vgg16_bn': _vgg(batch_norm=True),
}
PACKAGED = tuple(name for name, source in SOURCES.items() if source.find)  # 'imagenet' finds them


def _expected_shapes(backbone: nn.Module) -> dict[Place, tuple[int, ...]]:
    """Shape of every variable of a backbone by (collection, path), without computing anything."""
    side = minimum_side(backbone)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = functools.partial(backbone.init, train=False)
    tree = jax.eval_shape(init, jax.random.key(0), images)
    return {
        (collection, path): leaf.shape
        for collection, leaves in tree.items()
        for path, leaf in flax.traverse_util.flatten_dict(leaves, sep='/').items()
    }


def choose_rule(names: list[str], rules: tuple[Rule, ...]) -> Rule:
    """The rule that has a place for most of the names, or lets them out; the first of equals."""
    return max(rules, key=lambda rule: sum(bool(rule.place(n)) or rule.ignored(n) for n in names))


def _to_flax(tensor: np.ndarray, transpose: bool) -> np.ndarray:
    """Float32; with `transpose` kernels OIHW to HWIO, matrices turned, vectors as they are."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(tensor.ndim) if transpose else None
    return np.ascontiguousarray(tensor if axes is None else tensor.transpose(axes), np.float32)


def convert(state: Mapping[str, np.ndarray], backbone: nn.Module, rule: Rule) -> dict[str, Any]:
    """Tensors by a file's names -> {'params', 'batch_stats'} of the backbone and its classifier.

    Raises ValueError on a tensor with no place that the rule does not let out, a missing tensor, a
    wrong shape or a value that is not finite; it names the tensor and the rule's origin.
    """
    missing = _expected_shapes(backbone)
    tree: dict[str, dict[str, np.ndarray]] = {'params': {}, 'batch_stats': {}}
    for name, tensor in state.items():
        if rule.ignored(name):
            continue
        what = f'tensor {name!r} of the weight file, read as one of {rule.origin},'
        target = rule.place(name)
        if target is None or not (target in missing or target[1] in CLASSIFIER.values()):
            raise ValueError(f'{what} has no place in this backbone')
        # A kernel is what is turned; the matrix of GDN is the same in torch and here.
        value = _to_flax(tensor, rule.transpose and target[1].endswith('kernel'))
        shape = missing.pop(target, value.shape)
        if value.shape != shape:
            raise ValueError(
                f'{what} becomes {target[1]} of shape {value.shape}, but the backbone has {shape}'
            )
        if not np.isfinite(value).all():
            raise ValueError(f'{what} holds values that are not finite')
        tree[target[0]][target[1]] = value
    for collection, path in [p for p in missing if p[1].rpartition('/')[2] in rule.absent]:
        value = rule.absent[path.rpartition('/')[2]]
        tree[collection][path] = np.full(missing.pop((collection, path)), value, np.float32)
    if missing:
        raise ValueError(
            f'the weight file, read as one of {rule.origin}, has no tensor for '
            f'{"/".join(min(missing))} and {len(missing) - 1} more'
        )
    return {key: flax.traverse_util.unflatten_dict(leaves, sep='/') for key, leaves in tree.items()}


def load_pretrained(
    name: str, path: str | Path | None = None, preprocess: str | None = None
) -> dict[str, Any]:
    """Variables {'params', 'batch_stats'} of a pretrained backbone, NumPy float32.

    `path` is a weight file of any family in `SOURCES[name].rules`; without it, the installed
    package is read where one exists. `preprocess` is that of the model that takes the weights (see
    `models.build`). A file's classifier comes as params/classifier if it is one layer. ValueError
    on an unknown name, a missing, damaged or foreign file, and on weights for another preprocess.
    """
    if name not in SOURCES:
        raise ValueError(f'no pretrained weights for {name!r}; there are {sorted(SOURCES)}')
    source = SOURCES[name]
    if path is None and source.find is None:
        raise ValueError(
            f'no package ships weights for {name}; give the path of a weight file '
            f'({", ".join(weight_files.READERS)})'
        )
    file = source.find() if path is None else as_path(path)
    state = weight_files.read(file)
    rule = choose_rule(list(state), source.rules)
    try:
        variables = convert(state, source.backbone, rule)
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    own = getattr(source.backbone, 'preprocess', None)
    expected = rule.preprocess or own
    if (preprocess or own) != expected:
        raise ValueError(
            f'{file}: weights of {rule.origin} expect another input than this model gives them; '
            f'set preprocess={expected!r} beside the backbone'
        )
    return variables


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


def start_from(
    variables: Mapping[str, Any], spec: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """A model's variables with pretrained ones in the backbone; all of them must be there.

    `spec` holds the arguments of `models.build`; `source` is 'imagenet', for the installed package,
    or a weight file. Raises ValueError as `load_pretrained` and `merge`.
    """
    path = None if source == 'imagenet' else source
    pretrained = load_pretrained(spec['backbone'], path, spec.get('preprocess'))
    return merge(variables, pretrained)[0]
