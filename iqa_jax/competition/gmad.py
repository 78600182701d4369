"""The public face of the competition: score tables of any origin in, a table of pairs out."""

import dataclasses
import json
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from iqa_jax.competition import scales
from iqa_jax.competition.contests import Match
from iqa_jax.competition.rules import Levels, Rules
from iqa_jax.competition.search import SCORES, run
from iqa_jax.data import directions, score_stream
from iqa_jax.runtime.paths import Path, as_path

_ID = 'image_id'


def gmad(
    scores: Any,
    defenders: Sequence,
    attackers: Sequence,
    *,
    levels: Levels = 6,
    tolerance: float | None = None,
    top_k: int = 1,
    engine: str = 'binned',
    content: str | Sequence | None = None,
    ids: str | Sequence | None = None,
    higher_is_better: Mapping[str, bool] | None = None,
    mappings: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    exclude: Collection = (),
    merge: bool = True,
    **rules,
):
    """The image pairs on which each attacker most contradicts each defender (gMAD).

    In every level of every defender, every attacker gets the `top_k` pairs that it finds farthest
    apart while the defender holds them equal. A model does not meet itself.

    Args:
      scores: path of a Parquet or CSV file, which is streamed; an Arrow or pandas table; name ->
        array [N]; or an array [N, models] whose columns are named by number. Float32 counts.
      defenders, attackers: names of columns; the same names in both for both roles.
      levels, tolerance, top_k, engine: see `Rules`; `rules` are its other fields, of which here
        `each_image_once` is False and `max_per_ref` 2 where `content` is given.
      content, ids: reference contents and image ids, columns (ids: 'image_id') or arrays [N];
        without ids the rows of a table in memory are numbered.
      higher_is_better: by column; else of the table's metadata, else inferred with a warning.
      mappings: column -> monotone function of its raw scores, higher better, such as the logistic
        fitted to opinions. Levels and tolerance are then on that scale, otherwise on the column's
        own.
      exclude: ids of images that are not shown, such as rated ones.
      merge: one row for a pair that several contests choose, or one for each of them.

    Returns:
      pyarrow.Table, or pandas.DataFrame for one, a row per pair: defender, attacker, level (0
      lowest), rank (0 first), image_id_best, image_id_worst, with `content` ref_id_best and
      ref_id_worst, defender_best, defender_worst, attacker_best, attacker_worst (as given, or
      mapped), gap (the attacker's, above 0) and defender_gap, reasons (JSON of all contests that
      chose the pair; in one with a negative gap the attacker prefers `worst`). Ties go by image id.

    Raises:
      ValueError: one sentence that names what to mend; NaN and infinite scores with their counts.
    """
    table = _opened(scores, ids, content)
    settings = _rules(rules, levels, tolerance, top_k, engine)
    found, signs = _found(
        table, defenders, attackers, higher_is_better or {}, mappings, settings, exclude
    )
    result = _arrow(found, signs, merge, table.content_column is not None)
    return result.to_pandas() if _is_frame(scores) else result


def _found(
    table, defenders, attackers, higher_is_better, mappings, rules, exclude
) -> tuple[dict, dict[str, float]]:
    """The pairs of `run`, and the factor that gives each column's scores their own sign back."""
    defenders, attackers = (_names(given) for given in (defenders, attackers))
    names = list(dict.fromkeys([*defenders, *attackers]))
    _check_names(defenders, attackers, table.columns())
    declared = {str(name): better for name, better in higher_is_better.items()}
    if unknown := [name for name in declared if name not in table.columns()]:
        raise ValueError(f'higher_is_better names {unknown[0]}, which is no column of scores.')
    higher = directions.resolve(table, names, declared)
    scale = 'own' if mappings is None else {str(n): function for n, function in mappings.items()}
    sources = dict(zip(names, names, strict=True))
    columns = scales.columns(table, sources, higher, scale, rules.chunk_size)
    number = {name: i for i, name in enumerate(names)}
    matches = [
        Match('defender', (name, number[name]), {n: number[n] for n in attackers if n != name})
        for name in defenders
        if set(attackers) != {name}
    ]
    signs = {name: -1.0 if mappings is None and not higher[name] else 1.0 for name in names}
    rules = rules.turned({name: sign for name, sign in signs.items() if name in defenders})
    found = run(table, columns, matches, rules, exclude)
    for name, images in found.level_images.items():
        if rules.given(name) and not all(images):
            warnings.warn(f'Level {images.index(0)} of {name} holds no image.', stacklevel=4)
    return found.pairs, signs


def _is_frame(scores: Any) -> bool:
    return type(scores).__module__.split('.')[0] == 'pandas'


def _names(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else [*dict.fromkeys(map(str, given))]


def _check_names(defenders: list[str], attackers: list[str], known: list[str]) -> None:
    wrong = [name for name in [*defenders, *attackers] if name not in known]
    if wrong or not defenders or not attackers:
        raise ValueError(
            f'defenders and attackers must name columns of numbers, {", ".join(known)}, '
            + (f'not {wrong[0]}.' if wrong else 'and neither may be empty.')
        )
    if defenders == attackers and len(defenders) == 1:
        raise ValueError('A model does not compete with itself; name another attacker.')


def _rules(rules: dict, levels, tolerance, top_k, engine) -> Rules:
    known = {field.name for field in dataclasses.fields(Rules)}
    if unknown := sorted(set(rules) - known):
        raise ValueError(
            f'gmad has no argument {unknown[0]}; there are {", ".join(sorted(known))}.'
        )
    given = {'each_image_once': False} | rules
    return Rules(levels=levels, tolerance=tolerance, top_k=top_k, engine=engine, **given)


def _opened(scores: Any, ids: Any, content: Any) -> score_stream.Table:
    if isinstance(scores, str | Path):
        for name, value in (('ids', ids), ('content', content)):
            if value is not None and not isinstance(value, str):
                raise ValueError(f'{name} must name a column of {scores}.')
        return score_stream.Table(as_path(scores), ids or _ID, content)
    if hasattr(scores, '__array__') and hasattr(scores, 'ndim') and not _is_frame(scores):
        scores = np.asarray(scores)
        if scores.ndim != 2:
            raise ValueError(f'An array of scores must be [images, models], not {scores.shape}.')
        columns = {str(i): column for i, column in enumerate(scores.T)}
    elif isinstance(scores, Mapping):
        columns = {str(name): np.asarray(column) for name, column in scores.items()}
    else:
        table = _table(scores)
        columns = {name: _numpy(table[name]) for name in table.column_names}
    ids = _taken('ids', columns, _ID if ids is None and _ID in columns else ids)
    content = _taken('content', columns, content)
    numbers = {n: x for n, x in columns.items() if np.asarray(x).dtype.kind in 'fiu'}
    if not numbers:
        raise ValueError('The table holds no column of scores.')
    return score_stream.of_columns(numbers, ids, content)


def _table(scores: Any) -> pa.Table:
    try:
        if _is_frame(scores):
            return pa.Table.from_pandas(scores, preserve_index=False)
        return scores if isinstance(scores, pa.Table) else pa.table(scores)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(
            'scores must be the path of a Parquet or CSV file, an Arrow or pandas table, name -> '
            f'array [N], or an array [N, models]: {error}.'
        ) from error


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_dictionary(column.type):
        # Arrow gives the last category where a value is missing (pyarrow 26).
        column = column.cast(column.type.value_type)
    return column.to_numpy()


def _taken(what: str, columns: dict, value: Any) -> Any:
    """The column that `value` names, taken out of `columns`, or `value` itself."""
    if not isinstance(value, str):
        return value
    if value not in columns:
        raise ValueError(f'{what}={value!r} is not a column; there are {", ".join(columns)}.')
    return columns.pop(value)


def _arrow(found: dict, signs: dict[str, float], merge: bool, with_content: bool) -> pa.Table:
    """The pairs as an Arrow table, scores in their own direction."""
    rows = []
    for i, text in enumerate(found['reasons']):
        reasons = [_own_direction(reason, signs) for reason in json.loads(text)]
        sides = {
            f'{name}_{side}': found[f'{name}_{side}'][i]
            for name in ('image_id', *(['ref_id'] if with_content else []))
            for side in ('best', 'worst')
        }
        for reason in reasons[:1] if merge else reasons:
            turned = reason['gap'] < 0
            row = reason if not turned else _turned(reason)
            names = sides if not turned else _turned(sides)
            listed = reasons if merge else [row]
            rows.append(row | names | {'reasons': json.dumps(listed)})
    keys = ['defender', 'attacker', 'level', 'rank', 'image_id_best', 'image_id_worst']
    keys += ['ref_id_best', 'ref_id_worst'] if with_content else []
    kinds = dict.fromkeys(SCORES, pa.float32()) | dict.fromkeys(('level', 'rank'), pa.int32())
    columns = {key: [row[key] for row in rows] for key in [*keys, *SCORES, 'reasons']}
    ids = pa.array([*columns['image_id_best'], *columns['image_id_worst']]).type
    if not rows:
        ids = pa.string()
    kinds |= {'image_id_best': ids, 'image_id_worst': ids}
    return pa.table({k: pa.array(v, kinds.get(k, pa.string())) for k, v in columns.items()})


def _own_direction(reason: dict, signs: dict[str, float]) -> dict:
    """A reason without its role, whose scores have the sign of the table they came from."""
    changed = {
        f'{role}_{side}': signs[reason[role]] * reason[f'{role}_{side}']
        for role in ('defender', 'attacker')
        for side in ('best', 'worst')
    }
    return {key: value for key, value in reason.items() if key != 'role'} | changed


def _turned(row: dict) -> dict:
    """The row with best and worst exchanged."""
    swap = {'best': 'worst', 'worst': 'best'}

    def other(key: str) -> str:
        stem, _, side = key.rpartition('_')
        return f'{stem}_{swap[side]}' if side in swap else key

    return {key: -row[key] if key in ('gap', 'defender_gap') else row[other(key)] for key in row}
