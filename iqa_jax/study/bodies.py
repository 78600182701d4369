"""What browsers send, before anybody trusts it: sizes, JSON and the types of its fields."""

import asyncio
import json

from starlette.requests import ClientDisconnect, Request

from iqa_jax.study.store import Refused

LARGEST = 16_384  # bytes of a body
_SECONDS = 10.0  # for a body to arrive
_NUMBERS = {  # what a page knows of its screen: name -> (lowest, highest)
    'device_pixel_ratio': (0.1, 20),
    'window_width': (1, 100_000),
    'window_height': (1, 100_000),
    'screen_width': (1, 100_000),
    'screen_height': (1, 100_000),
    'zoom': (0.01, 100),
    'touch': (0, 1),
}


async def read(request: Request) -> dict:
    """The JSON object of a request.

    Raises:
      Refused: 400 no JSON object, 408 it does not arrive, 413 it is too long, 415 it is no JSON.
    """
    kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
    if kind != 'application/json':
        raise Refused('Send application/json.', 415)
    try:
        data = await asyncio.wait_for(_collect(request), _SECONDS)
    except TimeoutError:
        raise Refused('The request did not arrive in time.', 408) from None
    except ClientDisconnect:
        raise Refused('The request broke off.', 400) from None
    try:
        found = json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused('The request is not JSON in UTF-8.', 400) from None
    if not isinstance(found, dict):
        raise Refused('The request is not a JSON object.', 400)
    return found


def whole(body: dict, name: str, highest: int = 2**31 - 1) -> int:
    """A whole number from 0 to `highest` under `name`; Refused otherwise."""
    value = body.get(name)
    if type(value) is not int or not 0 <= value <= highest:
        raise Refused(f'{name} must be a whole number from 0 to {highest}.', 400)
    return value


def screen(body: dict) -> dict:
    """The page's account of its screen, numbers only; Refused where one is missing or absurd."""
    given = body.get('screen')
    if not isinstance(given, dict) or set(given) != set(_NUMBERS):
        raise Refused(f'screen must have {", ".join(_NUMBERS)}.', 400)
    for name, (low, high) in _NUMBERS.items():
        value = given[name]
        if type(value) not in (int, float) or not low <= value <= high:
            raise Refused(f'screen.{name} must be a number from {low} to {high}.', 400)
    return given


async def _collect(request: Request) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > LARGEST:
            raise Refused(f'A request has at most {LARGEST} bytes.', 413)
    return bytes(data)


def _no_constant(name: str) -> float:
    raise ValueError(f'{name} is no JSON')
