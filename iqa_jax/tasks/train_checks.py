"""Checks of a training config: one sentence for the first thing that cannot work."""

import contextlib
import inspect
from collections.abc import Iterable, Mapping

import jax

from iqa_jax import models
from iqa_jax.data import resizing
from iqa_jax.runtime import memory, parallel
from iqa_jax.runtime.paths import Path
from iqa_jax.tasks import opening, train_features
from iqa_jax.training import losses, pruning, schedules

OHEM_CHOICES = {
    'mask': pruning.MASKS,
    'refresh': pruning.REFRESHES,
    'batch_stats': ('shared', 'dual'),
    'crops': ('same', 'different'),
    'layers': pruning.LAYERS,
    'stop_gradient': (False, True),
}
OHEM_KEYS = {'ratio', 'twin_weight', 'consistency_weight', *OHEM_CHOICES}
DATABASE_KEYS = {'manifest', 'scores', 'weight', 'features'}
DIRECTIONS = 'higher_is_better'  # of score columns whose table does not say it; may be left out
KEEPS = ('last', 'best')
MODEL_KEYS = set(inspect.signature(models.build).parameters) - {'outputs', 'axis_name'}
COUNTS = (
    'eval_images', 'eval_batch_size', 'checkpoint_steps', 'log_steps', 'input_threads',
    'prefetch_steps',
)  # fmt: skip
POSITIVE = ('learning_rate', 'decay_factor', 'clip_norm')
NOT_NEGATIVE = ('warmup_steps', 'weight_decay', 'cache_mb')
OHEM_WEIGHTS = ('twin_weight', 'consistency_weight')


def check(config: dict) -> None:
    """Raises a ValueError that names the first key whose value cannot be trained with."""
    parallel.check_batch_size(config['batch_size'])
    for name in COUNTS:
        if config[name] < 1:
            raise ValueError(f'config.{name}={config[name]}; use 1 or more.')
    if config['eval_steps'] < 0:
        raise ValueError(
            f'config.eval_steps={config["eval_steps"]}; use 0 (once per epoch) or more.'
        )
    _check_values(config)
    if not config['databases']:
        raise ValueError('config.databases is empty; name at least one.')
    for name, database in config['databases'].items():
        # Features are the exception, most databases have none, as are directions.
        needed = {key: value for key, value in database.items() if key != DIRECTIONS}
        opening.check_keys({'features': '', **needed}, DATABASE_KEYS, f'config.databases.{name}')
        given = set(database.get(DIRECTIONS) or ())
        for column in sorted(given - set(config['targets'])):
            raise ValueError(
                f'config.databases.{name}.{DIRECTIONS}.{column} is not one of config.targets; '
                f'they are {", ".join(config["targets"])}.'
            )
    opening.check_known(config['model'], MODEL_KEYS, 'config.model')
    losses.get(config['loss'])
    opening.check_keys(
        config['loss_options'], set(losses.get(config['loss']).options), 'config.loss_options'
    )
    if config['loss'] == 'fidelity':
        if len(config['targets']) != 1:
            raise ValueError(
                f'config.loss=fidelity ranks by one target, not {len(config["targets"])}; '
                'shorten config.targets.'
            )
        _check_choice(config['loss_options'], 'labels', losses.LABELS, 'config.loss_options')
    losses.get(config['loss']).check(len(config['targets']), config['loss_options'])
    _check_uncertainty(config)
    _check_choice(config, 'keep', KEEPS, 'config')
    _check_choice(config, 'resize', tuple(resizing.RULES), 'config')
    _check_pairs(config)
    _check_first_weights(config)
    if config['ohem'] is not None:
        opening.check_keys(config['ohem'], OHEM_KEYS, 'config.ohem')
        for name, allowed in OHEM_CHOICES.items():
            _check_choice(config['ohem'], name, allowed, 'config.ohem')
        _check_least(config['ohem'], OHEM_WEIGHTS, 'config.ohem')
    train_features.check(config)


def _check_first_weights(config: dict) -> None:
    """Whether what `init_from` says can be had for this backbone."""
    if config['init_optimizer'] and (
        config['init_from'] in ('', 'imagenet') or models.is_weight_file(config['init_from'])
    ):
        raise ValueError(
            'config.init_optimizer=True needs the folder of a model that was trained with '
            'config.save_optimizer=True as config.init_from.'
        )
    backbone = config['model'].get('backbone')
    if backbone not in models.BACKBONES:
        raise ValueError(
            f'config.model.backbone is {backbone!r}; there are {sorted(models.BACKBONES)}'
        )
    if config['init_from'] == 'imagenet' and backbone not in models.PACKAGED:
        raise ValueError(
            f"config.init_from='imagenet': no package has weights of {backbone}; give a weight "
            f'file, or take one of {", ".join(models.PACKAGED)}.'
        )


def check_total(config: dict, total: int) -> None:
    """Raises a ValueError where there is no step to train, or none after the warm-up."""
    if total < 1:
        raise ValueError('config.total_* comes to no step at all; raise it.')
    if config['warmup_steps'] >= total:
        raise ValueError(
            f'config.warmup_steps={config["warmup_steps"]} of {total} steps in all; lower it.'
        )


def _check_values(config: dict) -> None:
    """Numbers that training cannot do anything sensible with."""
    for name in POSITIVE:
        if not config[name] > 0:
            raise ValueError(f'config.{name}={config[name]}; use a number above 0.')
    _check_least(config, NOT_NEGATIVE, 'config')
    _check_least(config['rate_scales'], config['rate_scales'], 'config.rate_scales')
    _check_choice(config, 'schedule', schedules.SCHEDULES, 'config')
    if len(config['crop']) != 2 or min(config['crop']) < 1:
        raise ValueError(f'config.crop={tuple(config["crop"])}; give height and width in pixels.')
    for name, database in config['databases'].items():
        if not database.get('weight', 1) > 0:
            raise ValueError(
                f'config.databases.{name}.weight={database["weight"]}; use a number above 0, or '
                'leave the database out.'
            )


def _check_least(values: Mapping, names: Iterable[str], where: str) -> None:
    for name in names:
        if not values[name] >= 0:
            raise ValueError(f'{where}.{name}={values[name]}; use 0 or more.')


def _check_uncertainty(config: dict) -> None:
    """A standard deviation that nothing teaches must not be reported as one."""
    taught = config['loss'] == 'annotators' or (
        config['loss'] == 'fidelity' and config['loss_options']['hinge_weight'] > 0
    )
    if config['model'].get('uncertainty') and not taught:
        raise ValueError(
            f'config.model.uncertainty is not taught by config.loss={config["loss"]} as it is; set '
            'it False, or take fidelity with config.loss_options.hinge_weight above 0.'
        )


def _check_pairs(config: dict) -> None:
    counts = config['pairs_per_database']
    if counts is None:
        return
    if not losses.get(config['loss']).pair_lists:
        raise ValueError(
            f'config.pairs_per_database lists pairs, which config.loss={config["loss"]} does not '
            'read; set it to None.'
        )
    opening.check_keys(counts, set(config['databases']), 'config.pairs_per_database')
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f'config.pairs_per_database.{name}={count}; use 1 or more.')


def _check_choice(config: Mapping, name: str, allowed: Iterable, where: str) -> None:
    if config[name] not in allowed:
        raise ValueError(
            f'{where}.{name}={config[name]!r}; use one of {", ".join(map(_shown, allowed))}.'
        )


def _shown(value: object) -> str:
    return str(value) if str(value) else "''"


def check_prefixes(config: dict, params: dict) -> None:
    """Raises a ValueError for a prefix of `freeze` or `rate_scales` that fits no parameter."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = ['/'.join(str(k.key) for k in path) for path, _ in leaves]
    for name in ('freeze', 'rate_scales'):
        for prefix in config[name]:
            if not any(path.startswith(prefix) for path in paths):
                parts = ', '.join(sorted({path.partition('/')[0] for path in paths}))
                raise ValueError(
                    f'config.{name} names {prefix!r}, but no parameter begins with it; '
                    f'they begin with {parts}.'
                )


def fits_memory(config: Mapping, checkpoints: Path) -> contextlib.AbstractContextManager:
    """Turns running out of memory inside it into a ValueError that says how to go on."""
    return memory.explained(
        'Memory does not suffice for a training step; lower '
        f'config.batch_size={config["batch_size"]}, which trains anew, or run the same command '
        f'where there is more: it goes on from the last checkpoint in {checkpoints}.'
    )
