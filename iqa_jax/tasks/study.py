"""study: images or gMAD pairs -> votes -> a rated manifest that training takes like any database.

The observers are a SIMULATED panel: they vote by a hidden quality that no metric equals. Votes of
people enter through the same votes table.
"""

import time
from pathlib import Path

import numpy as np

from iqa_jax.data import kadis, manifest, tables
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import stages
from iqa_jax.study import panel, scaling
from iqa_jax.tasks import opening, provenance

KEYS = {'manifest', 'proxies', 'pairs', 'per_split', 'database', 'panel', 'seed'}
PANEL_KEYS = {
    'kind', 'raters', 'votes_per_image', 'bias_std', 'noise_std', 'spammer_fraction', 'seed',
}  # fmt: skip


def run(config: dict, workdir: str | Path) -> dict:
    """Writes votes.parquet, rated.parquet and raters.csv.

    With `pairs` the images of gMAD pairs are rated and become training images; otherwise
    `per_split` images are drawn from each split, all splits kept.
    """
    (config, given), workdir = opening.begin(config, KEYS), Path(workdir)
    opening.check_keys(config['panel'], PANEL_KEYS, 'config.panel')
    opening.check_known(config['per_split'], set(kadis.SPLITS), 'config.per_split')
    if config['panel']['kind'] != 'simulated':
        raise ValueError(f"config.panel.kind={config['panel']['kind']!r}; use 'simulated'.")
    inputs = [
        config['manifest'],
        config['proxies'],
        *([config['pairs']] if config['pairs'] else []),
    ]
    stage = stages.Stage('study', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    rows = _chosen(manifest.read(config['manifest']), config)
    votes = _simulate(rows, config)
    images, raters = scaling.mos_from_votes(votes)
    mos = tables.join(rows['image_id'], images, ['mos', 'mos_std', 'votes'], 'the votes')
    rated = rows | mos | {'database': np.full(len(rows['image_id']), config['database'], object)}
    kept = np.isfinite(rated['mos'])
    lost = rated['image_id'][~kept].tolist()
    rated = tables.select(rated, kept)
    agreement = _agreement(votes)
    raters['srcc'] = np.array([agreement[r] for r in raters['rater_id'].tolist()])
    outputs = [workdir / name for name in ('votes.parquet', 'rated.parquet', 'raters.csv')]
    meta = {'simulated': True, 'panel': config['panel'], 'database': config['database']}
    meta |= provenance.about(tables.read(config['manifest'])[1])
    tables.write(outputs[0], votes, meta, stage.fingerprint)
    manifest.write(outputs[1], rated, meta | {'without_votes': lost}, stage.fingerprint)
    tables.write(outputs[2], raters, meta, stage.fingerprint)
    error = float(np.nanmean(images['standard_error']))
    summary = {
        'images': len(rated['image_id']),
        'raters': len(raters['rater_id']),
        'votes': len(votes['vote']),
        'excluded': int(raters['excluded'].sum()),
        'quarantined': len(lost),
        'seconds': time.monotonic() - start,
        'headline': f'SIMULATED observers, mean standard error {error:.1f} of 100',
        'artifact': 'rated.parquet',
    }
    return stage.finish(summary, outputs)


def _chosen(columns: tables.Table, config: dict) -> tables.Table:
    """The rows to rate: both images of every pair, or a seeded draw from each split."""
    ids = columns['image_id']
    if config['pairs']:
        pairs = tables.read(config['pairs'])[0]
        wanted = {*pairs['image_id_best'].tolist(), *pairs['image_id_worst'].tolist()}
        rows = np.array([i for i, image_id in enumerate(ids.tolist()) if image_id in wanted], int)
        chosen = tables.select(columns, rows)
        return chosen | {'split': np.full(len(rows), 'train', object)}
    rows = []
    for number, split in enumerate(kadis.SPLITS):
        inside = np.flatnonzero(columns['split'] == split)
        count = min(config['per_split'].get(split, 0), len(inside))
        draw = np.random.default_rng([config['seed'], number]).permutation(len(inside))[:count]
        rows.append(np.sort(inside[draw]))
    return tables.select(columns, np.concatenate(rows))


def _simulate(rows: tables.Table, config: dict) -> tables.Table:
    proxies, meta = tables.read(config['proxies'])
    names = list(meta['columns'])
    found = tables.join(rows['image_id'], proxies, names, config['proxies'])
    settings = {k: v for k, v in config['panel'].items() if k != 'kind'}
    quality = panel.hidden_quality(
        rows['type'],
        rows['level'],
        np.stack([found[name] for name in names], axis=1),
        rows['ref_id'],
        settings['seed'],
    )
    return panel.simulate_votes(rows['image_id'], quality, **settings)


def _agreement(votes: tables.Table) -> dict[str, float]:
    """SRCC of each observer's votes with the mean vote of the others on the same images."""
    _, image = np.unique(votes['image_id'].astype(str), return_inverse=True)
    vote = votes['vote'].astype(np.float64)
    total, count = np.bincount(image, vote)[image], np.bincount(image)[image]
    with np.errstate(invalid='ignore', divide='ignore'):
        others = (total - vote) / (count - 1)
    found = {}
    for rater in sorted(set(votes['rater_id'].tolist())):
        mine = (votes['rater_id'] == rater) & np.isfinite(others)
        enough = mine.sum() >= 3
        found[rater] = statistics.srcc(vote[mine], others[mine]) if enough else np.nan
    return found
