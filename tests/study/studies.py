"""Tiny studies, and an ASGI application called without a socket, for the tests of this folder."""

import asyncio
import hashlib
import json
import pathlib
import time
import zlib

from iqa_jax.study import administration, plan, schema, store, texts

CONSENT = {'consent': True, 'questionnaire': {'vision': 'yes', 'colour': 'no'}}
SCREEN = {
    'device_pixel_ratio': 1, 'window_width': 1366, 'window_height': 768, 'screen_width': 1366,
    'screen_height': 768, 'zoom': 1, 'touch': 0,
}  # fmt: skip
VALUES = {'single_stimulus': 62.5, 'acr5': 4, 'pair_choice': 'left'}


def png(width: int = 4, height: int = 3) -> bytes:
    """A grey PNG file, made without any library of pictures."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, 'big')
        return len(data).to_bytes(4, 'big') + kind + data + check

    header = width.to_bytes(4, 'big') + height.to_bytes(4, 'big') + bytes([8, 0, 0, 0, 0])
    rows = b''.join(b'\0' + bytes([90] * width) for _ in range(height))
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


def make(
    folder: pathlib.Path,
    design: str = 'single_stimulus',
    items: int = 6,
    raters: int = 2,
    **changes,
) -> pathlib.Path:
    """A study of `items` rated by everybody, one practice trial, and gold with a share."""
    settings = {
        'per_session': 100, 'session_minutes': 0.0, 'gold_share': 0.0, 'break_every': 0,
        'break_seconds': 0.0, 'name': 'image', 'picture': png(), 'size': (4, 3),
    } | changes  # fmt: skip
    pair = design == 'pair_choice'
    (folder / 'images').mkdir(parents=True)
    (folder / 'images/only.png').write_bytes(settings['picture'])
    digest = hashlib.sha256(settings['picture']).hexdigest()
    images = [
        {'label': '', 'image_id': f'{settings["name"]}_{n}', 'file': 'only.png',
         'media': 'image/png', 'sha256': digest, 'width': settings['size'][0],
         'height': settings['size'][1]}
        for n in range(2 * items + 4)
    ]  # fmt: skip
    entries = [
        {'kind': kind, 'image_a': 2 * n, 'image_b': 2 * n + 1 if pair else None, 'low': low,
         'high': 100.0 if kind == 'gold' else None}
        for n, (kind, low) in enumerate(
            [('rating', None)] * items + [('training', None), ('gold', 1.0 if pair else 60.0)]
        )
    ]  # fmt: skip
    sessions = plan.make(
        [frozenset([str(n)]) for n in range(items + 2)], rated=range(items), training=[items],
        gold=[items + 1], raters=raters, votes_per_item=raters, seed=3,
        **{k: settings[k] for k in ('per_session', 'gold_share', 'break_every')},
    )  # fmt: skip
    administration.create(
        folder / 'study.sqlite', design=design, images=images, items=entries, places=sessions,
        votes_per_item=raters, about={}, now=time.time(),
        **{k: settings[k] for k in ('session_minutes', 'break_seconds')},
    )  # fmt: skip
    return folder


def key(number: int) -> str:
    """The secret of a rater."""
    return f'{number:032x}'


def take_part(db, number=1, value=70.0, until=None):
    """Joins and answers up to trial `until`; the last state."""
    mine = key(number)
    store.join(db, mine, {}, 0.0)
    state = store.begin(db, mine, SCREEN, 1.0)
    while state['step'] in ('trial', 'begin', 'break'):
        if state['step'] == 'begin':
            state = store.begin(db, mine, SCREEN, 1.0)
        elif state['step'] == 'break':
            state = store.end_break(db, mine, state['session'], state['trial'], 1e6)
        elif state['trial'] == until:
            break
        else:
            state = store.answer(db, mine, state['session'], state['trial'], value, 900, 2.0)
    return state


class Page:
    """The server's application in an event loop of its own; `post` and `get` below the token."""

    def __init__(self, folder: pathlib.Path, words: dict | None = None):
        from iqa_jax.study import server

        self.app = server.make_app(folder, words or texts.read(''))
        self.loop = asyncio.new_event_loop()
        db = schema.connect(folder / 'study.sqlite')
        self.token, self.admin = (schema.setting(db, k) for k in ('token', 'admin_token'))
        db.close()
        self._inbox: asyncio.Queue = asyncio.Queue()
        self._said: asyncio.Queue = asyncio.Queue()
        self._life = self.loop.create_task(
            self.app({'type': 'lifespan', 'state': {}}, self._inbox.get, self._said.put)
        )
        self._phase('startup')

    def _phase(self, name: str) -> None:
        self._inbox.put_nowait({'type': f'lifespan.{name}'})
        assert self.loop.run_until_complete(self._said.get())['type'].endswith('complete')

    def close(self) -> None:
        self._phase('shutdown')
        self.loop.run_until_complete(self._life)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def call(
        self, method: str, path: str, body: bytes = b'', kind: str = 'application/json', **headers
    ) -> tuple[int, dict, bytes]:
        """(status, headers, body) of one request."""
        return self.loop.run_until_complete(self._call(method, path, body, kind, headers))

    async def _call(self, method, path, body, kind, headers):
        pairs = {'content-type': kind, 'host': 'x'} | {
            k.replace('_', '-'): v for k, v in headers.items()
        }
        scope = {
            'type': 'http', 'http_version': '1.1', 'method': method, 'path': path,
            'raw_path': path.encode(), 'query_string': b'', 'root_path': '', 'scheme': 'http',
            'headers': [(k.encode(), v.encode()) for k, v in pairs.items()],
            'server': ('x', 80), 'client': ('y', 1), 'state': {},
        }  # fmt: skip
        sent = []

        async def receive():
            return {'type': 'http.request', 'body': body, 'more_body': False}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        headers = {k.decode(): v.decode() for k, v in sent[0]['headers']}
        return sent[0]['status'], headers, b''.join(m.get('body', b'') for m in sent[1:])

    def post(self, name: str, **body: object) -> tuple[int, dict]:
        """(status, JSON) of a rater's request."""
        status, _, data = self.call('POST', f'/{self.token}/{name}', json.dumps(body).encode())
        return status, json.loads(data)

    def get(self, name: str, **headers: str) -> tuple[int, dict, bytes]:
        return self.call('GET', f'/{self.token}/{name}', **headers)
