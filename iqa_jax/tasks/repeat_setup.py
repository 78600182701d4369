"""What repeated runs start from: a checked config and the plan of all runs."""

import dataclasses
import re

import numpy as np

from iqa_jax.data import manifest, tables
from iqa_jax.tasks import opening, train_checks

SPLIT_KEYS = {'train', 'test'}
TEST_KEYS = {'manifest', 'score', 'evaluate'}
NOT_VARIED = {'seed'}  # splits and seeds are what repeats a variant
VARIED = {'features'}  # of a database: another extraction of the same images


@dataclasses.dataclass(frozen=True)
class Run:
    """One variant on one split with one seed.

    Attributes:
      variant, split: names.
      seed: of the training.
      train: config of the training, without a task's `task` and `root`.
      rates: learning rates to choose from; () is that of `train`.
      tests: name of a set -> {'manifest', and overrides as 'score' and 'evaluate'}.
    """

    variant: str
    split: str
    seed: int
    train: dict
    rates: tuple[float, ...]
    tests: dict[str, dict]

    @property
    def name(self) -> str:
        """Folder of the run below the workdir."""
        return f'{self.variant}/{self.split}/seed_{self.seed}'


def plan(config: dict) -> list[Run]:
    """All runs, the baseline's first; nothing has been read or trained.

    Raises:
      ValueError: a name or value of the config cannot be used.
    """
    _check_names(config)
    given, rates = config['train'], tuple(config['rates'])
    runs = []
    rest = sorted(set(config['variants']) - {config['baseline']})
    for variant in [config['baseline'], *rest]:
        changes = config['variants'][variant]
        if fixed := sorted(changes.keys() & (NOT_VARIED | ({'learning_rate'} if rates else set()))):
            raise ValueError(
                f'config.variants.{variant}.{fixed[0]} would make it no pair of the others; '
                'config.splits, seeds and rates say what repeats.'
            )
        opening.check_known(changes, set(given), f'config.variants.{variant}')
        extractions = changes.get('databases', {})
        known = dict.fromkeys(given['databases'], VARIED)
        opening.check_known(extractions, known, f'config.variants.{variant}.databases')
        for split, sides in sorted(config['splits'].items()):
            databases = {
                name: database | sides['train'].get(name, {}) | extractions.get(name, {})
                for name, database in given['databases'].items()
            }
            for seed in config['seeds']:
                training = given | changes | {'databases': databases, 'seed': seed}
                train_checks.check(training)
                runs.append(Run(variant, split, seed, training, rates, sides['test']))
    return runs


def _check_names(config: dict) -> None:
    """Raises a ValueError for what is missing or doubled among variants, splits, seeds, rates."""
    variants, splits = config['variants'], config['splits']
    if config['baseline'] not in variants:
        raise ValueError(f'config.baseline={config["baseline"]!r} is not one of config.variants.')
    for key, values in (('seeds', config['seeds']), ('rates', config['rates'])):
        if len(set(values)) < len(values) or (key == 'seeds' and not values):
            raise ValueError(f'config.{key}={values}; name each once.')
    if any(rate <= 0 for rate in config['rates']):
        raise ValueError(f'config.rates={config["rates"]}; learning rates are positive.')
    if not splits:
        raise ValueError('config.splits is empty; name at least one, better ten.')
    sets = next(iter(splits.values())).get('test', {})
    for split, sides in splits.items():
        where = f'config.splits.{split}'
        opening.check_keys(sides, SPLIT_KEYS, where)
        opening.check_known(sides['train'], set(config['train']['databases']), f'{where}.train')
        for name, test in sides['test'].items():
            opening.check_known(test, TEST_KEYS, f'{where}.test.{name}')
        if not sides['test'] or set(sides['test']) != set(sets):
            raise ValueError(f'{where}.test must name the same sets as every split, one at least.')
    for name in (*variants, *splits, *sets):
        if not re.fullmatch(r'[\w-]+', name):
            raise ValueError(f'{name!r} names a folder; use letters, digits, _ and -.')


def tested_per_trained(runs: list[Run]) -> dict[str, float]:
    """Contents tested for each content trained on, by set; NaN for sets of other databases.

    Mean over splits. Every manifest is read once, so that what lacks a split is said before
    anything trains.

    Raises:
      ValueError: a manifest has no image to test, or rates are to be chosen and none to validate.
    """
    known: dict[str, tables.Table] = {}

    def read(path: str) -> tables.Table:
        if path not in known:
            known[path] = manifest.read(path)
        return known[path]

    found: dict[str, list[float]] = {}
    for run in {run.split: run for run in runs}.values():
        databases = run.train['databases']
        trained = {
            name: _contents(read(database['manifest']), 'train', database['manifest'])
            for name, database in databases.items()
        }
        if run.rates and not any('val' in read(d['manifest'])['split'] for d in databases.values()):
            raise ValueError(
                f'config.rates are chosen on validation images, and split {run.split} has none; '
                'give config.split_shares of the split stage a second share, or set rates=().'
            )
        for name, test in run.tests.items():
            tested = _contents(read(test['manifest']), 'test', test['manifest'])
            ratio = tested / trained[name] if name in trained else float('nan')
            found.setdefault(name, []).append(ratio)
    return {name: float(np.mean(ratios)) for name, ratios in found.items()}


def _contents(columns: tables.Table, split: str, where: str) -> int:
    rows = manifest.in_splits(columns, (split,), where)
    names = np.where(rows['content'] == '', rows['ref_id'], rows['content'])
    return len(set(names.tolist()))
