"""The directories of tags of a TIFF file, and of the EXIF and MPF blocks of a photograph.

A tag has to say the same to everyone who reads it: decoders differ in which of two equal tags they
take and in which types of a number they know, and what only one of them sees was not checked.
"""

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from iqa_jax.images.refusal import Refused

MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
TAGS = 4096  # of all directories of a file
PIECES = 2**20  # strips or tiles
NUMBERS = 2**16  # in all other tags; decoders make an object of each
SPARE_BYTES = 2**24  # by which the tags of a careless writer may overlap
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}
WHOLE = {1: 'B', 3: 'H', 4: 'I', 13: 'I', 16: 'Q'}  # types of whole numbers
WIDTH, HEIGHT, BITS, ORIENTATION, TILE_WIDTH, TILE_HEIGHT = 256, 257, 258, 274, 322, 323
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965  # where further directories are
_PLACES = (273, 279, 324, 325)  # and sizes, of strips and tiles
_TEXTS = (1, 2, 7)  # types that decoders keep as bytes
Read = Callable[[str, int], tuple]


class _EndsEarly(Refused):
    """Part of a directory is not there."""


class Tag(NamedTuple):
    """A tag: type, number of values, and where the values begin."""

    number: int
    kind: int
    count: int
    at: int


class _Claims:
    """What the tags of all directories of a file hold together; refuses too much of it.

    Values that overlap would make a small file fill the memory.
    """

    def __init__(self, size: int):
        self._tags, self._bytes, self._numbers = TAGS, size + SPARE_BYTES, NUMBERS

    def tags(self, count: int) -> None:
        self._tags -= count
        if self._tags < 0:
            raise Refused(f'has more than {TAGS} tags')

    def values(self, tag: Tag, has_pieces: bool) -> None:
        self._bytes -= tag.count * SIZES.get(tag.kind, 0)
        if has_pieces and tag.number in _PLACES:
            if tag.count > PIECES:
                raise Refused(f'has more than {PIECES} values of tag {tag.number}')
        elif tag.kind not in _TEXTS:
            self._numbers -= tag.count
        if self._numbers < 0:
            raise Refused(f'has more than {NUMBERS} numbers in its tags')
        if self._bytes < 0:
            raise Refused('is damaged: its tags claim more bytes than it has')


def check(data: bytes, max_pixels: int) -> int:
    """Bits per channel of a TIFF file; raises Refused for more than a picture needs."""
    if data.startswith(b'MM\0+'):  # Pillow would look for its directory elsewhere
        raise Refused('is a big-endian BigTIFF; save it as another kind of TIFF')
    claims = _Claims(len(data))
    tags, after = _first(data, claims, has_pieces=True)
    if after:
        raise Refused('has several frames; save the wanted one as a single image')
    found: dict[int, Tag] = {}
    for tag in tags:
        if tag.number in found:
            raise Refused(f'is damaged: it has tag {tag.number} twice')
        found[tag.number] = tag
    for sides in ((WIDTH, HEIGHT), (TILE_WIDTH, TILE_HEIGHT)):
        width, height = (_side(data, found[side]) if side in found else 0 for side in sides)
        if width * height > max_pixels:
            raise Refused(f'declares {width}x{height} pixels, more than {max_pixels}')
    _check_beneath(data, [found[number] for number in (EXIF, GPS) if number in found], claims)
    return max(_whole(data, found[BITS])) if BITS in found else 1


def check_exif(block: bytes) -> int:
    """Orientation (EXIF 1 to 8, 0 if none) of an EXIF block; raises Refused for too much of it."""
    block = block.removeprefix(b'Exif\0\0')
    tags, _ = _first(block, _Claims(len(block)), has_pieces=False)
    turned = [tag for tag in tags if tag.number == ORIENTATION and tag.count]
    found = {_whole(block, tag)[0] if tag.kind in WHOLE else 0 for tag in turned}
    if len(found) > 1:
        raise Refused('is damaged: its tags say in two ways how it is to be held')
    return found.pop() if found else 0


def check_mpf(block: bytes) -> None:
    """Raises Refused for an MPF block, of a camera's JPEG, with more than previews need."""
    with contextlib.suppress(_EndsEarly):  # decoders ignore the block then
        _first(block, _Claims(len(block)), has_pieces=False)


def _check_beneath(data: bytes, pointers: list[Tag], claims: _Claims) -> None:
    """Raises Refused for too much in the directories to which tags point."""
    while pointers:
        at = _whole(data, pointers.pop())[0]
        with contextlib.suppress(_EndsEarly):  # decoders ignore what is not there
            for tag in _tags(data, at, claims, False):
                if tag.number == INTEROPERABILITY:
                    pointers.append(tag)


def _first(data: bytes, claims: _Claims, *, has_pieces: bool) -> tuple[list[Tag], int]:
    """The tags of the first directory, and where the next one is, 0 if there is none."""
    if data[:2] not in (b'II', b'MM'):
        raise _EndsEarly('is damaged or truncated: its tags have no beginning')
    word, read = 'Q' if _is_big(data) else 'I', _reader(data)
    (at,) = read(word, 8 if _is_big(data) else 4)
    tags = [*_tags(data, at, claims, has_pieces)]
    # EXIF blocks may end with their last tag.
    end = at + (8 if _is_big(data) else 2) + len(tags) * (20 if _is_big(data) else 12)
    return tags, read(word, end)[0] if end + struct.calcsize(word) <= len(data) else 0


def _tags(data: bytes, at: int, claims: _Claims, has_pieces: bool) -> Iterator[Tag]:
    """The tags of the directory at a place."""
    big, read = _is_big(data), _reader(data)
    (count,) = read('Q' if big else 'H', at)
    claims.tags(count)
    at, size, word = at + (8 if big else 2), 20 if big else 12, 'Q' if big else 'I'
    for entry in range(at, at + count * size, size):
        number, kind, values = read(f'HH{word}', entry)
        inline = entry + (12 if big else 8)
        fits = values * SIZES.get(kind, 0) <= (8 if big else 4)
        tag = Tag(number, kind, values, inline if fits else read(word, inline)[0])
        claims.values(tag, has_pieces)
        yield tag


def _is_big(data: bytes) -> bool:
    return data[2:3] == b'+'  # as Pillow tells a BigTIFF


def _reader(data: bytes) -> Read:
    order = '<' if data.startswith(b'II') else '>'

    def read(form: str, at: int) -> tuple:
        try:
            return struct.unpack_from(order + form, data, at)
        except (struct.error, OverflowError):
            raise _EndsEarly('is damaged or truncated: its tags end early') from None

    return read


def _whole(data: bytes, tag: Tag) -> tuple[int, ...]:
    """The numbers of a tag; raises Refused for a type that decoders may read otherwise."""
    if tag.kind not in WHOLE or not tag.count:
        raise Refused(f'is damaged: its tag {tag.number} holds no whole number of a usual type')
    return _reader(data)(f'{tag.count}{WHOLE[tag.kind]}', tag.at)


def _side(data: bytes, tag: Tag) -> int:
    numbers = _whole(data, tag)
    if len(numbers) > 1:
        raise Refused(f'is damaged: its tag {tag.number} holds more than one number')
    return numbers[0]
