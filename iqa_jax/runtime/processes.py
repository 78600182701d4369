"""The only file that knows processes: how they meet, what they tell each other, how they end.

What is small goes through the key-value store of JAX's coordination service: it waits as long as
the others live and hears signals meanwhile. A collective does neither.
"""

import contextlib
import errno
import itertools
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from iqa_jax.runtime import artifacts
from iqa_jax.runtime.watch import Watch, on_abort

JOIN_SECONDS = 300
# JAX's heartbeats, which abort, are slower than ours, which name the dead.
HEARTBEAT_SECONDS = 100
_TAKEN = 'Process 0 cannot listen at {}: the port is taken; choose another.'
_WAIT_MS = 1000  # a signal is heard that late
_numbers = itertools.count()
_told: list[str] = []  # keys of this process that somebody may still have to read
_alone = 0  # depth of `alone`
_watch: Watch | None = None


def initialize(
    distributed: bool,
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the other processes when `distributed`; call it before anything else uses JAX.

    On Slurm, TPU pods, Open MPI and Kubernetes the three addresses are found by JAX itself.

    Raises:
      ValueError: no cluster was found and no address given, or the port is taken.
    """
    global _watch
    if not distributed:
        return
    where = coordinator_address or 'the coordinator'
    if process_id == 0 and coordinator_address:
        _require_free(coordinator_address)
    start = time.monotonic()
    on_abort(lambda: _refuse(where, num_processes, time.monotonic() - start))
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            f'--distributed finds no cluster ({error}); give --coordinator_address=HOST:PORT, '
            '--num_processes and --process_id, or leave --distributed out.'
        ) from error
    except jax.errors.JaxRuntimeError as error:
        if 'start RPC server' in str(error):
            raise ValueError(_TAKEN.format(where)) from error
        raise ValueError(f'The processes cannot join at {where}: {error}.') from error
    known = _state()
    _watch = Watch(known.client, known.coordinator_address, known.process_id, known.num_processes)
    artifacts.set_writer(jax.process_index())
    # The first collective has half a minute to find all processes, later ones have no limit: here
    # they are together still.
    multihost_utils.sync_global_devices('joined')


def _require_free(address: str) -> None:
    """Raises a ValueError for a port that is taken: JAX's service may break the process there."""
    port = address.rpartition(':')[2]
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as JAX's has it
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind(('', int(port)))
        except (OSError, ValueError, OverflowError) as error:  # of others JAX says what is wrong
            if getattr(error, 'errno', None) == errno.EADDRINUSE:
                raise ValueError(_TAKEN.format(address)) from error


def end(code: int, sentence: str) -> None:
    """Ends one of several processes in step with the others and prints the sentence once.

    Where this process is the only one it returns.
    """
    if _watch is not None:
        _watch.end(code, sentence)


def blame(error: Exception) -> None:
    """After a broken collective: ends this process with the name of the one that has died.

    It returns if none has, if the error is not JAX's, or if there is only this process.
    """
    if _watch is not None and isinstance(error, jax.errors.JaxRuntimeError):
        _watch.blame()


def process_index() -> int:
    """Number of this process, from 0."""
    return 0 if _alone else jax.process_index()


def process_count() -> int:
    """Number of processes that work together."""
    return 1 if _alone else jax.process_count()


def is_main() -> bool:
    """Whether this is process 0, the one that writes files; nothing collective may depend on it."""
    return process_index() == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within the block this process is the only one and waits for no other.

    It must not train there: steps are joined over the devices of all.
    """
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def from_main(work: Callable[[], Any]) -> Any:
    """What `work` returns or raises in process 0, in every process; only process 0 does it.

    Errors are those that mean bad input, ValueError and OSError. Every process must call it.
    """
    if process_count() == 1:
        return work()
    key = f'iqa_jax/main/{next(_numbers)}'
    if not is_main():
        done, value = pickle.loads(_awaited(key))
        if not done:
            raise value
        return value
    try:
        with alone():
            value = work()
    except (ValueError, OSError) as error:
        _tell(key, pickle.dumps((False, _portable(error))))
        raise
    _tell(key, pickle.dumps((True, value)))
    return value


def exchange(value: bytes) -> list[bytes]:
    """The small values of all processes, by process number; every process must call it."""
    if process_count() == 1:
        return [value]
    key, mine = f'iqa_jax/all/{next(_numbers)}', process_index()
    earlier = list(_told)
    _tell(f'{key}/{mine}', value)
    others = range(process_count())
    found = [value if i == mine else _awaited(f'{key}/{i}') for i in others]
    # All are here, so all have read what was told before.
    for old in earlier:
        _asked('key_value_delete', old)
        _told.remove(old)
    return found


def barrier(name: str) -> None:
    """Waits until every process is here; a ValueError if one waits elsewhere."""
    names = [found.decode() for found in exchange(name.encode())]
    if len(set(names)) > 1:
        raise ValueError(
            f'The processes wait for each other at different places: {", ".join(names)}; start all '
            'with the same command, --workdir and version.'
        )


def agree(value: bool) -> bool:
    """What process 0 says; every process must call it."""
    return exchange(str(int(value)).encode())[0] == b'1'


def check_alike(digest: str) -> None:
    """Raises a ValueError in every process when the digest is not the same in all of them."""
    if len(set(exchange(digest.encode()))) > 1:
        raise ValueError(
            'The processes have different configs, inputs or versions; start all with the same '
            'command, --workdir and installation.'
        )


def check_same(value: int, what: str) -> None:
    """Raises a ValueError in every process when `value` is not the same in all of them."""
    values = [int(found) for found in exchange(str(int(value)).encode())]
    if len(set(values)) > 1:
        raise ValueError(
            f'The processes disagree on {what}: {values}; they must all see the same --workdir.'
        )


def gather_bytes(data: bytes) -> list[bytes]:
    """What every process holds, by process number; every process must call it.

    As a collective: there may be much.
    """
    if process_count() == 1:
        return [data]
    sizes = [int(found) for found in exchange(str(len(data)).encode())]
    padded = np.zeros(max(sizes), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = zip(multihost_utils.process_allgather(padded), sizes, strict=True)
    return [row[:size].tobytes() for row, size in rows]


def _state() -> Any:
    from jax._src import distributed  # JAX has no public way to its key-value store

    return distributed.global_state


def _tell(key: str, value: bytes) -> None:
    _asked('key_value_set_bytes', key, value)
    _told.append(key)


def _awaited(key: str) -> bytes:
    while True:
        try:
            return _asked('blocking_key_value_get_bytes', key, _WAIT_MS)
        except jax.errors.JaxRuntimeError as error:
            if 'DEADLINE_EXCEEDED' not in str(error):
                raise


def _asked(method: str, *arguments: Any) -> Any:
    """What the store answers; where it is gone this process ends with the name of the dead."""
    try:
        return getattr(_state().client, method)(*arguments)
    except jax.errors.JaxRuntimeError as error:
        if 'DEADLINE_EXCEEDED' not in str(error):
            blame(error)
        raise


def _portable(error: Exception) -> Exception:
    """The error, or a plain one with its sentence where it cannot be copied as it is."""
    try:
        same = str(pickle.loads(pickle.dumps(error))) == str(error)
    except Exception:  # whatever an error's own constructor refuses with
        same = False
    return error if same else ValueError(str(error))


def _refuse(where: str, count: int | None, seconds: float) -> NoReturn:
    """What is said when JAX aborts before all have joined, so many seconds after the start."""
    print(
        f'Error: not all {count or ""} processes have joined at {where} within {seconds:.0f} s; '
        'look into the logs of the others.'.replace('  ', ' '),
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
