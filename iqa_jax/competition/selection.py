"""Greedy choice of gMAD pairs under the caps, exact although only candidate lists are looked at."""

import dataclasses

import numpy as np

_WIDEN = 8  # lists grow by this factor until nothing outside them could give a better pair


@dataclasses.dataclass
class Contest:
    """One attacker against one level of one defender; images are numbered in image-id order.

    `highs` and `lows` are the attacker's largest and smallest images inside the open window
    (low, high), best first, equal scores by ascending number.
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
    highs: np.ndarray
    lows: np.ndarray
    complete: bool  # the lists hold every image of the window
    own: list[int] = dataclasses.field(default_factory=list)  # images this contest already shows

    def inside(self, images: np.ndarray) -> np.ndarray:
        """Bool mask: does the defender hold these `images` within the level?"""
        scores = self.defender[images]
        return (scores > self.low) & (scores < self.high) & ~self.out[images]

    def widen(self) -> None:
        """Replace the lists by longer ones, taken from all images of the window."""
        size = _WIDEN * len(self.highs)
        members = np.flatnonzero(self.inside(np.arange(len(self.defender))))
        scores = self.attacker[members]
        self.highs = members[np.argsort(-scores, kind='stable')[:size]]
        self.lows = members[np.argsort(scores, kind='stable')[:size]]
        self.complete = size >= len(members)


class Selection:
    """Distinct pairs (best, worst) chosen so far, and for each of them the reasons it was chosen.

    A new pair respects the caps: |defender(best) - defender(worst)| <= `tolerance`, at most
    `max_per_ref` images of one content (`refs` int [N]) among all images shown, and with
    `each_image_once` no image in two pairs. A pair that is shown anyway costs nothing: every other
    contest may take it again, in either direction, and it wins ties against new pairs.
    """

    def __init__(
        self,
        size: int,
        *,
        refs: np.ndarray | None = None,
        max_per_ref: int | None = None,
        tolerance: float | None = None,
        each_image_once: bool = True,
    ):
        self.pairs: list[tuple[int, int]] = []
        self.reasons: list[list[dict]] = []
        self._tolerance = np.inf if tolerance is None else tolerance
        self._each_image_once = each_image_once
        self._shown = np.zeros(size, bool)
        capped = refs is not None and max_per_ref is not None
        # Without a cap every image is a content of its own.
        self._refs = refs if capped else np.arange(size)
        self._room = np.full(self._refs.max() + 1, max_per_ref if capped else 1)

    def add_best(self, contest: Contest, rank: int) -> None:
        """Give `contest` the allowed pair of largest attacker gap, if one has a gap above 0.

        Ties go to the pair shown already, then to the higher best, then to the smaller number of
        the best and of the worst image.
        """
        shown, shown_gap = self._best_shown(contest)
        pair, gap = self._best_new(contest)
        if max(gap, shown_gap) <= 0:
            return
        if gap > shown_gap:
            shown = len(self.pairs)
            self.pairs.append(pair)
            self.reasons.append([])
            for image in pair:
                self._room[self._refs[image]] -= not self._shown[image]
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
                'attacker_gap': scores['attacker_best'] - scores['attacker_worst'],
                'defender_gap': scores['defender_best'] - scores['defender_worst'],
            }
        )

    def _best_shown(self, contest: Contest) -> tuple[int, float]:
        """Number and gap of the best pair shown already that fits this contest, or (-1, 0.0)."""
        if not self.pairs:
            return -1, 0.0
        pairs = np.array(self.pairs)
        held = contest.defender[pairs].astype(np.float64)
        scores = contest.attacker[pairs].astype(np.float64)
        fits = contest.inside(pairs).all(1) & ~np.isin(pairs, contest.own).any(1)
        fits &= np.abs(held[:, 0] - held[:, 1]) <= self._tolerance
        gaps = np.where(fits, np.abs(scores[:, 0] - scores[:, 1]), 0.0)
        number = int(gaps.argmax())
        return (number, float(gaps[number])) if gaps[number] > 0 else (-1, 0.0)

    def _best_new(self, contest: Contest) -> tuple[tuple[int, int] | None, float]:
        """The best pair not shown yet and its gap: the same as a search over the whole window."""
        while True:
            pair, gap, certain = self._best_of_lists(contest)
            if certain or contest.complete:
                return pair, gap
            contest.widen()

    def _best_of_lists(self, contest: Contest) -> tuple[tuple[int, int] | None, float, bool]:
        """Best pair of the lists, its gap, and whether images outside them cannot do better."""
        highs, lows = self._allowed(contest, contest.highs), self._allowed(contest, contest.lows)
        if not len(highs) or not len(lows):
            return None, 0.0, False
        high_scores = contest.attacker[highs].astype(np.float64)
        low_scores = contest.attacker[lows].astype(np.float64)
        pair, gap = None, 0.0
        held = contest.defender[lows].astype(np.float64)
        refs, new = self._refs[lows], 1 - self._shown[lows]
        for best, score in zip(highs, high_scores, strict=True):
            if score - low_scores[0] <= gap:
                break
            better = slice(np.searchsorted(low_scores, score - gap))  # would beat the pair so far
            ref = self._refs[best]
            needed = new[better] + 1 - self._shown[best]
            fits = (refs[better] != ref) | (needed <= self._room[ref])
            fits &= np.abs(held[better] - float(contest.defender[best])) <= self._tolerance
            fits &= lows[better] != best
            if fits.any():
                first = fits.argmax()
                pair, gap = (int(best), int(lows[first])), float(score - low_scores[first])
        # What stands outside a list is no better than its last entry, and loses ties to it.
        outside_highs = contest.attacker[contest.highs[-1]] - low_scores[0]
        outside_lows = high_scores[0] - contest.attacker[contest.lows[-1]]
        certain = gap >= outside_highs and (
            gap > outside_lows or gap == outside_lows == 0 or (pair and pair[0] == highs[0])
        )
        return pair, gap, bool(certain)

    def _allowed(self, contest: Contest, images: np.ndarray) -> np.ndarray:
        shown = self._shown[images]
        free = ~shown if self._each_image_once else ~np.isin(images, contest.own)
        return images[free & (shown | (self._room[self._refs[images]] > 0))]
