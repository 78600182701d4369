"""Splits by content: pictures that show the same are one content, and a content is on one side.

Content, not the name of a reference, is what must not be trained on and tested: databases share
photographs under other names, in other formats and sizes.
"""

from collections.abc import Iterable

import numpy as np

from iqa_jax.data import kadis

DIGITS = 16  # hexadecimal, of a content's name


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
    """Names each group by its smallest exact hash, whatever the order of rows: object [N]."""
    names: dict[int, str] = {}
    for digest, label in zip(exact, groups.tolist(), strict=True):
        names[label] = min(digest, names.get(label, digest))
    return np.array([names[label][:DIGITS] for label in groups.tolist()], object)


def divide(
    members: dict[str, set[str]],
    shares: tuple[float, ...],
    seed: int,
    index: int,
    fixed: dict[str, str],
) -> dict[str, str]:
    """Deals contents to train, val, test and pool so that every database gets its shares.

    Contents that several databases hold are dealt first, each to the split in which its databases
    lack most, relative to what they are to get; then those of one database fill the rest. So
    LIVE's 29 references part 23 to 6 and TID2013's 25 part 20 to 5 although they share most.

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
    wanted = {name: kadis.counts(shares, len(inside)) for name, inside in members.items()}
    dealt = {name: np.zeros(4, int) for name in members}
    holders: dict[str, list[str]] = {}
    for name in sorted(members):
        for content in members[name]:
            holders.setdefault(content, []).append(name)
    order = np.random.default_rng([seed, index]).permutation(sorted(holders)).tolist()
    # Fixed ones first; then the most shared: the rest is free to make the totals right.
    order.sort(key=lambda c: (c not in fixed, -len(holders[c]), holders[c]))
    found = {}
    for content in order:
        if content in fixed:
            split = kadis.SPLITS.index(fixed[content])
        else:
            lack = [(wanted[d] - dealt[d]) / np.maximum(wanted[d], 1) for d in holders[content]]
            split = int(np.argmax(np.where(shares > 0, np.mean(lack, axis=0), -np.inf)))
        for name in holders[content]:
            dealt[name][split] += 1
        found[content] = kadis.SPLITS[split]
    for name, inside in members.items():
        lacking = kadis.short(shares, dealt[name])
        if lacking.any() and not inside <= fixed.keys():
            i = int(np.argmax(lacking))
            raise ValueError(
                f'Database {name} has {len(inside)} contents, too few: split {kadis.SPLITS[i]} '
                f'gets {dealt[name][i]} and needs {kadis.FEWEST[i]}; set its share in '
                'config.split_shares to 0 or raise it.'
            )
    return found
