"""What `active` checks before its first round."""

from pathlib import Path

import numpy as np

from iqa_jax.data import exposure, manifest, tables
from iqa_jax.tasks import opening
from iqa_jax.training import saved_model


def check(config: dict, first: Path) -> None:
    """Raises a ValueError for rounds, weights, rules or old sets that cannot be.

    `first` is the folder of the model that round 1 begins with.
    """
    if config['rounds'] < 1:
        raise ValueError(f'config.rounds={config["rounds"]} trains nothing; set at least 1.')
    opening.check_keys(config['guard'], {'srcc_fall'}, 'config.guard')
    opening.check_keys(config['stop'], {'pairs_right', 'ratings'}, 'config.stop')
    if not config['guard']['srcc_fall'] >= 0:
        raise ValueError(
            f'config.guard.srcc_fall={config["guard"]["srcc_fall"]} must be at least 0, the '
            'largest fall of SRCC that is let through; 2 lets every fall through.'
        )
    if (against := set(config['fresh_against'])) not in ({'after'}, {'after', 'before'}):
        raise ValueError(
            f"config.fresh_against={sorted(against)}; use ('after',) or ('after', 'before')."
        )
    if not config['gmad_weight'] > 0:
        raise ValueError(f'config.gmad_weight={config["gmad_weight"]} must be above 0.')
    if not config['replay']:
        raise ValueError('config.replay names no database; what is not replayed is forgotten.')
    if config['study'].get('people', {}).get('command'):
        raise ValueError(
            'config.study.people.command is for one study; run it by --config configs/study.py '
            '--workdir on the folder of the round.'
        )
    for name, entry in config['replay'].items():
        opening.check_keys(entry, {'manifest', 'weight'}, f'config.replay.{name}')
        if name.startswith('round_'):
            raise ValueError(f'config.replay.{name} has the name of a round; choose another.')
    if f'{config["name"]}_before' in config['rivals']:
        raise ValueError(
            f'config.rivals.{config["name"]}_before has the name that the first model takes in '
            'the last search; choose another.'
        )
    _check_ids(config)
    known = _known(config, first)
    for entry in config['replay'].values():
        _check_old(entry['manifest'], known)


def _check_ids(config: dict) -> None:
    """Raises a ValueError where two different images have one id."""
    paths = [config['manifest'], *(entry['manifest'] for entry in config['replay'].values())]
    read = [manifest.read(path) for path in paths]
    for i, old in enumerate(read):
        for path, other in zip(paths[:i], read[:i], strict=True):
            ids = np.array(sorted({*old['image_id']} & {*other['image_id']}), object)
            recipe = ['type', 'level', 'seed', 'ref_sha256']
            fields = ['file', 'sha256', *recipe]
            one, two = (tables.join(ids, rows, fields, path) for rows in (old, other))
            digests = [np.array(exposure.file_digests(rows), object) for rows in (one, two)]
            signed = (digests[0] != '') & (digests[1] != '')
            other_recipe = np.any([one[key] != two[key] for key in recipe], axis=0)
            strange = np.where(signed, digests[0] != digests[1], other_recipe)
            if strange.any():
                raise ValueError(
                    f'{paths[i]} and {path} call two different images {ids[strange][0]}; give '
                    'them ids of their own.'
                )


def _known(config: dict, first: Path) -> dict[str, tables.Table]:
    """What the rounds train on and what the model was trained on, by the sentence about it."""
    known = {}
    trained = [(config['manifest'], config['gmad']['splits'])]
    trained += [(entry['manifest'], ('train',)) for entry in config['replay'].values()]
    for path, chosen in trained:
        columns = manifest.read(path)
        rows = tables.select(columns, np.isin(columns['split'].astype(str), list(chosen)))
        said = f'in split {", ".join(chosen)} of {path}, which the rounds train on; give either '
        known[said + 'another split'] = exposure.record([rows], [], [])
    model = exposure.read(first / saved_model.TRAINED_ON)
    if model is not None:
        said = f'among those that {first} was trained on; choose another config.model, '
        known[said + 'or give them another split'] = model
    return known


def _check_old(path: str, known: dict[str, tables.Table]) -> None:
    """Raises a ValueError where the guard or the last evaluation would use known images."""
    rated = manifest.read(path)
    for split, what in (('test', 'test'), ('val', 'guard')):
        rows = manifest.in_splits(rated, (split,), path)
        for where, record in known.items():
            seen = exposure.seen(rows, record)
            if (bad := np.flatnonzero(seen > exposure.VALIDATED)).size:
                raise ValueError(
                    f'{len(bad)} of {len(seen)} images in split {split} of {path}, '
                    f'{rows["image_id"][bad[0]]} the first, cannot {what}: they or others of '
                    f'their references are {where}.'
                )
