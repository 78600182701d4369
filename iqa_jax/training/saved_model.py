"""A trained model as files, all digested: weights.msgpack, model.json and two that may be missing.

Without trained_on.parquet it is not known what the model was trained on, without calibration.json
not how its scores map to opinions. optimizer.msgpack is there on demand, for a second stage that
continues Adam.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from iqa_jax import models
from iqa_jax.models import tiling
from iqa_jax.runtime import artifacts, parallel
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.training import calibration, pruning, schedules, scoring, steps

TRAINED_ON = 'trained_on.parquet'  # see data.exposure; training writes it beside the weights
FILES = ('weights.msgpack', 'model.json')
_OUTPUT = 'params/regressor/output/'


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A model with its weights, ready to score.

    Attributes:
      spec: arguments of `models.build`.
      targets: name of each output; every output is higher-is-better.
      variables: params, batch_stats, and the twin's when the model was trained with one.
      meta: config, versions, training step, origin of the first weights, trainings, simulated.
      calibration: how scores map to opinions, see `calibration`; None if that is not known.
    """

    spec: dict
    targets: tuple[str, ...]
    variables: dict
    meta: dict
    calibration: dict | None = None

    @property
    def has_twin(self) -> bool:
        """Whether a pruned twin was trained beside the model."""
        return 'twin_params' in self.variables

    @property
    def has_std(self) -> bool:
        """Whether the model predicts the standard deviation of its own scores."""
        return bool(self.spec.get('uncertainty'))

    @property
    def minimum_side(self) -> int:
        """Smallest side in pixels that the backbone reads."""
        return models.minimum_side(models.BACKBONES[self.spec['backbone']]())

    @property
    def exact_when_padded(self) -> bool:
        """Whether pictures are padded to buckets; otherwise each size is scored as it is."""
        return models.exact_when_padded(models.BACKBONES[self.spec['backbone']]())

    def score(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        *,
        calibrated: bool = False,
        uncertainty: bool = False,
        twin: bool = False,
        bucket_step: int = tiling.STEP,
        pixel_limit: int = tiling.LIMIT,
    ) -> np.ndarray | dict:
        """Scores pictures of any size; none is resized.

        Args:
          images: uint8 or float in [0, 1]; [H, W, 3], [N, H, W, 3] or a list of [H, W, 3] of any
            sizes, sides at least `minimum_side`.
          calibrated: map the scores to opinions, 0 (worst) to 100 (best), by the stored logistic.
          uncertainty: return {'score': [N], 'std': [N]}, see `with_std`.
          twin: return {'prediction': [N, K], 'twin': [N, K]}, uncalibrated outputs, instead.
          bucket_step: pictures are padded to multiples of it and pooled without the padding, if the
            model is `exact_when_padded`; 1 takes its place if not.
          pixel_limit: larger ones are scored as the weighted mean of overlapping tiles.

        Returns:
          float32 [N] quality, higher is better: the mean of the outputs.

        Raises:
          ValueError: wrong shape, dtype or range, a side that is too small, or the model has no
            twin, no calibration or no uncertainty.
        """
        self.check(calibrated=calibrated, uncertainty=uncertainty, twin=twin)
        found = self.predict(images, twin=twin, bucket_step=bucket_step, pixel_limit=pixel_limit)
        if twin:
            return {name: found[name] for name in ('prediction', 'twin')}
        score, std = self.with_std(found, calibrated)
        return {'score': score, 'std': std} if uncertainty else score

    def check(self, *, calibrated: bool, uncertainty: bool, twin: bool) -> None:
        """Raises a ValueError for what this model cannot give."""
        if twin and not self.has_twin:
            raise ValueError('This model was trained without a pruned twin; set twin=False.')
        if calibrated and not self.calibration:
            raise ValueError(
                'This model has no calibration; export it with config.calibration, '
                'or set calibrated=False.'
            )
        if uncertainty and not self.has_std and not calibrated:
            mend = 'train it with config.model.uncertainty or export it with config.calibration'
            if self.calibration:
                mend = 'set calibrated=True for that of its calibration'
            raise ValueError(f'This model does not predict its uncertainty; {mend}.')

    def predict(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        *,
        twin: bool,
        bucket_step: int,
        pixel_limit: int,
    ) -> dict[str, np.ndarray]:
        """Every output of the model and what its tiles say, see `scoring.predict`."""
        mapped = score_step(json.dumps(self.spec, sort_keys=True), len(self.targets), twin)
        step = functools.partial(mapped, self.placed(twin))
        tiling.check(bucket_step, pixel_limit)
        exact = bucket_step if self.exact_when_padded else 1
        return scoring.predict(step, scoring.checked(images, self.minimum_side), exact, pixel_limit)

    def with_std(self, found: dict, calibrated: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Scores and their standard deviations, float32 [N] each, of what `predict` found.

        The variance is that of the std head plus that between tiles. Calibrated, it is times the
        squared slope of the logistic, plus what the residuals of the calibration vary beyond that:
        where the logistic is flat, opinions scatter all the same. Without a std head the variance
        of the residuals takes its place, and there is None if not calibrated.
        """
        raw = found['prediction'].mean(axis=1)
        score, slope = raw, 1.0
        if calibrated:
            score = calibration.to_mos(self.calibration, raw).astype(np.float32)
            slope = calibration.slope(self.calibration, raw)
        if self.has_std:
            noise = self.calibration['opinion_noise'] if calibrated else 0.0
            own = np.hypot(slope * found['std'], noise)
        elif calibrated:
            own = self.calibration['residual_std']
        else:
            return score, None
        return score, np.hypot(own, slope * found['spread']).astype(np.float32)

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
        artifacts.forget(optimizer_file(folder))
    return outputs


def optimizer_file(folder: str | Path) -> Path:
    """Where the optimiser state of a saved model is, if it was saved."""
    return as_path(folder) / 'optimizer.msgpack'


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
      ValueError: a weight is not finite, or the calibration belongs to other weights.
    """
    folder = as_path(folder)
    record = json.loads(artifacts.read(folder / 'model.json'))
    weights = artifacts.read(folder / 'weights.msgpack')
    variables = flax.serialization.msgpack_restore(weights)
    bad = sum(not np.isfinite(x).all() for x in jax.tree.leaves(variables))
    if bad:
        raise ValueError(f'{folder}: {bad} weight arrays are not finite; train the model again.')
    known = calibration.read(folder, weights)
    return SavedModel(record['spec'], tuple(record['targets']), variables, record['meta'], known)


def files(folder: str | Path, calibrated: bool = False) -> list[Path]:
    """The files of a saved model, the record of its training, and its calibration if asked for."""
    folder = as_path(folder)
    optional = [TRAINED_ON] + [calibration.FILE] * calibrated
    return [folder / name for name in FILES] + [
        folder / name for name in optional if (folder / name).is_file()
    ]


def forget_training(folder: Path) -> None:
    """Removes the record of an earlier model from a folder, if there is one."""
    artifacts.forget(folder / TRAINED_ON)


def warm_start(variables: dict, saved: dict, output_scale: float) -> dict:
    """Takes every saved array whose path and shape fit; others, such as new layers, stay.

    The output layer of a model with one output starts as the mean of the saved outputs, times
    `output_scale`: all are higher-is-better, so the mean keeps what they agree on. No layer takes
    the bias of one whose kernel does not fit.
    """
    flat = flax.traverse_util.flatten_dict(variables, sep='/')
    theirs = flax.traverse_util.flatten_dict(saved, sep='/')

    def found(path: str) -> jax.Array | None:
        ours, value = flat[path], theirs.get(path)
        if value is None:
            return None
        if path.startswith(_OUTPUT) and (*value.shape[:-1], 1) == ours.shape:
            return output_scale * value.mean(axis=-1, keepdims=True)
        return value if value.shape == ours.shape else None

    def take(path: str, ours: jax.Array) -> jax.Array:
        folder, _, name = path.rpartition('/')
        kernel = f'{folder}/{name.replace("bias", "kernel")}'
        lone = name.startswith('bias') and kernel in flat and found(kernel) is None
        value = None if lone else found(path)
        return ours if value is None else jnp.asarray(value)

    taken = {path: take(path, ours) for path, ours in flat.items()}
    fresh = [path for path, value in taken.items() if value is flat[path]]
    if fresh:
        logging.warning(
            '%d of %d arrays find no saved one of their name and shape and start fresh: %s ...',
            len(fresh), len(flat), fresh[0],
        )  # fmt: skip
    return flax.traverse_util.unflatten_dict(taken, sep='/')
