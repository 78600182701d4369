"""Splits by content: pictures that show the same are one content, and a content is on one side.

Content, not the name of a reference, is what must not be trained on and tested: databases share
photographs under other names, in other formats and sizes.
"""

from collections.abc import Iterable

import numpy as np

from iqa_jax.data import exposure, kadis

DIGITS = 16  # hexadecimal, of each hash in a content's name


def group(count: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Joins what pairs connect, directly or through others: int [count], smallest member of each.

    Args:
      count: number of pictures.
      pairs: rows that show the same.
    """
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs:
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    return np.array([root(i) for i in range(count)], int)


def contents(exact: list[str], groups: np.ndarray) -> np.ndarray:
    """Names each group by all its exact hashes, whatever the order of rows: object [N].

    So a model that was trained on any picture of a group still knows it when further ones join.
    """
    members: dict[int, set[str]] = {}
    for digest, label in zip(exact, groups.tolist(), strict=True):
        members.setdefault(label, set()).add(digest[:DIGITS])
    names = {label: exposure.JOIN.join(sorted(inside)) for label, inside in members.items()}
    return np.array([names[label] for label in groups.tolist()], object)


def divide(
    members: dict[str, set[str]],
    shares: tuple[float, ...],
    seed: int,
    index: int,
    fixed: dict[str, str],
) -> dict[str, str]:
    """Deals contents to train, val, test and pool so that every database gets its shares.

    Each content gets a free place of a split at random. Those that several databases hold come
    first, into a split where all of these have places; those of one database take what is left. So
    LIVE's 29 references part 23 to 6 and TID2013's 25 part 20 to 5 although they share most, and
    every content is tested equally often.

    Args:
      members: database -> its contents.
      shares: four non-negative numbers, proportional to the wanted sizes (largest remainder).
      seed: of all splits.
      index: of this one.
      fixed: content -> split of contents that are not dealt.

    Returns:
      content -> split.

    Raises:
      ValueError: the shares are not four non-negative numbers, or a database has too few contents
        for a split in use.
    """
    shares = kadis.checked(shares)
    free = {name: kadis.counts(shares, len(inside)) for name, inside in members.items()}
    holders: dict[str, list[str]] = {}
    for name in sorted(members):
        for content in members[name]:
            holders.setdefault(content, []).append(name)
    rng = np.random.default_rng([seed, index])
    order = rng.permutation(sorted(holders)).tolist()
    found = {}

    def put(content: str, split: int) -> None:
        found[content] = kadis.SPLITS[split]
        for name in holders[content]:
            free[name][split] -= 1

    for content in fixed.keys() & holders.keys():
        put(content, kadis.SPLITS.index(fixed[content]))
    rest = [content for content in order if content not in fixed]
    for content in sorted(rest, key=lambda c: -len(holders[c])):
        if len(holders[content]) == 1:
            break
        put(content, _place(np.array([free[name] for name in holders[content]]), shares, rng))
    for name in sorted(members):
        own = [c for c in rest if holders[c] == [name]]
        places = np.repeat(np.arange(4), np.maximum(free[name], 0))
        for content, split in zip(own, rng.permutation(places).tolist(), strict=False):
            put(content, split)
    _check_sizes(found, members, shares, fixed)
    return found


def _place(free: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> int:
    """Draws a split for a content of several databases from their free places, int [D, 4]."""
    chance = (free / np.maximum(free.sum(axis=1, keepdims=True), 1)).min(axis=0).clip(0)
    if not chance.any():  # no split has a place in all of them
        chance = free.clip(0).sum(axis=0) if free.max() > 0 else shares
    return int(rng.choice(4, p=chance / chance.sum()))


def _check_sizes(
    found: dict[str, str], members: dict[str, set[str]], shares: np.ndarray, fixed: dict[str, str]
) -> None:
    """Raises a ValueError for a database with too few contents in a split in use."""
    for name, inside in members.items():
        dealt = np.array([sum(found[c] == split for c in inside) for split in kadis.SPLITS])
        lacking = kadis.short(shares, dealt)
        if lacking.any() and not inside <= fixed.keys():
            i = int(np.argmax(lacking))
            raise ValueError(
                f'Database {name} has {len(inside)} contents, too few: split {kadis.SPLITS[i]} '
                f'gets {dealt[i]} and needs {kadis.FEWEST[i]}; set its share in '
                'config.split_shares to 0 or raise it.'
            )
