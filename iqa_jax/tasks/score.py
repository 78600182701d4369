"""score: a saved model over the images of a manifest -> a score table.

Works shard by shard; finished shards are kept, so a killed run goes on with the next one and
several processes or machines share the work.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging

from iqa_jax.data import exposure, resizing, tables
from iqa_jax.data.store import ImageStore
from iqa_jax.images import guarded, io
from iqa_jax.models import tiling
from iqa_jax.runtime import artifacts, memory, parallel, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import feature_shards, opening, score_shards
from iqa_jax.training import saved_model

KEYS = {
    'manifest', 'model', 'splits', 'name', 'twin', 'calibrated', 'uncertainty', 'bucket_step',
    'pixel_limit', 'batch_size', 'shard_size', 'shard', 'resize', 'decode',
}  # fmt: skip
COMPANIONS = {'twin': 'disagreement', 'uncertainty': 'std'}  # key of the config -> further column


def run(config: dict, workdir: str | Path) -> dict:
    """Writes scores.parquet: image_id, `name`, `name_seen` and, if asked for, two columns more.

    With `twin` there is `name_disagreement`, with `uncertainty` `name_std`. `name_seen` is what
    the model's training has to do with the image, as numbered in `exposure`; a model without a
    record of its training has none. With `shard` 'i/n' only every n-th shard from the i-th is
    scored and nothing joined. A config with `features` extracts these instead, see
    `feature_shards`.
    """
    if 'features' in config:
        return feature_shards.extract(config, workdir, _batches)
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    tiling.check(config['bucket_step'], config['pixel_limit'])
    _check_resize(config)
    sharing.share(config['shard'])
    weights = saved_model.files(config['model'], calibrated=config['calibrated'])
    unsigned = opening.unsigned_files(config['manifest'])
    del given['shard']  # who makes a shard changes no score
    identity = given | {'unsigned_files': unsigned}
    stage = stages.Stage('score', workdir, identity, inputs=[config['manifest'], *weights])
    columns = score_shards.chosen(config)
    rows, shards = score_shards.divided(stage, columns, config, workdir, '.parquet')
    if (summary := (stage.part(shards.part) if shards.part else stage).done()) is not None:
        return summary
    start = time.monotonic()
    model = saved_model.load(config['model'])
    model.check(**{key: config[key] for key in ('calibrated', 'uncertainty', 'twin')})

    def make(path: Path, mark: str) -> None:
        parallel.pad_afresh()
        table, bad = score_rows(model, store, rows[path], config)
        tables.write(path, table, {'quarantine': bad}, mark)
        artifacts.crash_point('score.shard')

    with guarded.decoding(config['decode']) as decode:
        threads = max(1, config['decode']['processes'])
        store = ImageStore(columns, threads=threads, resize=config['resize'], decode=decode)
        scored = score_shards.made(shards, rows, make)
    if shards.part:
        return score_shards.finish_part(stage, shards, rows, scored, start)
    return _join(stage, shards, model, columns, config, workdir, scored, start)


@sharing.on_main
def _join(
    stage: stages.Stage,
    shards: sharing.Shards,
    model: saved_model.SavedModel,
    columns: tables.Table,
    config: dict,
    workdir: Path,
    scored: int,
    start: float,
) -> dict:
    """The score table of all shards, when those of the other processes are there too."""
    shards.wait()
    parts = [tables.read(path) for path in shards.paths]
    quarantine = [entry for _, meta in parts for entry in meta['quarantine']]
    table = tables.concatenate([scores for scores, _ in parts])
    table |= _seen(columns, table['image_id'], config)
    described = _described(model, f'{config["name"]}_seen' in table, config)
    outputs = [workdir / 'scores.parquet', workdir / 'quarantine.csv']
    tables.write(outputs[0], table, {'columns': described}, stage.fingerprint)
    artifacts.commit(outputs[1], tables.quarantine_csv(quarantine), fingerprint=stage.fingerprint)
    seconds = time.monotonic() - start
    summary = {
        'images': len(table['image_id']),
        'quarantined': len(quarantine),
        'seconds': seconds,
        'headline': f'{scored / seconds:.1f} images/s',
        'artifact': 'scores.parquet',
    }
    return stage.finish(summary, outputs)


def _check_resize(config: dict) -> None:
    rule = config['resize']
    if rule not in resizing.RULES:
        known = ', '.join(map(repr, resizing.RULES))
        raise ValueError(f'config.resize={rule!r}; use one of {known}.')
    if rule and config['calibrated']:
        raise ValueError(
            f'config.resize={rule!r} with config.calibrated=True, but calibrations are of images '
            "as they are; set config.resize=''."
        )


def _seen(columns: tables.Table, ids: np.ndarray, config: dict) -> tables.Table:
    """The column that says which scored images the model knows; none if that is not known."""
    known = exposure.read(as_path(config['model']) / saved_model.TRAINED_ON)
    if known is None:
        return {}
    found = {'image_id': columns['image_id'], 'seen': exposure.seen(columns, known)}
    seen = tables.join(ids, found, ['seen'], config['manifest'])['seen']
    return {f'{config["name"]}_seen': seen}


def _described(model: saved_model.SavedModel, known: bool, config: dict) -> dict[str, dict]:
    """Direction, origin and companions of every score column."""
    name = config['name']
    common = {'seen': f'{name}_seen'} if known else {}
    origin = f'{model.spec["backbone"]} trained on {", ".join(model.targets)}'
    if config['resize']:
        origin += f', images resized by the rule {config["resize"]}'
    if config['calibrated']:
        people = 'SIMULATED opinions' if model.calibration['simulated'] else 'opinions'
        origin += f', calibrated to {people}'
    described = {name: common | {'higher_is_better': True, 'origin': origin}}
    origins = {'twin': f'|full - pruned twin| of {name}', 'uncertainty': f'uncertainty of {name}'}
    for key, suffix in COMPANIONS.items():
        if config[key]:
            about = {'higher_is_better': False, 'origin': origins[key]}
            described[f'{name}_{suffix}'] = common | about
    return described


def score_rows(
    model: saved_model.SavedModel, store: ImageStore, rows: np.ndarray, config: dict
) -> tuple[tables.Table, list[dict]]:
    """Scores rows of a store: their table, and unreadable images and non-finite scores by name."""
    found: dict[int, list[float]] = {}
    bad: list[dict] = []
    options = {key: config[key] for key in ('twin', 'bucket_step', 'pixel_limit')}
    for members, images in _batches(store, rows, config['batch_size'], model.minimum_side, bad):
        members, predicted = _predicted(model, members, images, options, store, bad)
        if not members:
            continue
        score, std = model.with_std(predicted, config['calibrated'])
        values = [score]
        if config['twin']:
            values.append(np.abs(predicted['prediction'] - predicted['twin']).mean(axis=1))
        if config['uncertainty']:
            values.append(std)
        for row, those in zip(members, np.stack(values, axis=1), strict=True):
            if np.isfinite(those).all():
                found[row] = those
            else:
                name = store.columns['image_id'][row]
                bad.append({'file': str(name), 'reason': 'its score is not finite'})
    kept = [row for row in rows.tolist() if row in found]
    names = [f'{config["name"]}_{suffix}' for key, suffix in COMPANIONS.items() if config[key]]
    table = {'image_id': store.columns['image_id'][kept]}
    for k, name in enumerate([config['name'], *names]):
        table[name] = np.array([found[row][k] for row in kept], np.float32)
    return table, bad


def _predicted(
    model: saved_model.SavedModel,
    members: list[int],
    images: list[np.ndarray],
    options: dict,
    store: ImageStore,
    bad: list[dict],
) -> tuple[list[int], dict[str, np.ndarray]]:
    """The rows that memory suffices for and what the model says of them; the others go to bad."""
    while members:
        try:
            return members, model.predict(images, **options)
        except memory.DoesNotFit as error:
            name = str(store.columns['image_id'][members[error.item]])
            reason = f'{error}, or {memory.ELSEWHERE}'
            logging.warning('%s is left out: %s', name, reason)
            bad.append({'file': name, 'reason': reason})
            members, images = (
                [x for i, x in enumerate(xs) if i != error.item] for xs in (members, images)
            )
    return [], {}


def _batches(
    store: ImageStore, rows: np.ndarray, size: int, side: int, bad: list[dict]
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """(rows, uint8 [H, W, 3] of each); the next chunk is decoded during the scoring."""

    def load(row: int) -> tuple[int, np.ndarray | io.ImageError]:
        try:
            image = store.load([row])[0]
            if min(image.shape[:2]) < side:
                raise io.ImageError(f'it is smaller than {side}x{side} pixels')
            return row, image
        except io.ImageError as error:
            return row, error

    chunks = [rows[i : i + size].tolist() for i in range(0, len(rows), size)]
    with ThreadPoolExecutor(store.threads) as pool:
        jobs = [pool.submit(load, row) for row in chunks[0]]
        for i in range(len(chunks)):
            loaded = [job.result() for job in jobs]
            if i + 1 < len(chunks):
                jobs = [pool.submit(load, row) for row in chunks[i + 1]]
            usable = []
            for row, image in loaded:
                if isinstance(image, io.ImageError):
                    name = str(store.columns['image_id'][row])
                    logging.warning('%s is left out: %s', name, image)
                    bad.append({'file': name, 'reason': str(image)})
                else:
                    usable.append((row, image))
            if usable:
                yield [row for row, _ in usable], [image for _, image in usable]
