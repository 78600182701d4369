"""Views made of pictures: distortion gallery, gMAD pairs, hard examples."""

import math
from collections.abc import Sequence

import numpy as np

from iqa_jax.evaluation import figures_pictures
from iqa_jax.evaluation.page_format import csv_uri, digits_for

GALLERY_SIDE = 108
PAIR_SIZE = (204, 272)
HARD_SIDE = 176
# What is drawn is bounded so that the page stays small; the CSV files always hold everything.
MAX_PAIRS = 30
MAX_HARD = 24


def _picture(image: np.ndarray, height: int, width: int) -> dict:
    """Returns a centre crop as a data URI with its native width and height."""
    crop = figures_pictures.centre_crop(np.asarray(image), height, width)
    uri = figures_pictures.jpeg_uri(crop)
    return {'uri': uri, 'height': crop.shape[0], 'width': crop.shape[1]}


def gallery(data: dict | None) -> dict | None:
    """Returns the strips of levels and the pristine crop, or None without any rows."""
    if not data or not data.get('rows'):
        return None
    side = GALLERY_SIDE
    rows = [
        {
            'number': row['number'],
            'name': row['name'],
            'note': row.get('note', ''),
            'pictures': [_picture(image, side, side) for image in row['images']],
        }
        for row in data['rows']
    ]
    reference = data.get('reference')
    return {
        'rows': rows,
        'side': side,
        'reference': None if reference is None else _picture(reference, side, side),
    }


def _first_of_each(pairs: Sequence[dict], limit: int) -> list[dict]:
    """Returns at most `limit` pairs in order, taking turns between the contests of all rounds."""
    turns: dict[tuple, int] = {}
    rank = []
    for i, pair in enumerate(pairs):
        key = _contest(pair)
        turns[key] = turns.get(key, 0) + 1
        rank.append((turns[key], i))
    return [pairs[i] for i in sorted(i for _, i in sorted(rank)[:limit])]


def _contest(pair: dict) -> tuple[str, str, str]:
    return pair.get('round', ''), pair['defender'], pair['attacker']


def gmad(pairs: Sequence[dict], simulated: bool) -> dict | None:
    """Returns at most MAX_PAIRS pairs with pictures, grouped by round, defender and attacker."""
    if not pairs:
        return None
    fields = ('image_id', 'defender_score', 'attacker_score', 'mos', 'mos_std', 'type', 'severity')
    about = ('round', 'defender', 'attacker', 'level')
    columns: dict = {k: [pair.get(k, '') for pair in pairs] for k in about}
    for side in ('best', 'worst'):
        columns |= {f'{side}_{f}': [pair[side].get(f, '') for pair in pairs] for f in fields}
    scores: dict[str, list[float]] = {}
    for pair in pairs:
        for role in ('defender', 'attacker'):
            values = [pair[side][f'{role}_score'] for side in ('best', 'worst')]
            scores.setdefault(pair[role], []).extend(values)
    digits = {name: digits_for(values) for name, values in scores.items()}
    groups: dict[tuple, dict] = {}
    for pair in _first_of_each(pairs, MAX_PAIRS):
        key = _contest(pair)
        group = groups.setdefault(
            key,
            {
                'round': key[0],
                'defender': {'name': key[1], 'digits': digits[key[1]]},
                'attacker': {'name': key[2], 'digits': digits[key[2]]},
                'simulated': pair.get('simulated', simulated),
                'pairs': [],
            },
        )
        best, worst = ({'mos': math.nan} | pair[side] for side in ('best', 'worst'))
        group['pairs'].append(
            {
                'level': pair['level'],
                'gaps': [best[k] - worst[k] for k in ('defender_score', 'attacker_score', 'mos')],
                'sides': [
                    side | {'picture': _picture(side['image'], *PAIR_SIZE), 'role': role}
                    for side, role in ((best, 'best'), (worst, 'worst'))
                ],
            }
        )
    shown = min(len(pairs), MAX_PAIRS)
    return {
        'groups': list(groups.values()),
        'shown': shown,
        'total': len(pairs),
        'csv': csv_uri(columns),
    }


def hard_examples(rows: Sequence[dict]) -> dict | None:
    """Returns the images with the largest full/pruned disagreement first, at most MAX_HARD."""
    if not rows:
        return None
    worst = sorted(rows, key=lambda row: -np.nan_to_num(row['disagreement'], nan=-np.inf))
    columns = {k: [row[k] for row in worst] for k in ('image_id', 'disagreement')}
    columns |= {k: [row.get(k, '') for row in worst] for k in ('type', 'severity')}
    shown = [
        {k: row[k] for k in row if k != 'image'}
        | {'picture': _picture(row['image'], HARD_SIDE, HARD_SIDE)}
        for row in worst[:MAX_HARD]
    ]
    return {
        'rows': shown,
        'total': len(rows),
        'digits': digits_for(columns['disagreement']),
        'csv': csv_uri(columns),
    }
