"""gmad: score tables of models and rivals -> the pairs on which they contradict each other most."""

import time
from pathlib import Path

from iqa_jax.competition import search
from iqa_jax.data import exposure, manifest, score_columns, tables
from iqa_jax.runtime import artifacts, stages
from iqa_jax.tasks import opening

KEYS = {
    'manifest', 'splits', 'models', 'rivals', 'exclude', 'levels', 'window', 'half_width',
    'tolerance', 'top_k', 'max_per_ref', 'each_image_once', 'roles', 'max_pairs',
}  # fmt: skip
RULES = (
    'levels', 'window', 'half_width', 'tolerance', 'top_k', 'max_per_ref', 'each_image_once',
)  # fmt: skip


def run(config: dict, workdir: str | Path) -> dict:
    """Writes pairs.parquet, pairs.csv (all roles and levels, as searched) and quarantine.csv.

    `models` and `rivals` map a label to {'scores', 'column'}; images without a score in all of
    them are set aside; images of the manifests in `exclude` are not chosen again, under no other
    id either; `max_pairs` keeps the pairs with the widest attacker gaps.
    """
    (config, given), workdir = opening.begin(config, KEYS), Path(workdir)
    columns = config['models'] | config['rivals']
    excluded = [entry['manifest'] for entry in config['exclude'].values()]
    inputs = [config['manifest'], *(c['scores'] for c in columns.values()), *excluded]
    stage = stages.Stage('gmad', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    pool = manifest.in_splits(
        manifest.read(config['manifest']), tuple(config['splits']), config['manifest']
    )
    kept, scores, left_out = score_columns.oriented(
        pool['image_id'], columns, score_columns.opened(columns)
    )
    pool = tables.select(pool, kept)
    rated = _rated(pool, [manifest.read(path) for path in excluded])
    pairs = search.compete(
        scores,
        dict.fromkeys(scores, True),
        models=list(config['models']),
        rivals=list(config['rivals']),
        image_ids=pool['image_id'],
        ref_ids=pool['ref_id'],
        exclude=rated,
        roles=config['roles'],
        **{name: config[name] for name in RULES},
    )
    if not len(pairs['defender']):
        raise ValueError(
            f'gMAD found no pair among {len(pool["image_id"])} images; widen config.half_width, '
            'raise config.tolerance or config.max_per_ref.'
        )
    if config['max_pairs']:
        widest = (-pairs['attacker_gap']).argsort(kind='stable')[: config['max_pairs']]
        pairs = tables.select(pairs, sorted(widest))
    outputs = [workdir / 'pairs.parquet', workdir / 'pairs.csv']
    for path in outputs:
        tables.write(path, pairs, fingerprint=stage.fingerprint)
    outputs.append(workdir / 'quarantine.csv')
    artifacts.commit(outputs[-1], tables.quarantine_csv(left_out), fingerprint=stage.fingerprint)
    gap = float(pairs['attacker_gap'].mean())
    summary = {
        'pairs': len(pairs['defender']),
        'images': len({*pairs['image_id_best'].tolist(), *pairs['image_id_worst'].tolist()}),
        'quarantined': len(left_out),
        'seconds': time.monotonic() - start,
        'headline': f'of {len(pool["image_id"])}, mean attacker gap {gap:.0f} of 100',
        'mean_attacker_gap': gap,
        'artifact': 'pairs.parquet',
    }
    return stage.finish(summary, outputs)


def _rated(pool: tables.Table, excluded: list[tables.Table]) -> list[str]:
    """Ids of rated images and of those of the pool that have the bytes or the recipe of one.

    A distortion may change nothing, as a blur of 0.1 pixels does.
    """
    ids: set[str] = set()
    for rows in excluded:
        same = pool['image_id'][exposure.same_image(pool, rows)]
        ids |= {*rows['image_id'].tolist(), *same.tolist()}
    return sorted(ids)
