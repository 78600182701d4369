"""One thread that owns the database: requests that wait together share one durable commit."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iqa_jax.study import schema

_TOGETHER = 64  # requests of one commit: bounds the time that the first of them waits


class Writer:
    """Runs functions of an open database one after the other; `do` returns after the commit.

    An error of one function undoes what that function did and nothing else. If the commit itself
    fails, all functions of it get the error and none of them has happened.
    """

    def __init__(self, path: str | Path):
        self._db = schema.connect(path)
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name='study writer')
        self._thread.start()

    async def do(self, work: Callable[..., Any], *args: object) -> Any:
        """The result of work(db, *args), once it is on the disk."""
        future = asyncio.get_running_loop().create_future()
        self._jobs.put((work, args, future))
        return await future

    def close(self) -> None:
        """Ends the thread after the requests that wait."""
        self._jobs.put(None)
        self._thread.join()
        self._db.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs = [job]
            while len(jobs) < _TOGETHER and not self._jobs.empty():
                if (job := self._jobs.get()) is None:
                    self._jobs.put(None)
                    break
                jobs.append(job)
            try:
                with schema.transaction(self._db) as db:
                    results = [self._one(db, work, args) for work, args, _ in jobs]
            except sqlite3.Error as error:
                results = [error] * len(jobs)
            for (_, _, future), result in zip(jobs, results, strict=True):
                future.get_loop().call_soon_threadsafe(_deliver, future, result)

    @staticmethod
    def _one(db: sqlite3.Connection, work: Callable[..., Any], args: tuple) -> Any:
        db.execute('SAVEPOINT request')
        try:
            result = work(db, *args)
        except Exception as error:  # handed to the one who asked, who knows what to do with it
            db.execute('ROLLBACK TO request')
            result = error
        db.execute('RELEASE request')
        return result


def _deliver(future: asyncio.Future, result: Any) -> None:
    if future.done():  # the browser has gone
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
