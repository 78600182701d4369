"""Who sees what, in which order and on which side: fixed by a seed when the study is created."""

from collections.abc import Sequence

import numpy as np

Trial = tuple[int, int]  # item, and 1 where the sides are swapped
Session = dict  # {'trials': [Trial], 'breaks': [answers after which there is a break]}


def make(
    contents: Sequence[frozenset[str]],
    *,
    rated: Sequence[int],
    training: Sequence[int],
    gold: Sequence[int],
    raters: int,
    votes_per_item: int,
    per_session: int,
    gold_share: float,
    break_every: int,
    seed: int,
) -> list[list[Session]]:
    """The sessions of every rater's place.

    Args:
      contents: of each item the references it shows; neighbours share none where that is possible.
      rated: items to rate, each by `votes_per_item` of the `raters` places, loads equal within 1.
      training: items that begin the first session of everybody, in this order.
      gold: items with a known answer; each session gets `gold_share` of its rated trials of them.
      per_session: most rated trials of a session; a longer list is cut into equal sessions.
      break_every: rated trials between breaks, 0 for none.

    Returns:
      [raters][sessions] {'trials', 'breaks'}; sides are swapped in half of a session's trials.

    Raises:
      ValueError: counts that no plan can meet.
    """
    if not 1 <= votes_per_item <= raters:
        raise ValueError(
            f'config.people.votes_per_item={votes_per_item} must be in 1..raters={raters}.'
        )
    if per_session < 1 or break_every < 0 or not 0 <= gold_share <= 0.5:
        raise ValueError(
            'config.people needs per_session of at least 1, break_every of at least 0 and '
            f'gold_share in 0..0.5, not {per_session}, {break_every} and {gold_share}.'
        )
    if not rated or (gold_share and not gold):
        raise ValueError('There is nothing to rate, or gold_share > 0 without gold questions.')
    if len(rated) * votes_per_item < raters:
        raise ValueError(
            f'{len(rated)} images or pairs with {votes_per_item} votes each leave some of '
            f'{raters} raters without work; lower config.people.raters.'
        )
    rng = np.random.default_rng(seed)
    sheets = _deal(len(rated), raters, votes_per_item, rng)
    return [
        _sessions([rated[i] for i in sheet], contents, training, gold,
                  per_session, gold_share, break_every, rng)
        for sheet in sheets
    ]  # fmt: skip


def _deal(items: int, raters: int, each: int, rng: np.random.Generator) -> list[list[int]]:
    """Items of each rater: every item goes to those who have fewest so far, chosen by lot."""
    load, sheets = np.zeros(raters, int), [[] for _ in range(raters)]
    for item in rng.permutation(items).tolist():
        chosen = np.lexsort((rng.random(raters), load))[:each]
        load[chosen] += 1
        for rater in chosen.tolist():
            sheets[rater].append(item)
    return sheets


def _sessions(
    items: list[int],
    contents: Sequence[frozenset[str]],
    training: Sequence[int],
    gold: Sequence[int],
    per_session: int,
    gold_share: float,
    break_every: int,
    rng: np.random.Generator,
) -> list[Session]:
    items = [items[i] for i in rng.permutation(len(items))]
    count = -(-len(items) // per_session)
    checks = _endless(gold, rng)
    sessions = []
    for number, part in enumerate(np.array_split(np.array(items, int), count)):
        mixed = part.tolist()
        for _ in range(round(gold_share * len(part))):
            mixed.insert(int(rng.integers(1, len(mixed) + 1)), next(checks))
        mixed = _apart(mixed, contents)
        first = list(training) if number == 0 else []
        order = first + mixed
        sides = rng.permutation(np.arange(len(order)) % 2).tolist()
        ends = range(break_every, len(mixed), break_every) if break_every else ()
        sessions.append(
            {
                'trials': list(zip(order, sides, strict=True)),
                'breaks': [len(first) + end for end in ends],
            }
        )
    return sessions


def _endless(gold: Sequence[int], rng: np.random.Generator):
    """Gold questions by lot, none twice before all were asked."""
    while True:
        yield from (gold[i] for i in rng.permutation(len(gold)))


def _apart(order: list[int], contents: Sequence[frozenset[str]]) -> list[int]:
    """The same items, each swapped with a later one where it shows its predecessor's content."""
    order = list(order)
    for i in range(1, len(order)):
        before = contents[order[i - 1]]
        if contents[order[i]] & before:
            later = (j for j in range(i + 1, len(order)) if not contents[order[j]] & before)
            j = next(later, i)
            order[i], order[j] = order[j], order[i]
    return order
