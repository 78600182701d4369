"""Do imported opinions point the right way? They should agree with a full-reference metric."""

import numpy as np
from absl import logging

from iqa_jax import fr_metrics
from iqa_jax.data import pairs, tables
from iqa_jax.data.databases import importer
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import parallel

METRIC = 'gmsd'  # cheap; its published SRCC on LIVE, CSIQ, TID2013, KADID-10k is 0.8 and more
LOWEST_SRCC = -0.2
FEWEST_PAIRS = 10
MOST_ROWS = 10_000  # of a score table


def check(
    made: importer.Imported, directions: dict[str, bool], config: dict
) -> tuple[float | None, str]:
    """Compares opinions with a metric on some pairs, or the columns of a score table.

    Args:
      made: the imported database.
      directions: of its score columns; empty where it has none.
      config: of the stage, `tripwire_pairs`, `threads` and `seed`.

    Returns:
      (SRCC, negative if something looks flipped, or None if it was not checked; what to say). When
      it is below LOWEST_SRCC a warning is logged too.
    """
    if not config['tripwire_pairs']:
        return None, 'direction not checked: config.tripwire_pairs is 0'
    if directions:
        return _columns_agree(made.scores, directions, config['seed'])
    known = dict(zip(made.columns['image_id'].tolist(), made.columns['mos'], strict=True))
    mos = np.array([known[image_id] for image_id in made.pairs['image_id'].tolist()], np.float64)
    rated = np.flatnonzero(np.isfinite(mos))
    if not len(rated):
        return None, 'direction not checked: no rated image has a reference'
    rng = np.random.default_rng(config['seed'])
    chosen = np.sort(rng.permutation(rated)[: config['tripwire_pairs']])
    rows, quality = _quality(tables.select(made.pairs, chosen), config['threads'])
    if len(rows) < FEWEST_PAIRS:
        return None, f'direction not checked: only {len(rows)} pairs could be scored'
    srcc = float(statistics.srcc(mos[chosen][rows], quality))
    what = f'{METRIC.upper()} on {len(rows)} pairs'
    if not np.isfinite(srcc):
        return None, f'direction not checked: opinions or {what} are all equal'
    if srcc < LOWEST_SRCC:
        logging.warning(
            'THE OPINIONS LOOK FLIPPED: their SRCC with %s is %.3f. The score file is not the '
            'official one, or the ends of config.scale are the wrong way round.',
            what, srcc,
        )  # fmt: skip
        return srcc, f'OPINIONS LOOK FLIPPED, SRCC {srcc:.3f} with {what}'
    return srcc, f'SRCC {srcc:.3f} with {what}'


def _quality(columns: tables.Table, threads: int) -> tuple[list[int], np.ndarray]:
    """Rows of pairs that can be scored, and their quality by the tripwire's metric."""
    metric = fr_metrics.metric(METRIC)
    found: dict[int, float] = {}
    for rows, references, distorted in pairs.batches(columns, 8, threads, 256, {}):
        if not metric.refuses(*references.shape[1:3]):
            values = parallel.fetch(metric(references, distorted))
            found |= dict(zip(rows, values.tolist(), strict=True))
    rows = sorted(row for row, value in found.items() if np.isfinite(value))
    sign = 1 if metric.higher_is_better else -1
    return rows, sign * np.array([found[row] for row in rows])


def _columns_agree(
    scores: tables.Table, directions: dict[str, bool], seed: int
) -> tuple[float | None, str]:
    """Lowest SRCC of a column, higher being better, with the mean rank of the others."""
    if len(directions) < 3:
        return None, 'direction not checked: fewer than three score columns'
    n = len(scores['image_id'])
    rows = np.random.default_rng(seed).permutation(n)[:MOST_ROWS]
    ranks = {
        name: np.argsort(np.argsort((1 if better else -1) * scores[name][rows]))
        for name, better in directions.items()
    }
    total = sum(ranks.values())
    found = {name: float(statistics.srcc(x, total - x)) for name, x in ranks.items()}
    worst = min(found, key=found.get)
    if flipped := [name for name, srcc in found.items() if srcc < LOWEST_SRCC]:
        said = f'COLUMN {", ".join(flipped)} LOOKS FLIPPED, SRCC {found[worst]:.3f} with the others'
        logging.warning('%s.', said)
        return found[worst], said
    return found[worst], f'columns agree, lowest SRCC {found[worst]:.3f} ({worst})'
