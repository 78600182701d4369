"""train: the one trainer. Proxies, opinion scores and pairs differ in config only.

Targets are columns of a score table (multi-task proxies) or `mos` of the manifest; the loss is
`mse`, `fidelity` (pairwise ranking) or `annotators` (votes on pairs by score columns);
`config.ohem` adds the pruned twin to any.
"""

import contextlib
import functools
import json
import time

import jax
import numpy as np
from absl import logging

from iqa_jax.data.pipeline import Pipeline
from iqa_jax.runtime import (
    artifacts,
    metric_writer,
    noted_checkpoints,
    parallel,
    progress,
    stages,
    throughput,
)
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import (
    annotator_report,
    opening,
    provenance,
    train_checks,
    train_features,
    train_outputs,
    train_setup,
    train_start,
)
from iqa_jax.training import losses, pruning, saved_model, schedules, steps

KEYS = {
    'databases', 'targets', 'loss', 'loss_options', 'model', 'init_from', 'init_output_scale',
    'crop', 'batch_size', 'total_steps', 'total_epochs', 'total_examples', 'warmup_steps',
    'schedule', 'learning_rate', 'decay_at', 'decay_factor', 'weight_decay',
    'decoupled_weight_decay', 'clip_norm', 'freeze', 'rate_scales', 'ohem', 'eval_steps',
    'eval_images', 'eval_batch_size', 'checkpoint_steps', 'log_steps', 'cache_mb', 'input_threads',
    'prefetch_steps', 'keep', 'seed', 'pairs_per_database', 'resize', 'init_optimizer',
    'save_optimizer',
}  # fmt: skip


def run(config: dict, workdir: str | Path) -> dict:
    """Writes model/, metrics.jsonl, checkpoints/ and what else the loss and the twin leave.

    Raises:
      train_setup.DivergedError: the loss, its gradient or a validation score is not finite.
      ValueError: a value of the config cannot be used.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    train_checks.check(config)
    ohem = config['ohem']
    inputs = train_setup.files(config)
    stage = stages.Stage('train', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary

    # --- data -----------------------------------------------------------------------------------
    start = time.monotonic()
    sources, validation_sources, simulated = train_setup.load_databases(config)
    validate = train_setup.Validation(validation_sources, config)
    if config['keep'] == 'best' and not validate:
        raise ValueError("config.keep='best' needs a val split in a database; set it 'last'.")
    listed = config['pairs_per_database']
    votes = annotator_report.votes(sources, config) if config['loss'] == 'annotators' else None
    pipeline = Pipeline(
        sources,
        config['batch_size'],
        tuple(config['crop']),
        different_crops=ohem is not None and ohem['crops'] == 'different',
        pairs=listed and [listed[name] for name in config['databases']],
        resize=config['resize'],
        seed=config['seed'],
        cache_bytes=config['cache_mb'] << 20,
        threads=config['input_threads'],
        ahead=config['prefetch_steps'],
    )
    epoch = pipeline.steps_per_epoch
    total = schedules.duration(config, 'total', config['batch_size'], epoch)
    train_checks.check_total(config, total)
    eval_steps = config['eval_steps'] or epoch

    # --- model and state ------------------------------------------------------------------------
    program = {k: config[k] for k in (
        'loss', 'loss_options', 'model', 'warmup_steps', 'schedule', 'learning_rate', 'decay_at',
        'decay_factor', 'weight_decay', 'decoupled_weight_decay', 'clip_norm', 'freeze',
        'rate_scales', 'ohem', 'targets',
    )}  # fmt: skip
    model, tx, train_step = _program(json.dumps([program, total, epoch], sort_keys=True))
    key = jax.random.key_data(jax.random.key(config['seed']))
    # Named by what is trained: checkpoints of another config are never continued.
    folder = workdir / 'checkpoints' / stage.fingerprint[:16]
    saved = noted_checkpoints.NotedCheckpoints(folder)
    ahead = saved.steps()[-1:] != [total]
    state, aside, origin = train_start.first_state(
        (model, tx, train_step), config, pipeline, sources, key, ahead
    )
    best = train_outputs.Best(folder / 'best', config['keep'], state)
    writer = metric_writer.MetricWriter(workdir)
    first, val_srcc, logged = 0, None, None
    if (restored := saved.restore(state, best.refusal)) is not None:
        first, state, metadata = restored
        val_srcc, logged = metadata['val'], metadata['log']
        logging.info('train continues at step %d of %d.', first, total)
    writer.rewind(first, logged)
    state = parallel.place(state)
    if ohem is not None and first == 0:
        logging.info(
            'The twin has %d of %d weights pruned.',
            *pruning.sparsity(state.params, state.mask, ohem['layers']),
        )

    # --- loop -----------------------------------------------------------------------------------
    speed = throughput.Throughput(pipeline.images)
    rows = parallel.local_rows(pipeline.images)
    with (
        train_checks.fits_memory(config, folder),
        contextlib.closing(pipeline.batches(first, total, rows, parallel.place_batch)) as batches,
    ):
        bar = progress.progress(
            speed.watch(batches), total=total, initial=first, desc='train', unit='step'
        )
        for step, batch in enumerate(bar, first + 1):
            state, metrics = train_step(state, batch, key)
            if ohem is not None and ohem['refresh'] == 'epoch' and step % epoch == 0:
                state = refresh_mask(state, ohem, key, step // epoch)
            if step % config['log_steps'] == 0 or step == total:
                values = {name: float(x) for name, x in parallel.fetch(metrics).items()}
                if not np.isfinite([values['loss'], values['gradient_norm']]).all():
                    raise train_setup.DivergedError(
                        f'The loss is {values["loss"]} and its gradient {values["gradient_norm"]} '
                        f'at step {step}; lower config.learning_rate.'
                    )
                writer.write(step, values | train_outputs.readings(state, config) | speed.read())
            if validate and (step % eval_steps == 0 or step == total):
                value = validate(state)
                val_srcc = value if np.isfinite(value) else None  # all predictions are equal
                writer.write(step, {'val_srcc': value})
                best.offer(step, state, val_srcc)
                speed.restart()
            if step % config['checkpoint_steps'] == 0 or step == total:
                marks = {'val': val_srcc, 'log': writer.mark(), 'best': best.step}
                saved.save(step, state, marks, hold=best.step)
                artifacts.crash_point('train.checkpoint')
                speed.restart()
    saved.close()
    writer.close()

    # --- what later stages read -------------------------------------------------------------------
    state = train_features.put_back(best.take(parallel.fetch(state)), aside)
    val_srcc = val_srcc if best.val_srcc is None else best.val_srcc
    meta = {'config': given, 'versions': artifacts.versions(), 'step': int(state.step)}
    meta |= origin | {'simulated': simulated or origin['simulated']}
    meta |= {'trainings': provenance.trainings(config)}
    outputs = []
    if parallel.is_main():
        outputs = saved_model.save(
            workdir / 'model',
            state,
            config['model'],
            train_setup.output_names(config),
            meta,
            stage.fingerprint,
            optimizer=config['save_optimizer'],
        )
        seen = train_setup.trained_on(sources, validation_sources, config)
        outputs += train_outputs.trained_on(workdir / 'model', seen, stage.fingerprint)
        if ohem is not None:
            outputs.append(train_outputs.hard_examples(workdir, state, pipeline, stage.fingerprint))
        if votes is not None:
            outputs += annotator_report.write(
                workdir, state, config, sources, votes, stage.fingerprint
            )
        outputs.append(workdir / 'metrics.jsonl')
        artifacts.commit(outputs[-1], outputs[-1].read_bytes(), fingerprint=stage.fingerprint)
    headline = 'no validation SRCC' if val_srcc is None else f'validation SRCC {val_srcc:.3f}'
    summary = {
        'images': len(pipeline),
        'steps': total,
        'quarantined': 0,
        'seconds': time.monotonic() - start,
        'headline': headline + (' (SIMULATED observers)' if simulated else ''),
        'val_srcc': val_srcc,
        'simulated': simulated,
        'artifact': 'model/model.json',
    }
    if votes is not None:
        summary |= {name: int(number.sum()) for name, number in votes.items()}
    return stage.finish(summary, outputs)


@functools.lru_cache(maxsize=4)
def _program(key: str):
    """Model, optimiser and mapped step of a config; equal configs share one compilation."""
    config, total, epoch = json.loads(key)
    model = saved_model.build(config['model'], len(train_setup.output_names(config)), parallel.AXIS)
    rate = schedules.learning_rate(config, total, config['warmup_steps'], epoch)
    tx = schedules.optimizer(config, rate)
    step = steps.make_train_step(
        model,
        tx,
        losses.get(config['loss']),
        config['loss_options'],
        config['ohem'],
        config['freeze'],
    )
    return model, tx, parallel.TrainStep(step)


def refresh_mask(state: steps.TrainState, ohem: dict, key, count: int) -> steps.TrainState:
    """Prunes the twin anew from the latest weights (co-evolution of the two branches)."""
    mask = _make_mask(json.dumps(ohem, sort_keys=True))(state.params, key, count)
    return state.replace(mask=parallel.place(mask))


@functools.lru_cache(maxsize=4)
def _make_mask(ohem: str):
    options = json.loads(ohem)
    return jax.jit(lambda params, key, count: pruning.make_mask(params, options, key, count))
