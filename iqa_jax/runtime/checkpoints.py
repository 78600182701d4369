"""Checkpoints that are complete and unaltered, or do not exist.

Orbax writes a step atomically, but restores flipped bytes silently and raises on truncated ones
without trying an older step. So every file of a step is digested into `step_<n>.json`, committed
after the step is on disk; a step without it does not exist, and a step that no longer matches it is
refused with a sentence and the next older one is taken.

Of a run in an object store Orbax sees only a folder of this machine, from which finished steps are
uploaded and into which they are downloaded to be verified and restored.
"""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from iqa_jax.runtime import artifacts, disk_errors, parallel, paths


class NoneIntact(ValueError):
    """There are checkpoints, but none of them can be used."""


class Checkpoints:
    """The checkpoints of one run, in one folder that all processes see.

    Args:
      directory: folder of the checkpoints, made if missing.
      keep: how many of the newest intact steps stay on disk.
    """

    def __init__(self, directory: paths.AnyPath, keep: int = 2):
        if keep < 1:
            raise ValueError(f'Checkpoints keep={keep}; keep at least 1.')
        self._directory = paths.as_path(directory).absolute()
        self._steps = self._directory / 'steps'
        self._local = paths.scratch(self._steps) if paths.is_remote(self._steps) else self._steps
        self._keep = keep
        self._damaged: dict[int, str] = {}
        self._manager: ocp.CheckpointManager | None = None

    def save(self, step: int, state: Any, metadata: dict, hold: int = 0) -> None:
        """Saves and returns when the step is durable; then removes what `keep` does not cover.

        Args:
          step: number of the step, larger than that of every intact checkpoint or equal to it.
          state: pytree of arrays (any device or host) and plain numbers, equal in all processes.
          metadata: JSON values.
          hold: the newest step before this one stays too, whatever `keep` is.

        Raises:
          ValueError: the folder holds an intact later step, or the state holds typed PRNG keys.
          OSError: the disk does not take it; the steps committed before are still there.
        """
        described = _describe(state)
        host = parallel.fetch(state)
        if parallel.is_main():
            self._discard_unusable(step)
            artifacts.crash_point('checkpoints.before_save')
            args = {
                'state': ocp.args.StandardSave(_to_saved(host)),
                'data': ocp.args.JsonSave(metadata),
            }
            with disk_errors.of_library(f'Checkpoint step {step} in {self._directory}'):
                self._open().save(step, args=ocp.args.Composite(**args), force=True)
                self._open().wait_until_finished()
            artifacts.crash_point('checkpoints.saved')
            files = _digest_folder(self._local / str(step))
            artifacts.crash_point('checkpoints.digested')
            self._upload(step, files)
            record = {'step': step, 'files': files, 'leaves': described}
            artifacts.commit(self._record(step), artifacts.canonical_json(record).encode())
            artifacts.crash_point('checkpoints.committed')
            steps = self.steps()
            held = max((s for s in steps if s < hold), default=step)
            for old in [s for s in steps[: -self._keep] if s != held]:
                self._remove(old)
                artifacts.crash_point('checkpoints.removed_old')
        parallel.barrier(f'checkpoint {step}')

    def restore(
        self, target: Any, refuse: Callable[[dict], str] | None = None
    ) -> tuple[int, Any, dict] | None:
        """Loads the newest intact step.

        Args:
          target: pytree of the state's structure, of arrays or of shapes (`jax.eval_shape`).
          refuse: why an intact step with this metadata cannot be used, '' if it can; a step that
            cannot is passed over, and removed by the next save, as a damaged one is.

        Returns:
          (step, state as host arrays, metadata), or None when nothing was ever saved.

        Raises:
          NoneIntact: checkpoints exist, but none is intact and not refused.
          ValueError: the one to restore was saved from a state of another structure.
          OSError: files that may be intact cannot be read.
        """
        steps = self.steps()
        for path in self._unrecorded():
            logging.warning('Checkpoint %s was never finished and is ignored.', path)
        for step in reversed(steps):
            try:
                (reason, record), how = self._verify(step), 'is damaged'
            except OSError as error:
                reason, how = disk_errors.lost(error), 'is damaged'
            if not reason and refuse:
                reason, how = refuse(self._read(step)['data']), 'cannot be used'
            if reason:
                self._damaged[step] = reason
                logging.warning(
                    'Checkpoint step %d in %s %s (%s); trying the one before.',
                    step, self._directory, how, reason,
                )  # fmt: skip
                continue
            parallel.check_same(step, 'the newest intact checkpoint')
            _check_fit(record['leaves'], _describe(target), f'step {step} in {self._directory}')
            return step, *self._load(step, target)
        parallel.check_same(-1, 'the newest intact checkpoint')
        if steps:
            found = '; '.join(f'step {step}: {self._damaged[step]}' for step in reversed(steps))
            raise NoneIntact(
                f'None of the checkpoints in {self._directory} is intact ({found}); '
                'delete the folder to start again from step 0.'
            )
        return None

    def steps(self) -> list[int]:
        """Numbers of the finished steps, oldest first; not verified."""
        names = (path.stem.removeprefix('step_') for path in self._directory.glob('step_*.json'))
        return sorted(int(name) for name in names if name.isdecimal())

    def close(self) -> None:
        """Frees Orbax's threads, and the disk of what stopped saves and removals have left."""
        for path in self._unrecorded() if parallel.is_main() else ():
            paths.remove_tree(path)
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            self._local.mkdir(parents=True, exist_ok=True)
            # A manager of this process alone: only the main one saves, each restores by itself.
            index = parallel.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=index, active_processes={index}, barrier_sync_key_prefix=f'p{index}'
            )
            options = ocp.CheckpointManagerOptions(
                max_to_keep=None,  # removal is ours: only after the newer step is committed
                create=False,
                enable_async_checkpointing=False,
                multiprocessing_options=alone,
            )
            self._manager = ocp.CheckpointManager(self._local, options=options)
        return self._manager

    def _read(self, step: int, **state: Any) -> Any:
        self._open().reload()  # another process may have saved since
        args = ocp.args.Composite(data=ocp.args.JsonRestore(), **state)
        return self._open().restore(step, args=args)

    def _load(self, step: int, target: Any) -> tuple[Any, dict]:
        leaves, structure = jax.tree_util.tree_flatten_with_path(target)
        wanted = {
            jax.tree_util.keystr(path): leaf
            if isinstance(leaf, int | float)
            else np.empty(leaf.shape, leaf.dtype)
            for path, leaf in leaves
        }
        saved = ocp.args.StandardRestore(_without_empty(wanted))
        found = self._read(step, state=saved)
        state = wanted | found['state']  # arrays without elements were not saved
        return jax.tree.unflatten(structure, list(state.values())), found['data']

    def _upload(self, step: int, files: dict[str, tuple[str, int]]) -> None:
        """Moves a step into the object store, if the run lies in one."""
        if self._local != self._steps:
            for name in files:
                paths.upload(self._local / str(step) / name, self._steps / str(step) / name)
            shutil.rmtree(self._local / str(step))

    def _download(self, step: int, files: dict[str, tuple[str, int]]) -> None:
        """Fetches the files of a step that are in the object store, if the run lies in one."""
        if self._local != self._steps:
            shutil.rmtree(self._local / str(step), ignore_errors=True)
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    (self._steps / str(step) / name).download(self._local / str(step) / name)

    def _record(self, step: int) -> paths.Path:
        return self._directory / f'step_{step}.json'

    def _remove(self, step: int) -> None:
        """Removes a step, its record first: a kill in between leaves an unfinished step."""
        artifacts.forget(self._record(step))
        paths.remove_tree(self._steps / str(step))

    def _discard_unusable(self, step: int) -> None:
        """Clears the way for `step`: unfinished and damaged steps, and `step` itself."""
        while self._damaged:
            self._remove(self._damaged.popitem()[0])
        finished = self.steps()
        if finished and finished[-1] > step:
            raise ValueError(
                f'{self._directory} holds a checkpoint of step {finished[-1]}, later than step '
                f'{step} to be saved; restore it first or use another --workdir.'
            )
        if step in finished:
            self._remove(step)
        self._local.mkdir(parents=True, exist_ok=True)
        for path in self._unrecorded():
            paths.remove_tree(path)
        self._open().reload()

    def _unrecorded(self) -> list[paths.Path]:
        recorded = set(map(str, self.steps()))
        found = [path for folder in {self._local, self._steps} for path in folder.glob('*')]
        return sorted((path for path in found if path.name not in recorded), key=str)

    def _verify(self, step: int) -> tuple[str, dict]:
        """('' or what is wrong with a step, its record)."""
        try:
            record = json.loads(artifacts.read(self._record(step)))
        except (artifacts.MissingArtifact, artifacts.DamagedArtifact) as error:
            return str(error).rstrip('.'), {}
        try:
            files = [(name, digest, size) for name, (digest, size) in record['files'].items()]
            saved, _ = record['step'], record['leaves'].items()
        except (KeyError, TypeError, ValueError, AttributeError):
            return 'its record is not that of a checkpoint', {}
        if saved != step:
            return f'{self._record(step).name} is that of step {saved}', {}
        self._download(step, record['files'])
        folder = self._local / str(step)
        for name, digest, size in files:
            path = folder / name
            if not path.is_file():
                return f'{name} is missing', {}
            if path.stat().st_size != size:
                return f'{name} has {path.stat().st_size} bytes instead of {size}', {}
            if paths.sha256(path) != digest:
                return f'{name} has other bytes than were saved', {}
        return '', record


def _to_saved(state: Any) -> dict[str, Any]:
    """Leaves by their path: no class of the optimiser is part of the format."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return _without_empty({jax.tree_util.keystr(path): leaf for path, leaf in leaves})


def _without_empty(leaves: dict[str, Any]) -> dict[str, Any]:
    """Orbax refuses arrays without elements."""
    return {name: leaf for name, leaf in leaves.items() if np.size(leaf)}


def _describe(tree: Any) -> dict[str, str]:
    """Type and shape of every leaf by its path, such as 'float32[3,3]'."""
    described = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path)
        if isinstance(leaf, int | float):
            described[name] = type(leaf).__name__
            continue
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(f'state{name} is a typed PRNG key; store jax.random.key_data of it.')
        described[name] = f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'
    return described


def _check_fit(saved: dict[str, str], wanted: dict[str, str], where: str) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise ValueError(
                f'Checkpoint {where} does not fit this config: state{name} is '
                f'{saved.get(name, "absent")} there and {wanted.get(name, "absent")} here; '
                'use the config it was made with or another --workdir.'
            )


def _digest_folder(folder: pathlib.Path) -> dict[str, tuple[str, int]]:
    """{relative name: (SHA-256, bytes)} of every file, each flushed to disk with its folder."""
    files = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = pathlib.Path(root, name)
            paths.sync(path)
            files[str(path.relative_to(folder))] = (paths.sha256(path), path.stat().st_size)
        paths.sync(pathlib.Path(root))
    paths.sync(folder.parent)
    return files
