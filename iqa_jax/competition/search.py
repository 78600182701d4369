"""gMAD: the pairs of images on which an attacker most contradicts a defender.

For a defender d, an attacker a and a quality level, the pair (best, worst) maximises
a(best) - a(worst) while d holds both images within the level; whoever is right about the pair, the
other one has been shown a failure. Several pairs per contest, content caps and a tolerance extend
the rule of the Waterloo gMAD toolbox, which takes one pair per level.
"""

import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from iqa_jax.competition import levels, scales
from iqa_jax.competition.candidates import Candidates, collect, hold, listed_ids
from iqa_jax.competition.contests import Match, contests
from iqa_jax.competition.lists import Meeting
from iqa_jax.competition.reading import Column, as_it_is
from iqa_jax.competition.rules import Rules
from iqa_jax.competition.selection import Selection, Unsettled
from iqa_jax.competition.windows import Windows
from iqa_jax.data import score_stream

# Where the lists of a table on disk do not settle the choice, a table of so many scores is taken
# into memory, and the lists of a larger one grow by this factor up to that length.
_LOADED, _LONGER, _LONGEST = 100_000_000, 8, 4096
SCORES = (
    'defender_best',
    'defender_worst',
    'attacker_best',
    'attacker_worst',
    'gap',
    'defender_gap',
)


class Found(NamedTuple):
    """`pairs`, a table (see `run`), and `level_images`, by defender how many of all images each of
    its levels holds.
    """

    pairs: dict[str, np.ndarray]
    level_images: dict[str, list[int]]


def search(
    defender: np.ndarray,
    attackers: np.ndarray,
    *,
    image_ids: Sequence[str] | None = None,
    ref_ids: Sequence[str] | None = None,
    exclude: Collection | None = None,
    defender_name: str = 'defender',
    attacker_names: Sequence[str] | None = None,
    role: str = 'defender',
    **rules,
) -> dict[str, np.ndarray]:
    """gMAD pairs of one defender, scores [N], against M attackers, scores [N, M].

    Scores are float32, finite, higher better, and their scales are taken as they are. `rules` are
    the fields of `Rules`; images in `exclude` are not shown, yet count for the levels. Returns the
    pairs of `run`. Raises ValueError. Source: the rule of the Waterloo gMAD toolbox, extended.
    """
    attackers = np.asarray(attackers)
    if attackers.ndim != 2:
        raise ValueError(f'attackers must be [images, attackers], not {attackers.shape}.')
    names = list(attacker_names or [f'attacker_{i}' for i in range(attackers.shape[1])])
    if len(set(names)) != attackers.shape[1]:
        raise ValueError(f'{attackers.shape[1]} attackers need as many different names: {names}.')
    columns = {defender_name: defender} | {
        f'{name} attacks': x for name, x in zip(names, attackers.T, strict=True)
    }
    numbers = {name: i for i, name in enumerate(names, 1)}
    return run(
        score_stream.of_columns(columns, image_ids, ref_ids),
        [Column(name, as_it_is) for name in columns],
        [Match(role, (defender_name, 0), numbers)],
        Rules(**rules),
        exclude,
    ).pairs


def compete(
    table: score_stream.Table,
    higher_is_better: Mapping[str, bool],
    models: Sequence[str],
    rivals: Sequence[str],
    *,
    exclude: Collection | None = None,
    columns: Mapping[str, str] | None = None,
    roles: Sequence[str] = ('defender', 'attacker'),
    scale: str | Mapping[str, Callable[[np.ndarray], np.ndarray]] = 'percentile',
    **rules,
) -> Found:
    """gMAD pairs of each of `models` against each of `rivals`, columns of `table`, in both `roles`.

    `columns` maps a label to the name of its column where the two differ.
    `scale` says on which scale, higher better, a column competes: 'own', its values as they are,
    negated where a lower one is better; 'percentile', 0..100 between its 0.1 and 99.9 percentiles,
    since one outlying score must not squeeze all others into one level; or name -> function of
    the raw scores (fitted to mean opinion scores, monotone in its direction). On 'percentile' a
    defender is clipped to 0..100, as a fitted logistic would saturate, an attacker is not, so its
    extremes stay apart. `rules` are the fields of `Rules`; caps, single use of images and merging
    of pairs hold over the whole competition. Raises ValueError.
    """
    held, columns = set(table.columns()), columns or {}
    known = {label for label in higher_is_better if columns.get(label, label) in held}
    if not models or not rivals or not {*models, *rivals} <= known:
        raise ValueError(
            f'models and rivals must name columns of scores and higher_is_better, {sorted(known)}, '
            f'not {list(models)} and {list(rivals)}.'
        )
    if not roles or not set(roles) <= {'defender', 'attacker'}:
        raise ValueError(f"roles must be 'defender', 'attacker' or both, not {list(roles)}.")
    names = list(dict.fromkeys([*models, *rivals]))
    matches: dict[tuple[str, str], dict[str, int]] = {}
    met = set()
    for model, role, rival in itertools.product(models, roles, rivals):
        defender, attacker = (model, rival) if role == 'defender' else (rival, model)
        # A model that is also a rival would meet the same opponent twice.
        if model != rival and (defender, attacker) not in met:
            met.add((defender, attacker))
            matches.setdefault((role, defender), {})[attacker] = names.index(attacker)
    settings = Rules(**rules)
    sources = {name: columns.get(name, name) for name in names}
    competing = scales.columns(table, sources, higher_is_better, scale, settings.chunk_size)
    clipped = len(names) if scale == 'percentile' else 0
    if clipped:
        competing += [Column(c.name, scales.clipped(c.scale)) for c in competing]
    return run(
        table,
        competing,
        [
            Match(role, (name, clipped + names.index(name)), others)
            for (role, name), others in matches.items()
        ],
        settings,
        exclude,
    )


def run(
    table: score_stream.Table,
    columns: Sequence[Column],
    matches: Sequence[Match],
    rules: Rules,
    exclude: Collection | None = None,
) -> Found:
    """The pairs of a competition, one row per distinct pair.

    First every contest (match by match, level by level, attacker by attacker) gets its best pair
    that the rules leave, then every contest its second, up to top_k. A pair another contest has
    chosen is shown anyway, so it may be chosen again whatever the caps say: one row with one more
    reason.

    The table has defender, attacker, role (of the model under test), level (0 lowest), rank (0
    first), image_id_best, image_id_worst, ref_id_best, ref_id_worst, defender_best, defender_worst,
    attacker_best, attacker_worst, gap (of the attacker), defender_gap (both best - worst), all as
    of the first reason, and reasons: a JSON list of {role, defender, attacker, level, rank, scores
    and gaps}, where a negative gap says that this attacker prefers the image which the row calls
    worst. Ties go by image id. Raises ValueError.
    """
    if rules.engine == 'exact' and not table.in_memory:
        names = list(dict.fromkeys(column.name for column in columns))
        table = table.load(names)
    defenders = dict.fromkeys(match.defender for match in matches)
    by_column, stated = levels.of_defenders(table, columns, list(defenders), rules)
    windows = [by_column[match.defender[1]] for match in matches]
    meetings = [
        Meeting(match.defender[1], tuple(match.attackers.values()), of_match)
        for match, of_match in zip(matches, windows, strict=True)
    ]
    count = rules.listed(table.content_column is not None)
    while True:
        out = listed_ids(exclude, table.id_type)
        if rules.engine == 'exact':
            found = hold(table, columns, out, rules.chunk_size)
        else:
            found = collect(
                table, columns, meetings, count, exclude=out, chunk_size=rules.chunk_size
            )
        levels.check(table, columns, stated, found.extremes)
        try:
            pairs = _table(_selected(found, matches, windows, rules), found)
            return Found(pairs, _level_images(found, matches, windows))
        except Unsettled as error:
            if found.images * len(columns) <= _LOADED:
                table = table.load(list(dict.fromkeys(column.name for column in columns)))
                continue
            if count >= _LONGEST:
                raise ValueError(
                    f'Lists of {count} images per level do not settle which pairs the tolerance '
                    f'and the caps leave in {table.name}; use engine="exact", more levels, or a '
                    'wider tolerance.'
                ) from error
            count = min(_LONGER * count, _LONGEST)


def _level_images(
    found: Candidates, matches: Sequence[Match], windows: Sequence[Windows]
) -> dict[str, list[int]]:
    counts = found.level_images
    if counts is None:
        placed = [np.sort(found.scores[match.defender[1]]) for match in matches]
        counts = [
            np.searchsorted(scores, high, 'left') - np.searchsorted(scores, low, 'right')
            for scores, (low, high) in zip(placed, windows, strict=True)
        ]
    names = [match.defender[0] for match in matches]
    return {name: x.tolist() for name, x in zip(names, counts, strict=True)}


def _selected(
    found: Candidates, matches: Sequence[Match], windows: Sequence[Windows], rules: Rules
) -> Selection:
    contents = None
    if found.contents is not None:
        contents = found.contents.dictionary_encode().indices.to_numpy().astype(np.int64)
        unknown = pc.equal(found.contents, '').to_numpy(zero_copy_only=False)
        contents[unknown] = contents.max(initial=0) + 1 + np.arange(unknown.sum())
    selection = Selection(
        len(found.ids),
        contents=contents,
        max_per_content=rules.max_per_ref,
        each_image_once=rules.each_image_once,
    )
    every = [
        contest
        for number, (match, of_match) in enumerate(zip(matches, windows, strict=True))
        for contest in contests(found, number, match, of_match, rules)
    ]
    for rank in range(rules.top_k):
        for contest in every:
            selection.add_best(contest, rank)
    return selection


def _table(selection: Selection, found: Candidates) -> dict[str, np.ndarray]:
    """One row per distinct pair; names and scores as of its first reason."""
    best, worst = np.array(selection.pairs, int).reshape(-1, 2).T

    def first(keys, dtype):
        rows = [reasons[0] for reasons in selection.reasons]
        return {key: np.array([row[key] for row in rows], dtype) for key in keys}

    def named(names, images):
        if names is None:
            return np.full(len(images), '', object)
        taken = names.take(images)
        return taken.to_numpy() if names.type == 'int64' else np.array(taken.to_pylist(), object)

    return {
        **first(('defender', 'attacker', 'role'), object),
        **first(('level', 'rank'), np.int32),
        'image_id_best': named(found.ids, best),
        'image_id_worst': named(found.ids, worst),
        'ref_id_best': named(found.contents, best),
        'ref_id_worst': named(found.contents, worst),
        **first(SCORES, np.float32),
        'reasons': np.array([json.dumps(reasons) for reasons in selection.reasons], object),
    }
