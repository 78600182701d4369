"""What the pairs of a competition must respect."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence

from iqa_jax.competition import windows
from iqa_jax.competition.candidates import CHUNK_SIZE

ENGINES, OBJECTIVES = ('binned', 'exact'), ('gap', 'disagreement')


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


Levels = int | Sequence[tuple[float, float]] | Mapping[str, Sequence[tuple[float, float]]]


@dataclasses.dataclass(frozen=True)
class Rules:
    """Every field is a keyword of `search`, `compete` and `gmad`.

    `levels`: their number, which `window` ('equal_width', 'quantile') and `half_width` divide as in
    `windows` (`half_points`: in units of the defender instead, 9 of 100 in the toolbox); or open
    intervals (low, high) of the scores that compete, for all or by defender.
    `tolerance`: largest gap of the defender inside a pair, in its own units, None for no limit.
    `top_k`: pairs per contest. `max_per_ref`: images of one content among all pairs, None for no
    limit. `each_image_once`: no image in two different pairs.

    `engine` 'binned' streams the table and takes pairs inside a level. 'exact' holds it in memory
    and, with a tolerance, takes every pair within it, to the level of the pair's mean: pairs that
    straddle the edge of a level are found too. `objective` 'gap' is the attacker's gap;
    'disagreement' that less the defender's absolute gap, the tolerance being a just noticeable
    difference on a scale that both share ('exact' only; source: UPIQ).

    `candidates` (None: as many as the rules ask for) and `chunk_size` change the speed only.
    """

    levels: Levels = 6
    window: str = 'equal_width'
    half_width: float | None = None
    half_points: float | None = None
    tolerance: float | None = None
    top_k: int = 1
    max_per_ref: int | None = 2
    each_image_once: bool = True
    engine: str = 'binned'
    objective: str = 'gap'
    candidates: int | None = None
    chunk_size: int = CHUNK_SIZE

    def __post_init__(self):
        for key, optional in (
            ('top_k', False), ('max_per_ref', True), ('candidates', True), ('chunk_size', False)
        ):  # fmt: skip
            value = getattr(self, key)
            if not (value is None and optional) and not (_is_whole(value) and value >= 1):
                raise ValueError(f'{key} must be a whole number of at least 1, not {value!r}.')
        for key in ('tolerance', 'half_width', 'half_points'):
            value = getattr(self, key)
            if value is not None and not (isinstance(value, numbers.Real) and value >= 0):
                raise ValueError(f'{key} must be a number of 0 or more, not {value!r}.')
        if self.engine not in ENGINES or self.objective not in OBJECTIVES:
            raise ValueError(
                f"engine must be 'binned' or 'exact' and objective 'gap' or 'disagreement', "
                f'not {self.engine!r} and {self.objective!r}.'
            )
        exact = self.engine == 'exact' and self.tolerance is not None
        if self.objective == 'disagreement' and not exact:
            raise ValueError(
                "objective='disagreement' needs engine='exact' and a tolerance, "
                'the just noticeable difference.'
            )
        count = self.levels if _is_whole(self.levels) else 1
        windows.check(count, self.window, self.half_width, self.half_points)

    def turned(self, signs: Mapping[str, float]) -> 'Rules':
        """These rules where the given levels of a defender of sign -1 are of its negated scores."""
        if _is_whole(self.levels):
            return self
        if isinstance(self.levels, Mapping) and (unknown := set(self.levels) - set(signs)):
            raise ValueError(f"levels name '{min(unknown)}', which does not defend.")
        levels = {}
        for name, sign in signs.items():
            low, high = self.given(name)
            ends = (low, high) if sign > 0 else (-high, -low)
            levels[name] = list(zip(*(end.tolist() for end in ends), strict=True))
        return dataclasses.replace(self, levels=levels)

    def given(self, defender: str) -> windows.Windows | None:
        """The windows of `defender` where they are given, None where their number is."""
        if _is_whole(self.levels):
            return None
        levels = self.levels
        if isinstance(levels, Mapping):
            if defender not in levels:
                raise ValueError(f"levels say nothing of '{defender}'; give its (low, high) pairs.")
            levels = levels[defender]
        return windows.given(levels)

    def listed(self, capped: bool) -> int:
        """How many candidates a list starts with, where contents are known (`capped`) or not."""
        capped &= self.max_per_ref is not None
        plain = not capped and not self.each_image_once and self.tolerance is None
        return self.candidates or (self.top_k if plain else max(8, 2 * self.top_k))
