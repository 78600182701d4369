"""Training a head on stored features: the backbone is set aside and put back into the result."""

import jax
import numpy as np

from iqa_jax.data import features
from iqa_jax.data.pipeline import Source
from iqa_jax.models import HEADS
from iqa_jax.training import extraction, steps

# What must be the same when features are made and when a head is trained on them, and its name.
COMPARED = {name: name for name in ('backbone', 'pooling', 'preprocess')} | {'extractor': 'weights'}


def check(config: dict) -> None:
    """Raises a ValueError where only some databases have features, or images are needed too."""
    without = [name for name, entry in config['databases'].items() if not entry.get('features')]
    if len(without) == len(config['databases']):
        return
    if without:
        raise ValueError(
            f'config.databases.{without[0]} has no features, others have; extract them for all.'
        )
    if config['ohem'] is not None and config['ohem']['layers'] != 'all':
        raise ValueError(
            "config.ohem prunes convolutions, and features have none; set config.ohem.layers='all'."
        )
    if config['ohem'] is not None and config['ohem']['crops'] == 'different':
        raise ValueError(
            "config.ohem.crops='different' with features, which are of whole images; set it 'same'."
        )
    if config['model'].get('dtype', 'float32') != 'float32' or config['resize']:
        raise ValueError(
            'config.model.dtype or config.resize with features, which are in float32 and of images '
            'as they are; leave both out.'
        )
    if not config['init_from']:
        raise ValueError(
            "config.init_from='' with features; name the model that extracted them, or 'imagenet'."
        )


def set_aside(variables: dict, sources: list[Source], config: dict) -> tuple[dict, dict]:
    """(what is trained, the backbone): neither the optimiser nor a step sees the second.

    Raises:
      ValueError: the model has not the backbone, weights, pooling and preprocess of the features.
    """
    paths = sorted({source.features for source in sources} - {''})
    if not paths:
        return variables, {}
    spec = config['model']
    ours = {
        'backbone': spec['backbone'],
        'pooling': spec.get('pooling') or HEADS[spec.get('head', 'mlsp')].pooling,
        'preprocess': extraction.reads(spec['backbone'], spec.get('preprocess')),
        'extractor': extraction.digest(variables),
    }
    for path in paths:
        theirs = features.describe(path)
        for key, what in COMPARED.items():
            if theirs[key] != ours[key]:
                raise ValueError(
                    f'{path} was extracted with the {what} {theirs[key]}, the model has '
                    f'{ours[key]}; set config.model and config.init_from as they were then, or '
                    'extract the features again.'
                )
    aside = extraction.backbone_of(variables)
    rest = {
        name: {key: value for key, value in tree.items() if key not in aside.get(name, {})}
        for name, tree in variables.items()
    }
    return rest, aside


def put_back(state: steps.TrainState, aside: dict) -> steps.TrainState:
    """The state of the whole model; of the backbone the twin prunes nothing."""
    params, statistics = aside.get('params', {}), aside.get('batch_stats', {})
    whole = {'params': state.params | params, 'batch_stats': state.batch_stats | statistics}
    if state.mask:
        whole['mask'] = state.mask | jax.tree.map(lambda _: np.array(True), params)
    if state.twin_batch_stats:
        whole['twin_batch_stats'] = state.twin_batch_stats | statistics
    return state.replace(**whole)
