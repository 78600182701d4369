"""Clients that answer, repeat, hurry ahead, hang up and reload while the server is killed.

    python benchmarks/study_load.py --clients 50 --answers 100000 --kills 20

Prints one JSON object: answers acknowledged, `lost` (acknowledged and not in the database with the
value that was acknowledged), `doubled` (more rows than trials, or a later value kept), what the
clients did, and the milliseconds from sending an answer to its acknowledgement, those that a kill
interrupts left out. The server is the real one in a process of its own; clients and server share
the machine, and every client sends its next answer at once.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO

import numpy as np

from iqa_jax.study import administration, plan, schema, texts

SCREEN = {
    'device_pixel_ratio': 1, 'window_width': 1366, 'window_height': 768, 'screen_width': 1366,
    'screen_height': 768, 'zoom': 1, 'touch': 0,
}  # fmt: skip
MISCHIEF = (  # share of trials, what happens before the honest answer
    (0.05, 'sent_twice'),  # the same answer twice at once
    (0.04, 'sent_ahead'),  # the answer to the next trial first
    (0.04, 'hung_up'),  # sent, and gone before the reply
    (0.04, 'reloaded'),  # asks where it is
    (0.03, 'changed_late'),  # an old answer once more, with another value
)


def make_study(folder: pathlib.Path, clients: int, answers: int) -> None:
    items = answers // clients
    (folder / 'images').mkdir(exist_ok=True)
    (folder / 'images/one').touch()
    image = {'label': '', 'image_id': 'one', 'file': 'one', 'media': 'image/png'}
    image['sha256'] = hashlib.sha256(b'').hexdigest()
    entry = {'kind': 'rating', 'image_a': 0, 'image_b': None, 'low': None, 'high': None}
    sessions = plan.make(
        [frozenset([str(n)]) for n in range(items)], rated=range(items), training=[], gold=[],
        raters=clients, votes_per_item=clients, per_session=200, gold_share=0.0, break_every=0,
        seed=1,
    )  # fmt: skip
    administration.create(
        folder / 'study.sqlite', design='single_stimulus',
        images=[image | {'width': 1, 'height': 1}], items=[entry] * items, places=sessions,
        votes_per_item=clients, session_minutes=0.0, break_seconds=0.0, about={}, now=time.time(),
    )  # fmt: skip


class Server:
    """The server's process: started, killed and started again on one port."""

    def __init__(self, folder: pathlib.Path, log: IO | None = None):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            self.port = free.getsockname()[1]
        self._command = [sys.executable, __file__, '--serve', str(folder), '--port', str(self.port)]
        self._log = log
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, env=os.environ, stderr=self._log)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self._process.send_signal(number)
        self._process.wait()


class Client:
    """One rater's browser, with its habits drawn from a seed."""

    def __init__(self, number: int, port: int, token: str, shared: dict):
        self.rng = random.Random(number)
        self.key, self.port, self.token, self.shared = f'{number:032x}', port, token, shared
        self.acknowledged: dict[tuple[int, int], float] = {}
        self.link = None

    async def post(self, name: str, **body: object) -> tuple[int, dict]:
        """Sends until there is a reply, as the page does."""
        while True:
            try:
                if self.link is None:
                    self.link = await asyncio.open_connection('127.0.0.1', self.port)
                return await self.exchange(*self.link, name, body)
            except (OSError, asyncio.IncompleteReadError):
                self.hang_up()
                await asyncio.sleep(0.05)

    async def exchange(self, reader, writer, name: str, body: dict) -> tuple[int, dict]:
        writer.write(self.request(name, body))
        head = (await reader.readuntil(b'\r\n\r\n')).decode().lower()
        length = int(head.partition('content-length: ')[2].partition('\r\n')[0])
        return int(head.split()[1]), json.loads(await reader.readexactly(length))

    def request(self, name: str, body: dict) -> bytes:
        data = json.dumps({'rater': self.key} | body).encode()
        head = (
            f'POST /{self.token}/{name} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
            f'Content-Length: {len(data)}\r\n\r\n'
        )
        return head.encode() + data

    def hang_up(self) -> None:
        if self.link:
            self.link[1].close()
        self.link = None

    async def answer(self, place: dict, value: float) -> tuple[int, dict]:
        """One answer; an acknowledgement is remembered, and must agree with an earlier one."""
        start, key = time.perf_counter(), (place['session'], place['trial'])
        before = self.shared['restarts']
        status, found = await self.post('answer', **place, value=value, milliseconds=1)
        if self.shared['restarts'] == before and not self.shared['down']:
            self.shared['latency'].append(time.perf_counter() - start)
        if status == 200:
            kept = self.acknowledged.setdefault(key, value)
            self.shared['contradicted'] += kept != value
        return status, found

    async def run(self) -> None:
        answers = {'vision': 'yes', 'colour': 'no'}
        status, _ = await self.post('join', consent=True, questionnaire=answers)
        assert status == 200
        _, at = await self.post('begin', screen=SCREEN)
        while at['step'] != 'done':
            if at['step'] == 'begin':
                _, at = await self.post('begin', screen=SCREEN)
                continue
            place = {'session': at['session'], 'trial': at['trial']}
            value = round(self.rng.uniform(0, 100), 1)
            await self.misbehave(place, value)
            status, at = await self.answer(place, value)
            assert status == 200, at
        self.hang_up()

    async def misbehave(self, place: dict, value: float) -> None:
        names = ['', *(name for _, name in MISCHIEF)]
        shares = [share for share, _ in MISCHIEF]
        kind = self.rng.choices(names, [1 - sum(shares), *shares])[0]
        if not kind:
            return
        self.shared['did'][kind] = self.shared['did'].get(kind, 0) + 1
        if kind == 'sent_twice':
            twin = Client(0, self.port, self.token, self.shared)
            twin.key, twin.acknowledged = self.key, self.acknowledged
            await asyncio.gather(twin.answer(place, value), self.answer(place, value))
            twin.hang_up()
        elif kind == 'sent_ahead':
            status, _ = await self.answer(place | {'trial': place['trial'] + 1}, 1.0)
            assert status in (404, 409), status
        elif kind == 'hung_up':
            self.hang_up()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection('127.0.0.1', self.port)
                writer.write(self.request('answer', place | {'value': value, 'milliseconds': 1}))
                writer.close()
        elif kind == 'reloaded':
            status, _ = await self.post('state')
            assert status == 200
        elif self.acknowledged:
            (session, trial), kept = self.rng.choice(list(self.acknowledged.items())[-50:])
            other = kept + 1 if kept < 50 else kept - 1
            status, found = await self.answer({'session': session, 'trial': trial}, other)
            assert (status, found['answer']) == (409, 'different')


async def drive(
    folder: pathlib.Path, server: Server, clients: int, answers: int, kills: int
) -> dict:
    """Runs all clients, and kills the server each time a further share of the answers is there."""
    with contextlib.closing(schema.connect(folder / 'study.sqlite')) as db:
        token = schema.setting(db, 'token')
    shared = {'latency': [], 'did': {}, 'restarts': 0, 'down': False, 'contradicted': 0}
    everyone = [Client(n + 1, server.port, token, shared) for n in range(clients)]
    rng = random.Random(0)

    async def slaughter() -> None:
        for number in range(kills):
            wanted = answers * (number + rng.uniform(0.3, 0.9)) / kills
            while sum(len(c.acknowledged) for c in everyone) < wanted:
                await asyncio.sleep(0.01)
            shared['down'], shared['restarts'] = True, shared['restarts'] + 1
            await asyncio.to_thread(server.kill)
            server.start()
            await reachable(server.port)
            shared['down'] = False

    await reachable(server.port)
    start = time.perf_counter()
    await asyncio.gather(slaughter(), *(client.run() for client in everyone))
    seconds = time.perf_counter() - start
    acknowledged = {k: v for client in everyone for k, v in client.acknowledged.items()}
    return judge(folder, acknowledged, shared) | {'seconds': round(seconds, 1)}


async def reachable(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection('127.0.0.1', port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.02)


def judge(folder: pathlib.Path, acknowledged: dict, shared: dict) -> dict:
    """Compares what the clients were told with what the database holds."""
    with contextlib.closing(schema.connect(folder / 'study.sqlite')) as db:
        schema.check(db, folder)
        rows = db.execute('SELECT session, trial, value FROM answers').fetchall()
        missing = administration.status(db)['missing']
    stored = {(row['session'], row['trial']): row['value'] for row in rows}
    latency = 1000 * np.array(shared['latency'])
    return {
        'answers': len(acknowledged),
        'lost': sum(stored.get(key) != value for key, value in acknowledged.items()),
        'doubled': len(rows) - len(stored) + shared['contradicted'],
        'unasked': len(set(stored) - set(acknowledged)),
        'missing': missing,
        'kills': shared['restarts'],
        **shared['did'],
        **{f'p{q}_ms': round(float(np.percentile(latency, q)), 2) for q in (50, 99)},
        'max_ms': round(float(latency.max()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (('clients', 50), ('answers', 100_000), ('kills', 20), ('port', 0)):
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--folder', help='where the study lies, a new folder; default: temporary')
    parser.add_argument('--serve', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        from iqa_jax.study import server, serving

        bound = serving.listen('127.0.0.1', args.port)
        serving.serve(server.make_app(args.serve, texts.read('')), bound)
        return
    folder = pathlib.Path(tempfile.mkdtemp(dir=args.folder))
    make_study(folder, args.clients, args.answers)
    server = Server(folder)
    try:
        found = asyncio.run(drive(folder, server, args.clients, args.answers, args.kills))
    finally:
        server.kill(signal.SIGTERM)
        shutil.rmtree(folder)
    print(json.dumps({'clients': args.clients} | found))


if __name__ == '__main__':
    main()
