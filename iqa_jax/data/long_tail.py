"""Long-tailed training sets: distortion types of the tail keep fewer images than those of the head.

As the split of KADID-10k for online hard example mining by a pruned twin (Wang et al., IEEE
Transactions on Multimedia 2023): one draw of 8 head, 8 mid and 9 tail types per split, of which
every training reference keeps 5, a random 3 and a random 1 of 5 levels.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from iqa_jax.data import kadis, tables

GROUPS = ('head', 'mid', 'tail')
_TYPES, _IMAGES = 1, 2  # beside [seed, index], which draws the contents


def groups(types: Iterable[int], sizes: Sequence[int], seed: int, index: int) -> dict[int, str]:
    """Deals distortion types to GROUPS by one permutation.

    Args:
      types: numbers of the distortion types.
      sizes: how many are head, mid and tail.
      seed: of all splits.
      index: of this one.

    Returns:
      type -> group, by ascending type.

    Raises:
      ValueError: the sizes do not sum to the number of types.
    """
    known = sorted(set(types))
    if len(known) != sum(sizes):
        raise ValueError(
            f'{" + ".join(map(str, sizes))} head, mid and tail types are not the '
            f'{len(known)} distortion types that there are'
        )
    shuffled = np.random.default_rng([seed, index, _TYPES]).permutation(known).tolist()
    names = [name for name, size in zip(GROUPS, sizes, strict=True) for _ in range(size)]
    return dict(sorted(zip(shuffled, names, strict=True)))


def kept(
    rows: tables.Table, group: dict[int, str], images: Sequence[int], seed: int, index: int
) -> np.ndarray:
    """Which rows a long-tailed training set keeps, bool [N].

    Of each reference and type a random `images` of the type's group, all where there are no more.
    The draw of one reference and type depends on no other row. Rows without a group are kept.

    Args:
      rows: of a manifest.
      group: type -> one of GROUPS.
      images: of each reference and head, mid and tail type.
      seed: of all splits.
      index: of this one.
    """
    most = dict(zip(GROUPS, images, strict=True))
    members: dict[tuple[str, int], list[tuple]] = {}
    found = np.ones(len(rows['image_id']), bool)
    names = ('ref_id', 'type', 'level', 'image_id')
    for row, (ref_id, number, level, image_id) in enumerate(
        zip(*(rows[name].tolist() for name in names), strict=True)
    ):
        if number in group:
            members.setdefault((ref_id, number), []).append((level, image_id, row))
    for (ref_id, number), inside in members.items():
        draw = [seed, index, _IMAGES, kadis.image_seed(seed, ref_id, number, 0)]
        order = np.random.default_rng(draw).permutation(len(inside))
        ordered = [row for _, _, row in sorted(inside)]
        for position in order[most[group[number]] :].tolist():
            found[ordered[position]] = False
    return found
