"""What the pairs of a competition must respect."""

import dataclasses
from collections.abc import Mapping, Sequence

from iqa_jax.competition import windows
from iqa_jax.competition.candidates import CHUNK_SIZE

ENGINES, OBJECTIVES = ('binned', 'exact'), ('gap', 'disagreement')
Levels = int | Sequence[tuple[float, float]] | Mapping[str, Sequence[tuple[float, float]]]


@dataclasses.dataclass(frozen=True)
class Rules:
    """Every field is a keyword of `search`, `compete` and `gmad`.

    `levels`: their number, which `window` ('equal_width', 'quantile') and `half_width` divide as in
    `windows`; or open intervals (low, high) in the defender's units, for all or by defender.
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
    tolerance: float | None = None
    top_k: int = 1
    max_per_ref: int | None = 2
    each_image_once: bool = True
    engine: str = 'binned'
    objective: str = 'gap'
    candidates: int | None = None
    chunk_size: int = CHUNK_SIZE

    def __post_init__(self):
        for key in ('top_k', 'max_per_ref', 'candidates', 'chunk_size'):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise ValueError(f'{key} must be at least 1, not {getattr(self, key)}.')
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ValueError(f'tolerance must be 0 or more, not {self.tolerance}.')
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
        windows.check(
            self.levels if isinstance(self.levels, int) else 1, self.window, self.half_width
        )

    def given(self, defender: str) -> windows.Windows | None:
        """The windows of `defender` where they are given, None where their number is."""
        if isinstance(self.levels, int):
            return None
        levels = self.levels
        if isinstance(levels, Mapping):
            if defender not in levels:
                raise ValueError(f"levels say nothing of '{defender}'; give its (low, high) pairs.")
            levels = levels[defender]
        return windows.given(levels)

    def listed(self) -> int:
        """How many candidates a list starts with."""
        plain = self.max_per_ref is None and not self.each_image_once and self.tolerance is None
        return self.candidates or (self.top_k if plain else max(8, 2 * self.top_k))
