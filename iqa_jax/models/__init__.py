"""Backbones, heads and converters for pretrained files; every model is chosen by name here.

A new backbone is one new file and one row of BACKBONES.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from iqa_jax.models import efficientnet_lite, heads, resnet
from iqa_jax.models.pretrained import load_pretrained, merge
from iqa_jax.models.quality import QualityModel

__all__ = [
    'BACKBONES', 'HEADS', 'QualityModel', 'build', 'extractor', 'load_pretrained', 'merge',
]  # fmt: skip

BACKBONES = {
    'efficientnet_lite0': efficientnet_lite.EfficientNetLite,
    'resnet18': partial(resnet.ResNet, (2, 2, 2, 2)),
    'resnet34': partial(resnet.ResNet, (3, 4, 6, 3)),
    'tiny': partial(
        efficientnet_lite.EfficientNetLite,
        stem=8,
        stages=efficientnet_lite.TINY_STAGES,
        features=32,
    ),
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
    uncertainty: bool = False,
    normalise: str | None = None,
    momentum: float = 0.9,
    frozen_statistics: bool = False,
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> QualityModel:
    """A model `(images [N,H,W,3] float32 in [0,1], train) -> (prediction [N,outputs], out)`.

    head: 'gap' (average of the last map), 'mlsp' (mean and standard deviation of every tap as
    well) or 'multitask' (gap with a separate sub-head per output). pooling: another row of
    heads.POOLINGS than that of the head's name. cells: widths of the layers that turn the cells of
    grid5 into one vector. hidden, dropout: widths and rates of the hidden layers, one rate for all
    or one each. hidden_norm: 'none', or 'batch' after their activations, not for multitask.
    normalise: 'none', 'l2', 'layer' or 'batch' on the pooled vector; None means none for gap, batch
    otherwise. momentum: of the running statistics. frozen_statistics: the backbone keeps its
    running statistics while training. axis_name: devices that share batch statistics. dtype: of
    the backbone's arithmetic; parameters, statistics and outputs stay float32. ValueError on an
    unknown name.
    """
    rates = (dropout,) * len(hidden) if isinstance(dropout, int | float) else tuple(dropout)
    _check(backbone, head, pooling, cells, hidden, hidden_norm, rates)
    body = BACKBONES[backbone](momentum=momentum, axis_name=axis_name, dtype=dtype)
    module, pooling = HEADS[head].module, pooling or HEADS[head].pooling
    kind = normalise or ('none' if pooling == 'gap' else 'batch')
    norm = {'norm': 'batch', 'momentum': momentum, 'axis_name': axis_name}
    return QualityModel(
        backbone=body,
        regressor=module(outputs, tuple(hidden), rates, **(norm if hidden_norm == 'batch' else {})),
        normalise=heads.Normalise(kind, momentum, axis_name),
        pooling=pooling,
        taps=body.taps() if heads.POOLINGS[pooling].tap else (),
        cells=heads.Cells(tuple(cells)) if cells else None,
        uncertainty=uncertainty,
        frozen_statistics=frozen_statistics,
    )


def extractor(backbone: str, pooling: str) -> QualityModel:
    """A model without a head, for its method `extract`; ValueError on an unknown name."""
    _check(backbone, 'mlsp', pooling, (1,) if pooling == 'grid5' else (), (), 'none', ())
    body = BACKBONES[backbone]()
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
) -> None:
    """Raises a ValueError that names the first argument of `build` that does not fit."""
    if backbone not in BACKBONES:
        raise ValueError(f'config.model.backbone is {backbone!r}; there are {sorted(BACKBONES)}')
    if head not in HEADS:
        raise ValueError(f'config.model.head is {head!r}; there are {sorted(HEADS)}')
    if pooling is not None and pooling not in heads.POOLINGS:
        raise ValueError(f'config.model.pooling is {pooling!r}; there are {sorted(heads.POOLINGS)}')
    if bool(cells) != (pooling == 'grid5'):
        raise ValueError(
            f'config.model.cells={tuple(cells)} with pooling {pooling!r}; the pooling grid5 needs '
            'the widths of its cell layers, every other takes ().'
        )
    if hidden_norm not in HIDDEN_NORMS:
        raise ValueError(f'config.model.hidden_norm is {hidden_norm!r}; use none or batch')
    if hidden_norm == 'batch' and head == 'multitask':
        raise ValueError("config.model.hidden_norm='batch' is not for multitask; use none")
    if len(rates) != len(hidden):
        raise ValueError(
            f'config.model.dropout has {len(rates)} rates for {len(hidden)} hidden layers'
        )
