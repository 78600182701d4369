"""Full-reference metrics: pure functions of a reference and a distorted image, chosen by name."""

from iqa_jax.fr_metrics.bank import Metric
from iqa_jax.fr_metrics.registry import METRICS, metric, metrics

__all__ = ['METRICS', 'Metric', 'metric', 'metrics']
