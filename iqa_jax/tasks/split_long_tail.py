"""The long-tailed form of a split: its config, its draw and what splits.json says of it."""

import collections

import numpy as np

from iqa_jax.data import long_tail, tables
from iqa_jax.tasks import opening

KEYS = {'types', 'images'}
SUFFIX = '_long_tail'  # ends the name of the manifest whose training set is thinned


def check(config: dict) -> None:
    """Raises a ValueError that names the first value of `config.long_tail` that cannot be used."""
    for name, entry in config['long_tail'].items():
        where = f'config.long_tail.{name}'
        if name not in config['databases']:
            raise ValueError(f'{where} is not one of config.databases.')
        opening.check_keys(entry, KEYS, where)
        for key in sorted(KEYS):
            value = entry[key]
            if len(value) != 3 or any(type(n) is not int or n < 0 for n in value):
                raise ValueError(f'{where}.{key}={value}; give three numbers: head, mid, tail.')


def drawn(name: str, columns: tables.Table, index: int, config: dict) -> dict:
    """Draws the types and the images of one database and split.

    Args:
      name: of the database.
      columns: its manifest with the rows' splits; images that are not kept go from train to pool.
      index: of the split.
      config: of the stage.

    Returns:
      {'groups': type -> head, mid or tail; 'split': object [N]}.

    Raises:
      ValueError: an image has no type, or config deals more or fewer types than there are.
    """
    entry, seed, where = config['long_tail'][name], config['seed'], f'config.long_tail.{name}'
    dealt = columns['split'] != 'pool'
    unknown = np.flatnonzero(dealt & (columns['type'] < 0))
    if len(unknown):
        raise ValueError(
            f'{where}: the distortion type of {len(unknown)} images is not known, '
            f'{columns["image_id"][unknown[0]]} the first; leave {name} out of config.long_tail.'
        )
    types = set(columns['type'][dealt].tolist()) - {0}
    try:
        groups = long_tail.groups(types, entry['types'], seed, index)
    except ValueError as error:
        raise ValueError(f'{where}.types: {error}; make them as many.') from None
    kept = long_tail.kept(columns, groups, entry['images'], seed, index)
    split = np.where((columns['split'] == 'train') & ~kept, 'pool', columns['split'])
    return {'groups': groups, 'split': split}


def record(columns: tables.Table, tail: dict) -> dict:
    """What splits.json says of one database and split: types, and numbers of images."""
    split = tail['split'].tolist()
    group = [tail['groups'].get(number, '') for number in columns['type'].tolist()]
    held = collections.Counter(zip(split, group, strict=True))
    return {
        'types': {g: [t for t, of in tail['groups'].items() if of == g] for g in long_tail.GROUPS},
        'images': collections.Counter(split),
        'train': {g: held['train', g] for g in long_tail.GROUPS},
        'test': {g: held['test', g] for g in long_tail.GROUPS},
    }


def headline(split: dict) -> str:
    """How many training images a split's entry of splits.json keeps, '' without a long tail."""
    return ''.join(
        f', {tail["images"]["train"]:,} of {split["images"][name]["train"]:,} training images of '
        f'{name} in its long tail'
        for name, tail in split['long_tail'].items()
    )
