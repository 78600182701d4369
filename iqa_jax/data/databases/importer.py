"""From what a reader found to the one manifest: files checked, opinions on one scale, splits."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging

from iqa_jax.data import kadis, manifest, records, tables
from iqa_jax.data.databases.layout import Found
from iqa_jax.data.databases.registry import Database
from iqa_jax.images import io

SPLIT_MODES = ('official', 'dealt')
SPREADS = ('std', 'variance', 'none')
CHECKS = ('decode', 'digest', 'presence')
# Realigned and standardised opinions leave their scale a little; those of a wrong scale by far.
OVERSHOOT = 0.25
NARROW = 0.1  # share of the scale that opinions surely span


@dataclasses.dataclass
class Imported:
    """A database as tables; the files in them are paths as the reader gave them.

    `columns` is a manifest: rated images or recipes, then the references as rows of the pool.
    `pairs` has image_id, reference, distorted; `scores` image_id and the database's own scores.
    """

    columns: tables.Table
    pairs: tables.Table
    scores: tables.Table
    quarantine: list[dict]
    references: int
    images: int


def assemble(
    database: Database, found: Found, prefix: str, options: dict, digests: dict
) -> Imported:
    """Makes the manifest of a database.

    Args:
      database: row of the registry.
      found: what its reader found.
      prefix: name of the database in ids and in the manifest.
      options: `scale`, (worst, best) opinion, which become 0 and 100; `spread`, what the column of
        spread holds, one of SPREADS; `splits`, one of SPLIT_MODES: 'official' keeps the
        database's own where it has them; `split_shares`, train, val, test, pool for the other
        images, dealt by reference content; `seed` of the dealing and of recipes.
      digests: file -> (SHA-256, reason why it cannot be used or ''), see `inspect`.

    Raises:
      ValueError: opinions do not fit the scale, an unknown split, or ids that are there twice.
    """
    rows = found.rows
    ids = identifiers(rows['name'], '' if found.own_ids else prefix)
    mos, mos_std = _opinions(rows, options['scale'], options['spread'], database)
    reasons = _reasons(rows, found.scores, mos, database, digests)
    good = np.array([not reason for reason in reasons], bool)
    quarantine = _entries(ids, reasons)
    ids, rows = ids[good], tables.select(rows, good)
    columns = _columns(found, rows, ids, prefix, digests, options['seed'])
    columns |= {'mos': mos[good], 'mos_std': mos_std[good]}
    wanted = np.isfinite(columns['mos']) | (columns['file'] == '')
    columns['split'] = _splits(columns, wanted, options)
    taken = dict(zip(ids.tolist(), rows['file'].tolist(), strict=True))
    pristine, bad = _references(found, prefix, digests, taken)
    everything = {
        name: np.concatenate([columns[name], pristine[name].astype(columns[name].dtype)])
        for name in columns
    }
    everything['database'] = np.full(len(everything['image_id']), prefix, object)
    scores = {name: values[good] for name, values in found.scores.items()}
    return Imported(
        manifest.complete(everything, prefix),
        _pairs(rows, ids, digests),
        {'image_id': ids} | scores if scores else {},
        quarantine + bad,
        len(pristine['image_id']),
        len(ids),
    )


def _columns(
    found: Found, rows: tables.Table, ids: np.ndarray, prefix: str, digests: dict, seed: int
) -> tables.Table:
    """Columns of the manifest that rows of a reader give, opinions and splits aside."""
    ref_ids = identifiers(rows['ref_name'], '' if found.own_ids else prefix)
    ref_ids = np.where(rows['ref_name'] == '', ids, ref_ids).astype(object)
    # The quarantine tells of a reference that cannot be used; its images stay without one.
    usable = _usable(rows['reference'], digests)
    seeds = np.zeros(len(ids), np.int64)
    for i in np.flatnonzero(rows['file'] == '').tolist():
        seeds[i] = kadis.image_seed(seed, ref_ids[i], int(rows['type'][i]), int(rows['level'][i]))
    return {
        'image_id': ids,
        'ref_id': ref_ids,
        'file': rows['file'],
        'sha256': _digests(rows['file'], digests),
        'ref_file': np.where(usable, rows['reference'], '').astype(object),
        'ref_sha256': np.where(usable, _digests(rows['reference'], digests), '').astype(object),
        'type': rows['type'],
        'level': rows['level'],
        'seed': seeds,
        'votes': rows['votes'],
        'split': rows['split'],
    }


def check_counts(
    database: Database,
    references: int,
    images: int,
    allow_partial: bool,
    quarantine: Sequence[dict] = (),
) -> None:
    """Compares numbers of references and images with the official ones.

    Raises:
      ValueError: they differ and a part of the database is not allowed.
    """
    there = {'references': references, 'images': images}
    wanted = {'references': database.references, 'images': database.images}
    wrong = {k: n for k, n in wanted.items() if n is not None and n != there[k]}
    if not wrong:
        return
    said = ' and '.join(f'{there[k]:,} usable {k} of {n:,}' for k, n in wrong.items())
    if not allow_partial:
        first = [f' The first left out: {e["file"]}: {e["reason"]}.' for e in quarantine[:1]]
        raise ValueError(
            f'{database.title} has {said}; complete it, or set config.allow_partial=True to import '
            f'the part that is there.{"".join(first)}'
        )
    logging.warning('This is a part of %s: %s.', database.title, said)


def identifiers(names: np.ndarray, prefix: str) -> np.ndarray:
    """Ids that are safe in file systems and CSV: prefix__name, `/` as `__`, other signs as `_`."""
    start = f'{prefix}__' if prefix else ''
    safe = re.compile(r'[^\w.-]')
    return np.array([start + safe.sub('_', name.replace('/', '__')) for name in names], object)


def inspect(
    files: list[str], how: str, threads: int, advance: Callable[[int], object]
) -> dict[str, tuple[str, str]]:
    """SHA-256 of each file ('' if not asked for), and the reason why it cannot be used or ''.

    Args:
      files: paths, each once.
      how: one of CHECKS: 'decode' also finds damaged pictures now and not when training meets
        them, 'digest' reads the bytes, 'presence' only looks whether there is a file.
      threads: that read.
      advance: called with 1 for every finished file.
    """
    results = {}
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(functools.partial(_inspect, how=how), files)
        for file, result in zip(files, done, strict=True):
            results[file] = result
            advance(1)
    return results


def _inspect(file: str, how: str) -> tuple[str, str]:
    if how == 'presence':
        return '', '' if records.exists(file) else f'{file} is not a file'
    try:
        data = records.read(file)
        if how == 'decode':
            io.decode(data)
    except io.ImageError as error:
        return '', str(error).replace('image data', file)
    return io.sha256(data), ''


def _opinions(
    rows: tables.Table, scale: tuple[float, float] | None, spread: str, database: Database
) -> tuple[np.ndarray, np.ndarray]:
    """mos and mos_std on 0..100, higher is better, float32 [N]."""
    nothing = np.full(len(rows['name']), np.nan, np.float32)
    rated = np.isfinite(rows['opinion'])
    if not rated.any():
        return nothing, nothing
    if scale is None:
        raise ValueError(
            'The table has opinions; say in config.scale=(worst, best) which values are worst and '
            'best, such as (1, 5), or (100, 0) where lower is better (DMOS).'
        )
    worst, best = (float(end) for end in scale)
    if worst == best:
        raise ValueError(f'config.scale={scale} has no extent; give (worst, best).')
    share = (rows['opinion'] - worst) / (best - worst)
    low, high = share[rated].min(), share[rated].max()
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        ends = rows['opinion'][rated].min(), rows['opinion'][rated].max()
        raise ValueError(
            f'Opinions of {database.title} reach from {ends[0]:g} to {ends[1]:g}, far beyond '
            f'{worst:g} (worst) to {best:g} (best); check the score file and config.scale.'
        )
    if rated.sum() > 2 and high - low < NARROW:
        logging.warning(
            'Opinions span %.1f %% of the scale %g to %g; is it the right one?',
            100 * (high - low), worst, best,
        )  # fmt: skip
    if spread == 'none':
        return np.float32(100 * share), nothing
    values = np.sqrt(rows['spread']) if spread == 'variance' else rows['spread']
    return np.float32(100 * share), np.float32(values * abs(100 / (best - worst)))


def _reasons(
    rows: tables.Table, scores: tables.Table, mos: np.ndarray, database: Database, digests: dict
) -> list[str]:
    """Why each row cannot be used, '' where it can."""
    needs_opinion = database.scale is not None
    lacking = [(name, ~np.isfinite(values)) for name, values in scores.items()]
    incomplete = np.any([x for _, x in lacking], axis=0) if lacking else np.zeros(len(mos), bool)
    reasons = []
    for i, file in enumerate(rows['file'].tolist()):
        reason = digests.get(file or rows['reference'][i], ('', ''))[1]
        if not reason and needs_opinion and not np.isfinite(mos[i]):
            reason = 'it has no finite opinion'
        if not reason and incomplete[i]:
            names = ', '.join(name for name, x in lacking if x[i])
            reason = f'it has no finite {names}'
        reasons.append(reason)
    return reasons


def _splits(columns: tables.Table, wanted: np.ndarray, options: dict) -> np.ndarray:
    """Split [N] of each row: its own, or dealt by reference content, or the pool if not wanted."""
    split = columns['split'].copy()
    if options['splits'] == 'dealt':
        split[split != 'pool'] = ''
    split[(split == '') & ~wanted] = 'pool'
    dealt = split == ''
    if dealt.any():
        there = sorted(set(columns['ref_id'][dealt].tolist()))
        chosen = kadis.assign_splits(there, options['split_shares'], options['seed'])
        split[dealt] = [chosen[ref_id] for ref_id in columns['ref_id'][dealt].tolist()]
    return split


def _pairs(rows: tables.Table, ids: np.ndarray, digests: dict) -> tables.Table:
    """image_id, reference, distorted of the rows that have both files."""
    both = (rows['file'] != '') & _usable(rows['reference'], digests)
    return {
        'image_id': ids[both],
        'reference': rows['reference'][both],
        'distorted': rows['file'][both],
    }


def _references(
    found: Found, prefix: str, digests: dict, taken: dict[str, str]
) -> tuple[tables.Table, list[dict]]:
    """Manifest rows of the usable references, and quarantine entries of the others.

    `taken` are the images' ids and files; a reference that is one of them has its row already.
    """
    names = np.array(list(found.references), object)
    ids = identifiers(names, '' if found.own_ids else prefix)
    files = np.array(list(found.references.values()), object)
    for i, file in zip(ids.tolist(), files.tolist(), strict=True):
        if taken.get(i, file) != file:
            raise ValueError(
                f'{prefix}: {taken[i]} and its reference {file} would both be {i}; rename one.'
            )
    reasons = [digests.get(file, ('', ''))[1] for file in files.tolist()]
    bad = _entries(ids, reasons)
    good = np.array(
        [not r and i not in taken for i, r in zip(ids.tolist(), reasons, strict=True)], bool
    )
    ids, files = ids[good], files[good]
    n = len(ids)
    table = {name: np.full(n, '', object) for name in ('ref_file', 'ref_sha256')}
    table |= {'image_id': ids, 'ref_id': ids, 'file': files}
    table['sha256'] = _digests(files, digests)
    table |= {name: np.zeros(n, np.int64) for name in ('type', 'level', 'seed', 'votes')}
    table |= {name: np.full(n, np.nan, np.float32) for name in ('mos', 'mos_std')}
    return table | {'split': np.full(n, 'pool', object)}, bad


def _digests(files: np.ndarray, digests: dict) -> np.ndarray:
    return np.array([digests.get(file, ('', ''))[0] for file in files.tolist()], object)


def _usable(files: np.ndarray, digests: dict) -> np.ndarray:
    """Whether each names a file and nothing speaks against it, bool [N]."""
    return np.array([bool(f) and not digests.get(f, ('', ''))[1] for f in files.tolist()], bool)


def _entries(ids: np.ndarray, reasons: list[str]) -> list[dict]:
    return [{'file': i, 'reason': r} for i, r in zip(ids.tolist(), reasons, strict=True) if r]
