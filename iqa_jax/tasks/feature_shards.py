"""A score run that keeps pooled features instead of scores, for heads that are trained on them."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from iqa_jax import models
from iqa_jax.data import features, tables
from iqa_jax.data.store import ImageStore
from iqa_jax.images import guarded
from iqa_jax.runtime import artifacts, memory, parallel, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening, score_shards, train_setup
from iqa_jax.training import extraction, saved_model

KEYS = {'manifest', 'model', 'splits', 'features', 'batch_size', 'shard_size', 'shard', 'decode'}
FEATURE_KEYS = {'backbone', 'pooling', 'preprocess'}
AT_ONCE = memory.AtOnce('images', 'config.batch_size')


def extract(config: dict, workdir: str | Path, batches: Callable) -> dict:
    """Writes features.parquet, the shards it names and quarantine.csv, see `data.features`.

    Images are read whole, at their own size. One with a side that is too short for the backbone, or
    with features that float16 cannot hold, is quarantined.

    Args:
      config: with KEYS; `model` is the folder of a saved model, of whatever pooling and head, a
        weight file, or 'imagenet'.
      workdir: of the run; finished shards in it are kept.
      batches: (store, rows, size, least side, quarantine) -> (rows, images) of all usable ones.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    wanted = config['features']
    opening.check_keys(wanted, FEATURE_KEYS, 'config.features')
    reads = models.extractor(**wanted).backbone.preprocess
    inputs = [config['manifest'], *_weights(config['model'])]
    del given['shard']  # who makes a shard changes no feature
    identity = given | {'unsigned_files': opening.unsigned_files(config['manifest'])}
    stage = stages.Stage('score', workdir, identity, inputs=inputs)
    columns = score_shards.chosen(config)
    rows, shards = score_shards.divided(stage, columns, config, workdir, '.npy')
    if (summary := (stage.part(shards.part) if shards.part else stage).done()) is not None:
        return summary
    start = time.monotonic()
    variables = extraction.load(config['model'], wanted['backbone'], wanted['preprocess'])
    placed, shape = parallel.place(variables), extraction.shape(**wanted)

    def make(path: Path, mark: str) -> None:
        parallel.pad_afresh()
        found, bad = _extract_rows(placed, store, rows[path], config, batches)
        kept = [row for row in rows[path].tolist() if row in found]
        vectors = np.stack([found[row] for row in kept]) if kept else np.empty((0, *shape))
        ids = store.columns['image_id'][kept].tolist()
        features.write_shard(path, ids, vectors, bad, mark)
        artifacts.crash_point('score.shard')

    with guarded.decoding(config['decode']) as decode:
        threads = max(1, config['decode']['processes'])
        store = ImageStore(columns, threads=threads, decode=decode)
        extracted = score_shards.made(shards, rows, make)
    if shards.part:
        return score_shards.finish_part(stage, shards, rows, extracted, start)
    about = wanted | {'preprocess': reads, 'extractor': extraction.digest(variables)}
    about |= {'shape': list(shape), 'dtype': 'float16', 'crop': 'whole image'}
    return _join(stage, shards, about, workdir, extracted, start)


@sharing.on_main
def _join(
    stage: stages.Stage,
    shards: sharing.Shards,
    about: dict,
    workdir: Path,
    extracted: int,
    start: float,
) -> dict:
    """The index of all shards, when those of the other processes are there too."""
    shards.wait()
    index = features.write_index(workdir, shards.paths, about, stage.fingerprint)
    quarantine = [e for path in shards.paths for e in artifacts.meta(path)['meta']['quarantine']]
    outputs = [workdir / features.INDEX, workdir / 'quarantine.csv', *shards.paths]
    artifacts.commit(outputs[1], tables.quarantine_csv(quarantine), fingerprint=stage.fingerprint)
    seconds = time.monotonic() - start
    summary = {
        'images': len(index['image_id']),
        'features': int(np.prod(about['shape'])),
        'quarantined': len(quarantine),
        'seconds': seconds,
        'headline': f'{extracted / seconds:.1f} images/s',
        'artifact': features.INDEX,
    }
    return stage.finish(summary, outputs)


def _weights(source: str) -> list:
    """The files that hold the extractor; ImageNet's have their digest in the code."""
    if source == 'imagenet':
        return []
    if models.is_weight_file(source):
        return [models.existing_weight_file(source)]
    return saved_model.files(source)


def _extract_rows(
    variables: dict, store: ImageStore, rows: np.ndarray, config: dict, batches: Callable
) -> tuple[dict[int, np.ndarray], list[dict]]:
    """Features by row, and what cannot be read or stored by name."""
    step = extraction.step(**config['features'])
    side = models.minimum_side(models.BACKBONES[config['features']['backbone']]())
    found, bad = {}, []
    for members, images in batches(store, rows, config['batch_size'], side, bad):
        for positions in train_setup.by_shape(images):
            vectors = _vectors(step, variables, [images[p] for p in positions])
            for position, vector in zip(positions, vectors, strict=True):
                if reason := vector if isinstance(vector, str) else features.refusal(vector):
                    name = str(store.columns['image_id'][members[position]])
                    bad.append({'file': name, 'reason': reason})
                else:
                    # Half the memory of a shard; it is what will be stored.
                    found[members[position]] = vector.astype(np.float16)
    return found, bad


def _vectors(
    step: Callable, variables: dict, images: list[np.ndarray]
) -> Iterator[np.ndarray | str]:
    """Features of every image, all of one shape, or why it has none."""

    def compute(first: int, last: int) -> np.ndarray:
        return step(variables, {'image': np.stack(images[first:last])})['features']

    n, size = len(images), images[0].shape[:2]
    for _, _, part in AT_ONCE.parts(compute, n, n, size):
        if isinstance(part, memory.DoesNotFit):
            yield f'{part}; {memory.ELSEWHERE}'
        else:
            yield from part
