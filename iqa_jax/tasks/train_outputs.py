"""What training leaves for later stages beside the model itself."""

from pathlib import Path

import numpy as np

from iqa_jax.data import tables
from iqa_jax.data.pipeline import Pipeline
from iqa_jax.runtime import checkpoints, parallel
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


class Best:
    """The weights of the best validation so far, on disk; with keep='last' it does nothing.

    A restarted run repeats steps: what is not later than the best one has been offered before.
    The best before it stays too: where the best is damaged, the run goes back to that one and to a
    checkpoint from before the best, and finds it again.
    """

    PARTS = (
        'step', 'params', 'batch_stats', 'opt_state', 'mask', 'twin_batch_stats', 'loss_state',
    )  # fmt: skip

    def __init__(self, folder: Path, keep: str, state: steps.TrainState):
        self._saved = checkpoints.Checkpoints(folder, keep=2) if keep == 'best' else None
        self._folder, self.step, self.val_srcc, self._last = folder, 0, None, None
        if self._saved and (found := self._newest(state)) is not None:
            self.step, self._last, self.val_srcc = found[0], found[1], found[2]['val_srcc']

    def offer(self, step: int, state: steps.TrainState, val_srcc: float | None) -> None:
        """Keeps a state that validates better than all before; None is no better than any."""
        if not self._saved:
            return
        better = val_srcc is not None and (self.val_srcc is None or val_srcc > self.val_srcc)
        # Scores of two processes may differ in the last bit, and all of them save or none.
        if parallel.agree(better and step > self.step):
            self.step, self.val_srcc, self._last = step, val_srcc, None
            self._saved.save(step, self._parts(state), {'val_srcc': val_srcc})

    def refusal(self, metadata: dict) -> str:
        """Why a run cannot go on from a checkpoint with this metadata: its best is lost; or ''."""
        if metadata['best'] <= self.step:
            return ''
        return f'{self._folder} has lost the checkpoint of step {metadata["best"]}, the best then'

    def take(self, state: steps.TrainState) -> steps.TrainState:
        """The last state with the weights of the best; the last one itself if there is no best.

        Raises:
          ValueError: the best has been damaged since it was saved.
        """
        if not self.step:
            return state
        if self._last is None:
            found = self._newest(state)
            if found is None or found[0] != self.step:
                raise ValueError(
                    f'{self._folder} has lost the checkpoint of step {self.step}, the best; run '
                    'the same command again: it goes on from a checkpoint before that step.'
                )
            self._last = found[1]
        self._saved.close()
        return state.replace(**self._last)

    def _newest(self, state: steps.TrainState) -> tuple | None:
        """The newest intact (step, parts, metadata), None without one."""
        try:
            return self._saved.restore(self._parts(state))
        except checkpoints.NoneIntact:
            return None  # each has been named by a warning

    def _parts(self, state: steps.TrainState) -> dict:
        return {name: getattr(state, name) for name in self.PARTS}
