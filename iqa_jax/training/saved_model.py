"""A trained model as files, all digested: weights.msgpack, model.json and trained_on.parquet.

The last may be missing; then it is not known what the model was trained on. optimizer.msgpack is
there on demand, for a second stage that continues Adam.
"""

import dataclasses
import functools
import json
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from iqa_jax import models
from iqa_jax.runtime import artifacts, parallel
from iqa_jax.training import pruning, schedules, steps

TRAINED_ON = 'trained_on.parquet'  # see data.exposure; training writes it beside the weights
FILES = ('weights.msgpack', 'model.json')


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A model with its weights, ready to score.

    Attributes:
      spec: arguments of `models.build`.
      targets: name of each output; every output is higher-is-better.
      variables: params, batch_stats, and the twin's when the model was trained with one.
      meta: config, versions, training step, origin of the first weights, simulated.
    """

    spec: dict
    targets: tuple[str, ...]
    variables: dict
    meta: dict

    @property
    def has_twin(self) -> bool:
        """Whether a pruned twin was trained beside the model."""
        return 'twin_params' in self.variables

    def score(self, images: np.ndarray, *, twin: bool = False) -> np.ndarray | dict:
        """Scores whole images.

        Args:
          images: uint8 or float32 in [0, 1], [H, W, 3] or [N, H, W, 3], sides at least 32.
          twin: return the pruned twin's scores too.

        Returns:
          float32 [N] quality, higher is better: the mean of the outputs. With `twin`,
          {'prediction': [N, K], 'twin': [N, K]} instead.

        Raises:
          ValueError: wrong shape, dtype or range, or no twin was saved.
        """
        images = _checked(images)
        if twin and not self.has_twin:
            raise ValueError('This model was trained without a pruned twin; set config.twin=False.')
        mapped = score_step(json.dumps(self.spec, sort_keys=True), len(self.targets), twin)
        result = mapped(self.placed(twin), {'image': images})
        return result if twin else result['prediction'].mean(axis=1)

    def placed(self, twin: bool) -> dict:
        """The variables that scoring needs, on the devices; moved there once."""
        cached = self.__dict__.setdefault('_placed', {})
        if twin not in cached:
            names = ['params', 'batch_stats'] + ['twin_params', 'twin_batch_stats'] * twin
            cached[twin] = parallel.place({name: self.variables[name] for name in names})
        return cached[twin]


@functools.cache
def score_step(spec: str, outputs: int, twin: bool):
    """One mapped function per architecture, so that no later stage compiles it again."""
    return parallel.eval_step(steps.make_score_step(build(json.loads(spec), outputs), twin))


def build(spec: dict, outputs: int, axis_name: str | None = None):
    """The Flax module of a spec; `axis_name` synchronises batch statistics in training."""
    return models.build(**spec, outputs=outputs, axis_name=axis_name)


def save(
    folder: Path,
    state: steps.TrainState,
    spec: dict,
    targets: list[str],
    meta: dict,
    mark: str,
    *,
    optimizer: bool = False,
):
    """Commits the weights, model.json and, on demand, Adam's state; returns the paths."""
    params, mask = (
        {k: v for k, v in tree.items() if k != 'loss'} for tree in (state.params, state.mask)
    )
    variables = {'params': params, 'batch_stats': state.batch_stats}
    if mask:
        own = state.twin_batch_stats or state.batch_stats
        twin = pruning.apply_mask(params, mask)
        variables |= {'twin_params': twin, 'twin_batch_stats': own}
    data = flax.serialization.msgpack_serialize(jax.tree.map(np.asarray, parallel.fetch(variables)))
    record = {'spec': spec, 'targets': list(targets), 'meta': meta}
    artifacts.commit(folder / 'weights.msgpack', data, fingerprint=mark)
    text = json.dumps(record, indent=1, sort_keys=True).encode()
    artifacts.commit(folder / 'model.json', text, fingerprint=mark)
    outputs = [folder / 'weights.msgpack', folder / 'model.json']
    if optimizer:
        adam = jax.tree.map(np.asarray, parallel.fetch(schedules.adam_states(state.opt_state)))
        outputs.append(optimizer_file(folder))
        data = flax.serialization.msgpack_serialize(adam)
        artifacts.commit(outputs[-1], data, fingerprint=mark)
    else:
        _forget(optimizer_file(folder))
    return outputs


def optimizer_file(folder: str | Path) -> Path:
    """Where the optimiser state of a saved model is, if it was saved."""
    return Path(folder) / 'optimizer.msgpack'


def load_optimizer(folder: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Adam's state of every parameter that was trained (see `schedules.adam_states`).

    Raises:
      artifacts.MissingArtifact, artifacts.DamagedArtifact: it is not there or not intact.
    """
    return flax.serialization.msgpack_restore(artifacts.read(optimizer_file(folder)))


def load(folder: str | Path) -> SavedModel:
    """Loads a saved model.

    Raises:
      artifacts.MissingArtifact, artifacts.DamagedArtifact: files are not there or not intact.
      ValueError: a weight is not finite.
    """
    folder = Path(folder)
    record = json.loads(artifacts.read(folder / 'model.json'))
    variables = flax.serialization.msgpack_restore(artifacts.read(folder / 'weights.msgpack'))
    bad = sum(not np.isfinite(x).all() for x in jax.tree.leaves(variables))
    if bad:
        raise ValueError(f'{folder}: {bad} weight arrays are not finite; train the model again.')
    return SavedModel(record['spec'], tuple(record['targets']), variables, record['meta'])


def files(folder: str | Path) -> list[Path]:
    """The files of a saved model, the record of its training if it has one."""
    record = Path(folder) / TRAINED_ON
    return [Path(folder) / name for name in FILES] + [record] * record.is_file()


def forget_training(folder: Path) -> None:
    """Removes the record of an earlier model from a folder, if there is one."""
    _forget(folder / TRAINED_ON)


def _forget(file: Path) -> None:
    for path in (file, artifacts.sidecar_path(file)):
        path.unlink(missing_ok=True)


def warm_start(variables: dict, saved: dict, output_scale: float) -> dict:
    """Takes every saved array whose path and shape fit; others, such as new layers, stay.

    The output layer of a model with one output starts as the mean of the saved outputs, times
    `output_scale`: all are higher-is-better, so the mean keeps what they agree on.
    """
    theirs = flax.traverse_util.flatten_dict(saved, sep='/')

    def take(path: str, ours: jax.Array) -> jax.Array:
        value = theirs.get(path)
        if value is None:
            return ours
        is_output = path.startswith('params/regressor/output/')
        if is_output and ours.shape[-1] == 1 and value.shape[:-1] == ours.shape[:-1]:
            return jnp.asarray(output_scale * value.mean(axis=-1, keepdims=True))
        return jnp.asarray(value) if value.shape == ours.shape else ours

    flat = flax.traverse_util.flatten_dict(variables, sep='/')
    taken = {path: take(path, ours) for path, ours in flat.items()}
    fresh = [path for path, value in taken.items() if value is flat[path]]
    if fresh:
        logging.warning(
            '%d of %d arrays find no saved one of their name and shape and start fresh: %s ...',
            len(fresh), len(flat), fresh[0],
        )  # fmt: skip
    return flax.traverse_util.unflatten_dict(taken, sep='/')


def _checked(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f'Images must be [H, W, 3] or [N, H, W, 3], not {images.shape}.')
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != 'f' or images.min() < 0 or images.max() > 1:
        raise ValueError('Images must be uint8, or float in [0, 1].')
    return images.astype(np.float32)
