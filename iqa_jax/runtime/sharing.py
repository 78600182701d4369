"""How a stage divides its work: what one process does for all, and shards that all of them make."""

import functools
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from iqa_jax.runtime import artifacts, parallel, paths

POLL_SECONDS = 0.5
SEEN_SECONDS = 60.0  # until a file of another machine is seen on a shared disk
OLD_SECONDS = 3600.0  # a draft that nobody has touched for so long has no writer any more


def on_main(run: Callable) -> Callable:
    """Lets process 0 alone run a function; all others wait, and return or raise what it does.

    Its result and its errors (ValueError, OSError) must survive `pickle`. Every process must call
    it. Inside, there is one process only: functions that are shared call each other as they are.
    """

    @functools.wraps(run)
    def call(*args: Any, **kwargs: Any) -> Any:
        return parallel.from_main(lambda: run(*args, **kwargs))

    return call


def share(shard: str) -> tuple[int, int]:
    """(i, n) of config.shard 'i/n', the share of this run; (0, 1) of ''."""
    if not shard:
        return 0, 1
    part, _, parts = str(shard).partition('/')
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise ValueError(f"config.shard={shard!r} must be 'i/n' with 0 <= i < n, such as '0/4'.")
    return int(part), int(parts)


class Shards:
    """Committed files of a stage, marked by all that shapes them, dealt among processes and runs.

    Args:
      marks: path of every shard -> its fingerprint.
      shard: config.shard, 'i/n' for a run that makes every n-th shard from the i-th, or ''.
      ready: path -> whether a current shard has all that belongs to it.
      folders: where shards keep files beside those of `marks`, such as pictures.

    Attributes:
      paths: of the shards of this run, of all its processes, in order.
      part: '' or the name of this run's share, such as 'parts/0_of_4', where its summary goes.
    """

    def __init__(
        self,
        marks: dict[Any, str],
        shard: str = '',
        ready: Callable[[Any], bool] = lambda path: True,
        folders: Iterable = (),
    ):
        part, parts = share(shard)
        self.paths = list(marks)[part::parts]
        self.part = f'parts/{part}_of_{parts}' if shard else ''
        self._marks, self._ready = marks, ready
        # Runs of other parts may write beside us on the same machine.
        self._prefix = f'part{part}of{parts}_' if shard else ''
        self._folders = {path.parent for path in marks} | set(folders)

    def left(self) -> list:
        """The unfinished shards that this process has to make, as process 0 found them.

        Raises a ValueError where the processes do not mean the same shards.
        """
        parallel.check_alike(artifacts.fingerprint([self.part, *self._marks.values()]))
        unfinished = parallel.from_main(
            lambda: [i for i, path in enumerate(self.paths) if not self._is_done(path)]
        )
        own = unfinished[parallel.process_index() :: parallel.process_count()]
        return [self.paths[i] for i in own]

    def make(
        self, work: Callable[[Any, str], Any], advance: Callable[[Any], Any] = lambda path: None
    ) -> list:
        """Calls `work(path, mark)`, which commits the shard, for each of `left`.

        It returns these when all processes are through; one that dies ends the others by itself.
        Then no process of this run has drafts, and those that killed ones have left are removed.

        Args:
          work: makes a shard.
          advance: is told the path of every finished one.
        """
        own = self.left()
        with artifacts.writing_as(f'{self._prefix}{parallel.process_index()}'):
            for path in own:
                work(path, self._marks[path])
                advance(path)
        parallel.barrier('the end of the shards')
        parallel.from_main(self._remove_drafts)
        return own

    def wait(self) -> None:
        """After `make`: until this process sees the files of the others, too.

        Raises a ValueError for a shard that stays away.
        """
        until = time.monotonic() + SEEN_SECONDS
        for path in self.paths:
            while not artifacts.is_current(path, self._marks[path]):
                if time.monotonic() > until:
                    raise ValueError(
                        f'{path} is not what this run wrote; see that no other run writes to the '
                        'same --workdir, and run the same command again.'
                    )
                time.sleep(POLL_SECONDS)

    def _remove_drafts(self) -> None:
        """Those of this run whatever process wrote them, and those of other runs that are old."""
        for folder in self._folders:
            if paths.is_remote(folder) or not folder.is_dir():
                continue
            for name in filter(artifacts.is_draft, os.listdir(folder)):
                ours = artifacts.is_draft(name, rf'{self._prefix}\d+')
                if ours or _age(folder / name) > OLD_SECONDS:
                    (folder / name).unlink(missing_ok=True)

    def _is_done(self, path: Any) -> bool:
        return artifacts.is_current(path, self._marks[path]) and self._ready(path)


def _age(file: Any) -> float:
    """Seconds since a file was last written; 0 of one that is gone."""
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def gathered(value: int) -> int:
    """The sum over all processes; every process must call it."""
    return sum(int(found) for found in parallel.exchange(str(value).encode()))
