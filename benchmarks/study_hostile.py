"""Requests that no page sends: malformed JSON, paths out of the study, long bodies, broken HTTP.

    python benchmarks/study_hostile.py --cases 10000

Prints one JSON object: how many cases of each kind there were, the HTTP codes of the answers
('none' where the connection was closed instead), `errors` (answers of 500 and above), `hung` (no
answer and not closed within 15 s), `leaked` (answers with bytes of a file that is not the page's),
`tracebacks` in the server's log, `damaged` (what the database's check says) and `absurd` (answers
stored that no page can give). It ends with 1 if one of the last six is not zero. The server is the
real one in a process of its own.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import pathlib
import random
import signal
import socket
import sys
import tempfile

import study_load

from iqa_jax.study import schema

SECRET = b'a line of a file that no browser may see'
POSTS = ('join', 'state', 'begin', 'answer', 'break', 'event')
KINDS = ('fields', 'bytes', 'paths', 'long', 'http')
WORDS = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 1.5, -0.0, 1e308, '', 'left', '__proto__',
    '\ud800', '\0', '<img src=x onerror=alert(1)>', "' OR 1=1 --", '9' * 400, [], {}, [[]],
    {'': ''},
]  # fmt: skip
PARTS = [
    '..', '.', '%2e%2e', '..%2f', '%2e%2e%2f', '..%5c', '%00', '//', '~', 'image', '0', '1', '-1',
    'study.sqlite', 'images', 'secret.txt', 'etc/passwd', 'page.js', 'texts.txt', 'server.py', '٣',
    '%c0%ae%c0%ae', '%25%32%65', 'admin', 'status', 'x' * 3000, '?', '#', ';', '%', '%zz', ' ',
]  # fmt: skip
HTTP = [
    b'\r\n\r\n', b'GET\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n', b'\x16\x03\x01\x02\x00',
    b'GET /\0 HTTP/1.1\r\n\r\n',
    b'POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n', b'GET / HTTP/1.1\r\nHost: ' + b'h' * 70000,
    b'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    b'GET / HTTP/1.1\r\nno colon\r\n\r\n', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
]  # fmt: skip


def value(rng: random.Random, key: str, depth: int = 0) -> object:
    """Any JSON, now and then something that a page would send."""
    if depth < 3 and rng.random() < 0.25:
        inner = [value(rng, key, depth + 1) for _ in range(rng.randrange(4))]
        return inner if rng.random() < 0.5 else {str(n): item for n, item in enumerate(inner)}
    return rng.choice([*WORDS, key, rng.random() * 100, rng.randrange(12)])


def fields(rng: random.Random, key: str) -> bytes:
    """A body whose fields have the right names and seldom the right values."""
    good = {
        'rater': key, 'consent': True, 'questionnaire': {'vision': 'yes', 'colour': 'no'},
        'screen': study_load.SCREEN, 'session': 1, 'trial': rng.randrange(4), 'value': 50.0,
        'milliseconds': 5, 'kind': 'screen',
    }  # fmt: skip
    wrong = rng.choices(list(good), k=rng.randrange(4))
    body = good | {name: value(rng, key) for name in wrong}
    if rng.random() < 0.2:
        body.pop(rng.choice(list(body)))
    if rng.random() < 0.2:
        name = rng.choice(list(study_load.SCREEN))
        body['screen'] = study_load.SCREEN | {name: value(rng, key)}
    return json.dumps(body).encode()


def request(rng: random.Random, kind: str, token: str, key: str) -> bytes:
    """The bytes of one request."""
    if kind == 'http':
        return rng.choice(HTTP) + rng.randbytes(rng.randrange(30))
    path, method, media, body = f'/{token}/{rng.choice(POSTS)}', 'POST', 'application/json', b''
    if kind == 'paths':
        below = rng.choice(['', f'/{token}/', f'/{token}/image/', '/'])
        path = below + '/'.join(rng.choices(PARTS, k=rng.randrange(1, 6)))
        method = rng.choice(['GET', 'GET', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE'])
    elif kind == 'fields':
        body = fields(rng, key)
    elif kind == 'long':
        body = rng.choice([b'[', b'{"a":', b' ', b'"x"', b'9']) * rng.randrange(3000, 20_000)
        media = rng.choice([media, media, 'text/plain', 'multipart/form-data', ''])
    else:
        body = bytearray(fields(rng, key))
        for _ in range(rng.randrange(1, 9)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        body = bytes(body[: rng.randrange(len(body) + 1)])
    head = f'{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\n'
    head += f'Content-Length: {len(body)}\r\nConnection: close\r\n\r\n'
    return head.encode() + body


def exchange(port: int, data: bytes, broken: bool) -> tuple[str, bytes]:
    """(HTTP code, 'none' or 'hung'; everything that came) for one request on its own connection."""
    found = b''
    with socket.create_connection(('127.0.0.1', port), timeout=15) as link:
        try:
            link.sendall(data)
            if broken:  # half a request: the server waits for the other half
                link.shutdown(socket.SHUT_WR)
            while part := link.recv(65536):
                found += part
        except TimeoutError:
            return 'hung', found
        except OSError:
            pass  # the server need not read what it has refused
    first = found.partition(b'\r\n')[0].split()
    return (first[1].decode() if len(first) > 1 else 'none'), found


def judge(code: str, answer: bytes, counts: collections.Counter) -> None:
    """Counts what must not happen."""
    counts['hung'] += code == 'hung'
    counts['errors'] += code.isdigit() and int(code) >= 500
    counts['leaked'] += any(what in answer for what in (SECRET, b'SQLite format', b'root:'))


def absurd(folder: pathlib.Path) -> int:
    """Stored answers that are outside the scale, of no planned trial, or out of order."""
    with contextlib.closing(schema.connect(folder / schema.DATABASE)) as db:
        schema.check(db, folder)
        rows = db.execute(
            'SELECT value, milliseconds, trial, ROW_NUMBER() '
            'OVER (PARTITION BY session ORDER BY trial) - 1 AS place FROM answers'
        ).fetchall()
    return sum(
        not (0 <= row['value'] <= 100 and row['milliseconds'] >= 0 and row['trial'] == row['place'])
        for row in rows
    )


def attack(folder: pathlib.Path, port: int, cases: int, seed: int) -> dict:
    """Sends the cases one after the other; the counts."""
    with contextlib.closing(schema.connect(folder / schema.DATABASE)) as db:
        token = schema.setting(db, 'token')
    rng, key = random.Random(seed), f'{7:032x}'
    counts = collections.Counter(errors=0, hung=0, leaked=0)
    codes, kinds = collections.Counter(), collections.Counter()
    for _ in range(cases):
        kind = rng.choice(KINDS)
        code, answer = exchange(port, request(rng, kind, token, key), kind == 'http')
        kinds[kind] += 1
        codes[code] += 1
        judge(code, answer, counts)
    return {'cases': dict(kinds), 'codes': dict(sorted(codes.items()))} | dict(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cases', type=int, default=10_000)
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as above:
        folder = pathlib.Path(above, 'study')
        folder.mkdir()
        for place in (above, folder, folder / 'images'):
            pathlib.Path(place).mkdir(exist_ok=True)
            pathlib.Path(place, 'secret.txt').write_bytes(SECRET)
        study_load.make_study(folder, clients=40, answers=40 * 50)
        with open(pathlib.Path(above, 'log'), 'w+b') as log:
            server = study_load.Server(folder, log)
            try:
                asyncio.run(study_load.reachable(server.port))
                found = attack(folder, server.port, args.cases, args.seed)
            finally:
                server.kill(signal.SIGTERM)
            log.seek(0)
            found['tracebacks'] = log.read().count(b'Traceback')
        try:
            found |= {'damaged': 0, 'absurd': absurd(folder)}
        except ValueError as error:
            found |= {'damaged': str(error), 'absurd': 0}
    print(json.dumps(found))
    names = ('errors', 'hung', 'leaked', 'tracebacks', 'damaged', 'absurd')
    sys.exit(any(found[name] for name in names))


if __name__ == '__main__':
    main()
