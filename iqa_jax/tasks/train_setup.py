"""What training starts from: a checked config, the databases, the first weights, validation."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from iqa_jax import models
from iqa_jax.data import exposure, manifest, score_columns, tables
from iqa_jax.data.pipeline import Source, feature_store
from iqa_jax.data.store import ImageStore
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import memory, parallel
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import train_checks
from iqa_jax.training import (
    annotator_estimates,
    first_outputs,
    losses,
    saved_model,
    schedules,
    steps,
)

AT_ONCE = memory.AtOnce('validation images', 'config.eval_batch_size')


class DivergedError(ValueError):
    """Training left the finite numbers; a search over learning rates may go on with another."""


def files(config: dict) -> list[str | Path]:
    """Every file that training reads, images aside."""
    found: list[str | Path] = []
    for database in config['databases'].values():
        found += [database[k] for k in ('manifest', 'scores', 'features') if database.get(k)]
    if models.is_weight_file(config['init_from']):
        found.append(models.existing_weight_file(config['init_from']))
    elif config['init_from'] not in ('', 'imagenet'):
        found += saved_model.files(config['init_from'])
        found += [saved_model.optimizer_file(config['init_from'])] * config['init_optimizer']
    return found


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
            if split == 'val' and not database['scores']:
                manifest.check_one_scale(rows, database['manifest'], 'give it no split val')
            targets, spread = _targets(rows, database, config)
            found = database.get('features', '')
            component = None if database['scores'] else rows['component']
            sources.append(Source(rows, targets, spread, database['weight'], found, component))
    return parts['train'], parts['val'], simulated


def _targets(rows: tables.Table, database: dict, config: dict) -> tuple[np.ndarray, np.ndarray]:
    """Targets [N, K], higher is better, and the spread of the opinions [N].

    The spread is NaN where the loss does not read it, a target NaN where an annotator has no score.
    """
    where = database['scores'] or database['manifest']
    if database['scores']:
        scores, meta = tables.read(where)
        found = tables.join(rows['image_id'], scores, list(config['targets']), where)
        found = {name: tables.numbers(column, name, where) for name, column in found.items()}
        given = database.get(train_checks.DIRECTIONS, {})
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
        if config['loss'] == 'mse':
            manifest.check_one_scale(rows, where, "train on it by config.loss='fidelity'")
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
    if config['loss'] == 'fidelity' and not np.isfinite(spread).all():
        if config['loss_options']['labels'] == 'soft':
            raise ValueError(
                f'{where} has no mos_std for some images, which soft labels need; '
                "set config.loss_options.labels='binary'."
            )
        if config['model'].get('uncertainty'):
            raise ValueError(
                f'{where} has no mos_std for some images, which the uncertainty head learns from; '
                'set config.model.uncertainty=False.'
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


def initializer(model, config: dict) -> Callable[[jax.Array], dict]:
    """A jitted function of a key: random variables of the model, with the loss's own."""

    def init(key: jax.Array) -> dict:
        variables = model.init(key, jnp.zeros((1, *config['crop'], 3)), train=False)
        own = losses.get(config['loss']).parameters(len(config['targets']), config['loss_options'])
        return variables | {'params': variables['params'] | ({'loss': own} if own else {})}

    return parallel.jit_once(init)


def initial_variables(
    init: Callable[[jax.Array], dict], config: dict, sources: Sequence[Source] = ()
) -> tuple[dict, dict]:
    """Random weights, then `init_from`: '' | 'imagenet' | a weight file | a saved model's folder.

    With `config.loss='mse'` an output that stays fresh starts around the targets of the sources.

    Args:
      init: of `initializer`.
      config: of the training.
      sources: what is trained on.

    Returns:
      (variables, {'origin': '', 'imagenet' or a file's name, where they come from in the end,
      'simulated': whether SIMULATED opinions shaped them}).
    """
    source = config['init_from']
    saved = None
    if source not in ('', 'imagenet') and not models.is_weight_file(source):
        saved = _saved_start(source, config['model'])  # before `init` has compiled for seconds
    variables = init(jax.random.key(config['seed']))
    if config['loss'] == 'mse' and sources:
        targets = np.concatenate([known.targets for known in sources])
        variables = first_outputs.at_targets(variables, targets)
    if saved is not None:
        taken = saved_model.warm_start(variables, saved.variables, config['init_output_scale'])
        return taken, {key: saved.meta[key] for key in ('origin', 'simulated')}
    if not source:
        return variables, {'origin': source, 'simulated': False}
    started = models.start_from(variables, config['model'], source)
    return started, {'origin': as_path(source).name, 'simulated': False}


def _saved_start(source: str, spec: dict) -> saved_model.SavedModel:
    """The model of a folder; a ValueError where one of this spec cannot go on from it."""
    saved = saved_model.load(source)
    for key in ('backbone', 'preprocess'):
        theirs, ours = saved.spec.get(key), spec.get(key)
        if theirs != ours:
            raise ValueError(
                f'config.init_from={source} holds a model with {key} {theirs}, '
                f'config.model.{key} is {ours}; make them equal.'
            )
    ours, theirs = (found.get('uncertainty', False) for found in (spec, saved.spec))
    # With 'exp' half of the outputs are variances, which must not become predictions.
    if 'exp' in (ours, theirs) and ours != theirs:
        raise ValueError(
            f'config.init_from={source} holds a model with uncertainty {theirs!r}, '
            f'config.model.uncertainty is {ours!r}; make them equal.'
        )
    return saved


def trained_on(
    sources: list[Source], validation: list[Source], config: dict
) -> tables.Table | None:
    """What the model has seen (see `exposure.record`), that of `config.init_from` included.

    None where it is not known of `config.init_from`.
    """
    earlier = []
    if config['init_from'] not in ('', 'imagenet') and not models.is_weight_file(
        config['init_from']
    ):
        known = exposure.read(as_path(config['init_from']) / saved_model.TRAINED_ON)
        if known is None:
            return None
        earlier.append(known)
    train, chosen = ([source.columns for source in part] for part in (sources, validation))
    return exposure.record(train, chosen, earlier)


def initial_optimizer(opt_state, config: dict):
    """The optimiser state, continued from that of `init_from` with `init_optimizer`."""
    if not config['init_optimizer']:
        return opt_state
    return schedules.continue_adam(opt_state, saved_model.load_optimizer(config['init_from']))


class Validation:
    """SRCC of mean prediction and mean target on whole images or features, mean over databases.

    Of each database an even subset of `config.eval_images` in manifest order is scored, so that
    every photograph and type stays represented. Annotators need not share a unit, so the mean rank
    by them is their mean.
    """

    def __init__(self, sources: list[Source], config: dict):
        self._sources = [
            (source, feature_store([source]) or ImageStore(source.columns, resize=config['resize']))
            for source in sources
        ]
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
                loaded = store.load(chosen[first : first + self._batch])
                name = 'features' if source.features else 'image'
                for rows in by_shape(loaded):
                    images = [loaded[i] for i in rows]
                    predicted[first + np.array(rows)] = self._predicted(variables, name, images)
            if not np.isfinite(predicted).all():
                raise DivergedError('A validation score is not finite; lower config.learning_rate.')
            yield source, chosen, predicted

    def _predicted(self, variables: dict, name: str, images: list[np.ndarray]) -> np.ndarray:
        """Mean predictions of images, or features, of one shape."""

        def compute(first: int, last: int) -> np.ndarray:
            batch = {name: np.stack(images[first:last])}
            return self._score(variables, batch)['prediction'].mean(axis=1)

        n, size, found = len(images), (*images[0].shape, 1)[:2], []
        for _, _, part in AT_ONCE.parts(compute, n, n, size):
            if isinstance(part, memory.DoesNotFit):
                raise memory.DoesNotFit(f'Of the validation images {part}; leave it out.', 0)
            found.append(part)
        return np.concatenate(found)


def _mean(targets: np.ndarray) -> np.ndarray:
    return targets.mean(axis=1)


def by_shape(images: Iterable[np.ndarray]) -> list[list[int]]:
    """Positions of images, or features, of equal shape, which one batch can hold."""
    groups: dict[tuple, list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(image.shape, []).append(i)
    return list(groups.values())
