"""What training starts from: a checked config, the databases, the first weights, validation."""

import functools
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from iqa_jax import models
from iqa_jax.data import exposure, manifest, score_columns, tables
from iqa_jax.data.pipeline import Source
from iqa_jax.data.store import ImageStore
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import parallel
from iqa_jax.tasks import opening
from iqa_jax.training import annotator_estimates, losses, pruning, saved_model, steps

OHEM_KEYS = {'ratio', 'refresh', 'twin_weight', 'consistency_weight', 'batch_stats', 'crops'}
OHEM_CHOICES = {
    'refresh': pruning.REFRESHES,
    'batch_stats': ('shared', 'separate'),
    'crops': ('same', 'different'),
}
DATABASE_KEYS = {'manifest', 'scores', 'weight'}
DIRECTIONS = 'higher_is_better'  # of score columns whose table does not say it; may be left out
MODEL_KEYS = set(inspect.signature(models.build).parameters) - {'outputs', 'axis_name', 'dtype'}
POSITIVE = (
    'eval_steps', 'eval_images', 'eval_batch_size', 'checkpoint_steps', 'log_steps',
    'input_threads', 'prefetch_steps',
)  # fmt: skip


def check(config: dict) -> None:
    """Raises a ValueError that names the first key whose value cannot be trained with."""
    parallel.check_batch_size(config['batch_size'])
    for name in POSITIVE:
        if config[name] < 1:
            raise ValueError(f'config.{name}={config[name]}; use 1 or more.')
    if not config['databases']:
        raise ValueError('config.databases is empty; name at least one.')
    for name, database in config['databases'].items():
        needed = {key: value for key, value in database.items() if key != DIRECTIONS}
        opening.check_keys(needed, DATABASE_KEYS, f'config.databases.{name}')
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
    if config['ohem'] is not None:
        opening.check_keys(config['ohem'], OHEM_KEYS, 'config.ohem')
        for name, allowed in OHEM_CHOICES.items():
            _check_choice(config['ohem'], name, allowed, 'config.ohem')


def _check_choice(config: Mapping, name: str, allowed: Iterable[str], where: str) -> None:
    if config[name] not in allowed:
        raise ValueError(f'{where}.{name}={config[name]!r}; use one of {", ".join(allowed)}.')


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


def load_databases(config: dict) -> tuple[list[Source], list[Source], bool]:
    """Training sources, validation sources (of databases with a val split), SIMULATED or not."""
    parts: dict[str, list[Source]] = {'train': [], 'val': []}
    simulated = False
    for database in config['databases'].values():
        columns = manifest.read(database['manifest'])
        if not database['scores']:
            meta = tables.read(database['manifest'])[1]
            simulated |= bool(meta.get('simulated', False))
        for split, sources in parts.items():
            if split == 'val' and split not in columns['split']:
                continue
            rows = manifest.in_splits(columns, (split,), database['manifest'])
            targets, spread = _targets(rows, database, config)
            sources.append(Source(rows, targets, spread, database['weight']))
    return parts['train'], parts['val'], simulated


def _targets(rows: tables.Table, database: dict, config: dict) -> tuple[np.ndarray, np.ndarray]:
    """Targets [N, K], higher is better, and the spread of the opinions [N].

    The spread is NaN where the loss does not read it, a target NaN where an annotator has no score.
    """
    where = database['scores'] or database['manifest']
    if database['scores']:
        scores, meta = tables.read(where)
        found = tables.join(rows['image_id'], scores, list(config['targets']), where)
        given = database.get(DIRECTIONS, {})
        targets = np.stack(
            [
                found[name]
                if score_columns.direction(where, name, meta, given.get(name))
                else -found[name]
                for name in config['targets']
            ],
            axis=1,
        )
        spread = np.full(len(targets), np.nan, np.float32)
    else:
        if tuple(config['targets']) != ('mos',):
            raise ValueError(
                f'config.targets={tuple(config["targets"])} needs a score table; give '
                "config.databases.*.scores, or use ('mos',)."
            )
        targets, spread = rows['mos'][:, None], rows['mos_std']
    if config['loss'] == 'annotators':
        silent = np.flatnonzero(np.isnan(targets).all(axis=1))
        if len(silent):
            raise ValueError(
                f'{where}: no annotator of config.targets has a score of {len(silent)} of '
                f'{len(targets)} images, {rows["image_id"][silent[0]]} the first; leave them out '
                f'of {database["manifest"]}.'
            )
        return targets, spread
    bad = int(np.sum(~np.isfinite(targets).all(axis=1)))
    if bad:
        raise ValueError(
            f'{where}: {bad} of {len(targets)} images have no finite '
            f'{", ".join(config["targets"])}; leave them out of the table.'
        )
    soft = config['loss'] == 'fidelity' and config['loss_options']['labels'] == 'soft'
    if soft and not np.isfinite(spread).all():
        raise ValueError(
            f'{where} has no mos_std for some images, which soft labels need; '
            "set config.loss_options.labels='binary'."
        )
    return targets, spread


def output_names(config: dict) -> tuple[str, ...]:
    """Names of the model's outputs: the targets, or 'quality' where the loss makes one of many."""
    targets = tuple(config['targets'])
    count = losses.get(config['loss']).outputs(len(targets))
    return targets if count == len(targets) else ('quality',)


def loss_state(config: dict):
    """What the loss carries from step to step, as it is before the first one."""
    return losses.get(config['loss']).state(len(config['targets']), config['loss_options'])


def initial_variables(model, config: dict) -> tuple[dict, dict]:
    """Random weights, then `init_from`: '' | 'imagenet' | a folder of a saved model.

    Returns:
      (variables, {'origin': '' or 'imagenet', where they come from in the end, 'simulated': whether
      SIMULATED opinions shaped them}).
    """
    crop = np.zeros((1, *config['crop'], 3), np.float32)
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(config['seed']), crop)
    own = losses.get(config['loss']).parameters(len(config['targets']), config['loss_options'])
    if own:
        variables['params'] |= {'loss': own}
    source = config['init_from']
    if source == 'imagenet':
        pretrained = models.load_pretrained(config['model']['backbone'])
        return models.merge(variables, pretrained)[0], {'origin': source, 'simulated': False}
    if not source:
        return variables, {'origin': source, 'simulated': False}
    saved = saved_model.load(source)
    if saved.spec['backbone'] != config['model']['backbone']:
        raise ValueError(
            f'config.init_from={source} holds {saved.spec["backbone"]}, '
            f'config.model.backbone is {config["model"]["backbone"]}; make them equal.'
        )
    taken = saved_model.warm_start(variables, saved.variables, config['init_output_scale'])
    return taken, {key: saved.meta[key] for key in ('origin', 'simulated')}


def trained_on(
    sources: list[Source], validation: list[Source], config: dict
) -> tables.Table | None:
    """What the model has seen (see `exposure.record`), that of `config.init_from` included.

    None where it is not known of `config.init_from`.
    """
    earlier = []
    if config['init_from'] not in ('', 'imagenet'):
        known = exposure.read(Path(config['init_from']) / saved_model.TRAINED_ON)
        if known is None:
            return None
        earlier.append(known)
    train, chosen = ([source.columns for source in part] for part in (sources, validation))
    return exposure.record(train, chosen, earlier)


class Validation:
    """SRCC of mean prediction and mean target on whole images, mean over databases.

    Of each database an even subset of `config.eval_images` in manifest order is scored, so that
    every photograph and type stays represented. Annotators need not share a unit, so the mean rank
    by them is their mean.
    """

    def __init__(self, sources: list[Source], config: dict):
        self._sources = [(source, ImageStore(source.columns)) for source in sources]
        self._images, self._batch = config['eval_images'], config['eval_batch_size']
        spec = json.dumps(config['model'], sort_keys=True)
        self._score = saved_model.score_step(spec, len(output_names(config)), False)
        self._mean = annotator_estimates.mean_rank if config['loss'] == 'annotators' else _mean

    def __bool__(self) -> bool:
        return bool(self._sources)

    def __call__(self, state: steps.TrainState) -> float:
        values = [
            statistics.srcc(predicted, self._mean(source.targets[chosen]))
            for source, chosen, predicted in self.scored(state)
        ]
        return float(np.mean(values))

    def scored(self, state: steps.TrainState) -> Iterator[tuple[Source, np.ndarray, np.ndarray]]:
        """(source, rows of its subset, their mean predictions float32) of every database."""
        variables = parallel.place({'params': state.params, 'batch_stats': state.batch_stats})
        for source, store in self._sources:
            n = len(source.targets)
            chosen = np.unique(np.linspace(0, n - 1, min(n, self._images)).astype(int))
            predicted = np.empty(len(chosen), np.float32)
            for first in range(0, len(chosen), self._batch):
                images = store.load(chosen[first : first + self._batch])
                for rows in by_shape(images):
                    batch = {'image': np.stack([images[i] for i in rows])}
                    found = self._score(variables, batch)['prediction'].mean(axis=1)
                    predicted[first + np.array(rows)] = found
            yield source, chosen, predicted


def _mean(targets: np.ndarray) -> np.ndarray:
    return targets.mean(axis=1)


def by_shape(images: list[np.ndarray]) -> list[list[int]]:
    """Positions of images of equal shape, which one batch can hold."""
    groups: dict[tuple, list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(image.shape, []).append(i)
    return list(groups.values())
