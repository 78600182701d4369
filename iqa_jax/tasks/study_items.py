"""What a study asks about: images or pairs to rate, anchors, practice and questions with an answer.

An entry is {'kind', 'images': [(label, row)], 'low', 'high'}; `tables` maps a label, '' for
config.manifest, to manifest columns.
"""

import numpy as np

from iqa_jax.data import kadis, manifest, tables

# Blur, JPEG and noise at level 5 look bad to everybody; a pristine photograph does not.
_BAD_TYPES, _BAD_LEVEL = (1, 10, 11), 5
_HIGH_MOS, _LOW_MOS = 80.0, 20.0  # of a rated image
_GOOD, _BAD = (40.0, 100.0), (0.0, 60.0)  # votes that pass: nobody fails for a middling opinion
_PREFERRED = (1.0, 100.0)  # preferences that pass: any for the better image
_MOST_GOLD = 40  # different questions with a known answer

Place = tuple[str, int]  # label and row
Tables = dict[str, tables.Table]


def chosen(columns: tables.Table, config: dict) -> tables.Table:
    """The rows to rate: both images of every pair, or a seeded draw from each split."""
    ids = columns['image_id']
    if config['pairs']:
        pairs = tables.read(config['pairs'])[0]
        wanted = {*pairs['image_id_best'].tolist(), *pairs['image_id_worst'].tolist()}
        rows = np.array([i for i, image_id in enumerate(ids.tolist()) if image_id in wanted], int)
        chosen = tables.select(columns, rows)
        return chosen | {'split': np.full(len(rows), 'train', object)}
    rows = []
    for number, split in enumerate(kadis.SPLITS):
        inside = np.flatnonzero(columns['split'] == split)
        count = min(config['per_split'].get(split, 0), len(inside))
        draw = np.random.default_rng([config['seed'], number]).permutation(len(inside))[:count]
        rows.append(np.sort(inside[draw]))
    return tables.select(columns, np.concatenate(rows))


def collect(config: dict) -> tuple[Tables, list[dict]]:
    """(tables by label, entries to ask about), the same for the same config and files.

    Raises:
      ValueError: no pairs for a design of pairs, or too few images for practice, gold or anchors.
    """
    people, pair = config['people'], config['people']['design'] == 'pair_choice'
    found: Tables = {'': manifest.read(config['manifest'])}
    rng = np.random.default_rng([config['seed'], 7])
    if pair and not config['pairs']:
        raise ValueError("config.people.design='pair_choice' needs config.pairs of the gmad stage.")
    rated = _pairs(found[''], config) if pair else _images(found[''], config)
    entries = [_entry('rating', images) for images in rated]
    taken = {image for images in rated for image in images}
    for label, anchors in people['anchors'].items():
        if not label or set(anchors) != {'manifest', 'count'}:
            raise ValueError(f"config.people.anchors.{label} must be {{'manifest', 'count'}}.")
        found[label] = manifest.read(anchors['manifest'])
        if not pair:
            for row in _spread(found[label], anchors, label):
                entries.append(_entry('anchor', [(label, row)]))
                taken.add((label, row))
    good, bad = _obvious(found, taken)
    entries += _gold(found, good, bad, pair, rng) if people['gold_share'] else []
    taken |= {image for entry in entries for image in entry['images']}
    return found, entries + _training(found[''], taken, people['training'], pair, rng)


def contents(found: Tables, entry: dict) -> frozenset[str]:
    """References that an entry shows, so that neighbours can be told apart."""
    return frozenset(f'{label}:{found[label]["ref_id"][row]}' for label, row in entry['images'])


def _entry(kind: str, images: list[Place], low: float | None = None, high: float | None = None):
    return {'kind': kind, 'images': images, 'low': low, 'high': high}


def _images(columns: tables.Table, config: dict) -> list[list[Place]]:
    row_of = {image_id: row for row, image_id in enumerate(columns['image_id'].tolist())}
    return [[('', row_of[i])] for i in chosen(columns, config)['image_id'].tolist()]


def _pairs(columns: tables.Table, config: dict) -> list[list[Place]]:
    """Every pair of the table once, whatever contests it answers."""
    row_of = {image_id: row for row, image_id in enumerate(columns['image_id'].tolist())}
    pairs = tables.read(config['pairs'])[0]
    tables.require(pairs, ['image_id_best', 'image_id_worst'], config['pairs'])
    both = zip(pairs['image_id_best'].tolist(), pairs['image_id_worst'].tolist(), strict=True)
    seen: dict[frozenset, list[Place]] = {}
    for ends in both:
        if lacking := [name for name in ends if name not in row_of]:
            raise ValueError(f'{config["manifest"]} has no image {lacking[0]} of config.pairs.')
        seen.setdefault(frozenset(ends), [('', row_of[name]) for name in ends])
    return [images for ends, images in seen.items() if len(ends) == 2]


def _spread(columns: tables.Table, anchors: dict, label: str) -> list[int]:
    """Rows of rated images, evenly spread from the worst to the best."""
    rows = np.flatnonzero(np.isfinite(columns['mos']))
    if not 1 <= anchors['count'] <= len(rows):
        raise ValueError(
            f'config.people.anchors.{label}.count={anchors["count"]} must be in 1..{len(rows)}, '
            f'the rated images of {anchors["manifest"]}.'
        )
    order = rows[np.argsort(columns['mos'][rows], kind='stable')]
    return order[np.linspace(0, len(rows) - 1, anchors['count']).round().astype(int)].tolist()


def _obvious(found: Tables, taken: set[Place]) -> tuple[list[Place], list[Place]]:
    """Images that are not rated here and that look good, and bad, to everybody."""
    good, bad = [], []
    for label, columns in found.items():
        mos = columns['mos'] if label else np.full(len(columns['mos']), np.nan)
        fine = (columns['type'] == 0) | (mos >= _HIGH_MOS)
        poor = np.isin(columns['type'], _BAD_TYPES) & (columns['level'] == _BAD_LEVEL)
        poor |= mos <= _LOW_MOS
        for rows, places in ((fine & ~poor, good), (poor & ~fine, bad)):
            there = ((label, row) for row in np.flatnonzero(rows).tolist())
            places += [place for place in there if place not in taken]
    return good, bad


def _gold(
    found: Tables, good: list[Place], bad: list[Place], pair: bool, rng: np.random.Generator
) -> list[dict]:
    """Questions whose answer is known: obvious images, or an obvious choice of one content."""
    if not pair:
        half = _MOST_GOLD // 2
        found_gold = [_entry('gold', [p], *_GOOD) for p in _draw(good, half, rng)]
        found_gold += [_entry('gold', [p], *_BAD) for p in _draw(bad, half, rng)]
    else:
        better: dict[tuple, Place] = {}
        for label, row in good:
            better.setdefault((label, found[label]['ref_id'][row]), (label, row))
        both = [
            [better[key], (label, row)]
            for label, row in bad
            if (key := (label, found[label]['ref_id'][row])) in better
        ]
        found_gold = [
            _entry('gold', images, *_PREFERRED) for images in _draw(both, _MOST_GOLD, rng)
        ]
    if not found_gold:
        raise ValueError(
            'No image of obvious quality (pristine, or type 1, 10 or 11 at level 5, or anchors of '
            'extreme opinions) is left for gold questions; set config.people.gold_share=0.'
        )
    return found_gold


def _training(
    columns: tables.Table, taken: set[Place], count: int, pair: bool, rng: np.random.Generator
) -> list[dict]:
    """Practice on images that are not rated, from all levels of distortion."""
    free = [row for row in range(len(columns['image_id'])) if ('', row) not in taken]
    free = [free[i] for i in rng.permutation(len(free))]
    if len(free) < count * (1 + pair):
        raise ValueError(
            f'config.people.training={count} needs {count * (1 + pair)} images that are not rated; '
            f'the manifest has {len(free)} left.'
        )
    if not count:
        return []
    free.sort(key=lambda row: int(columns['level'][row]))  # stable: by lot within a level
    picks = np.linspace(0, len(free) - 1, count * (1 + pair)).round().astype(int)
    rows = [free[i] for i in picks]
    groups = zip(rows[:count], rows[count:], strict=True) if pair else ([row] for row in rows)
    found = [_entry('training', [('', row) for row in group]) for group in groups]
    return [found[i] for i in rng.permutation(len(found))]


def _draw(places: list, count: int, rng: np.random.Generator) -> list:
    return [places[i] for i in rng.permutation(len(places))[:count]]
