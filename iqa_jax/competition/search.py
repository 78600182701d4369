"""gMAD: the pairs of images on which an attacker most contradicts a defender.

For a defender d, an attacker a and a quality level, the pair (best, worst) maximises
a(best) - a(worst) while d holds both images within the level; whoever is right about the pair, the
other one has been shown a failure. Several pairs per contest, content caps and a tolerance extend
the rule of the Waterloo gMAD toolbox, which takes one pair per level.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from iqa_jax.competition.selection import Contest, Selection
from iqa_jax.competition.windows import CHUNK_SIZE, candidate_lists, level_windows

_PERCENTILES = (0.1, 99.9)
_SCORES = (
    'defender_best',
    'defender_worst',
    'attacker_best',
    'attacker_worst',
    'attacker_gap',
    'defender_gap',
)


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a pair must respect; every field is a keyword of `search` and `compete`.

    `levels`, `window`, `half_width`: see `level_windows`. `tolerance`: largest gap of the defender
    inside a pair, in its own units (0..100 in `compete`), None for no limit. `top_k`: pairs per
    contest. `max_per_ref`: images of one content among all pairs, None for no limit.
    `each_image_once`: no image in two different pairs. `candidates` (None: twice top_k, at least 8)
    and `chunk_size` change the speed only, never the result.
    """

    levels: int = 6
    window: str = 'equal_width'
    half_width: float = 0.09
    tolerance: float | None = None
    top_k: int = 1
    max_per_ref: int | None = 2
    each_image_once: bool = True
    candidates: int | None = None
    chunk_size: int = CHUNK_SIZE

    def __post_init__(self):
        for key in ('top_k', 'max_per_ref', 'candidates', 'chunk_size'):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ValueError(f'{key} must be at least 1, not {getattr(self, key)}.')
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ValueError(f'tolerance must be 0 or more, not {self.tolerance}.')


def oriented(scores: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """`scores` [N] as float32 in which higher is better."""
    return np.asarray(scores, np.float32) * np.float32(1 if higher_is_better else -1)


def percentile_scale(scores: np.ndarray) -> np.ndarray:
    """`scores` [N], higher better, stretched so that their 0.1 and 99.9 percentiles are 0 and 100.

    float32, not clipped. Percentiles, since one outlying score must not squeeze all others into one
    level. Raises ValueError if the percentiles are equal.
    """
    scores = np.asarray(scores, np.float64)
    low, high = np.percentile(scores, _PERCENTILES)
    if low == high:
        raise ValueError(
            'The 0.1 and 99.9 percentiles of these scores are equal, so they have no 0..100 scale; '
            'leave the column out or give a mapping for it.'
        )
    return (100 * (scores - low) / (high - low)).astype(np.float32)


def search(
    defender: np.ndarray,
    attackers: np.ndarray,
    *,
    image_ids: Sequence[str] | None = None,
    ref_ids: Sequence[str] | None = None,
    exclude: Iterable[str] | None = None,
    defender_name: str = 'defender',
    attacker_names: Sequence[str] | None = None,
    role: str = 'defender',
    **rules,
) -> dict[str, np.ndarray]:
    """gMAD pairs of one defender, scores [N], against M attackers, scores [N, M].

    Scores are float32, finite, higher better (`oriented`), and their scales are taken as they are.
    `rules` are the fields of `Rules`; images in `exclude` are not shown, yet count for the levels.
    First every contest (level by level, attacker by attacker) gets its best pair that the rules
    leave, then every contest its second, up to top_k. A pair another contest has chosen is shown
    anyway, so it may be chosen again whatever the caps say: one row with one more reason.

    Returns one row per distinct pair: defender, attacker, role (of the model under test), level
    (0 lowest), rank (0 first), image_id_best, image_id_worst, ref_id_best, ref_id_worst,
    defender_best, defender_worst, attacker_best, attacker_worst, attacker_gap, defender_gap (both
    best - worst), all as of the first reason, and reasons: a JSON list of {role, defender,
    attacker, level, rank, scores and gaps}, where a negative attacker_gap says that this attacker
    prefers the image which the row calls worst. Ties go by image id. Raises ValueError.
    Source: the rule of the Waterloo gMAD toolbox, extended.
    """
    defender, attackers = np.asarray(defender), np.asarray(attackers)
    if attackers.ndim != 2:
        raise ValueError(f'attackers must be [images, attackers], not {attackers.shape}.')
    names = attacker_names or [f'attacker_{i}' for i in range(attackers.shape[1])]
    if len(set(names)) != attackers.shape[1]:
        raise ValueError(f'{attackers.shape[1]} attackers need as many different names: {names}.')
    rivals = dict(zip(names, attackers.T, strict=True))
    images = _Images(defender.size, image_ids, ref_ids, exclude)
    return _run([(role, defender_name, defender, rivals)], images, Rules(**rules))


def compete(
    scores: Mapping[str, np.ndarray],
    higher_is_better: Mapping[str, bool],
    models: Sequence[str],
    rivals: Sequence[str],
    *,
    image_ids: Sequence[str] | None = None,
    ref_ids: Sequence[str] | None = None,
    exclude: Iterable[str] | None = None,
    roles: Sequence[str] = ('defender', 'attacker'),
    mappings: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    **rules,
) -> dict[str, np.ndarray]:
    """gMAD pairs of each of `models` against each of `rivals`, as `search`, in both `roles`.

    `scores` name -> [N], raw, finite. All columns are put on one 0..100 scale, higher better: by
    `mappings`, name -> function of the raw scores (fitted to mean opinion scores, monotone on these
    scores), or without mappings by `percentile_scale`; a defender is then clipped to 0..100, as a
    fitted logistic would saturate, an attacker is not, so its extremes stay apart. Caps, single use
    of images and merging of pairs hold over the whole competition. Raises ValueError.
    """
    known = scores.keys() & higher_is_better.keys()
    if not models or not rivals or not {*models, *rivals} <= known:
        raise ValueError(
            f'models and rivals must name columns of scores and higher_is_better, {sorted(known)}, '
            f'not {list(models)} and {list(rivals)}.'
        )
    if not roles or not set(roles) <= {'defender', 'attacker'}:
        raise ValueError(f"roles must be 'defender', 'attacker' or both, not {list(roles)}.")
    size = len(scores[models[0]])
    attacking = {
        name: _common_scale(name, _finite(name, scores[name], size), higher_is_better, mappings)
        for name in dict.fromkeys([*models, *rivals])
    }
    matches: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    met = set()
    for model, role, rival in itertools.product(models, roles, rivals):
        defender, attacker = (model, rival) if role == 'defender' else (rival, model)
        # A model that is also a rival would meet the same opponent twice.
        if model != rival and (defender, attacker) not in met:
            met.add((defender, attacker))
            matches.setdefault((role, defender), {})[attacker] = attacking[attacker]
    return _run(
        [
            (role, name, attacking[name] if mappings else attacking[name].clip(0, 100), others)
            for (role, name), others in matches.items()
        ],
        _Images(size, image_ids, ref_ids, exclude),
        Rules(**rules),
    )


def _common_scale(name, raw, higher_is_better, mappings) -> np.ndarray:
    better = oriented(raw, higher_is_better[name])
    if not mappings:
        try:
            return percentile_scale(better)
        except ValueError as error:
            raise ValueError(f"Scores '{name}': {error}") from error
    if name not in mappings:
        raise ValueError(f"No mapping for '{name}'; give one for every model and rival, or none.")
    mapped = _finite(f'{name}, mapped', mappings[name](raw), len(raw))
    if (np.diff(mapped[np.argsort(better, kind='stable')]) < 0).any():
        raise ValueError(
            f"The mapping of '{name}' is not monotone in its direction on these scores; "
            'fit the 4-parameter logistic.'
        )
    return mapped


def _finite(name: str, scores: np.ndarray, size: int) -> np.ndarray:
    scores = np.asarray(scores, np.float32)
    if scores.shape != (size,):
        raise ValueError(f"Scores '{name}' have shape {scores.shape} for {size} images.")
    missing, infinite = int(np.isnan(scores).sum()), int(np.isinf(scores).sum())
    if missing or infinite:
        raise ValueError(
            f"Scores '{name}' hold {missing} NaN and {infinite} infinite values among {size}; "
            'leave those images or this column out.'
        )
    return scores


class _Images:
    """Image ids and contents in image-id order, the order that settles every tie."""

    def __init__(self, size: int, image_ids, ref_ids, exclude):
        if size < 2:
            raise ValueError(f'A competition needs at least 2 images, not {size}.')
        ids = np.asarray(np.arange(size) if image_ids is None else image_ids)
        refs = np.asarray(np.full(size, '', object) if ref_ids is None else ref_ids)
        if ids.shape != (size,) or refs.shape != (size,):
            raise ValueError(
                f'image_ids and ref_ids must have one entry for each of {size} images.'
            )
        self.order = np.argsort(ids, kind='stable')
        self.ids, self.refs = ids[self.order], refs[self.order]
        twice = self.ids[1:][self.ids[1:] == self.ids[:-1]]
        if len(twice):
            raise ValueError(f"image_ids must be unique, but '{twice[0]}' is not.")
        self.contents = None if ref_ids is None else np.unique(self.refs, return_inverse=True)[1]
        self.out = np.zeros(size, bool)
        if exclude:
            exclude = set(exclude)
            self.out = np.array([image in exclude for image in self.ids])


def _run(matches: list[tuple], images: _Images, rules: Rules) -> dict[str, np.ndarray]:
    size = len(images.ids)
    contests = []
    for role, name, defender, rivals in matches:
        defender = _finite(name, defender, size)[images.order]
        rivals = {key: _finite(key, x, size)[images.order] for key, x in rivals.items()}
        contests += _contests(role, name, defender, rivals, images.out, rules)
    selection = Selection(
        size,
        refs=images.contents,
        max_per_ref=rules.max_per_ref,
        tolerance=rules.tolerance,
        each_image_once=rules.each_image_once,
    )
    for rank in range(rules.top_k):
        for contest in contests:
            selection.add_best(contest, rank)
    return _table(selection, images)


def _contests(role, defender_name, defender, rivals, out, rules: Rules) -> list[Contest]:
    """All contests of one defender: one for each level and rival, level by level."""
    try:
        low, high = level_windows(defender, rules.levels, rules.window, rules.half_width)
    except ValueError as error:
        raise ValueError(f"Defender '{defender_name}': {error}") from error
    highs, lows = candidate_lists(
        defender,
        np.stack(list(rivals.values()), -1),
        low,
        high,
        rules.candidates or max(8, 2 * rules.top_k),
        out=out,
        chunk_size=rules.chunk_size,
    )
    return [
        Contest(
            role=role,
            defender_name=defender_name,
            attacker_name=name,
            level=level,
            low=low[level],
            high=high[level],
            defender=defender,
            attacker=attacker,
            out=out,
            highs=highs[rival, level][highs[rival, level] >= 0],
            lows=lows[rival, level][lows[rival, level] >= 0],
            complete=bool(highs[rival, level, -1] < 0),
        )
        for level in range(rules.levels)
        for rival, (name, attacker) in enumerate(rivals.items())
    ]


def _table(selection: Selection, images: _Images) -> dict[str, np.ndarray]:
    """One row per distinct pair; names and scores as of its first reason."""
    best, worst = np.array(selection.pairs, int).reshape(-1, 2).T

    def first(keys, dtype):
        rows = [reasons[0] for reasons in selection.reasons]
        return {key: np.array([row[key] for row in rows], dtype) for key in keys}

    return {
        **first(('defender', 'attacker', 'role'), object),
        **first(('level', 'rank'), np.int32),
        'image_id_best': images.ids[best],
        'image_id_worst': images.ids[worst],
        'ref_id_best': images.refs[best],
        'ref_id_worst': images.refs[worst],
        **first(_SCORES, np.float32),
        'reasons': np.array([json.dumps(reasons) for reasons in selection.reasons], object),
    }
