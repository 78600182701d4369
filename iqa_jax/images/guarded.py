"""Decoding in child processes with limits of time and memory, for files from strangers.

A file that crashes a decoder, hangs it or fills the memory ends one child and not the run; the
child is replaced. Pixels are those that `io.decode` gives.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from iqa_jax.images import io
from iqa_jax.images.guarded_worker import ERROR, MEMORY, PIXELS, READY

KEYS = {'processes', 'seconds', 'memory_mib'}
START_SECONDS = 120.0  # for a child to import NumPy and Pillow on a busy machine
# By path and not as a module of the parent's main program, which a child would import again.
CODE = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from iqa_jax.images import guarded_worker
guarded_worker.serve(int(sys.argv[2]), *map(float, sys.argv[3:]))
"""

UNSTARTED = (
    'A process that decodes pictures could not be started ({}); give this one more memory and '
    'processes or, for pictures that you trust, set config.decode.processes=0.'
)
Decode = Callable[[bytes | str | os.PathLike], np.ndarray]


def check(settings: dict) -> None:
    """Raises a ValueError that names the key for a `config.decode` that cannot be."""
    if not isinstance(settings, dict) or settings.keys() != KEYS:
        raise ValueError(f'config.decode needs the keys {", ".join(sorted(KEYS))} and no other.')
    for key, least, kind in (
        ('processes', 0, int),
        ('seconds', 0.1, int | float),
        ('memory_mib', 16, int | float),
    ):
        value = settings[key]
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < 2**31:
            raise ValueError(f'config.decode.{key}={value!r} must be a number of at least {least}.')


def identity(settings: dict) -> dict:
    """What may shape a result: the limits, by which files are refused, but not who decodes."""
    return {key: value for key, value in settings.items() if key != 'processes'}


@contextlib.contextmanager
def decoding(settings: dict) -> Iterator[Decode]:
    """`io.decode`, or the same in `processes` children that are ended with the block.

    Args:
      settings: processes, 0 for none; seconds a file may take, of the clock and of the processor;
        memory_mib a file may take beside what a child has anyway.

    Yields:
      A function that any number of threads may call. Beside what `io.decode` raises it raises
      ImageError for a file that crashes the decoder twice or needs more than the limits, and
      OSError when no child can be started.
    """
    check(settings)
    if not settings['processes']:
        yield io.decode
        return
    pool = _Pool(**settings)
    try:
        yield pool.decode
    finally:
        pool.close()


class _Died(Exception):
    """The child ended; the argument is its exit code."""


def _in_words(code: int) -> str:
    """How a process ended."""
    return signal.Signals(-code).name if -code in {*signal.Signals} else f'exit code {code}'


class _Pool:
    """Children, each used by one thread at a time."""

    def __init__(self, processes: int, seconds: float, memory_mib: float):
        self._seconds, self._memory_mib = seconds, memory_mib
        # None, once there, stays: no child comes back for those who wait.
        self._idle: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        self._children: set[_Child] = set()
        self._lock, self._closed = threading.Lock(), False
        try:
            for _ in range(processes):  # they import while the caller goes on
                self._idle.put(self._start())
        except BaseException:
            self.close()
            raise

    def decode(self, data: bytes | str | os.PathLike) -> np.ndarray:
        """Pixels uint8 [H, W, 3] as `io.decode` gives them."""
        name, data = io.read_named(data)
        # Another program may have filled the memory: a file is blamed when it does so twice.
        code = self._decode(name, data)
        if isinstance(code, int):
            code = self._decode(name, data)
        if isinstance(code, int):
            raise io.ImageError(f'{name} crashed the decoder ({_in_words(code)})')
        return code

    def close(self) -> None:
        """Ends the children, whatever they do."""
        with self._lock:
            self._closed = True
            children, self._children = self._children, set()
        for child in children:
            child.kill()
        self._idle.put(None)

    def _decode(self, name: str, data: bytes) -> np.ndarray | int:
        """Pixels, or the exit code of a child that died of the file."""
        child = self._idle.get()
        if child is None:
            self._idle.put(None)
            raise OSError(UNSTARTED.format('an earlier one could not, or all have been ended'))
        try:
            child.wait_until_ready()
            found = child.decode(data, time.monotonic() + self._seconds)
        except TimeoutError:
            raise io.ImageError(self._slow(name)) from None
        except _Died as death:
            if death.args[0] == -signal.SIGXCPU:
                raise io.ImageError(self._slow(name)) from None
            return death.args[0]
        finally:
            self._give_back(child)
        if found is None:
            limit = f'{child.room / 2**20:g} MiB'
            raise io.ImageError(f'{name} needs more than {limit} to be decoded')
        if isinstance(found, str):
            raise io.ImageError(name + found.removeprefix(io.UNNAMED))
        return found

    def _slow(self, name: str) -> str:
        return f'{name} took longer than {self._seconds:g} s to decode'

    def _give_back(self, child: '_Child') -> None:
        """Puts the child or a new one where others wait; None when none can be started."""
        following = None
        try:
            following = child if child.is_usable else self._replaced(child)
        finally:
            self._idle.put(following)

    def _start(self) -> '_Child':
        try:
            child = _Child(self._seconds, self._memory_mib)
        except OSError as error:  # no process, memory or descriptor is left
            raise OSError(UNSTARTED.format(error)) from error
        with self._lock:
            self._children.add(child)
            closed = self._closed
        if closed:
            child.kill()
        return child

    def _replaced(self, child: '_Child') -> '_Child':
        child.kill()
        with self._lock:
            self._children.discard(child)
            closed = self._closed
        return child if closed else self._start()


class _Child:
    """A process that decodes, and the socket to it.

    Attributes:
      is_usable: whether it has answered all it was asked.
      room: bytes of memory that a picture may take, once it is ready.
    """

    def __init__(self, seconds: float, memory_mib: float):
        self.is_usable, self.room = True, 0
        self._ready = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            paths = json.dumps([os.path.abspath(path) for path in sys.path])
            limits = [str(theirs.fileno()), str(seconds), str(memory_mib), str(os.getpid())]
            # Threads of linear algebra would only take memory.
            alone = {'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1'}
            self._process = subprocess.Popen(
                [sys.executable, '-c', CODE, paths, *limits],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | alone,
                start_new_session=True,  # Ctrl-C is for the parent
            )

    def wait_until_ready(self) -> None:
        """Raises OSError for a child that cannot start."""
        if self._ready:
            return
        self.is_usable = False
        try:
            first = self._receive(9, time.monotonic() + START_SECONDS)
        except _Died as death:
            how = f'it ended with {_in_words(death.args[0])}'
            raise OSError(UNSTARTED.format(how)) from None
        except TimeoutError:
            how = f'it was not ready after {START_SECONDS:g} s'
            raise OSError(UNSTARTED.format(how)) from None
        self._ready, (self.room,) = first[:1] == READY, struct.unpack_from('<Q', first, 1)
        self.is_usable = True

    def decode(self, data: bytes, deadline: float) -> np.ndarray | str | None:
        """Pixels, the sentence of an ImageError, or None when the memory did not suffice.

        Raises TimeoutError and _Died.
        """
        self.is_usable = False
        self._send(struct.pack('<Q', len(data)), deadline)
        self._send(data, deadline)
        kind = self._receive(1, deadline)
        found: np.ndarray | str | None = None
        if kind == PIXELS:
            height, width = struct.unpack('<II', self._receive(8, deadline))
            if height * width > io.MAX_PIXELS:
                raise _Died(self._end())
            found = np.empty((height, width, 3), np.uint8)
            self._fill(memoryview(found).cast('B'), deadline)
        elif kind == ERROR:
            (length,) = struct.unpack('<I', self._receive(4, deadline))
            found = bytes(self._receive(min(length, 2**16), deadline)).decode(errors='replace')
        elif kind != MEMORY:
            raise _Died(self._end())
        self.is_usable = True
        return found

    def kill(self) -> None:
        """Ends the process at once and waits for it."""
        self.is_usable = False
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _end(self) -> int:
        """The exit code, of a process that closed its socket or talks nonsense."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(2)
        self._process.kill()
        return self._process.wait()

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            self._socket.sendall(data)
        except TimeoutError:
            raise
        except OSError:
            raise _Died(self._end()) from None

    def _receive(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        self._fill(memoryview(data), deadline)
        return data

    def _fill(self, place: memoryview, deadline: float) -> None:
        while place:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
                size = self._socket.recv_into(place)
            except TimeoutError:
                raise
            except OSError:
                size = 0
            if not size:
                raise _Died(self._end())
            place = place[size:]
