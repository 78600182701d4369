"""What a run commits, noted beside it while it runs, so that a later loss of it can be seen.

    python benchmarks/reliability/commits.py JOURNAL --config=FILE.py --workdir=DIR

runs `iqa_jax.main` in this process and keeps the journal in a file, which must not lie on the disk
that fails. A line for each event: a commit begins, a commit is done, a file is forgotten.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import runpy
import sys
from collections.abc import Iterator

import drill

sys.path.insert(0, str(drill.ROOT))
from iqa_jax.runtime import artifacts


class Journal:
    """The journal of one run, in `file`, which any process may write and read."""

    def __init__(self, file: pathlib.Path):
        self.file = file

    def clear(self) -> None:
        """Forgets everything."""
        self.file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Notes what `artifacts` commits and forgets in this process."""
        commit, forget = artifacts.commit, artifacts.forget

        def noted_commit(path: os.PathLike, data: bytes, **rest: object) -> None:
            digest = hashlib.sha256(data).hexdigest()
            self._note('begin', path, digest)
            commit(path, data, **rest)
            self._note('done', path, digest)

        def noted_forget(path: os.PathLike) -> None:
            self._note('forget', path, '')
            forget(path)

        artifacts.commit, artifacts.forget = noted_commit, noted_forget
        try:
            yield
        finally:
            artifacts.commit, artifacts.forget = commit, forget

    def files(self) -> dict[pathlib.Path, set[str | None]]:
        """SHA-256 that each committed file may have; None among them where it may be missing.

        That of the last commit; a commit that began and did not end leaves the old or the new.
        """
        found: dict[pathlib.Path, set[str | None]] = {}
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        for event, name, digest in map(json.loads, lines):
            path = pathlib.Path(name)
            if event == 'begin':
                found[path] = found.get(path, {None}) | {digest}
            elif event == 'done':
                found[path] = {digest}
            else:
                found.pop(path, None)
        return found

    def _note(self, event: str, path: os.PathLike, digest: str) -> None:
        with open(self.file, 'a') as file:
            file.write(json.dumps([event, os.path.abspath(path), digest]) + '\n')


if __name__ == '__main__':
    journal = Journal(pathlib.Path(sys.argv.pop(1)))
    with journal.kept():
        runpy.run_module('iqa_jax.main', run_name='__main__', alter_sys=True)
