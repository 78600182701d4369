"""What the header of a picture declares, read before any decoder sees the file.

Decoders reserve memory for what a header declares, and walk through as many pieces as a file has.
So sizes, pieces (chunks, segments, blocks, tags), scans and inflated texts are bounded here, in
time that the bounds bound. What is damaged but harmless is left for the decoder to refuse.
"""

import re
import struct
import zlib
from typing import NamedTuple

from iqa_jax.images import tiff_directory
from iqa_jax.images.refusal import Refused

PIECES = 2**16  # of a file; PNG of 64 million random pixels in chunks of 4 KiB has as many
GIF_BLOCKS = 2**20  # of pixels, 255 bytes each at most
EXIF_SEGMENTS = 64  # of a JPEG, 4 MiB; decoders copy the earlier ones for each
SCANS = 100  # of a JPEG; progressive ones have about ten, and each takes a pass over all pixels
TEXT_BYTES = 2**22  # of inflated texts and profiles
JPEG2000_PARTS = 2**20  # code blocks, and precincts; each costs some 100 bytes or more
JPEG2000_TILES = 2**14


# A marker that a length follows, or the end: not stuffing, fill bytes, restarts or a start.
_MARKER = re.compile(rb'\xff[^\x00\xff\x01\xd0-\xd8]')
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Header(NamedTuple):
    """`format` is Pillow's name of it, '' if unknown; `bits` per channel, the largest."""

    format: str
    bits: int = 8


def check(data: bytes, max_pixels: int) -> Header:
    """Format by content; raises Refused for a file that costs more than its pixels can."""
    if data.startswith(b'\x89PNG\r\n\x1a\n'):
        return _png(data, max_pixels)
    if data.startswith(b'\xff\xd8\xff'):
        return _jpeg(data, max_pixels)
    if data.startswith((b'GIF87a', b'GIF89a')):
        return _gif(data, max_pixels)
    if data.startswith(b'RIFF') and data[8:12] == b'WEBP':
        return _webp(data, max_pixels)
    if data.startswith(b'BM'):
        return _bmp(data, max_pixels)
    if data.startswith(tiff_directory.MAGIC):
        bits = tiff_directory.check(data, max_pixels)
        return Header('TIFF', bits)
    if data.startswith((b'\xff\x4f\xff\x51', b'\0\0\0\x0cjP  \r\n\x87\n')):
        return _jpeg2000(data, max_pixels)
    return Header('')


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises Refused for more than max_pixels."""
    if width * height > max_pixels:
        raise Refused(f'declares {width}x{height} pixels, more than {max_pixels}')


class _Pieces:
    """Counts the pieces of a file and refuses too many."""

    def __init__(self, what: str, most: int = PIECES):
        self._what, self._most, self._left = what, most, most

    def another(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Refused(f'has more than {self._most} {self._what}')


def _unpack(form: str, data: bytes, at: int) -> tuple:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        raise Refused('is damaged or truncated: its header ends early') from None


def _png(data: bytes, max_pixels: int) -> Header:
    width, height, bits = _unpack('>IIB', data, 16)
    if data[12:16] != b'IHDR':
        raise Refused('is damaged or truncated: a PNG begins with IHDR')
    check_pixels(width, height, max_pixels)
    chunks, text, at = _Pieces('chunks'), TEXT_BYTES, 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from('>I4s', data, at)
        chunks.another()
        if kind == b'IHDR' and at > 8:
            raise Refused('is damaged or truncated: a PNG has one IHDR')
        if kind in (b'zTXt', b'iTXt', b'iCCP'):
            text -= _inflated(kind, data[at + 8 : at + 8 + length], text)
        if kind == b'IEND':
            break
        at += 12 + length
    return Header('PNG', bits)


def _inflated(kind: bytes, body: bytes, most: int) -> int:
    """Bytes of a compressed text or profile; raises Refused for more than `most`."""
    _, _, rest = body.partition(b'\0')
    if kind == b'iTXt':
        if not rest.startswith(b'\x01'):
            return 0  # it is not compressed
        rest = rest[2:].partition(b'\0')[2].partition(b'\0')[2]
    else:
        rest = rest[1:]
    try:
        size = len(zlib.decompressobj().decompress(rest, most + 1))
    except zlib.error:
        return 0
    if size > most:
        raise Refused(f'has more than {TEXT_BYTES} bytes of texts beside its pixels')
    return size


def _jpeg(data: bytes, max_pixels: int) -> Header:
    """Walks the markers to the end of the last scan."""
    segments, exif_segments = _Pieces('segments'), _Pieces('EXIF segments', EXIF_SEGMENTS)
    exif, mpf, at = [], b'', 2
    scans = junk = components = sequential = 0
    while found := _MARKER.search(data, at):
        segments.another()
        # Within a scan these are the pixels; before, decoders skip them byte by byte.
        junk += (found.start() - at) * (not scans)
        if junk > PIECES:
            raise Refused(f'has more than {PIECES} bytes between its segments')
        kind, at = data[found.start() + 1], found.end()
        if kind == 0xD9:
            break
        (length,) = _unpack('>H', data, at)
        if kind in _FRAMES:
            height, width, components = _unpack('>HHB', data, at + 3)
            check_pixels(width, height, max_pixels)
            sequential = kind in (0xC0, 0xC1)
        elif kind == 0xE1 and not scans and data[at + 2 : at + 8] == b'Exif\0\0':
            exif_segments.another()
            exif.append(data[at + 8 : at + length])
        elif kind == 0xE2 and not scans and data[at + 2 : at + 6] == b'MPF\0':
            mpf = data[at + 6 : at + length]  # decoders take the last
        elif kind == 0xDA:
            scans += 1
            if scans > SCANS:
                raise Refused(f'has more than {SCANS} scans')
            if not components or (sequential and data[at + 2 : at + 3] == bytes([components])):
                break  # a decoder reads no further
        at += length
    if block := b''.join(exif):
        tiff_directory.check_exif(block)
    tiff_directory.check_mpf(mpf)
    return Header('JPEG')


def _gif(data: bytes, max_pixels: int) -> Header:
    """Walks the blocks to the second picture, if there is one."""
    width, height, flags = _unpack('<HHB', data, 6)
    extensions, blocks, frames, at = _Pieces('blocks'), _Pieces('blocks', GIF_BLOCKS), 0, 13
    check_pixels(width, height, max_pixels)
    at += (3 << (flags & 7) + 1) * (flags >> 7)
    while at < len(data) and data[at] != 0x3B:
        kind, pieces = data[at], extensions
        if kind == 0x2C:
            frames += 1
            if frames > 1:
                raise Refused('has several frames; save the wanted one as a single image')
            left, top, wide, high, flags = _unpack('<HHHHB', data, at + 1)
            check_pixels(max(width, left + wide), max(height, top + high), max_pixels)
            at += 11 + (3 << (flags & 7) + 1) * (flags >> 7)
            pieces = blocks
        elif kind == 0x21:
            at += 2
        else:  # decoders skip what they do not know
            extensions.another()
            at += 1
            continue
        while at < len(data) and data[at]:
            pieces.another()
            at += 1 + data[at]
        at += 1
        extensions.another()
    return Header('GIF')


def _webp(data: bytes, max_pixels: int) -> Header:
    kind = data[12:16]
    if kind == b'VP8X':
        low, high, wide, width = _unpack('<HBHB', data, 24)
        width, height = 1 + low + (high << 16), 1 + wide + (width << 16)
    elif kind == b'VP8L':
        (packed,) = _unpack('<I', data, 21)
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in _unpack('<HH', data, 26))
    check_pixels(width, height, max_pixels)
    chunks, at = _Pieces('chunks'), 12
    while at + 8 <= len(data):
        chunks.another()
        (length,) = struct.unpack_from('<I', data, at + 4)
        at += 8 + length + length % 2
    return Header('WEBP')


def _bmp(data: bytes, max_pixels: int) -> Header:
    (size,) = _unpack('<I', data, 14)
    width, height = _unpack('<HH' if size == 12 else '<Ii', data, 18)
    check_pixels(width, abs(height), max_pixels)
    return Header('BMP')


def _jpeg2000(data: bytes, max_pixels: int) -> Header:
    """Finds the codestream in its boxes and checks what its main header declares."""
    at, boxes = 0, _Pieces('boxes')
    while not data.startswith(b'\xff\x4f\xff\x51', at):
        boxes.another()
        length, kind = _unpack('>I4s', data, at)
        head = 16 if length == 1 else 8
        if length == 1:
            (length,) = _unpack('>Q', data, at + 8)
        if kind == b'jp2c':
            at += head
            break
        if length < head:
            raise Refused('is damaged or truncated: a box of it has no end')
        at += length
    return _codestream(data, at, max_pixels)


def _codestream(data: bytes, at: int, max_pixels: int) -> Header:
    right, bottom, left, top, wide, high, x, y, count = _unpack('>IIIIIIIIH', data, at + 8)
    width, height = right - left, bottom - top
    if min(width, height, wide, high) < 1 or count not in range(1, 5):
        raise Refused('is damaged or has more channels than a picture')
    check_pixels(width, height, max_pixels)
    if -(-(right - x) // wide) * -(-(bottom - y) // high) > JPEG2000_TILES:
        raise Refused(f'has more than {JPEG2000_TILES} tiles')
    depths = _unpack('>' + 'Bxx' * count, data, at + 42)
    markers, samples = _Pieces('segments'), width * height * count
    at += 2
    while True:
        markers.another()
        kind, length = _unpack('>HH', data, at)
        if kind not in range(0xFF50, 0xFF70):  # the main header is over
            break
        if kind in (0xFF52, 0xFF53):  # how all channels, or one, are coded
            flags = at + (4 if kind == 0xFF52 else 5)
            (has_precincts,) = _unpack('B', data, flags)
            style = data[flags + (5 if kind == 0xFF52 else 1) : at + 2 + length]
            _check_coding(style, samples, bool(has_precincts & 1))
        at += 2 + length
    return Header('JPEG2000', max(depth & 0x7F for depth in depths) + 1)


def _check_coding(style: bytes, samples: int, has_precincts: bool) -> None:
    """Raises Refused for more code blocks or precincts than pictures need."""
    levels, wide, high = _unpack('BBB', style, 0)
    areas = [1 << (wide & 15) + (high & 15) + 4]
    if has_precincts:
        areas += [1 << (sides & 15) + (sides >> 4) for sides in style[5 : 6 + levels]]
    # Each resolution has a quarter of the samples of the next.
    for level, area in enumerate(reversed(areas[1:])):
        if (samples >> 2 * level) // area > JPEG2000_PARTS:
            raise Refused(f'has more than {JPEG2000_PARTS} precincts')
    if samples // areas[0] > JPEG2000_PARTS:
        raise Refused(f'has more than {JPEG2000_PARTS} code blocks')
