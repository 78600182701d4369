"""KADID-10k and KonIQ-10k, of the multimedia group in Konstanz."""

from pathlib import Path

import numpy as np
from absl import logging

from iqa_jax.data.databases import layout

KADID_VOTES = 30  # degradation category ratings of each image
ROUNDED = 0.001  # the column var has three decimals
KONIQ_TABLES = ('koniq10k_distributions_sets.csv', 'koniq10k_scores_and_distributions.csv')


def read_kadid10k(folder: Path, options: dict) -> layout.Found:
    """KADID-10k: dmos.csv (dist_img, ref_img, dmos, var) and images/.

    The column dmos is a mean over 1..5 where 5 is imperceptible, so that higher is better. The
    column var is taken as the variance that its name says, as published training code does; a
    warning says so where its numbers are those of standard deviations.
    """
    path = layout.find(folder, 'dmos.csv')
    images = layout.find(folder, 'images')
    table = layout.read_csv(path)
    distorted = layout.column(table, 'dist_img', where=path)
    references = layout.column(table, 'ref_img', where=path)
    dmos = layout.numbers(layout.column(table, 'dmos', where=path), 'dmos', path)
    spread = layout.numbers(layout.column(table, 'var', where=path), 'var', path)
    as_std, as_variance = _possible(dmos, spread), _possible(dmos, np.sqrt(spread))
    if as_std > 0.5 > as_variance:
        logging.warning(
            '%s: column var looks like standard deviations: %.0f %% of its rows are possible for '
            "%d votes of 1..5 as such, %.0f %% as variances; config.spread='std' reads it so.",
            path, 100 * as_std, KADID_VOTES, 100 * as_variance,
        )  # fmt: skip
    files = layout.pictures(images)
    found = {layout.stem(r): layout.lookup(files, r, images) for r in references}
    names = [layout.stem(name) for name in distorted]
    cells = [_type_and_level(name, path) for name in names]
    paths = [layout.lookup(files, name, images) for name in distorted]
    rows = layout.rows(
        names,
        paths,
        ref_name=[layout.stem(r) for r in references],
        reference=[found[layout.stem(r)] for r in references],
        opinion=dmos,
        spread=spread,
        votes=[KADID_VOTES] * len(names),
        type=[number for number, _ in cells],
        level=[level for _, level in cells],
    )
    return layout.Found(rows, [path], found, layout.unlisted(files, paths, found.values()))


def read_koniq10k(folder: Path, options: dict) -> layout.Found:
    """KonIQ-10k: one of its two score files and 1024x768/ or 512x384/ with its pictures.

    koniq10k_distributions_sets.csv has the official sets and is preferred; MOS there is the scaled
    one, which koniq10k_scores_and_distributions.csv calls MOS_zscore. SD is of votes of 1..5.
    """
    path = layout.find(folder, *KONIQ_TABLES)
    images = layout.find(folder, '1024x768', '512x384', 'images')
    table = layout.read_csv(path)
    listed = layout.column(table, 'image_name', where=path)
    scaled = 'MOS' if path.name.casefold() == KONIQ_TABLES[0] else 'MOS_zscore'
    sets = layout.column(table, 'set', where=path, optional=True)
    spread = layout.numbers(layout.column(table, 'SD', where=path), 'SD', path)
    votes = layout.whole(layout.column(table, 'c_total', where=path), 'c_total', path)
    if sets and (unknown := set(sets) - set(layout.SETS)):
        raise ValueError(f'{path} has set {min(unknown)!r}; known are {", ".join(layout.SETS)}.')
    files = layout.pictures(images)
    paths = [layout.lookup(files, name, images) for name in listed]
    rows = layout.rows(
        [layout.stem(name) for name in listed],
        paths,
        opinion=layout.numbers(layout.column(table, scaled, where=path), scaled, path),
        spread=spread * (100 - 1) / (5 - 1),  # from votes of 1..5 to the 1..100 of the opinions
        votes=votes,
        split=[layout.SETS[name] for name in sets] if sets else None,
    )
    return layout.Found(rows, [path], unlisted=layout.unlisted(files, paths))


def _possible(mean: np.ndarray, std: np.ndarray) -> float:
    """Share of rows whose mean and deviation KADID_VOTES whole votes can have, within rounding.

    The sum of the squared votes is whole; by chance that holds for some 5 in 100 rows.
    """
    total = np.round(KADID_VOTES * mean)
    squares = KADID_VOTES * (std**2 + (total / KADID_VOTES) ** 2)
    slack = KADID_VOTES * 2 * std * (ROUNDED / 2)
    return float(np.mean(abs(squares - np.round(squares)) <= slack)) if len(mean) else 0.0


def _type_and_level(name: str, where: Path) -> tuple[int, int]:
    """(KADID number, level) of I01_10_05."""
    parts = name.split('_')
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        raise ValueError(f'{where} names {name}; distorted images are named like I01_10_05.png.')
    return int(parts[1]), int(parts[2])
