"""Fits the logistic that maps a model's scores to opinions, on rated images it did not learn."""

import warnings

import numpy as np

from iqa_jax.data import exposure, manifest, tables
from iqa_jax.data.store import ImageStore
from iqa_jax.evaluation import logistic, statistics
from iqa_jax.models import tiling
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import provenance, score
from iqa_jax.training import calibration, saved_model

KEYS = {'manifest', 'splits'}
LEAST = 20  # images
PARAMETERS = 4
SCORING = {
    'name': 'score', 'twin': False, 'calibrated': False, 'bucket_step': tiling.STEP,
    'pixel_limit': tiling.LIMIT, 'batch_size': 4,
}  # fmt: skip


def fit(model: saved_model.SavedModel, folder: str | Path, config: dict) -> tuple[dict, list[dict]]:
    """Scores the rated images of `config` {'manifest', 'splits'} and fits the logistic.

    Args:
      model: to be calibrated.
      folder: where it lies; its record of training tells which images it learnt.
      config: as above; images without an opinion are left out and counted as `unrated`.

    Returns:
      (the record that `calibration` stores, {'file', 'reason'} of images that cannot be scored).

    Raises:
      ValueError: too few images, images that the model was trained on or whose references it was,
        or scores that do not rise with the opinions.
    """
    where = config['manifest']
    rows = manifest.in_splits(manifest.read(where), tuple(config['splits']), where)
    manifest.check_one_scale(rows, where, 'calibrate on a database that was rated image by image')
    rated = np.isfinite(rows['mos'])
    unrated, rows = int((~rated).sum()), tables.select(rows, rated)
    training_known = _check_unseen(rows, folder, where)
    _check_count(len(rows['image_id']), config)
    store = ImageStore(rows)
    options = SCORING | {'uncertainty': model.has_std}
    found, bad = score.score_rows(model, store, np.arange(len(store)), options)
    _check_count(len(found['image_id']), config)
    kept = tables.select(rows, np.isin(rows['image_id'], found['image_id']))
    x, y = found['score'], kept['mos'].astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a line is refused below
        mapping = logistic.fit_logistic(x, y, PARAMETERS)
    srcc = statistics.srcc(x, y)
    if mapping.note or not (mapping.height * mapping.steepness > 0 and srcc > 0):
        raise ValueError(
            f'config.calibration: the scores of {len(x)} images of {where} do not rise with their '
            f'opinions (SRCC {srcc:.3f}); set config.calibration=None or train the model longer.'
        )
    meta = tables.read(where)[1]
    record = {'logistic': {k: getattr(mapping, k) for k in calibration.PARAMETERS}}
    residual = y - calibration.to_mos(record, x)
    record |= {
        'n': len(x),
        'references': len(set(kept['ref_id'].tolist())),
        'unrated': unrated,
        'training_known': training_known,
        'srcc': srcc,
        'rmse': float(np.sqrt(np.mean(residual**2))),
        'residual_std': float(np.sqrt(np.sum(residual**2) / (len(x) - PARAMETERS))),
        'score_range': [float(x.min()), float(x.max())],
        'databases': sorted(set(kept['database'].tolist()) - {''}),
        'splits': list(config['splits']),
        'manifest_sha256': provenance.file_digest(where),
        'simulated': bool(meta.get('simulated', False)),
        'bucket_step': tiling.STEP,
        'pixel_limit': tiling.LIMIT,
    }
    record |= _beyond_the_head(model, found, record, residual)
    return record, bad


def _beyond_the_head(
    model: saved_model.SavedModel, found: tables.Table, record: dict, residual: np.ndarray
) -> dict:
    """How the residuals compare with the standard deviations that the model predicts, if it does.

    `opinion_noise` is what they vary beyond these, in opinion points.
    """
    if not model.has_std:
        return {'opinion_noise': None, 'std_ratio': None}
    std = found['score_std'] * calibration.slope(record, found['score'])
    beyond = record['residual_std'] ** 2 - float(np.mean(std**2))
    ratio = float(np.sqrt(np.mean(residual**2 / std**2)))
    return {'opinion_noise': max(0.0, beyond) ** 0.5, 'std_ratio': ratio}


def _check_count(n: int, config: dict) -> None:
    if n < LEAST:
        raise ValueError(
            f'config.calibration: {n} rated images in split {", ".join(config["splits"])} of '
            f'{config["manifest"]} are too few; at least {LEAST} are needed.'
        )


def _check_unseen(rows: tables.Table, folder: str | Path, where: str) -> bool:
    """Whether it is known that the model did not learn these images; refuses those it did.

    Scores of learnt images are nearer to their opinions than those of others will be.
    """
    known = exposure.read(as_path(folder) / saved_model.TRAINED_ON)
    if known is None:
        return False
    bad = np.flatnonzero(exposure.seen(rows, known) > exposure.VALIDATED)
    if bad.size:
        raise ValueError(
            f'config.calibration: {bad.size} of {len(rows["image_id"])} images of {where}, '
            f'{rows["image_id"][bad[0]]} the first, cannot calibrate: the model was trained on '
            'them or on others of their references; choose other config.calibration.splits.'
        )
    return True
