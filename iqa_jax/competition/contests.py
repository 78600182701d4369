"""From candidates to contests: each attacker against each level of a defender."""

import functools
from typing import NamedTuple

import numpy as np

from iqa_jax.competition import sliding
from iqa_jax.competition.candidates import Candidates
from iqa_jax.competition.rules import Rules
from iqa_jax.competition.selection import Contest
from iqa_jax.competition.windows import Windows


class Match(NamedTuple):
    """A defender and its attackers, label -> number of a column each, in one role."""

    role: str
    defender: tuple[str, int]
    attackers: dict[str, int]


def contests(
    found: Candidates, number: int, match: Match, windows: Windows, rules: Rules
) -> list[Contest]:
    """The contests of meeting `number` of `found`, level by level, attacker by attacker."""
    name, column = match.defender
    defender = found.scores[column]
    straddling = rules.engine == 'exact'

    @functools.cache
    def ranked() -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(defender, kind='stable')
        return order, defender[order].astype(np.float64)

    @functools.cache
    def reach(level: int) -> sliding.Reach:
        low, high = float(windows.low[level]), float(windows.high[level])
        return sliding.reach(*ranked(), low, high, rules.tolerance, straddling)

    def lists(rival: int, level: int) -> dict:
        if found.highs is None:
            return {}
        highs, lows = found.highs[number][rival, level], found.lows[number][rival, level]
        return {
            'highs': highs[highs >= 0],
            'lows': lows[lows >= 0],
            'complete': bool(highs[-1] < 0),
        }

    return [
        Contest(
            role=match.role,
            defender_name=name,
            attacker_name=rival_name,
            level=level,
            low=windows.low[level],
            high=windows.high[level],
            defender=defender,
            attacker=found.scores[attacker],
            out=found.out,
            tolerance=rules.tolerance,
            straddling=straddling,
            disagreement=rules.objective == 'disagreement',
            reach=functools.partial(reach, level) if found.whole else None,
            **lists(rival, level),
        )
        for level in range(len(windows.low))
        for rival, (rival_name, attacker) in enumerate(match.attackers.items())
    ]
