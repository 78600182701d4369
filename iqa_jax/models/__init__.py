"""Backbones, heads and converters for pretrained files; every model is chosen by name here.

A new backbone is one new file and one row of BACKBONES.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from iqa_jax.models import efficientnet_lite, heads, inception_resnet_v2, lfc, resnet, vgg
from iqa_jax.models.preprocess import PREPROCESS
from iqa_jax.models.pretrained import PACKAGED, load_pretrained, merge, start_from
from iqa_jax.models.quality import QualityModel, exact_when_padded, minimum_side
from iqa_jax.models.weight_files import existing as existing_weight_file
from iqa_jax.models.weight_files import is_weight_file

__all__ = [
    'BACKBONES', 'HEADS', 'PACKAGED', 'QualityModel', 'build', 'exact_when_padded',
    'existing_weight_file', 'extractor', 'is_weight_file', 'load_pretrained', 'merge',
    'minimum_side', 'start_from',
]  # fmt: skip

BACKBONES = {
    'efficientnet_lite0': efficientnet_lite.EfficientNetLite,
    'efficientnet_lite1': partial(
        efficientnet_lite.EfficientNetLite, stages=efficientnet_lite.LITE1_STAGES
    ),
    'efficientnet_lite2': partial(
        efficientnet_lite.EfficientNetLite, stages=efficientnet_lite.LITE2_STAGES
    ),
    'inception_resnet_v2': inception_resnet_v2.InceptionResNetV2,
    'lfc': lfc.LFC,
    'resnet18': partial(resnet.ResNet, (2, 2, 2, 2)),
    'resnet34': partial(resnet.ResNet, (3, 4, 6, 3)),
    'resnet50': partial(resnet.ResNet, (3, 4, 6, 3), resnet.Bottleneck),
    'tiny': partial(
        efficientnet_lite.EfficientNetLite,
        stem=8,
        stages=efficientnet_lite.TINY_STAGES,
        features=32,
    ),
    'vgg16': vgg.VGG,
    'vgg16_bn': partial(vgg.VGG, batch_norm=True),
}


class Head(NamedTuple):
    """A regression head and the pooling that it has unless the config names one."""

    module: Callable[..., nn.Module]
    pooling: str


HEADS = {
    'gap': Head(heads.Regressor, 'gap'),
    'mlsp': Head(heads.Regressor, 'mean_std'),
    'multitask': Head(heads.MultitaskRegressor, 'gap'),
}
HIDDEN_NORMS = ('none', 'batch')
DTYPES = ('float32', 'bfloat16')


def build(
    backbone: str,
    *,
    head: str = 'mlsp',
    pooling: str | None = None,
    outputs: int,
    cells: Sequence[int] = (),
    hidden: Sequence[int] = (),
    hidden_norm: str = 'none',
    dropout: float | Sequence[float] = 0.0,
    uncertainty: bool | str = False,
    normalise: str | None = None,
    momentum: float = 0.9,
    frozen_statistics: bool = False,
    axis_name: str | None = None,
    dtype: str = 'float32',
    preprocess: str | None = None,
    members: int = 1,
) -> QualityModel:
    """A model `(images [N,H,W,3] float32 in [0,1], train) -> (prediction [N,outputs], out)`.

    head: 'gap' (average of the last map), 'mlsp' (mean and standard deviation of every tap as
    well) or 'multitask' (gap with a separate sub-head per output). pooling: another row of
    heads.POOLINGS than that of the head's name. cells: widths of the layers that turn the cells of
    grid5 into one vector. hidden, dropout: widths and rates of the hidden layers, one rate for all
    or one each. hidden_norm: 'none', or 'batch' after their activations, not for multitask.
    normalise: 'none', 'l2', 'layer', 'batch' or 'power' on the pooled vector; None means none for
    gap, batch otherwise. uncertainty: False, True or 'exp', a standard deviation per output (see
    `QualityModel`). momentum: of the running statistics. frozen_statistics: the backbone keeps its
    running statistics while training. axis_name: devices that share batch statistics. dtype: of the
    backbone's arithmetic, 'float32' or 'bfloat16'; the rest stays float32. preprocess: what the
    backbone does to its input first, a name of PREPROCESS; None is what its weights expect.
    members: heads that learn apart, each from its own loss; the prediction is their mean.
    ValueError on an unknown name.
    """
    rates = (dropout,) * len(hidden) if isinstance(dropout, int | float) else tuple(dropout)
    _check(backbone, head, pooling, cells, hidden, hidden_norm, rates, uncertainty, members)
    if dtype not in DTYPES:
        raise ValueError(f'config.model.dtype is {dtype!r}; use {" or ".join(DTYPES)}')
    body = _body(
        backbone, preprocess, momentum=momentum, axis_name=axis_name, dtype=jnp.dtype(dtype)
    )
    module, pooling = HEADS[head].module, pooling or HEADS[head].pooling
    if members > 1:
        module = heads.MultitaskRegressor  # a sub-head for every output of every member
    kind = normalise or ('none' if pooling == 'gap' else 'batch')
    norm = {'norm': 'batch', 'momentum': momentum, 'axis_name': axis_name}
    width = outputs * members * (2 if uncertainty == 'exp' else 1)
    return QualityModel(
        backbone=body,
        regressor=module(width, tuple(hidden), rates, **(norm if hidden_norm == 'batch' else {})),
        normalise=heads.Normalise(kind, momentum, axis_name),
        pooling=pooling,
        taps=body.taps() if heads.POOLINGS[pooling].tap else (),
        cells=heads.Cells(tuple(cells)) if cells else None,
        uncertainty=uncertainty,
        frozen_statistics=frozen_statistics,
        members=members,
    )


def _body(backbone: str, preprocess: str | None, **options) -> nn.Module:
    """The backbone; ValueError on a preprocessing that it does not know."""
    body = BACKBONES[backbone](**options)
    if preprocess is None:
        return body
    if preprocess not in PREPROCESS or not hasattr(body, 'preprocess'):
        known = sorted(PREPROCESS) if hasattr(body, 'preprocess') else 'None only'
        raise ValueError(
            f'config.model.preprocess is {preprocess!r}; for {backbone} there is {known}'
        )
    return body.clone(preprocess=preprocess)


def extractor(backbone: str, pooling: str, preprocess: str | None = None) -> QualityModel:
    """A model without a head, for its method `extract`; ValueError on an unknown name."""
    _check(backbone, 'mlsp', pooling, (1,) if pooling == 'grid5' else (), (), 'none', ())
    body = _body(backbone, preprocess)
    taps = body.taps() if heads.POOLINGS[pooling].tap else ()
    return QualityModel(body, regressor=None, normalise=None, pooling=pooling, taps=taps)


def _check(
    backbone: str,
    head: str,
    pooling: str | None,
    cells: Sequence[int],
    hidden: Sequence[int],
    hidden_norm: str,
    rates: Sequence[float],
    uncertainty: bool | str = False,
    members: int = 1,
) -> None:
    """Raises a ValueError that names the first argument of `build` that does not fit."""
    if backbone not in BACKBONES:
        raise ValueError(f'config.model.backbone is {backbone!r}; there are {sorted(BACKBONES)}')
    if head not in HEADS:
        raise ValueError(f'config.model.head is {head!r}; there are {sorted(HEADS)}')
    if uncertainty not in (False, True, 'exp'):
        raise ValueError(f"config.model.uncertainty is {uncertainty!r}; use False, True or 'exp'")
    if pooling is not None and pooling not in heads.POOLINGS:
        raise ValueError(f'config.model.pooling is {pooling!r}; there are {sorted(heads.POOLINGS)}')
    if bool(cells) != (pooling == 'grid5'):
        raise ValueError(
            f'config.model.cells={tuple(cells)} with pooling {pooling!r}; the pooling grid5 needs '
            'the widths of its cell layers, every other takes ().'
        )
    if hidden_norm not in HIDDEN_NORMS:
        raise ValueError(f'config.model.hidden_norm is {hidden_norm!r}; use none or batch')
    if hidden_norm == 'batch' and (head == 'multitask' or members > 1):
        raise ValueError(
            "config.model.hidden_norm='batch' is not for multitask or several members; use none"
        )
    if members < 1 or (members > 1 and uncertainty == 'exp'):
        raise ValueError(
            f'config.model.members={members} with uncertainty {uncertainty!r}; use 1 or more, and '
            "1 with 'exp'"
        )
    if len(rates) != len(hidden):
        raise ValueError(
            f'config.model.dropout has {len(rates)} rates for {len(hidden)} hidden layers'
        )
