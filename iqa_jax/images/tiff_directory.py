"""The directory of tags of a TIFF file, and of the EXIF block of a photograph."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from iqa_jax.images.refusal import Refused

MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
TAGS = 4096
VALUES = 2**20  # of a tag that is no text: strips or tiles
SPARE_BYTES = 2**24  # by which the tags of a careless writer may overlap
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}
NUMBERS = {1: 'B', 3: 'H', 4: 'I', 13: 'I', 16: 'Q'}
WIDTH, HEIGHT, BITS, ORIENTATION, TILE_WIDTH, TILE_HEIGHT = 256, 257, 258, 274, 322, 323
_NEEDED = (WIDTH, HEIGHT, BITS, TILE_WIDTH, TILE_HEIGHT)


class Tag(NamedTuple):
    """A tag: type, number of values, and where the values begin."""

    number: int
    kind: int
    count: int
    at: int


def check(data: bytes, max_pixels: int) -> int:
    """Bits per channel of a TIFF file; raises Refused for more than a picture needs."""
    tags, after = directory(data)
    if after:
        raise Refused('has several frames; save the wanted one as a single image')
    found = {tag.number: _values(data, tag) for tag in tags if tag.number in _NEEDED}
    for wide, high in ((WIDTH, HEIGHT), (TILE_WIDTH, TILE_HEIGHT)):
        width, height = found.get(wide, (0,))[0], found.get(high, (0,))[0]
        if width * height > max_pixels:
            raise Refused(f'declares {width}x{height} pixels, more than {max_pixels}')
    return max(found.get(BITS, (1,)))


def check_exif(block: bytes) -> int:
    """Orientation (EXIF 1 to 8, 0 if none) of an EXIF block; raises Refused as `directory` does."""
    block = block.removeprefix(b'Exif\0\0')
    tags, _ = directory(block)
    turned = [tag for tag in tags if tag.number == ORIENTATION and tag.count]
    return _values(block, turned[-1])[0] if turned else 0


def directory(data: bytes) -> tuple[list[Tag], int]:
    """The tags of the first directory, and where the next one is, 0 if there is none.

    Raises:
      Refused: more tags or values than pictures have, or more bytes of them than the file: values
        that overlap would make a small file fill the memory.
    """
    order = {b'II': '<', b'MM': '>'}.get(data[:2])
    if order is None:
        raise Refused('is damaged or truncated: its tags have no beginning')
    big = 43 in data[2:4]
    read = _reader(data, order)
    (at,) = read('Q' if big else 'I', 8 if big else 4)
    (count,) = read('Q' if big else 'H', at)
    if count > TAGS:
        raise Refused(f'has more than {TAGS} tags')
    at, size, word = at + (8 if big else 2), 20 if big else 12, 'Q' if big else 'I'
    tags, total = [], 0
    for entry in range(at, at + count * size, size):
        number, kind, values = read(f'HH{word}', entry)
        length = values * SIZES.get(kind, 0)
        total += length
        if values > VALUES and kind not in (1, 2, 6, 7):
            raise Refused(f'has more than {VALUES} values of tag {number}')
        inline = entry + (12 if big else 8)
        where = inline if length <= (8 if big else 4) else read(word, inline)[0]
        tags.append(Tag(number, kind, values, where))
    if total > len(data) + SPARE_BYTES:
        raise Refused('is damaged: its tags claim more bytes than it has')
    # EXIF blocks may end with their last tag.
    end = at + count * size
    return tags, read(word, end)[0] if end + struct.calcsize(word) <= len(data) else 0


def _reader(data: bytes, order: str) -> Callable[[str, int], tuple]:
    def read(form: str, at: int) -> tuple:
        try:
            return struct.unpack_from(order + form, data, at)
        except struct.error:
            raise Refused('is damaged or truncated: its tags end early') from None

    return read


def _values(data: bytes, tag: Tag) -> tuple[int, ...]:
    """Whole numbers of a tag, (0,) if it holds none."""
    if tag.kind not in NUMBERS or not tag.count:
        return (0,)
    order = '<' if data.startswith(b'II') else '>'
    return _reader(data, order)(f'{tag.count}{NUMBERS[tag.kind]}', tag.at)
