"""The stored logistic that maps a model's scores to opinions on 0..100: calibration.json."""

import hashlib
import json
from pathlib import Path

import numpy as np
import scipy.special

from iqa_jax.runtime import artifacts

FILE = 'calibration.json'
# low + height * sigmoid(steepness * ((score - mean) / std - centre)) / exp(log_peak), which rises.
PARAMETERS = ('mean', 'std', 'low', 'height', 'steepness', 'centre', 'log_peak')


def to_mos(record: dict, scores: np.ndarray) -> np.ndarray:
    """Scores of any shape -> opinions, float64, cut off at 0 and 100; higher is better in both."""
    bend, _, _ = _bent(record['logistic'], scores)
    return np.clip(record['logistic']['low'] + bend, 0, 100)


def slope(record: dict, scores: np.ndarray) -> np.ndarray:
    """Opinion points per unit of score, float64, of the logistic before it is cut off."""
    p = record['logistic']
    bend, u, steepness = _bent(p, scores)
    return bend * steepness * scipy.special.expit(-u) / p['std']


def _bent(p: dict, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    u = p['steepness'] * ((np.asarray(scores, np.float64) - p['mean']) / p['std'] - p['centre'])
    return p['height'] * np.exp(scipy.special.log_expit(u) - p['log_peak']), u, p['steepness']


def forget(folder: Path) -> None:
    """Removes the record of a folder, if there is one."""
    artifacts.forget(folder / FILE)


def write(folder: Path, record: dict, weights: Path, mark: str) -> Path:
    """Commits the record with the digest of the weights it belongs to; returns the path."""
    path = folder / FILE
    record = record | {'weights_sha256': artifacts.meta(weights)['sha256']}
    artifacts.commit(path, json.dumps(record, indent=1, sort_keys=True).encode(), fingerprint=mark)
    return path


def read(folder: Path, weights: bytes) -> dict | None:
    """The record of a folder; None without one, a ValueError if it belongs to other weights."""
    path = folder / FILE
    if not path.is_file():
        return None
    record = json.loads(artifacts.read(path))
    if record['weights_sha256'] != hashlib.sha256(weights).hexdigest():
        raise ValueError(f'{path} belongs to other weights; delete it, or export the model again.')
    if 'opinion_noise' not in record:
        raise ValueError(f'{path} is of an earlier version; delete it, or export the model again.')
    return record
