"""Watches the other processes of a run, so that the death of one ends all with its name.

Every process writes a heartbeat into the key-value store of JAX's coordination service, which lives
in process 0, and reads those of the others. JAX's own heartbeats would abort with a long log that
names nobody; ours only watch, nothing is scheduled.
"""

import contextlib
import ctypes
import json
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from iqa_jax.runtime import signals

BEAT_SECONDS = 1.0
LOST_SECONDS = 20.0  # a stopped or swapping process may be silent for so long
BROKEN_SECONDS = 6.0  # after a broken collective less silence is needed to tell who it was
GRACE_SECONDS = 5.0  # in which all may come to the same end by themselves
LINGER_SECONDS = 2.5  # of process 0, whose end takes the store away
DONE = (0, 3)
STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143}
AGAIN = 'start the same command again to continue.'
_ROOT = 'iqa_jax/watch'


class Watch:
    """Two daemon threads: one beats and reads, the other judges what was read.

    Args:
      client: JAX's client of the coordination service.
      address: HOST:PORT of that service.
      index: number of this process.
      count: number of all processes.
    """

    def __init__(self, client: Any, address: str, index: int, count: int):
        self._client, self._address = client, address
        self._index, self._count = index, count
        now = time.monotonic()
        self._beats: dict[int, str] = {}
        self._changed = dict.fromkeys(range(count), now)
        self._contact = now
        self._hosts: dict[int, str] = {}
        self._ends: dict[int, dict] = {}
        self._ended: dict[int, float] = {}
        self._code: int | None = None  # of this process, once it is about to end
        self._unsaid = ''  # the name of the dead, until it is said
        self._ending = threading.Lock()
        on_abort(self._aborted)
        self._set(f'host/{index}', socket.gethostname())
        for work in (self._beat, self._judge):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def name(self, index: int) -> str:
        """'Process 1 of 4 (host NAME)'."""
        host = self._hosts.get(index)
        return f'Process {index} of {self._count}' + (f' (host {host})' if host else '')

    def end(self, code: int, sentence: str = '') -> NoReturn:
        """Ends this process in step with the others; a sentence that all have is printed once."""
        self._end(code, sentence)

    def blame(self) -> None:
        """After a broken collective: ends with the name of the process that broke it.

        Returns only when all processes are alive, so that it broke for another reason.
        """
        until = time.monotonic() + LOST_SECONDS
        while time.monotonic() < until:
            silent = self._silent(BROKEN_SECONDS)
            if silent is not None:
                self._end(1, self._lost(silent))
            for index in self._others_ended():
                self._end(*self._adopted(index))
            time.sleep(BEAT_SECONDS / 4)

    def _beat(self) -> None:
        number = 0
        while True:
            number += 1
            with contextlib.suppress(Exception):  # the store is gone; `_judge` sees the silence
                self._set(f'beat/{self._index}', str(number))
                self._read(time.monotonic())
            time.sleep(BEAT_SECONDS)

    def _read(self, asked: float) -> None:
        for kind in ('host', 'beat', 'end'):
            for key, value in self._client.key_value_dir_get(f'{_ROOT}/{kind}'):
                index = int(key.rpartition('/')[2])
                if kind == 'host':
                    self._hosts[index] = value
                elif kind == 'end':
                    self._ended.setdefault(index, asked)
                    self._ends[index] = json.loads(value)
                elif self._beats.get(index) != value:
                    self._beats[index], self._changed[index] = value, time.monotonic()
        self._contact = time.monotonic()

    def _judge(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(BEAT_SECONDS / 2)
            now = time.monotonic()
            if now - last > 5 * BEAT_SECONDS:  # it was we who slept
                self._contact = now
                self._changed = dict.fromkeys(self._changed, now)
            last = now
            if self._code is not None:
                continue
            silent = self._silent(LOST_SECONDS)
            if silent is not None:
                self._end(1, self._lost(silent))
            for index in self._others_ended():
                if now - self._ended[index] > GRACE_SECONDS:
                    self._end(*self._adopted(index))

    def _silent(self, seconds: float) -> int | None:
        """Who has been silent for so long, and the longest, and has not said that it ends."""
        now = time.monotonic()
        if now - self._contact > seconds:
            return 0 if self._index else None
        others = set(range(self._count)) - {self._index, *self._ends}
        longest = min(others, key=self._changed.__getitem__, default=None)
        if longest is None or now - self._changed[longest] <= seconds:
            return None
        return longest

    def _answering(self) -> bool:
        """Whether any of the others that have not ended is heard, so that waiting has a use."""
        now = time.monotonic()
        others = set(range(self._count)) - {self._index, *self._ends}
        return any(now - self._changed[index] <= BROKEN_SECONDS for index in others)

    def _others_ended(self) -> list[int]:
        """Processes that have ended before the work was done."""
        early = [i for i, end in list(self._ends.items()) if end['code'] not in DONE]
        return sorted(i for i in early if i != self._index)

    def _adopted(self, index: int) -> tuple[int, str]:
        """Code and sentence of this process because of the end of another."""
        end = self._ends[index]
        if end['code'] in STOPPED.values() or end['adopted']:
            return end['code'], end['sentence']
        return end['code'], f'{self.name(index)} has ended: {end["sentence"]}'

    def _lost(self, index: int) -> str:
        return (
            f'{self.name(index)} has stopped answering; its own log says more, if it could. What '
            f'is committed is kept; {AGAIN}'
        )

    def _end(self, code: int, sentence: str) -> NoReturn:
        if not self._ending.acquire(blocking=False):
            time.sleep(3600)  # another thread is at it and ends the process
        if threading.current_thread() is threading.main_thread():
            for number in STOPPED:
                signal.signal(number, signal.SIG_IGN)
        adopted = 'has stopped answering' in sentence or ' has ended: ' in sentence
        self._unsaid = sentence if adopted else ''
        self._code = code
        end = {'code': code, 'sentence': sentence, 'adopted': adopted}
        publisher = threading.Thread(target=self._publish, args=(end,), daemon=True)
        publisher.start()  # without a store this may take for ever
        publisher.join(GRACE_SECONDS)
        if sentence and not self._is_said(code, sentence, adopted):
            self._unsaid = ''
            _say(sentence)
        signals.leave(code if self._index else self._wait_for_others(code))

    def _publish(self, end: dict) -> None:
        with contextlib.suppress(Exception):  # the store went with process 0
            self._set(f'end/{self._index}', json.dumps(end))

    def _is_said(self, code: int, sentence: str, adopted: bool) -> bool:
        """Whether process 0 says the same; of a dead process each survivor speaks in its log."""
        if self._index == 0 or adopted:
            return False
        until = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < until and self._silent(BROKEN_SECONDS) is None:
            if 0 in self._ends:
                return self._ends[0]['code'] == code and self._ends[0]['sentence'] == sentence
            time.sleep(BEAT_SECONDS / 10)
        return False

    def _wait_for_others(self, code: int) -> int:
        """Process 0 goes last: without its store the others would be aborted. The exit code."""
        until = time.monotonic() + GRACE_SECONDS + LINGER_SECONDS
        while len(self._ends) < self._count:
            if code in DONE:  # the others may still write what only they write
                silent = self._silent(LOST_SECONDS)
                if silent is not None:
                    _say(self._lost(silent))
                    return 1
            elif not self._answering() or time.monotonic() > until:
                break
            time.sleep(BEAT_SECONDS / 10)
        time.sleep(BEAT_SECONDS / 2)
        return code

    def _aborted(self) -> NoReturn:
        """JAX aborts when the service is gone; the thread that calls this is not one of ours."""
        if self._code is not None:
            if self._unsaid:
                _say(self._unsaid)
            signals.leave(self._code)
        if 0 in self._ends:
            code, sentence = self._adopted(0) if 0 in self._others_ended() else (1, self._lost(0))
        elif self._index and not _answers(self._address):
            code, sentence = 1, self._lost(0)
        else:
            code = 134
            sentence = (
                f'Error: JAX has aborted process {self._index}; TF_CPP_MIN_LOG_LEVEL=0 in the '
                'environment lets it say why.'
            )
        _say(sentence)
        signals.leave(code)

    def _set(self, key: str, value: str) -> None:
        self._client.key_value_set(f'{_ROOT}/{key}', value, allow_overwrite=True)


_kept: list[Any] = []  # what C calls must not be collected


def on_abort(speak: Any) -> None:
    """Calls `speak` when this process is aborted (SIGABRT), in the thread that aborts.

    Python's own handlers would run only after `abort` has returned, which it never does.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: speak())
    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal(int(signal.SIGABRT), handler)
    _kept.append(handler)


def _answers(address: str) -> bool:
    """Whether somebody listens at HOST:PORT.

    The connections of a killed process may break before its port is closed.
    """
    time.sleep(BEAT_SECONDS)
    host, _, port = address.rpartition(':')
    try:
        socket.create_connection((host.strip('[]'), int(port)), BROKEN_SECONDS).close()
    except OSError:
        return False
    return True


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more
        print(sentence, file=sys.stderr, flush=True)
