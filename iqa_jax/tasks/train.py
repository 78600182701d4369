"""train: the one trainer. Proxies, opinion scores and pairs differ in config only.

Targets are columns of a score table (multi-task proxies) or `mos` of the manifest; the loss is
`mse` or `fidelity` (pairwise ranking); `config.ohem` adds the pruned twin to either.
"""

import functools
import json
import time
from pathlib import Path

import jax
import numpy as np
from absl import logging

from iqa_jax import models
from iqa_jax.data import manifest, tables
from iqa_jax.data.pipeline import Pipeline, Source
from iqa_jax.data.store import ImageStore
from iqa_jax.evaluation import statistics
from iqa_jax.runtime import artifacts, checkpoints, metric_writer, parallel, progress, stages
from iqa_jax.tasks import opening
from iqa_jax.training import losses, pruning, saved_model, schedules, steps

KEYS = {
    'databases', 'targets', 'loss', 'loss_options', 'model', 'init_from', 'init_output_scale',
    'crop', 'batch_size', 'total_steps', 'total_epochs', 'total_examples', 'warmup_steps',
    'schedule', 'learning_rate', 'decay_at', 'decay_factor', 'weight_decay',
    'decoupled_weight_decay', 'clip_norm', 'freeze', 'rate_scales', 'ohem', 'eval_steps',
    'eval_images', 'eval_batch_size', 'checkpoint_steps', 'log_steps', 'cache_mb', 'seed',
}  # fmt: skip
OHEM_KEYS = {'ratio', 'refresh', 'twin_weight', 'consistency_weight', 'batch_stats', 'crops'}
HARD_BLOCK = 1024  # the per-image counters grow in blocks, so that equal steps compile once


def run(config: dict, workdir: str | Path) -> dict:
    """Writes model/, metrics.jsonl, checkpoints/ and, with a twin, hard_examples.parquet."""
    (config, given), workdir = opening.begin(config, KEYS), Path(workdir)
    ohem = _check_ohem(config['ohem'])
    parallel.check_batch_size(config['batch_size'])
    inputs = [d[k] for d in config['databases'].values() for k in ('manifest', 'scores') if d[k]]
    if config['init_from'] not in ('', 'imagenet'):
        inputs.append(str(Path(config['init_from']) / 'weights.msgpack'))
    stage = stages.Stage('train', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary

    # --- data -----------------------------------------------------------------------------------
    start = time.monotonic()
    sources, validation = load_databases(config)
    pipeline = Pipeline(
        sources,
        config['batch_size'],
        tuple(config['crop']),
        different_crops=ohem is not None and ohem['crops'] == 'different',
        seed=config['seed'],
        cache_bytes=config['cache_mb'] << 20,
    )
    epoch = pipeline.steps_per_epoch
    total = schedules.duration(config, 'total', config['batch_size'], epoch)

    # --- model and state ------------------------------------------------------------------------
    program = {k: config[k] for k in (
        'loss', 'loss_options', 'model', 'warmup_steps', 'schedule', 'learning_rate', 'decay_at',
        'decay_factor', 'weight_decay', 'decoupled_weight_decay', 'clip_norm', 'freeze',
        'rate_scales', 'ohem', 'targets',
    )}  # fmt: skip
    model, tx, train_step = _program(json.dumps([program, total], sort_keys=True))
    images = -(-len(pipeline) // HARD_BLOCK) * HARD_BLOCK
    variables, origin = initial_variables(model, config)
    state = steps.create_state(variables, tx, ohem, images)
    key = jax.random.key_data(jax.random.key(config['seed']))
    # Named by what is trained: checkpoints of another config are never continued.
    saved = checkpoints.Checkpoints(workdir / 'checkpoints' / stage.fingerprint[:16])
    writer = metric_writer.MetricWriter(workdir)
    first = 0
    if (restored := saved.restore(state)) is not None:
        first, state, _ = restored
        logging.info('train continues at step %d of %d.', first, total)
    writer.rewind(first)
    state = parallel.place(state)
    if ohem is not None and first == 0:
        logging.info(
            'The twin has %d of %d weights pruned.', *pruning.sparsity(state.params, state.mask)
        )

    # --- loop -----------------------------------------------------------------------------------
    metrics, clock, val_srcc = {}, time.monotonic(), float('nan')
    batches = pipeline.batches(first, total, parallel.local_rows(config['batch_size']))
    bar = progress.progress(batches, total=total, initial=first, desc='train', unit='step')
    for step, batch in enumerate(bar, first + 1):
        state, metrics = train_step(state, batch, key)
        if ohem is not None and ohem['refresh'] == 'epoch' and step % epoch == 0:
            state = refresh_mask(state, ohem['ratio'])
        if step % config['log_steps'] == 0 or step == total:
            values = {name: float(x) for name, x in parallel.fetch(metrics).items()}
            if not np.isfinite(values['loss']):
                raise ValueError(
                    f'The loss is {values["loss"]} at step {step}; lower config.learning_rate.'
                )
            now = time.monotonic()
            count = (step - 1) % config['log_steps'] + 1
            values['images_per_second'] = count * config['batch_size'] / (now - clock)
            clock = now
            writer.write(step, values)
        if validation and (step % config['eval_steps'] == 0 or step == total):
            val_srcc = validate(state, config, validation)
            writer.write(step, {'val_srcc': val_srcc})
            clock = time.monotonic()
        if step % config['checkpoint_steps'] == 0 or step == total:
            saved.save(step, state, {})
            artifacts.crash_point('train.checkpoint')
            clock = time.monotonic()
    saved.close()
    writer.close()

    # --- what later stages read -------------------------------------------------------------------
    state = parallel.fetch(state)
    meta = {'config': given, 'versions': artifacts.versions(), 'step': int(state.step)}
    meta['origin'] = origin
    outputs = []
    if parallel.is_main():
        outputs = saved_model.save(
            workdir / 'model', state, config['model'], config['targets'], meta, stage.fingerprint
        )
        if ohem is not None:
            outputs.append(write_hard_examples(workdir, state, pipeline, stage.fingerprint))
    summary = {
        'images': len(pipeline),
        'steps': total,
        'quarantined': 0,
        'seconds': time.monotonic() - start,
        'headline': f'validation SRCC {val_srcc:.3f}' if validation else 'no validation split',
        'val_srcc': val_srcc,
        'artifact': 'model/model.json',
    }
    return stage.finish(summary, outputs)


def _check_ohem(ohem: dict | None) -> dict | None:
    if ohem is None:
        return None
    opening.check_keys(ohem, OHEM_KEYS, 'config.ohem')
    choices = {
        'refresh': pruning.REFRESHES,
        'batch_stats': ('shared', 'separate'),
        'crops': ('same', 'different'),
    }
    for name, allowed in choices.items():
        if ohem[name] not in allowed:
            raise ValueError(f'config.ohem.{name}={ohem[name]!r}; use one of {", ".join(allowed)}.')
    return ohem


def load_databases(config: dict) -> tuple[list[Source], list[Source]]:
    """Training sources and validation sources (those databases that have a val split)."""
    parts: dict[str, list[Source]] = {'train': [], 'val': []}
    for database in config['databases'].values():
        columns = manifest.read(database['manifest'])
        for split, sources in parts.items():
            if split == 'val' and split not in columns['split']:
                continue
            rows = manifest.in_splits(columns, (split,), database['manifest'])
            if database['scores']:
                scores = tables.read(database['scores'])[0]
                found = tables.join(
                    rows['image_id'], scores, list(config['targets']), database['scores']
                )
                targets = np.stack([found[name] for name in config['targets']], axis=1)
                spread = np.ones(len(targets), np.float32)
            else:
                targets, spread = rows['mos'][:, None], np.nan_to_num(rows['mos_std'], nan=1.0)
            if not np.isfinite(targets).all():
                bad = int(np.sum(~np.isfinite(targets).all(axis=1)))
                raise ValueError(
                    f'{database["manifest"]}: {bad} of {len(targets)} {split} images have no '
                    f'finite {", ".join(config["targets"])}; leave them out of the table.'
                )
            sources.append(Source(rows, targets, spread, database['weight']))
    return parts['train'], parts['val']


@functools.lru_cache(maxsize=4)
def _program(key: str):
    """Model, optimiser and mapped step of a config; equal configs share one compilation."""
    config, total = json.loads(key)
    model = saved_model.build(config['model'], len(config['targets']), parallel.AXIS)
    rate = schedules.learning_rate(config, total, config['warmup_steps'])
    tx = schedules.optimizer(config, rate)
    step = steps.make_train_step(
        model, tx, losses.get(config['loss']), config['loss_options'], config['ohem']
    )
    return model, tx, parallel.train_step(step)


def initial_variables(model, config: dict) -> tuple[dict, str]:
    """Random weights, then `init_from`: '' | 'imagenet' | a folder of a saved model.

    Returns:
      (variables, where they come from in the end: '' or 'imagenet').
    """
    crop = np.zeros((1, *config['crop'], 3), np.float32)
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(config['seed']), crop)
    source = config['init_from']
    if source == 'imagenet':
        pretrained = models.load_pretrained(config['model']['backbone'])
        return models.merge(variables, pretrained)[0], source
    if not source:
        return variables, source
    saved = saved_model.load(source)
    if saved.spec['backbone'] != config['model']['backbone']:
        raise ValueError(
            f'config.init_from={source} holds {saved.spec["backbone"]}, '
            f'config.model.backbone is {config["model"]["backbone"]}; make them equal.'
        )
    scale = config['init_output_scale']
    return saved_model.warm_start(variables, saved.variables, scale), saved.meta['origin']


def refresh_mask(state: steps.TrainState, ratio: float) -> steps.TrainState:
    """Prunes the twin anew from the latest weights (co-evolution of the two branches)."""
    return state.replace(mask=parallel.place(_magnitude_mask(state.params, ratio)))


@functools.partial(jax.jit, static_argnums=1)
def _magnitude_mask(params, ratio):
    return pruning.magnitude_mask(params, ratio)


def validate(state: steps.TrainState, config: dict, validation: list[Source]) -> float:
    """Mean over databases of the SRCC between mean prediction and mean target on whole images."""
    values = []
    spec = json.dumps(config['model'], sort_keys=True)
    score = saved_model.score_step(spec, len(config['targets']), False)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    for source in validation:
        # An even subset in manifest order: every photograph and type stays represented.
        n = len(source.targets)
        chosen = np.unique(np.linspace(0, n - 1, min(n, config['eval_images'])).astype(int))
        store = ImageStore(source.columns)
        predictions = []
        for first in range(0, len(chosen), config['eval_batch_size']):
            images = np.stack(store.load(chosen[first : first + config['eval_batch_size']]))
            predictions.append(score(variables, {'image': images})['prediction'].mean(axis=1))
        target = source.targets[chosen].mean(axis=1)
        values.append(statistics.srcc(np.concatenate(predictions), target))
    return float(np.mean(values))


def write_hard_examples(
    workdir: Path, state: steps.TrainState, pipeline: Pipeline, mark: str
) -> Path:
    """Mean |full - twin| of every training image that was seen, hardest first."""
    n = len(pipeline)
    count, total = state.hard_count[:n], state.hard_sum[:n]
    seen = np.flatnonzero(count)
    mean = total[seen] / count[seen]
    order = seen[np.lexsort((pipeline.columns['image_id'][seen].astype(str), -mean))]
    path = workdir / 'hard_examples.parquet'
    columns = {
        'image_id': pipeline.columns['image_id'][order],
        'disagreement': (total[order] / count[order]).astype(np.float32),
        'count': count[order],
    }
    tables.write(path, columns, fingerprint=mark)
    return path
