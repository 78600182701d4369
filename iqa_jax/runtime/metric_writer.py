"""Metrics of a run: one JSON object per line, and TensorBoard when clu's writers import."""

import json
import math
from typing import Any

from absl import logging

from iqa_jax.runtime import artifacts, parallel, paths


class MetricWriter:
    """Appends rows to `metrics.jsonl` in `directory`; only the main process writes.

    Args:
      directory: folder of the file, made if missing; TensorBoard events go to `tensorboard/` in it,
        unless it is in an object store.
    """

    def __init__(self, directory: paths.AnyPath):
        self._path = paths.as_path(directory) / 'metrics.jsonl'
        self._tensorboard = None
        if parallel.is_main():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._tensorboard = _tensorboard(self._path.parent / 'tensorboard')

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Appends {"step": step, **values}; NaN and infinity become null."""
        if not parallel.is_main():
            return
        numbers = {name: _number(value) for name, value in values.items()}
        paths.append(self._path, (json.dumps({'step': step} | numbers) + '\n').encode())
        if self._tensorboard is not None:
            finite = {name: number for name, number in numbers.items() if number is not None}
            self._tensorboard.write_scalars(step, finite)

    def rewind(self, step: int) -> None:
        """Drops rows of later steps and a torn last line, as a run that resumes at `step` needs."""
        if not parallel.is_main() or not self._path.is_file():
            return
        old = self._path.read_bytes()
        kept, dropped = [], 0
        for line in old.splitlines(keepends=True):
            if line.endswith(b'\n') and _step(line) <= step:
                kept.append(line)
            else:
                dropped += 1
        if dropped:
            artifacts.write(self._path, b''.join(kept))
            logging.info('%s: %d rows after step %d dropped.', self._path, dropped, step)

    def close(self) -> None:
        """Flushes what TensorBoard's writer still holds."""
        if self._tensorboard is not None:
            self._tensorboard.flush()


def _number(value: Any) -> int | float | None:
    number = value.item() if hasattr(value, 'item') else value
    return number if math.isfinite(number) else None


def _step(line: bytes) -> float:
    """The step of a row; infinity for a line that is not a row, so that it is dropped."""
    try:
        return json.loads(line)['step']
    except (ValueError, KeyError, TypeError):
        return math.inf


def _tensorboard(directory: paths.Path) -> Any:
    """A clu writer, or None: clu's writers need packages that only an extra installs."""
    if paths.is_remote(directory):
        return None
    try:
        from clu import metric_writers
    except ImportError:
        return None
    return metric_writers.SummaryWriter(str(directory))
