"""The rating page's server: one ASGI application over one study folder.

Everything lies under a secret token in the URL. The page's own files are read once at the start and
images are found by number alone, so no path ever comes from a browser.
"""

import asyncio
import contextlib
import hashlib
import hmac
import importlib.resources
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import h11
from absl import logging
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from iqa_jax.runtime import artifacts
from iqa_jax.study import administration, bodies, designs, refusals, schema, store, texts
from iqa_jax.study.writer import Writer

PAGE_FILES = {
    '': ('index.html', 'text/html; charset=utf-8'),
    'icon.svg': ('icon.svg', 'image/svg+xml'),
    'page.css': ('page.css', 'text/css; charset=utf-8'),
    'page.js': ('page.js', 'text/javascript; charset=utf-8'),
    'screens.js': ('screens.js', 'text/javascript; charset=utf-8'),
    'trial.js': ('trial.js', 'text/javascript; charset=utf-8'),
}
HEADERS = {
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
}
_FOREVER = 'private, max-age=31536000, immutable'  # an image's number never means another image
Handler = Callable[[Request], Awaitable[Response]]


def make_app(folder: str | Path, words: dict) -> Callable:
    """The ASGI application for the study in `folder`, with the `words` of `texts.read`.

    Raises:
      ValueError: there is no study, or its database or an image of it is damaged.
    """
    folder = Path(folder)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.writer = Writer(folder / schema.DATABASE)
        try:
            yield
        finally:  # after a second Ctrl-C too, or the thread would keep the process alive
            app.state.writer.close()

    posts = {'answer': _answer, 'state': _state, 'begin': _begin, 'break': _end_break,
             'event': _event, 'join': _join}  # fmt: skip
    routes = [_route(f'/{name}', handler, 'POST') for name, handler in posts.items()]
    routes += [_route('', _slash), _route('/', _page), _route('/study', _study)]
    routes += [_route('/image/{number}', _image), _route('/{name}', _page)]
    for name, handler, method in (('status', _status, 'GET'), ('pause', _pause, 'POST'),
                                  ('resume', _resume, 'POST')):  # fmt: skip
        routes.append(_route(f'/admin/{name}', handler, method, 'admin_token'))
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={
        store.Refused: _refused, HTTPException: _not_here, sqlite3.Error: _not_stored,
    })  # fmt: skip
    app.router.redirect_slashes = False  # it would send people where the Host header says
    app.state.tally = refusals.Tally()
    app.state.database = folder / schema.DATABASE
    app.state.questions = words['questionnaire']
    page = importlib.resources.files('iqa_jax.study') / 'page'
    app.state.files = {
        name: ((page / file).read_bytes(), media) for name, (file, media) in PAGE_FILES.items()
    }
    with contextlib.closing(schema.connect(folder / schema.DATABASE)) as db:
        schema.check(db, folder / schema.DATABASE)
        app.state.tokens = {k: schema.setting(db, k) for k in ('token', 'admin_token')}
        rows = db.execute('SELECT number, file, media, sha256, width, height FROM images')
        images = [dict(row) for row in rows]
        app.state.study = words | _facts(schema.setting(db, 'design'), images)
    app.state.images = {
        str(row['number']): (folder / schema.IMAGES / row['file'], row['media'], row['sha256'])
        for row in images
    }
    for file, digest in {(file, digest) for file, _, digest in app.state.images.values()}:
        _check_image(file, digest)
    return _with_headers(app)


def _check_image(file: Path, digest: str) -> None:
    """Raises artifacts.DamagedArtifact for an image that people would not see as it was stored."""
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise artifacts.DamagedArtifact(
            f'{file} cannot be read: {error}; restore it from a copy.'
        ) from error
    if found != digest:
        raise artifacts.DamagedArtifact(f'{file} is damaged; restore it from a copy.')


def _facts(design: str, images: list[dict]) -> dict:
    """What a page must know before anybody joins."""
    return {
        'design': design,
        'adjectives': designs.ADJECTIVES,
        'side_by_side': designs.find(design)[0],
        'width': max(row['width'] for row in images),
        'height': max(row['height'] for row in images),
    }


def _route(path: str, handler: Handler, method: str = 'GET', token: str = 'token') -> Route:
    """A route below the secret of raters, or of the administrator; 404 for all who lack it."""

    async def guarded(request: Request) -> Response:
        given = request.path_params['token'].encode()
        if not hmac.compare_digest(given, request.app.state.tokens[token].encode()):
            raise HTTPException(404)
        return await handler(request)

    return Route('/{token}' + path, guarded, methods=[method])


async def _slash(request: Request) -> Response:
    return Response(status_code=307, headers={'Location': request.path_params['token'] + '/'})


async def _page(request: Request) -> Response:
    found = request.app.state.files.get(request.path_params.get('name', ''))
    if found is None:
        raise HTTPException(404)
    return Response(found[0], media_type=found[1])


async def _study(request: Request) -> Response:
    return _json(request.app.state.study)


async def _image(request: Request) -> Response:
    found = request.app.state.images.get(request.path_params['number'])
    if found is None:
        raise HTTPException(404)
    file, media, sha256 = found
    headers = {'ETag': f'"{sha256}"', 'Cache-Control': _FOREVER}
    if request.headers.get('if-none-match') == headers['ETag']:
        return Response(status_code=304, headers=headers)
    try:
        return Response(file.read_bytes(), media_type=media, headers=headers)
    except OSError as error:
        logging.error('An image of the study cannot be read: %s', error)
        raise store.Refused('This image is not available.', 503) from error


async def _join(request: Request) -> Response:
    body = await bodies.read(request)
    if body.get('consent') is not True:
        raise store.Refused('Taking part needs your consent.', 400)
    try:
        answers = texts.check_answers(request.app.state.questions, body.get('questionnaire'))
    except ValueError as error:
        raise store.Refused(str(error), 400) from None
    return await _stored(request, store.join, body.get('rater'), answers)


async def _state(request: Request) -> Response:
    body = await bodies.read(request)
    return await _stored(request, store.state, body.get('rater'))


async def _begin(request: Request) -> Response:
    body = await bodies.read(request)
    return await _stored(request, store.begin, body.get('rater'), bodies.screen(body))


async def _answer(request: Request) -> Response:
    body = await bodies.read(request)
    place = [bodies.whole(body, name) for name in ('session', 'trial')]
    given = (body.get('value'), bodies.whole(body, 'milliseconds'))
    return await _stored(request, store.answer, body.get('rater'), *place, *given)


async def _end_break(request: Request) -> Response:
    body = await bodies.read(request)
    place = [bodies.whole(body, name) for name in ('session', 'trial')]
    return await _stored(request, store.end_break, body.get('rater'), *place)


async def _event(request: Request) -> Response:
    body = await bodies.read(request)
    seen = bodies.screen(body)
    return await _stored(request, store.event, body.get('rater'), body.get('kind'), seen)


async def _status(request: Request) -> Response:
    # By a connection of its own: counting must not keep answers waiting.
    try:
        found = await asyncio.to_thread(_read_status, request.app.state.database)
    except ValueError as error:
        raise store.Refused(str(error), 503) from error
    return _json(found | {'refused': dict(request.app.state.tally.all)})


def _read_status(path: Path) -> dict:
    with contextlib.closing(schema.connect(path)) as db:
        return administration.status(db)


async def _pause(request: Request) -> Response:
    return await _stored(request, administration.set_paused, True)


async def _resume(request: Request) -> Response:
    return await _stored(request, administration.set_paused, False)


async def _stored(request: Request, work: Callable, *args: object) -> Response:
    """Answers after what `work` did is on the disk."""
    found = await request.app.state.writer.do(work, *args, time.time())
    return _json(found, 409 if found.get('answer') == 'different' else 200)


async def _refused(request: Request, error: store.Refused) -> Response:
    request.app.state.tally.add(error.status)
    return _json({'error': str(error)}, error.status)


async def _not_here(request: Request, error: HTTPException) -> Response:
    request.app.state.tally.add(error.status_code)
    sentence = 'There is nothing here.' if error.status_code == 404 else f'{error.detail}.'
    return _json({'error': sentence}, error.status_code)


async def _not_stored(request: Request, error: sqlite3.Error) -> Response:
    logging.error('The database of the study did not take a request: %s', error)
    request.app.state.tally.add(503)
    return _json({'error': 'This could not be stored; please try again.'}, 503)


def _json(value: dict, status: int = 200) -> Response:
    data = json.dumps(value).encode()
    headers = {'Cache-Control': 'no-store'}
    return Response(data, status, headers=headers, media_type='application/json')


def _with_headers(app: Callable) -> Callable:
    """Every response, of errors too, carries HEADERS, and no-store unless it says otherwise."""
    fixed = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def wrapped(scope: dict, receive: Callable, send: Callable) -> None:
        async def send_more(message: dict) -> None:
            if message['type'] == 'http.response.start':
                headers = [*message.get('headers', ()), *fixed]
                if not any(name == b'cache-control' for name, _ in headers):
                    headers.append((b'cache-control', b'no-store'))
                message = message | {'headers': headers}
            with contextlib.suppress(h11.LocalProtocolError):  # uvicorn has refused the body itself
                await send(message)

        await app(scope, receive, send_more)

    return wrapped
