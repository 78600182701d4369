"""What `active` checks before its first round."""

from pathlib import Path

import numpy as np

from iqa_jax.data import exposure, manifest, tables
from iqa_jax.tasks import opening
from iqa_jax.training import saved_model


def check(config: dict) -> None:
    """Raises a ValueError for rounds, weights, rules or old sets that cannot be."""
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
        _check_old(config, entry['manifest'])


def _check_old(config: dict, path: str) -> None:
    """Raises a ValueError where the guard or the last evaluation would refuse an old database."""
    rated = manifest.read(path)
    tested = manifest.in_splits(rated, ('test',), path)
    manifest.in_splits(rated, ('val',), path)
    pool = manifest.read(config['manifest'])
    known = {}
    for where, columns, chosen in (
        (config['manifest'], pool, config['gmad']['splits']),
        (path, rated, ('train',)),
    ):
        trained = tables.select(columns, np.isin(columns['split'].astype(str), list(chosen)))
        said = f'in split {", ".join(chosen)} of {where}, which the rounds train on; give either '
        known[said + 'another split'] = exposure.record([trained], [], [])
    model = exposure.read(Path(config['model']) / saved_model.TRAINED_ON)
    if model is not None:
        said = f'among those that {config["model"]} was trained on; choose another config.model, '
        known[said + 'or give them another split'] = model
    for where, record in known.items():
        seen = exposure.seen(tested, record)
        if (bad := np.flatnonzero(seen > exposure.VALIDATED)).size:
            raise ValueError(
                f'{len(bad)} of {len(seen)} images in split test of {path}, '
                f'{tested["image_id"][bad[0]]} the first, cannot test: they or others of their '
                f'references are {where}.'
            )
