"""Runs the rating page's server until it is stopped."""

import contextlib
import socket

import uvicorn

_AT_ONCE = 400  # connections; more get 503
_LOCAL = ('127.0.0.1', 'localhost', '::1')


def listen(host: str, port: int) -> socket.socket:
    """The socket that a page is served on; port 0 takes a free one.

    Raises:
      ValueError: the address is not this machine's, or taken.
    """
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # at once after a killed server
    try:
        found.bind((host, port))
        found.listen(1024)  # who follows the address at once waits until the server is up
    except (OSError, OverflowError) as error:
        found.close()
        raise ValueError(
            f'The page cannot be served on config.people.host={host}, port={port}: {error}; '
            'choose another port, or stop what holds this one.'
        ) from error
    return found


def url(bound: socket.socket, token: str, page: str = '') -> str:
    """Address of the page below its token."""
    host, port = bound.getsockname()[:2]
    return f'http://{f"[{host}]" if ":" in host else host}:{port}/{token}/{page}'


def is_local(host: str) -> bool:
    """Whether only this machine reaches a page served there."""
    return host in _LOCAL


def serve(app: object, bound: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM, whose handlers run after the last answers are on the disk.

    Raises:
      ValueError: the server could not begin; its log says why.
    """
    config = uvicorn.Config(
        app, log_level='error', access_log=False, server_header=False, lifespan='on', http='h11',
        limit_concurrency=_AT_ONCE, timeout_keep_alive=30, timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with contextlib.suppress(SystemExit):  # uvicorn's own way to say that it could not begin
        server.run(sockets=[bound])
    if not server.started:
        raise ValueError('The server of the rating page could not begin; see the lines above.')
