"""Metrics of a run: one JSON object per line, and TensorBoard when clu's writers import."""

import hashlib
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

    def mark(self) -> list:
        """What a checkpoint remembers of the rows so far: their bytes and SHA-256 (hex)."""
        data = self._path.read_bytes() if self._path.is_file() else b''
        return [len(data), hashlib.sha256(data).hexdigest()]

    def rewind(self, step: int, mark: list | None = None) -> None:
        """Drops what was written after a checkpoint, as a run that resumes at its step needs.

        A log that is no longer the one of the checkpoint is set aside, which is said, and another
        is begun.

        Args:
          step: of the checkpoint; 0 when there is none.
          mark: that the checkpoint remembers; None drops rows of later steps and a torn last line.
        """
        if not parallel.is_main():
            return
        old = self._path.read_bytes() if self._path.is_file() else b''
        if mark is None:
            rows = old.splitlines(keepends=True)
            kept = b''.join(r for r in rows if r.endswith(b'\n') and _step(r) <= step)
        else:
            kept = old[: mark[0]]
            if hashlib.sha256(kept).hexdigest() != mark[1]:
                self._set_aside(step, old)
                return
        if kept != old:
            artifacts.write(self._path, kept)
            dropped = old.count(b'\n') - kept.count(b'\n')
            logging.info('%s: %d rows after step %d dropped.', self._path, dropped, step)

    def _set_aside(self, step: int, old: bytes) -> None:
        said = (
            f'{self._path} is missing or damaged: the rows up to step {step} are not in the new one'
        )
        if old:
            digest = hashlib.sha256(old).hexdigest()[:8]
            aside = self._path.with_name(f'{self._path.stem}.damaged_{digest}{self._path.suffix}')
            artifacts.write(aside, old)
            said += f'; what is left of it is {aside}'
        artifacts.write(self._path, b'')  # a run that was at its last step adds no row
        logging.warning('%s.', said)

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
