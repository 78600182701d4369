"""Plans a KADIS-like data set: which photograph gets which distortions, and which split.

A distorted image is a recipe, a pure function of (photograph, type, level, seed); a split is a set
of photographs, so that no content is on both sides.
"""

import hashlib

import numpy as np

from iqa_jax.data import manifest, tables

SPLITS = ('train', 'val', 'test', 'pool')
FEWEST = (1, 1, 2, 2)  # photographs of each split in use; intervals by photograph need two


def assign_splits(ref_ids: list[str], shares: tuple[float, ...], seed: int) -> dict[str, str]:
    """Deals photographs to train, val, test and pool in a seeded order.

    Args:
      ref_ids: photograph ids.
      shares: four non-negative numbers, proportional to the wanted sizes (largest remainder).
      seed: of the order.

    Raises:
      ValueError: the shares are not four non-negative numbers, or a split with a positive share
        would get fewer photographs than `FEWEST`.
    """
    shares = checked(shares)
    dealt = counts(shares, len(ref_ids))
    lacking = short(shares, dealt)
    if lacking.any():
        i = int(np.argmax(lacking))
        enough = len(ref_ids) + 1
        while short(shares, counts(shares, enough)).any():
            enough += 1
        raise ValueError(
            f'{len(ref_ids)} photographs are too few: split {SPLITS[i]} would get {dealt[i]} and '
            f'needs {FEWEST[i]}; these config.split_shares need {enough} photographs.'
        )
    shuffled = np.random.default_rng(seed).permutation(sorted(ref_ids)).tolist()
    names = [name for name, c in zip(SPLITS, dealt, strict=True) for _ in range(c)]
    return dict(zip(shuffled, names, strict=True))


def checked(shares: tuple[float, ...]) -> np.ndarray:
    """The shares as float64 [4]; a ValueError unless they are four non-negative numbers."""
    shares = np.asarray(shares, np.float64)
    if shares.shape != (4,) or (shares < 0).any() or shares.sum() <= 0:
        raise ValueError(
            'config.split_shares needs four non-negative numbers: train val test pool.'
        )
    return shares


def counts(shares: np.ndarray, n: int) -> np.ndarray:
    """int [4]: n photographs divided in proportion to the shares (largest remainder)."""
    exact = shares / shares.sum() * n
    found = np.floor(exact).astype(int)
    found[np.argsort(found - exact, kind='stable')[: n - found.sum()]] += 1
    return found


def short(shares: np.ndarray, dealt: np.ndarray) -> np.ndarray:
    """bool [4]: splits in use that get too few photographs."""
    return (shares > 0) & (dealt < FEWEST)


def image_seed(seed: int, ref_id: str, number: int, level: int) -> int:
    """The seed of one recipe: 31 bits from a digest, independent of all other rows."""
    digest = hashlib.sha256(f'{seed}/{ref_id}/{number}/{level}'.encode()).digest()
    return int.from_bytes(digest[:4], 'big') & 0x7FFFFFFF


def versions(
    ref_id: str, numbers: list[int], levels: tuple[int, ...], types_per_photo: int, seed: int
) -> tables.Table:
    """The pristine row of one photograph, then its distorted versions, type by type.

    Args:
      ref_id: photograph id.
      numbers: KADID numbers of the distortions to use.
      levels: levels of each, 1..5.
      types_per_photo: 0 gives every photograph all types; n > 0 draws n of them per photograph
        (KADIS-700k has n = 1).
      seed: of the draw and of every recipe.

    Returns:
      Columns image_id, ref_id, type, level and seed of the manifest; they depend on no other
      photograph.
    """
    chosen = numbers
    if types_per_photo:
        rng = np.random.default_rng([seed, image_seed(seed, ref_id, 0, 0)])
        chosen = sorted(rng.choice(numbers, min(types_per_photo, len(numbers)), replace=False))
    cells = [(0, 0)] + [(int(number), level) for number in chosen for level in levels]
    rows = [
        (f'{ref_id}_{number:02d}_{level:02d}' if number else ref_id, ref_id, number, level,
         image_seed(seed, ref_id, number, level))
        for number, level in cells
    ]  # fmt: skip
    names = ('image_id', 'ref_id', 'type', 'level', 'seed')
    return {
        name: np.array(values, manifest.COLUMNS[name])
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
