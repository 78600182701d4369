"""Checkpoints with a note of the newest step, so that a step that vanished whole is missed."""

import json
from typing import Any

from absl import logging

from iqa_jax.runtime import artifacts, checkpoints, parallel, paths

NOTE = 'newest.json'  # beside the steps; it goes with the folder that is deleted to start again


class NotedCheckpoints(checkpoints.Checkpoints):
    """The checkpoints of one run; `restore` warns when the newest step that was saved is gone."""

    def __init__(self, directory: paths.AnyPath, keep: int = 2):
        super().__init__(directory, keep)
        self._note = paths.as_path(directory) / NOTE

    def save(self, step: int, *args: Any, **options: Any) -> None:
        """As `Checkpoints.save`."""
        super().save(step, *args, **options)
        self._take_note(step)

    def restore(self, *args: Any, **options: Any) -> tuple[int, Any, dict] | None:
        """As `Checkpoints.restore`."""
        found = super().restore(*args, **options)
        noted, step = self._noted(), found[0] if found else 0
        if noted > step and noted not in self.steps():
            logging.warning(
                'Checkpoint step %d, the newest in %s, is gone; going on from step %d.',
                noted, self._note.parent, step,
            )  # fmt: skip
        return found

    def close(self) -> None:
        """As `Checkpoints.close`; a run that was killed before its last note makes up for it."""
        super().close()
        if (steps := self.steps()) and self._noted() != steps[-1]:
            self._take_note(steps[-1])

    def _take_note(self, step: int) -> None:
        if parallel.is_main():
            artifacts.commit(self._note, artifacts.canonical_json({'step': step}).encode())

    def _noted(self) -> int:
        """The newest step that was saved, 0 where none is known."""
        try:
            return json.loads(artifacts.read(self._note))['step']
        except (artifacts.MissingArtifact, artifacts.DamagedArtifact):
            return 0
