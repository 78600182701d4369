"""What training leaves for later stages beside the model itself."""

from pathlib import Path

import numpy as np

from iqa_jax.data import tables
from iqa_jax.data.pipeline import Pipeline
from iqa_jax.runtime import parallel
from iqa_jax.training import losses, saved_model, steps


def trained_on(folder: Path, seen: tables.Table | None, mark: str) -> list[Path]:
    """Commits the record beside the weights, or removes an old one where nothing is known."""
    if seen is None:
        saved_model.forget_training(folder)
        return []
    tables.write(folder / saved_model.TRAINED_ON, seen, fingerprint=mark)
    return [folder / saved_model.TRAINED_ON]


def hard_examples(workdir: Path, state: steps.TrainState, pipeline: Pipeline, mark: str) -> Path:
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


def readings(state: steps.TrainState, config: dict) -> dict[str, float]:
    """What the loss has learned of each target, to be logged: {'hit_rate/ssim': 0.91, ...}."""
    loss = losses.get(config['loss'])
    found = parallel.fetch(loss.readings(state.params.get('loss', {}), state.loss_state))
    return {
        f'{name}/{target}': round(float(value), 4)
        for name, values in found.items()
        for target, value in zip(config['targets'], values, strict=True)
    }
