"""train_denoiser: photographs -> the weights of the denoiser that distortion 15 needs."""

import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.ndimage
from absl import logging

from iqa_jax.data import sources, tables
from iqa_jax.data.patches import Patches
from iqa_jax.distortions import denoiser
from iqa_jax.images import io
from iqa_jax.runtime import artifacts, metric_writer, noted_checkpoints, parallel, progress, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening
from iqa_jax.training import schedules

KEYS = {
    'photos', 'size', 'held_out', 'patch', 'batch_size', 'sigma_max', 'layers', 'channels',
    'total_steps', 'warmup_steps', 'schedule', 'learning_rate', 'decay_at', 'decay_factor',
    'clip_norm', 'eval_sigmas', 'eval_steps', 'checkpoint_steps', 'log_steps', 'seed',
}  # fmt: skip
LICENCE = 'Apache-2.0'
FILTER_WIDTHS = np.geomspace(0.4, 4, 16)  # pixels, of the Gaussian filter to be beaten
_STREAM = 0  # of what a step draws on all devices alike
_remove_noise = jax.jit(denoiser.remove_noise)


def run(config: dict, workdir: str | Path) -> dict:
    """Writes denoiser.npz, denoiser.json (what made it, how good it is) and metrics.jsonl.

    Returns:
      The summary: photos, steps, quarantined, seconds and the artifact.

    Raises:
      ValueError: a config that cannot be trained with, too few photographs, a loss that is not
        finite.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    _check(config)
    files = sources.photo_files(config['photos'])
    names = sources.photo_ids(files, config['photos'])
    identities = [[name, _digest(file)] for name, file in zip(names, files, strict=True)]
    stage = stages.Stage('train_denoiser', workdir, given | {'photos': identities})
    if (summary := stage.done()) is not None:
        return summary
    photos, quarantine = _load(dict(zip(names, files, strict=True)), config)
    held_out = _held_out(list(photos), config)
    patches = Patches(
        [photo for name, photo in photos.items() if name not in held_out],
        config['batch_size'],
        config['patch'],
        config['seed'],
    )
    test = {name: photos[name] for name in held_out}
    state, seconds = _train(config, patches, test, workdir, stage.fingerprint)

    weights = denoiser.encode_weights(denoiser.fold(state['params'], state['batch_stats']))
    # As it will be read: what is measured here is what is shipped.
    quality = _quality(denoiser.decode_weights(weights), test, config['eval_sigmas'], filters=True)
    record = {
        'licence': LICENCE,
        'sha256': io.sha256(weights),
        'parameters': sum(x.size for x in denoiser.decode_weights(weights).values()),
        'psnr': quality,
        'held_out': held_out,
        'photos': identities,
        'seconds': round(seconds),
        'config': given,
        'versions': artifacts.versions(),
    }
    outputs = _write(weights, record, quarantine, workdir, stage.fingerprint)
    reached = ', '.join(f'{x["denoised"]:.2f} dB at sigma {sigma}' for sigma, x in quality.items())
    summary = {
        'photos': len(photos),
        'steps': config['total_steps'],
        'quarantined': len(quarantine),
        'seconds': seconds,
        'headline': f'PSNR {reached}',
        'artifact': 'denoiser.npz',
    }
    return stage.finish(summary, outputs)


def _check(config: dict) -> None:
    """Raises a ValueError that names the first key whose value cannot be trained with."""
    parallel.check_batch_size(config['batch_size'])
    least = {'layers': 3, 'channels': 1, 'total_steps': 1, 'held_out': 1, 'patch': 2}
    for name, fewest in least.items():
        if config[name] < fewest:
            raise ValueError(f'config.{name}={config[name]}; use {fewest} or more.')
    for name in ('eval_steps', 'checkpoint_steps', 'log_steps'):
        if config[name] < 1:
            raise ValueError(f'config.{name}={config[name]}; use 1 or more.')
    if config['patch'] % 2 or config['patch'] > min(config['size']):
        raise ValueError(
            f'config.patch={config["patch"]}; use an even number of at most '
            f'{min(config["size"])}, the smaller side of config.size.'
        )
    if not config['sigma_max'] > 0:
        raise ValueError(f'config.sigma_max={config["sigma_max"]}; use more than 0 (of 255).')


def _digest(file: Path) -> str:
    """SHA-256 of a file, or why it cannot be read, without its path."""
    try:
        return io.sha256(io.read_file(file))
    except io.ImageError as error:
        return str(error).removeprefix(f'{file} ')


def _load(files: dict[str, Path], config: dict) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Photographs uint8 [H, W, 3] by name, and quarantine entries of those that cannot be used."""
    photos, quarantine = {}, []
    for name, file in files.items():
        try:
            photos[name] = sources.load_photo(file, tuple(config['size']))
        except io.ImageError as error:
            logging.warning('%s is left out: %s', file, error)
            quarantine.append({'file': str(file), 'reason': str(error)})
    if len(photos) <= config['held_out']:
        raise ValueError(
            f'{len(photos)} of the {len(files)} pictures in config.photos={config["photos"]} can '
            f'be used, and config.held_out={config["held_out"]} of them are kept for validation; '
            'give more.'
        )
    return photos, quarantine


def _held_out(names: list[str], config: dict) -> list[str]:
    """Names of the photographs that are only measured on, in a seeded choice."""
    chosen = np.random.default_rng(config['seed']).permutation(sorted(names))
    return sorted(chosen[: config['held_out']].tolist())


def _train(
    config: dict, patches: Patches, test: dict[str, np.ndarray], workdir: Path, mark: str
) -> tuple[dict, float]:
    """The trained state as host arrays, and the seconds that it took, of stopped runs too."""
    total = config['total_steps']
    program = {name: config[name] for name in (
        'layers', 'channels', 'total_steps', 'warmup_steps', 'schedule', 'learning_rate',
        'decay_at', 'decay_factor', 'clip_norm', 'sigma_max',
    )}  # fmt: skip
    network, tx, train_step = _program(json.dumps(program, sort_keys=True))
    variables = network.init(jax.random.key(config['seed']), jnp.zeros((1, 8, 8, 4)), train=False)
    state = dict(variables) | {'opt_state': tx.init(variables['params']), 'step': jnp.int32(0)}
    folder = workdir / 'checkpoints' / mark[:16]
    saved = noted_checkpoints.NotedCheckpoints(folder)
    writer = metric_writer.MetricWriter(workdir)
    first, before, logged = 0, 0.0, None
    if (restored := saved.restore(state)) is not None:
        first, state, metadata = restored
        before, logged = metadata['seconds'], metadata['log']
        logging.info('train_denoiser continues at step %d of %d.', first, total)
    writer.rewind(first, logged)
    state, key = parallel.place(state), jax.random.key_data(jax.random.key(config['seed']))
    start = time.monotonic()
    batches = patches.batches(first, total, parallel.local_rows(config['batch_size']))
    bar = progress.progress(batches, total=total, initial=first, desc='denoiser', unit='step')
    for step, batch in enumerate(bar, first + 1):
        state, metrics = train_step(state, batch, key)
        if step % config['log_steps'] == 0 or step == total:
            loss = float(parallel.fetch(metrics)['loss'])
            if not np.isfinite(loss):
                raise ValueError(f'The loss is {loss} at step {step}; lower config.learning_rate.')
            writer.write(step, {'loss': loss})
        if step % config['eval_steps'] == 0:
            weights = denoiser.fold(*map(parallel.fetch, (state['params'], state['batch_stats'])))
            quality = _quality(weights, test, config['eval_sigmas'])
            writer.write(step, {f'psnr_{s}': x['denoised'] for s, x in quality.items()})
        if step % config['checkpoint_steps'] == 0 or step == total:
            seconds = before + time.monotonic() - start
            saved.save(step, state, {'seconds': seconds, 'log': writer.mark()})
            artifacts.crash_point('train_denoiser.checkpoint')
    saved.close()
    writer.close()
    return parallel.fetch(state), before + time.monotonic() - start


@functools.lru_cache(maxsize=2)
def _program(key: str):
    """Network, optimiser and mapped step of a config; equal configs share one compilation."""
    config = json.loads(key)
    network = denoiser.NoiseEstimator(config['layers'], config['channels'], parallel.AXIS)
    rate = schedules.learning_rate(config, config['total_steps'], config['warmup_steps'])
    tx = optax.chain(optax.clip_by_global_norm(config['clip_norm']), optax.adam(rate))

    def step(state: dict, batch: dict, key: jax.Array) -> tuple[dict, dict]:
        key = jax.random.fold_in(jax.random.fold_in(key, state['step']), _STREAM)
        sigma_key, noise_key = jax.random.split(key)
        clean = denoiser.to_phases(batch['patch'].astype(jnp.float32) / 255)
        highest = config['sigma_max'] / 255
        sigma = parallel.draw(
            lambda shape: jax.random.uniform(sigma_key, shape, maxval=highest),
            (len(clean), 1, 1, 1),
        )
        # Not clipped, as in DnCNN's training; what distortion 15 denoises is.
        noise = sigma * parallel.draw(lambda s: jax.random.normal(noise_key, s), clean.shape)

        def objective(params: dict) -> tuple[jax.Array, dict]:
            variables = {'params': params, 'batch_stats': state['batch_stats']}
            estimate, updated = network.apply(
                variables, clean + noise, train=True, mutable=['batch_stats']
            )
            return jnp.mean(jnp.square(estimate - noise)), updated['batch_stats']

        (loss, stats), slope = jax.value_and_grad(objective, has_aux=True)(state['params'])
        slope, loss = parallel.mean(slope), parallel.mean(loss)
        updates, opt_state = tx.update(slope, state['opt_state'], state['params'])
        return {
            'params': optax.apply_updates(state['params'], updates),
            'batch_stats': parallel.mean(stats),
            'opt_state': opt_state,
            'step': state['step'] + 1,
        }, {'loss': loss}

    return network, tx, parallel.TrainStep(step)


def _quality(
    weights: denoiser.Weights, photos: dict[str, np.ndarray], sigmas: list, filters: bool = False
) -> dict[str, dict[str, float]]:
    """Mean PSNR (dB) over photographs by sigma (of 255): noisy, denoised and, if asked, filtered.

    R, G and B are denoised one by one and measured together. `gaussian_filter` is the best of
    `FILTER_WIDTHS` for each photograph, chosen by looking at the clean one.
    """
    found: dict[str, dict[str, list]] = {}
    for sigma in sigmas:
        by_kind = found.setdefault(str(sigma), {})
        for i, photo in enumerate(photos.values()):
            clean = photo.transpose(2, 0, 1) / np.float32(255)
            noise = np.random.default_rng([i, sigma]).standard_normal(clean.shape, np.float32)
            noisy = clean + noise * np.float32(sigma / 255)
            pictures = {'noisy': [noisy], 'denoised': [_remove_noise(weights, noisy)]}
            if filters:
                pictures['gaussian_filter'] = [
                    scipy.ndimage.gaussian_filter(noisy, (0, width, width), mode='nearest')
                    for width in FILTER_WIDTHS
                ]
            for kind, ours in pictures.items():
                best = max(_psnr(clean, np.clip(picture, 0, 1)) for picture in ours)
                by_kind.setdefault(kind, []).append(best)
    return {
        sigma: {kind: float(np.mean(x)) for kind, x in by_kind.items()}
        for sigma, by_kind in found.items()
    }


def _psnr(reference: np.ndarray, distorted: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(np.square(np.float64(reference) - distorted))))


def _write(
    weights: bytes, record: dict, quarantine: list[dict], workdir: Path, mark: str
) -> list[Path]:
    """Commits weights, record, metrics and the quarantine list."""
    contents = {
        'denoiser.npz': weights,
        'denoiser.json': (json.dumps(record, indent=1, sort_keys=True) + '\n').encode(),
        'metrics.jsonl': (workdir / 'metrics.jsonl').read_bytes(),
        'quarantine.csv': tables.quarantine_csv(quarantine),
    }
    if parallel.is_main():
        for name, data in contents.items():
            artifacts.commit(workdir / name, data, fingerprint=mark)
    return [workdir / name for name in contents]
