"""What people answered about gMAD pairs, as preferences by contest; simulated answers.

A contest is one attacker against one level of one defender. A pair of images may serve several
contests, so an answer to it is one row of the preferences for each of them.
"""

import json
from collections.abc import Mapping

import numpy as np

from iqa_jax.data import tables

NEEDED = ('rater_id', 'defender', 'attacker', 'level', 'image_id_best', 'image_id_worst')
_SEPARATOR = '\x1f'

Entries = list[dict[str, str]]  # {'file', 'reason'} of what cannot be used


def contests(pairs: tables.Table) -> tuple[tables.Table, Entries]:
    """Every contest that every pair answers, as (table, {'file', 'reason'} of unusable ones).

    `pairs` is the result of a gMAD search: defender, attacker, level, image_id_best, image_id_worst
    and reasons (a JSON list of contests with their scores); without reasons a row is one contest.
    The table has one row per pair and contest: defender, attacker, level (int32), image_id_best and
    image_id_worst as this attacker sees them, so a pair that two attackers rank in opposite ways is
    there in both directions; ids are text. Raises ValueError.
    """
    tables.require(pairs, NEEDED[1:], 'the pairs table')
    rows, left_out = {}, []
    sides = (map(str, pairs[f'image_id_{end}'].tolist()) for end in ('best', 'worst'))
    for number, ends in enumerate(zip(*sides, strict=True)):
        for reason in _reasons(pairs, number):
            try:
                names = str(reason['defender']), str(reason['attacker'])
                key = (*names, int(reason['level']), frozenset(ends))
                gap = _gap(reason)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f'Row {number} of the pairs table has a reason without a defender, attacker, '
                    f'level, attacker_best or attacker_worst that can be read: {error}.'
                ) from error
            if key[2] < 0:
                raise ValueError(f'Row {number} of the pairs table has the level {key[2]}.')
            if why := _unusable(ends, names, gap, key in rows):
                left_out.append(
                    {'file': ' | '.join(ends), 'reason': f'{" by ".join(names)}: {why}'}
                )
            else:
                rows[key] = ends if gap > 0 else ends[::-1]
    columns = [[*key[:3], *ends] for key, ends in rows.items()]
    table = {
        name: np.array([row[i] for row in columns], np.int32 if name == 'level' else object)
        for i, name in enumerate(NEEDED[1:])
    }
    return table, left_out


def _reasons(pairs: tables.Table, number: int) -> list[dict]:
    if 'reasons' not in pairs:
        return [{name: column[number] for name, column in pairs.items()}]
    try:
        return [dict(reason) for reason in json.loads(pairs['reasons'][number])]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'The reasons in row {number} of the pairs table are no JSON list of contests: {error}.'
        ) from error


def _gap(reason: dict) -> float:
    """How far the attacker puts the best above the worst image of the row; 1 where it is silent."""
    if 'attacker_best' not in reason and 'attacker_worst' not in reason:
        return 1.0
    return float(reason['attacker_best']) - float(reason['attacker_worst'])


def _unusable(ends: tuple, names: tuple, gap: float, known: bool) -> str:
    if ends[0] == ends[1]:
        return 'both images are the same'
    if names[0] == names[1]:
        return 'a model cannot attack itself'
    if not abs(gap) > 0:
        return 'the attacker does not tell the images apart'
    return 'the contest has this pair twice' if known else ''


def from_votes(
    rounds: tables.Table, votes: tables.Table
) -> tuple[tables.Table, Entries, dict[str, int]]:
    """Preferences from votes on single images: vote on the best minus that on the worst image.

    `rounds` is the table of `contests`; `votes` has rater_id, image_id, vote in 0..100 and perhaps
    simulated (bool). Only raters who voted on both images of a pair answer it, so a rater's bias
    cancels; several votes of a rater for an image count once, as their mean. Returns as
    `from_answers`; the counts also have votes, votes_elsewhere (on images of no contest) and
    votes_unpaired (of a rater who saw the partner image in no pair). Raises ValueError.
    """
    tables.require(votes, ['rater_id', 'image_id', 'vote'], 'the votes table')
    value = np.asarray(tables.numbers(votes['vote'], 'vote', 'the votes table'), np.float64)
    usable = (value >= 0) & (value <= 100)
    left_out = _bad(votes, ('image_id',), value, usable, 'a vote', '0..100')
    kept = tables.select(votes, usable)
    raters, rater = np.unique(kept['rater_id'].astype(str), return_inverse=True)
    images, image = np.unique(kept['image_id'].astype(str), return_inverse=True)
    # A cell is one rater's vote on one image; the cells of an image lie together.
    cells, cell = np.unique(image * max(len(raters), 1) + rater, return_inverse=True)
    mean = np.bincount(cell, value[usable]) / np.bincount(cell)
    made_up = np.bincount(cell, _simulated(kept)) > 0
    at_a, at_b = _shared_cells(rounds, images, *np.divmod(cells, max(len(raters), 1)))
    cell_image, cell_rater = np.divmod(cells, max(len(raters), 1))
    answers = {
        'rater_id': raters[cell_rater[at_a]].astype(object),
        'image_id_a': images[cell_image[at_a]].astype(object),
        'image_id_b': images[cell_image[at_b]].astype(object),
        'preference': mean[at_a] - mean[at_b],
        'simulated': made_up[at_a] | made_up[at_b],
    }
    found, unanswered, counts = from_answers(rounds, answers)
    asked = np.isin(images, [*rounds['image_id_best'], *rounds['image_id_worst']])[image]
    paired = np.isin(cell, np.concatenate([at_a, at_b]))
    counts |= {
        'votes': len(value),
        'votes_elsewhere': int((~asked).sum()),
        'votes_unpaired': int((asked & ~paired).sum()),
    }
    return found, left_out + unanswered, counts


def from_answers(
    rounds: tables.Table, answers: tables.Table
) -> tuple[tables.Table, Entries, dict[str, int]]:
    """Preferences from answers to pairs: (preferences, what cannot be used, counts).

    `rounds` is the table of `contests`; `answers` has rater_id, image_id_a, image_id_b, preference
    in -100..100 (positive: a is better) and perhaps simulated (bool); the sides may be swapped.
    Several answers of a rater to a pair count once, as their mean. The preferences have one row per
    rater, pair and contest: rater_id, defender, attacker, level, image_id_best, image_id_worst,
    preference (float64, positive: the attacker is right), simulated. Answers that are NaN or out of
    range and pairs without an answer are listed; the counts have answers, answers_elsewhere (to
    pairs of no contest), answers_repeated, pairs and contests. Raises ValueError.
    """
    ends = ('image_id_a', 'image_id_b')
    tables.require(answers, ['rater_id', *ends, 'preference'], 'the answers table')
    value = np.asarray(answers['preference'], np.float64)
    usable = np.abs(value) <= 100
    left_out = _bad(answers, ends, value, usable, 'a preference', '-100..100')
    keys, key_of = np.unique(
        _pair_keys(rounds['image_id_best'], rounds['image_id_worst']), return_inverse=True
    )
    place = {key: i for i, key in enumerate(keys.tolist())}
    asked = _pair_keys(answers['image_id_a'], answers['image_id_b']).tolist()
    pair = np.array([place.get(key, -1) for key in asked], int)
    known = usable & (pair >= 0)
    kept, pair = tables.select(answers, known), pair[known]
    # Up to the sign of each contest, a preference is one for the image whose id comes first.
    firsts = np.array([key.split(_SEPARATOR)[0] for key in keys.tolist()], object)
    value = value[known] * np.where(kept['image_id_a'].astype(str) == firsts[pair], 1.0, -1.0)
    raters, rater = np.unique(kept['rater_id'].astype(str), return_inverse=True)
    cells, cell = np.unique(pair * max(len(raters), 1) + rater, return_inverse=True)
    mean = np.bincount(cell, value) / np.bincount(cell)
    made_up = np.bincount(cell, _simulated(kept)) > 0
    cell_pair, cell_rater = np.divmod(cells, max(len(raters), 1))
    # Each contest takes the answers to its pair, which lie together.
    begin, end = (np.searchsorted(cell_pair, key_of, side) for side in ('left', 'right'))
    row = np.repeat(np.arange(len(key_of)), end - begin)
    at = np.concatenate([np.array([], int), *map(np.arange, begin, end)])
    sign = np.where(rounds['image_id_best'].astype(str) == firsts[key_of], 1.0, -1.0)
    found = {'rater_id': raters[cell_rater[at]].astype(object)} | tables.select(rounds, row)
    found |= {'preference': mean[at] * sign[row], 'simulated': made_up[at]}
    for i in np.setdiff1d(np.arange(len(keys)), cell_pair).tolist():
        name = keys[i].replace(_SEPARATOR, ' | ')
        left_out.append({'file': name, 'reason': 'no rater answered this pair'})
    counts = {
        'answers': len(value) + int((~known).sum()),
        'answers_elsewhere': int((usable & ~known).sum()),
        'answers_repeated': len(value) - len(cells),
        'pairs': len(keys),
        'contests': len(key_of),
    }
    return found, left_out, counts


def simulate(
    rounds: tables.Table,
    quality: Mapping[str, float],
    *,
    raters: int,
    noise_std: float,
    answers_per_pair: int | None = None,
    seed: int = 0,
) -> tables.Table:
    """SIMULATED preferences of `raters` people who see a known quality, for tests and for planning.

    `rounds` is the table of `contests`, `quality` image id -> 0..100, higher better. An answer is
    the difference of quality + N(0, noise_std) in points of 100, clipped to -100..100; every pair
    gets `answers_per_pair` of the raters, None for all. Returns preferences as `from_answers`,
    simulated = True in every row. Raises ValueError.
    """
    each = raters if answers_per_pair is None else answers_per_pair
    if not 1 <= each <= raters:
        raise ValueError(f'answers_per_pair must be in 1..raters={raters}, not {each}.')
    quality = {str(name): float(value) for name, value in quality.items()}
    keys = _pair_keys(rounds['image_id_best'], rounds['image_id_worst'])
    ends = [key.split(_SEPARATOR) for key in dict.fromkeys(keys.tolist())]
    if not ends:
        raise ValueError('There is no contest to simulate answers to.')
    if lacking := sorted({name for pair in ends for name in pair} - quality.keys()):
        raise ValueError(f'No quality of {len(lacking)} images is given, {lacking[0]} the first.')
    rng = np.random.default_rng(seed)
    truth = np.array([quality[a] - quality[b] for a, b in ends])
    panel = rng.permuted(np.tile(np.arange(raters), (len(ends), 1)), axis=1)[:, :each]
    values = truth[:, None] + noise_std * rng.standard_normal(panel.shape)
    names = np.array([f'simulated_{number:03d}' for number in range(raters)], object)
    a, b = (np.repeat(np.array(side, object), each) for side in zip(*ends, strict=True))
    answers = {'rater_id': names[panel.reshape(-1)], 'image_id_a': a, 'image_id_b': b}
    answers |= {'preference': values.reshape(-1).clip(-100, 100)}
    return from_answers(rounds, answers | {'simulated': np.ones(len(a), bool)})[0]


def _shared_cells(
    rounds: tables.Table, images: np.ndarray, cell_image: np.ndarray, cell_rater: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the first and of the second image of each pair that belong to the same rater."""
    edges = np.searchsorted(cell_image, np.arange(len(images) + 1))
    place = {name: i for i, name in enumerate(images.tolist())}
    keys = _pair_keys(rounds['image_id_best'], rounds['image_id_worst'])
    found = [np.empty((2, 0), int)]
    for key in dict.fromkeys(keys.tolist()):
        a, b = (place.get(name) for name in key.split(_SEPARATOR))
        if a is None or b is None:
            continue
        _, i, j = np.intersect1d(
            cell_rater[edges[a] : edges[a + 1]],
            cell_rater[edges[b] : edges[b + 1]],
            return_indices=True,
        )
        found.append(np.stack([edges[a] + i, edges[b] + j]))
    at_a, at_b = np.concatenate(found, axis=1)
    return at_a, at_b


def _pair_keys(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One text for each unordered pair of ids."""
    both = zip(a.tolist(), b.tolist(), strict=True)
    return np.array([_SEPARATOR.join(sorted(map(str, ends))) for ends in both], object)


def _simulated(rows: tables.Table) -> np.ndarray:
    """Whether each row was made up; a table without that column is of people."""
    return np.asarray(rows.get('simulated', np.zeros(len(rows['rater_id']))), bool)


def _bad(rows, ends, value, usable, what: str, bounds: str) -> Entries:
    return [
        {
            'file': f'{rows["rater_id"][i]} on ' + ' | '.join(str(rows[end][i]) for end in ends),
            'reason': f'{what} of {value[i]} is not in {bounds}',
        }
        for i in np.flatnonzero(~usable).tolist()
    ]
