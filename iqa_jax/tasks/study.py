"""study: images or gMAD pairs -> votes -> a rated manifest that training takes like any database.

With panel.kind 'people' the rating page asks people (study_people). Otherwise the observers are a
SIMULATED panel: they vote by a hidden quality that no metric equals.
"""

import time

import numpy as np

from iqa_jax.data import kadis, manifest, tables
from iqa_jax.runtime import sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.study import panel, schema
from iqa_jax.tasks import opening, provenance, study_items, study_people, study_results

KEYS = {
    'manifest', 'proxies', 'pairs', 'per_split', 'database', 'panel', 'scaling', 'serve', 'people',
    'seed',
}  # fmt: skip
PANEL_KEYS = {
    'kind', 'raters', 'votes_per_image', 'bias_std', 'noise_std', 'spammer_fraction', 'seed',
}  # fmt: skip


@sharing.on_main
def run(config: dict, workdir: str | Path) -> dict:
    """Writes votes.parquet (of pairs answers.parquet), rated.parquet, mos.csv and raters.csv; of
    people, when all have answered.

    With `pairs` the images of gMAD pairs are rated and become training images; otherwise
    `per_split` images are drawn from each split, all splits kept.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    opening.check_keys(config['panel'], PANEL_KEYS, 'config.panel')
    study_results.check_scaling(config['scaling'])
    opening.check_known(config['per_split'], set(kadis.SPLITS), 'config.per_split')
    if config['panel']['kind'] == 'people':
        return study_people.run_people(config, given, workdir)
    if config['panel']['kind'] != 'simulated':
        raise ValueError(
            f"config.panel.kind={config['panel']['kind']!r}; use 'simulated' or 'people'."
        )
    if (workdir / schema.DATABASE).is_file():
        raise ValueError(
            f"{workdir} holds a study with people; set config.panel.kind='people', or take another "
            '--workdir for a SIMULATED panel.'
        )
    given = {key: value for key, value in given.items() if key not in ('serve', 'people')}
    inputs = [
        config['manifest'],
        config['proxies'],
        *([config['pairs']] if config['pairs'] else []),
    ]
    stage = stages.Stage('study', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    rows = study_items.chosen(manifest.read(config['manifest']), config)
    votes = _simulate(rows, config)
    meta = {'simulated': True, 'panel': config['panel'], 'database': config['database']}
    meta |= provenance.about(tables.read(config['manifest'])[1])
    counts, outputs = study_results.conclude(stage, rows, votes, {}, config, meta, workdir)
    summary = counts | {
        'seconds': time.monotonic() - start,
        'headline': f'SIMULATED observers, {counts["headline"]}',
        'artifact': 'rated.parquet',
    }
    return stage.finish(summary, outputs)


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
