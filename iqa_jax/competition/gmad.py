"""The public face of the competition: score tables of any origin in, a table of pairs out."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from iqa_jax.competition import scales
from iqa_jax.competition.rules import Levels, Rules
from iqa_jax.competition.search import SCORES, Match, run
from iqa_jax.data import directions, score_stream

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
    window: str = 'equal_width',
    half_width: float | None = None,
    objective: str = 'gap',
    max_per_content: int | None = 2,
    each_image_once: bool = False,
    exclude: Collection = (),
    merge: bool = True,
):
    """The image pairs on which each attacker most contradicts each defender (gMAD).

    In every level of every defender, every attacker gets the `top_k` pairs that it finds farthest
    apart while the defender holds them equal. Give both lists both names for both roles; a model
    does not meet itself.

    Args:
      scores: path of a Parquet or CSV file, which is streamed; an Arrow or pandas table or whatever
        exports Arrow's C stream; name -> array [N]; or one array [N, models], whose names are the
        numbers of its columns. Float32 counts; NaN and infinite scores are refused with counts.
      defenders: names of columns.
      attackers: names of columns.
      levels: their number, which divides the range of each defender ('equal_width': the Waterloo
        toolbox's rule, 6 levels of +-9 % of the range) or its images ('quantile', with `window`);
        or open intervals (low, high), or those by defender; in the units of the defender, of
        `mappings` if given, negated where a lower score is better.
      tolerance: largest gap of the defender inside a pair, in its own units; None: the level's.
      top_k: pairs per contest; the pairs of one contest share no image.
      engine: 'binned' (streams; both images inside the level) or 'exact' (in memory; with a
        tolerance the level is that of the pair's mean, so that no pair within it is missed).
      content: reference contents: a column of the table, or an array [N]. At most `max_per_content`
        images of one content are then shown.
      ids: image ids: a column (default 'image_id'), or an array [N]; arrays, and tables in memory
        without such a column, are numbered by row.
      higher_is_better: direction by column; what is missing is taken from the table's metadata, or
        inferred with a warning.
      mappings: column -> monotone function of its raw scores onto a common scale, higher better,
        such as the logistic fitted to mean opinion scores.
      window: 'equal_width' or 'quantile'.
      half_width: of a level, as a share of range or images; None: 0.54 / levels.
      objective: 'gap', or 'disagreement', the gap less the defender's absolute gap ('exact' with a
        tolerance only).
      max_per_content: images of one content among all pairs, None for no limit.
      each_image_once: no image in two different pairs.
      exclude: ids of images that are not shown, such as rated ones.
      merge: a pair that several contests choose is one row, with all its `reasons`; otherwise it is
        one row for each of them.

    Returns:
      A pyarrow.Table, or a pandas.DataFrame where one was given, with one row per pair: defender,
      attacker, level (0 lowest), rank (0 first), image_id_best, image_id_worst, with `content`
      ref_id_best and ref_id_worst, defender_best, defender_worst, attacker_best, attacker_worst (as
      given or mapped), gap and defender_gap (best - worst, turned so that the attacker's gap is
      above 0), reasons (JSON, every contest that chose the pair; a negative gap there means that it
      prefers the image the row calls worst). Ties go by image id.

    Raises:
      ValueError: with one sentence that names what to mend.
    """
    is_frame = hasattr(scores, 'to_numpy') and hasattr(scores, 'columns')
    table = _opened(scores, ids, content)
    defenders, attackers = [str(x) for x in defenders], [str(x) for x in attackers]
    names = list(dict.fromkeys([*defenders, *attackers]))
    known = table.columns()
    if not defenders or not attackers or (unknown := [n for n in names if n not in known]):
        wrong = f'not {unknown[0]}' if defenders and attackers else 'and neither may be empty'
        raise ValueError(
            f'defenders and attackers must name columns of numbers, {", ".join(known)}, {wrong}.'
        )
    rules = Rules(
        levels=levels, window=window, half_width=half_width, tolerance=tolerance, top_k=top_k,
        max_per_ref=max_per_content, each_image_once=each_image_once, engine=engine,
        objective=objective,
    )  # fmt: skip
    higher = {str(name): better for name, better in (higher_is_better or {}).items()}
    higher = directions.resolve(table, names, higher)
    scale = 'own' if mappings is None else {str(n): function for n, function in mappings.items()}
    columns = scales.columns(
        table, dict(zip(names, names, strict=True)), higher, scale, rules.chunk_size
    )
    matches = []
    for defender in dict.fromkeys(defenders):
        rivals = {n: names.index(n) for n in dict.fromkeys(attackers) if n != defender}
        if rivals:
            matches.append(Match('defender', (defender, names.index(defender)), rivals))
    if not matches:
        raise ValueError('A model does not compete with itself; name another attacker.')
    found = run(table, columns, matches, rules, exclude)
    signs = {name: -1.0 if mappings is None and not higher[name] else 1.0 for name in names}
    result = _arrow(found, signs, merge, table.content_column is not None)
    return result.to_pandas() if is_frame else result


def _opened(scores: Any, ids: Any, content: Any) -> score_stream.Table:
    if isinstance(scores, str | Path):
        for name, value in (('ids', ids), ('content', content)):
            if value is not None and not isinstance(value, str):
                raise ValueError(f'{name} must name a column of {scores}.')
        return score_stream.Table(Path(scores), ids or _ID, content)
    if isinstance(scores, np.ndarray):
        if scores.ndim != 2:
            raise ValueError(f'An array of scores must be [images, models], not {scores.shape}.')
        columns = {str(i): column for i, column in enumerate(scores.T)}
    elif isinstance(scores, Mapping):
        columns = {str(name): np.asarray(column) for name, column in scores.items()}
    else:
        table = scores if isinstance(scores, pa.Table) else pa.table(scores)
        columns = {
            name: table[name].to_numpy() for name in table.column_names if not name.startswith('__')
        }
    ids = _taken('ids', columns, _ID if ids is None and _ID in columns else ids)
    content = _taken('content', columns, content)
    numbers = {n: x for n, x in columns.items() if np.asarray(x).dtype.kind in 'fiu'}
    if not numbers:
        raise ValueError('The table holds no column of scores.')
    return score_stream.of_columns(numbers, ids, content)


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
