"""Backbones, heads and converters for pretrained files; every model is chosen by name here.

A new backbone is one new file and one row of BACKBONES.
"""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp

from iqa_jax.models import efficientnet_lite, heads, inception_resnet_v2, lfc, resnet, vgg
from iqa_jax.models.preprocess import PREPROCESS
from iqa_jax.models.pretrained import load_pretrained, merge, start_from
from iqa_jax.models.quality import QualityModel, minimum_side
from iqa_jax.models.weight_files import is_weight_file

__all__ = [
    'BACKBONES',
    'HEADS',
    'QualityModel',
    'build',
    'is_weight_file',
    'load_pretrained',
    'merge',
    'minimum_side',
    'start_from',
]

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
HEADS = {
    'gap': heads.Regressor,
    'mlsp': heads.Regressor,
    'multitask': heads.MultitaskRegressor,
}


def build(
    backbone: str,
    *,
    head: str = 'mlsp',
    outputs: int,
    hidden: Sequence[int] = (),
    dropout: float | Sequence[float] = 0.0,
    uncertainty: bool | str = False,
    normalise: str | None = None,
    momentum: float = 0.9,
    frozen_statistics: bool = False,
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
    preprocess: str | None = None,
) -> QualityModel:
    """A model `(images [N,H,W,3] float32 in [0,1], train) -> (prediction [N,outputs], out)`.

    head: 'gap' (average of the last map), 'mlsp' (mean and standard deviation of every tap as
    well) or 'multitask' (gap with a separate sub-head per output). hidden, dropout: widths and
    rates of the hidden layers, one rate for all or one each. normalise: 'none', 'l2', 'layer' or
    'batch' on the pooled vector; None means batch for mlsp, none otherwise. uncertainty: False,
    True or 'exp', a standard deviation per output (see `QualityModel`). momentum: of the
    running statistics. frozen_statistics: the backbone keeps its running statistics while
    training. axis_name: devices that share batch statistics. dtype: of the backbone's arithmetic;
    parameters, statistics and outputs stay float32. preprocess: what the backbone does to its
    input first, a name of PREPROCESS; None is what the weights of its authors expect. ValueError on
    an unknown name.
    """
    if backbone not in BACKBONES:
        raise ValueError(f'config.model.backbone is {backbone!r}; there are {sorted(BACKBONES)}')
    if head not in HEADS:
        raise ValueError(f'config.model.head is {head!r}; there are {sorted(HEADS)}')
    if uncertainty not in (False, True, 'exp'):
        raise ValueError(f"config.model.uncertainty is {uncertainty!r}; use False, True or 'exp'")
    rates = (dropout,) * len(hidden) if isinstance(dropout, int | float) else tuple(dropout)
    if len(rates) != len(hidden):
        raise ValueError(
            f'config.model.dropout has {len(rates)} rates for {len(hidden)} hidden layers'
        )
    body = BACKBONES[backbone](momentum=momentum, axis_name=axis_name, dtype=dtype)
    if preprocess is not None:
        if preprocess not in PREPROCESS or not hasattr(body, 'preprocess'):
            known = sorted(PREPROCESS) if hasattr(body, 'preprocess') else 'None only'
            raise ValueError(
                f'config.model.preprocess is {preprocess!r}; for {backbone} there is {known}'
            )
        body = body.clone(preprocess=preprocess)
    kind = normalise or ('batch' if head == 'mlsp' else 'none')
    return QualityModel(
        backbone=body,
        regressor=HEADS[head](outputs * (2 if uncertainty == 'exp' else 1), tuple(hidden), rates),
        normalise=heads.Normalise(kind, momentum, axis_name),
        taps=body.taps() if head == 'mlsp' else (),
        uncertainty=uncertainty,
        frozen_statistics=frozen_statistics,
    )
