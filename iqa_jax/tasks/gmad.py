"""gmad: score tables of models and rivals -> the pairs on which they contradict each other most."""

import time

import numpy as np

from iqa_jax.competition import search
from iqa_jax.data import exposure, manifest, score_columns, score_stream, tables
from iqa_jax.evaluation import logistic
from iqa_jax.runtime import artifacts, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import gmad_pictures, opening

KEYS = {
    'manifest', 'splits', 'models', 'rivals', 'id_column', 'content_column', 'exclude', 'scale',
    'rated', 'levels', 'window', 'half_width', 'half_points', 'tolerance', 'top_k', 'max_per_ref',
    'each_image_once', 'engine', 'objective', 'roles', 'max_pairs', 'figures', 'sheets',
}  # fmt: skip
RULES = (
    'levels', 'window', 'half_width', 'half_points', 'tolerance', 'top_k', 'max_per_ref',
    'each_image_once', 'engine', 'objective',
)  # fmt: skip
SCALES = ('percentile', 'logistic', 'own')


class NoPairsError(ValueError):
    """No two images are alike to a defender, or all of them were rated already."""


def run(config: dict, workdir: str | Path) -> dict:
    """Writes pairs.parquet, pairs.csv (all roles and levels, as searched), quarantine.csv, figures.

    `models` and `rivals` map a label to {'scores', 'column'}. With a manifest its images compete;
    without one those of the score tables: one table is streamed, several are joined in memory.
    Images without a score in all of them are set aside; images of the manifests in `exclude` are
    not chosen again, under no other id either; `max_pairs` keeps the pairs with the widest gaps.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    _check(config)
    columns = config['models'] | config['rivals']
    excluded = [entry['manifest'] for entry in config['exclude'].values()]
    held = [config[key] for key in ('manifest', 'rated') if config[key]]
    scores = [c[key] for c in columns.values() for key in ('scores', 'rated_scores') if key in c]
    stage = stages.Stage('gmad', workdir, given, inputs=[*held, *scores, *excluded])
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    pool, table, higher, sources, left_out = _opened(config, columns)
    pairs, level_images = search.compete(
        table,
        higher,
        models=list(config['models']),
        rivals=list(config['rivals']),
        exclude=_rated(pool, [manifest.read(path) for path in excluded]),
        columns=sources,
        roles=config['roles'],
        scale=_mappings(config, columns, higher) if config['scale'] == 'logistic'
        else config['scale'],
        **{name: config[name] for name in RULES},
    )  # fmt: skip
    if not len(pairs['defender']):
        raise NoPairsError(
            f'gMAD found no pair among the images of {table.name}; widen half_width, raise '
            'tolerance or max_per_ref of its config.'
        )
    if config['max_pairs']:
        widest = (-pairs['gap']).argsort(kind='stable')[: config['max_pairs']]
        pairs = tables.select(pairs, sorted(widest))
    return _conclude(stage, pool, pairs, level_images, left_out, config, workdir, start)


@sharing.on_main
def _conclude(
    stage: stages.Stage,
    pool: tables.Table | None,
    pairs: tables.Table,
    level_images: dict,
    left_out: list[dict],
    config: dict,
    workdir: Path,
    start: float,
) -> dict:
    """Everything that is written of the pairs, which all processes have found together."""
    outputs = [workdir / 'pairs.parquet', workdir / 'pairs.csv']
    for path in outputs:
        tables.write(path, pairs, {'level_images': level_images}, stage.fingerprint)
    drawn, unseen, undrawn = gmad_pictures.draw(config, pool, pairs, workdir, stage.fingerprint)
    left_out += [{'file': file, 'reason': reason} for file, reason in unseen.items()]
    outputs.append(workdir / 'quarantine.csv')
    artifacts.commit(outputs[-1], tables.quarantine_csv(left_out), fingerprint=stage.fingerprint)
    summary = {
        'pairs': len(pairs['defender']),
        'images': len({*pairs['image_id_best'].tolist(), *pairs['image_id_worst'].tolist()}),
        'quarantined': len(left_out),
        'figures': len(drawn),
        'figures left out': undrawn,
        'seconds': time.monotonic() - start,
        'headline': f'mean attacker gap {float(pairs["gap"].mean()):.4g}',
        'mean_attacker_gap': float(pairs['gap'].mean()),
        'artifact': 'pairs.parquet',
    }
    return stage.finish(summary, [*outputs, *drawn])


def _check(config: dict) -> None:
    if config['scale'] not in SCALES:
        raise ValueError(f'config.scale={config["scale"]!r} is not one of {", ".join(SCALES)}.')
    if config['manifest'] and config['content_column']:
        raise ValueError(
            "config.content_column is for config.manifest=''; a manifest has ref_id itself."
        )


def _opened(config: dict, columns: dict[str, dict]) -> tuple:
    """(rows of the manifest or None, score table, directions, label -> column, images left out)."""
    paths = {column['scores'] for column in columns.values()}
    if not config['manifest'] and len(paths) == 1:
        path = paths.pop()
        table = score_stream.Table(
            as_path(path), config['id_column'], config['content_column'] or None
        )
        meta = {'columns': table.described()}
        higher = {
            label: score_columns.direction(path, c['column'], meta, c.get('higher_is_better'))
            for label, c in columns.items()
        }
        return None, table, higher, {label: c['column'] for label, c in columns.items()}, []
    opened = _score_tables(columns, config['id_column'])
    pool = None
    if config['manifest']:
        pool = manifest.in_splits(
            manifest.read(config['manifest']), tuple(config['splits']), config['manifest']
        )
        ids = pool['image_id']
    else:
        # Whoever is missing in one of the tables is counted, not forgotten.
        ids = np.array(sorted({i for t, _ in opened.values() for i in t['image_id']}), object)
    kept, scores, left_out = score_columns.oriented(ids, columns, opened)
    if pool is not None:
        pool = tables.select(pool, kept)
    contents = _contents(ids[kept], sorted(paths), config) if pool is None else pool['ref_id']
    table = score_stream.of_columns(scores, ids[kept], contents)
    return pool, table, dict.fromkeys(scores, True), {}, left_out


def _score_tables(columns: dict[str, dict], id_column: str) -> score_columns.Tables:
    """The score tables of columns, whatever their ids are called."""
    if id_column == 'image_id':
        return score_columns.opened(columns)
    found = {}
    for path in dict.fromkeys(column['scores'] for column in columns.values()):
        table = score_stream.Table(as_path(path), id_column)
        names = list(dict.fromkeys(c['column'] for c in columns.values() if c['scores'] == path))
        held = table.load(names)
        ids = held.where[held.id_column].cast('string').to_numpy()
        rows = {'image_id': ids} | {name: held.where[name].to_numpy() for name in names}
        found[path] = rows, {'columns': table.described()}
    return found


def _contents(ids: np.ndarray, paths: list[str], config: dict) -> list[str] | None:
    """What `content_column` of the first table that has it says of each image, '' for nothing."""
    name = config['content_column']
    if not name:
        return None
    for path in paths:
        if name in score_stream.Table(as_path(path), config['id_column']).schema.names:
            held = score_stream.Table(as_path(path), config['id_column'], name).load([])
            known = (held.where[c].to_pylist() for c in (held.id_column, held.content_column))
            of = dict(zip(*known, strict=True))
            return [of.get(image_id, '') for image_id in ids.tolist()]
    raise ValueError(f'No score table has the column config.content_column={name!r}.')


def _mappings(config: dict, columns: dict[str, dict], higher: dict[str, bool]) -> dict:
    """Each column's fitted logistic from its scores of the rated images to 0..100.

    The opinions are stretched to 0..100 first, the scale of the Waterloo toolbox.
    """
    if not config['rated']:
        raise ValueError("config.scale='logistic' needs config.rated, a manifest with opinions.")
    rated = manifest.read(config['rated'])
    manifest.check_one_scale(rated, config['rated'], "set config.scale='percentile'")
    known = np.flatnonzero(np.isfinite(rated['mos']))
    fits = {
        label: column | {'scores': column.get('rated_scores', column['scores'])}
        for label, column in columns.items()
    }
    kept, scores, _ = score_columns.oriented(
        rated['image_id'][known], fits, _score_tables(fits, config['id_column'])
    )
    mos, found = rated['mos'][known][kept].astype(np.float64), {}
    points = 100 * (mos - mos.min()) / (np.ptp(mos) or 1.0)
    for label, values in scores.items():
        # `oriented` turned the scores; a streamed table holds them as they were.
        found[label] = logistic.fit_logistic(values if higher[label] else -values, points)
    return found


def _rated(pool: tables.Table | None, excluded: list[tables.Table]) -> list[str]:
    """Ids of rated images and of those of the pool that have the bytes or the recipe of one.

    A distortion may change nothing, as a blur of 0.1 pixels does.
    """
    ids: set[str] = set()
    for rows in excluded:
        ids |= {*rows['image_id'].tolist()}
        if pool is not None:
            ids |= {*pool['image_id'][exposure.same_image(pool, rows)].tolist()}
    return sorted(ids)
