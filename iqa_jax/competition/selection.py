"""Greedy choice of gMAD pairs under the caps, exact although it seldom looks at all images."""

import dataclasses
from collections.abc import Callable

import numpy as np

from iqa_jax.competition import sliding


class Unsettled(Exception):
    """The candidate lists are too short to tell the best allowed pair, and nothing else is held."""


@dataclasses.dataclass
class Contest:
    """One attacker against one level of one defender; images are numbered in image-id order.

    `highs` and `lows` are the attacker's largest and smallest images inside the open window
    (low, high), best first, equal scores by ascending number; `complete` says that they hold every
    image of the window. `reach` gives all images of the level, None where they are not held.
    Without lists only `reach` is asked. For `straddling` and `disagreement` see `sliding`.
    """

    role: str
    defender_name: str
    attacker_name: str
    level: int
    low: np.float32
    high: np.float32
    defender: np.ndarray  # float32 [N]
    attacker: np.ndarray  # float32 [N]
    out: np.ndarray  # bool [N], images left out
    tolerance: float | None
    straddling: bool = False
    disagreement: bool = False
    highs: np.ndarray | None = None
    lows: np.ndarray | None = None
    complete: bool = False
    reach: Callable[[], sliding.Reach] | None = None
    own: list[int] = dataclasses.field(default_factory=list)  # images this contest already shows

    def holds(self, best: np.ndarray, worst: np.ndarray) -> np.ndarray:
        """Bool mask: does the defender hold these pairs equal, within the level?"""
        first, second = (self.defender[x].astype(np.float64) for x in (best, worst))
        near = True if self.tolerance is None else np.abs(first - second) <= self.tolerance
        if self.straddling and self.tolerance is not None:
            total = first + second
            inside = (total > 2.0 * self.low) & (total < 2.0 * self.high)
        else:
            inside = (first > self.low) & (first < self.high)
            inside &= (second > self.low) & (second < self.high)
        return near & inside & ~self.out[best] & ~self.out[worst]

    def worth(self, best: np.ndarray, worst: np.ndarray) -> np.ndarray:
        """The objective, float64: the attacker's gap, perhaps less the defender's absolute gap."""
        gap = self.attacker[best].astype(np.float64) - self.attacker[worst]
        if not self.disagreement:
            return gap
        return gap - np.abs(self.defender[best].astype(np.float64) - self.defender[worst])


class Selection:
    """Distinct pairs (best, worst) chosen so far, and for each of them the reasons it was chosen.

    A new pair respects the caps: at most `max_per_content` images of one content (`contents` int
    [N]) among all images shown, and with `each_image_once` no image in two pairs. A pair that is
    shown anyway costs nothing: every other contest may take it again, in either direction, and it
    wins ties against new pairs.
    """

    def __init__(
        self,
        size: int,
        *,
        contents: np.ndarray | None = None,
        max_per_content: int | None = None,
        each_image_once: bool = True,
    ):
        self.pairs: list[tuple[int, int]] = []
        self.reasons: list[list[dict]] = []
        self._each_image_once = each_image_once
        self._shown = np.zeros(size, bool)
        self._capped = contents is not None and max_per_content is not None
        self._contents = contents if self._capped else np.zeros(0, int)
        self._room = np.full(self._contents.max(initial=-1) + 1, max_per_content)

    def add_best(self, contest: Contest, rank: int) -> None:
        """Give `contest` the allowed pair of largest worth, if one has a worth above 0.

        Ties go to the pair shown already, then to the higher best, then to the smaller number of
        the best and of the worst image. Raises Unsettled.
        """
        shown, shown_worth = self._best_shown(contest)
        pair, worth = self._best_new(contest)
        if max(worth, shown_worth) <= 0:
            return
        if worth > shown_worth:
            shown = len(self.pairs)
            self.pairs.append(pair)
            self.reasons.append([])
            for image in pair:
                if self._capped:
                    self._room[self._contents[image]] -= not self._shown[image]
                self._shown[image] = True
        best, worst = self.pairs[shown]
        contest.own += [best, worst]
        scores = {
            f'{role}_{side}': float(getattr(contest, role)[image])
            for role in ('defender', 'attacker')
            for side, image in (('best', best), ('worst', worst))
        }
        self.reasons[shown].append(
            {
                'role': contest.role,
                'defender': contest.defender_name,
                'attacker': contest.attacker_name,
                'level': contest.level,
                'rank': rank,
                **scores,
                'gap': scores['attacker_best'] - scores['attacker_worst'],
                'defender_gap': scores['defender_best'] - scores['defender_worst'],
            }
        )

    def _best_shown(self, contest: Contest) -> tuple[int, float]:
        """Number and worth of the best pair shown already that fits this contest, or (-1, 0.0)."""
        if not self.pairs:
            return -1, 0.0
        best, worst = np.array(self.pairs).T
        fits = contest.holds(best, worst)
        fits &= ~np.isin(best, contest.own) & ~np.isin(worst, contest.own)
        worths = np.maximum(contest.worth(best, worst), contest.worth(worst, best))
        worths = np.where(fits, worths, 0.0)
        number = int(worths.argmax())
        return (number, float(worths[number])) if worths[number] > 0 else (-1, 0.0)

    def _best_new(self, contest: Contest) -> tuple[tuple[int, int] | None, float]:
        """The best pair not shown yet and its worth, as of a search over the whole level."""
        if contest.highs is not None:
            pair, gap, certain = self._best_of_lists(contest)
            if certain or contest.complete:
                return pair, gap
        if contest.reach is None:
            raise Unsettled
        return self._best_in_reach(contest)

    def _best_of_lists(self, contest: Contest) -> tuple[tuple[int, int] | None, float, bool]:
        """Best pair of the lists, its gap, and whether images outside them cannot do better."""
        highs, lows = (
            images[self._may_be_shown(contest, images)] for images in (contest.highs, contest.lows)
        )
        if not len(highs) or not len(lows):
            return None, 0.0, False
        high_scores = contest.attacker[highs].astype(np.float64)
        low_scores = contest.attacker[lows].astype(np.float64)
        pair, gap = None, 0.0
        for best, score in zip(highs, high_scores, strict=True):
            if score - low_scores[0] <= gap:
                break
            better = lows[: np.searchsorted(low_scores, score - gap)]  # would beat the pair so far
            fits = self._room_for(best, better) & contest.holds(best, better)
            if fits.any():
                first = fits.argmax()
                pair, gap = (int(best), int(better[first])), float(score - low_scores[first])
        # What stands outside a list is no better than its last entry, and loses ties to it.
        outside_highs = contest.attacker[contest.highs[-1]] - low_scores[0]
        outside_lows = high_scores[0] - contest.attacker[contest.lows[-1]]
        certain = gap >= outside_highs and (
            gap > outside_lows or gap == outside_lows == 0 or (pair and pair[0] == highs[0])
        )
        return pair, gap, bool(certain)

    def _best_in_reach(self, contest: Contest) -> tuple[tuple[int, int] | None, float]:
        """Best pair among all of the level: bounds first, then whoever leads them is looked at."""
        level = contest.reach()
        members = level.members
        free = self._may_be_shown(contest, members)
        if contest.out.any():
            free &= ~contest.out[members]
        attacker = contest.attacker[members].astype(np.float64)
        defender = contest.defender[members].astype(np.float64)
        bounds = sliding.upper_bounds(level, attacker, defender, free, contest.disagreement)
        while len(bounds) and (top := bounds.max()) > 0:
            leaders = np.flatnonzero(bounds == top)
            i = leaders[np.lexsort((members[leaders], -attacker[leaders]))[0]]
            near = slice(level.begin[i], level.stop[i])
            best, partners = members[i], members[near][free[near]]
            fits = self._room_for(best, partners) & contest.holds(best, partners)
            partners = partners[fits & (partners != best)]
            worths = contest.worth(best, partners)
            bounds[i] = worths.max(initial=-np.inf)
            if bounds[i] == top:
                return (int(best), int(partners[worths == top].min())), float(top)
        return None, 0.0

    def _may_be_shown(self, contest: Contest, images: np.ndarray) -> np.ndarray:
        """Bool mask: single use and the cap leave these images to `contest`."""
        taken = self._shown[images] if self._each_image_once else np.isin(images, contest.own)
        free = ~taken
        if self._capped:
            free &= self._shown[images] | (self._room[self._contents[images]] > 0)
        return free

    def _room_for(self, best: int, worst: np.ndarray) -> np.ndarray:
        """Bool mask: does the cap let these images stand beside `best`?"""
        if not self._capped:
            return np.ones(len(worst), bool)
        content = self._contents[best]
        needed = 2 - self._shown[worst].astype(int) - int(self._shown[best])
        return (self._contents[worst] != content) | (needed <= self._room[content])
