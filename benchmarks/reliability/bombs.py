"""R5: small files that declare 10^5 x 10^5 pixels, or that cost far more than they weigh.

    python benchmarks/reliability/bombs.py

Every bomb is decoded by its path in a fresh process, `--repeats` times. The line says for the
`declared` ones (up to 10^5 x 10^5 pixels, as far as the format can say so), the `disguised` ones
(large tiles, or more bits than become pixels, in tags that decoders read in different ways) and the
`endless` ones (inflating texts, a million pieces, loops, tags that claim the same bytes again and
again, also where a photograph keeps its previews) how many there are, and for each format the
longest `milliseconds` of the processor, which others on the machine do not lengthen, and the
largest rise of the resident memory in MiB, the file included.
Must be zero: `decoded` (a bomb that became pixels), `unclear` (anything but an ImageError), `slow`
(over 50 ms, not of the endless ones), `endless_slow` (over 500 ms) and `large` (over 50 MB).
"""

import argparse
import io
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import zlib

import drill
from PIL import Image

SIDE, MANY, TILE = 100_000, 1_000_000, 8016
MOST_MILLISECONDS, MOST_BYTES, ENDLESS_MILLISECONDS = 50, 50_000_000, 500
SMALL = Image.linear_gradient('L').resize((48, 32)).convert('RGB')

CHILD = """
import sys, time
sys.path.insert(0, sys.argv[2])
from iqa_jax.images import io
def kib(key):
    return int(open('/proc/self/status').read().split(key + ':')[1].split()[0])
before, start = kib('VmRSS'), time.process_time()
try:
    io.decode(sys.argv[1])
    outcome = 'decoded'
except io.ImageError as error:
    outcome = 'refused: ' + str(error)[len(sys.argv[1]) + 1:]
except BaseException as error:
    outcome = repr(error)
print(1000 * (time.process_time() - start), 1024 * (kib('VmHWM') - before), outcome)
"""


def encoded(form: str, **options: object) -> bytes:
    """The small picture in a format."""
    buffer = io.BytesIO()
    SMALL.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes = b'') -> bytes:
    """A PNG chunk."""
    check = struct.pack('>I', zlib.crc32(kind + body))
    return struct.pack('>I', len(body)) + kind + body + check


def png(width: int, height: int, *between: bytes) -> bytes:
    """A PNG of any declared size whose pixels are a kilobyte of deflated zeros."""
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b'IDAT', zlib.compress(bytes(10**6), 9))
    return b'\x89PNG\r\n\x1a\n' + header + b''.join(between) + pixels + chunk(b'IEND')


def tiff(tags: list[tuple[int, int, int, int]], after: int = 0, order: str = '<') -> bytes:
    """A classic TIFF with one directory of (number, type, count, value or offset)."""
    magic = b'II*\0' if order == '<' else b'MM\0*'
    body = b''.join(struct.pack(f'{order}HHII', *tag) for tag in tags)
    return magic + struct.pack(f'{order}IH', 8, len(tags)) + body + struct.pack(f'{order}I', after)


def sized(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """The tags of an uncompressed gray picture in one strip."""
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    return [(number, 4, 1, value) for number, value in {**values, 279: 1000}.items()]


def placed(tags: list[tuple[int, int, list[int] | None]], pixels: bytes, order: str = '<') -> bytes:
    """A classic TIFF of (number, type, values) with pixels, to which the values None point."""
    at = 14 + 12 * len(tags)
    entries, far = [], b''
    for number, kind, values in tags:
        form = {3: 'H', 4: 'I', 5: 'I', 8: 'h', 9: 'i', 12: 'd'}[kind]
        values = [at] if values is None else values
        flat = values if kind != 5 else [n for value in values for n in (value, 1)]
        raw = struct.pack(f'{order}{len(flat)}{form}', *flat)
        if len(raw) > 4:
            far, raw = far + raw, struct.pack(f'{order}I', at + len(pixels) + len(far))
        entries.append(struct.pack(f'{order}HHI', number, kind, len(values)) + raw.ljust(4, b'\0'))
    head = tiff([], order=order)[:8] + struct.pack(f'{order}H', len(tags))
    return head + b''.join(entries) + bytes(4) + pixels + far


def gray(*further: tuple[int, int, list[int] | None], below: bytes = b'') -> bytes:
    """A gray TIFF of 48x32 pixels, which begin with the bytes `below`, with further tags."""
    sides = [(256, 4, [48]), (257, 4, [32]), (258, 3, [8]), (259, 3, [1]), (262, 3, [1])]
    strip = [(273, 4, None), (277, 3, [1]), (278, 4, [32]), (279, 4, [1536])]
    return placed([*sides, *strip, *further], below + bytes(1536))


def deep(*depths: tuple[int, int], order: str = '<') -> bytes:
    """An RGB TIFF of noise whose depth is given by tags of (type, bits)."""
    bits = [(258, kind, [count] * 3) for kind, count in depths]
    size = 48 * 32 * 6
    tags = [(256, 4, [48]), (257, 4, [32]), *bits, (259, 3, [1]), (262, 3, [2]), (273, 4, None)]
    tags += [(277, 3, [3]), (278, 4, [32]), (279, 4, [size])]
    return placed(tags, random.Random(0).randbytes(size), order)


def tiled(*sides: tuple[int, int]) -> bytes:
    """A gray TIFF in one deflated tile whose sides are given by tags of (type, pixels)."""
    body = zlib.compress(bytes(TILE * TILE), 9)
    tags = [(256, 4, [48]), (257, 4, [32]), (258, 3, [8]), (259, 3, [8]), (262, 3, [1])]
    tags += [(number, kind, [side]) for number in (322, 323) for kind, side in sides]
    return placed([*tags, (277, 3, [1]), (324, 4, None), (325, 4, [len(body)])], body)


def big_tiff(width: int, height: int, count: int | None = None) -> bytes:
    """A BigTIFF that declares its size and perhaps a false number of tags."""
    tags = [struct.pack('<HHQQ', n, kind, many, v) for n, kind, many, v in sized(width, height)]
    head = b'II+\0' + struct.pack('<HHQQ', 8, 0, 16, len(tags) if count is None else count)
    return head + b''.join(tags) + bytes(8)


def siz(width: int, height: int, tile: int, coding: bytes) -> bytes:
    """A JPEG 2000 codestream up to its first tile."""
    sizes = struct.pack('>HIIIIIIIIH', 0, width, height, 0, 0, tile, tile, 0, 0, 3)
    body = sizes + b'\x07\x01\x01' * 3
    stream = b'\xff\x4f\xff\x51' + struct.pack('>H', len(body) + 2) + body
    return stream + b'\xff\x52' + struct.pack('>H', len(coding) + 2) + coding + b'\xff\x90'


def jp2(width: int, height: int, stream: bytes, between: bytes = b'') -> bytes:
    """The boxes around a codestream; their size need not be the stream's."""

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack('>I4s', 8 + len(body), kind) + body

    head = box(b'ihdr', struct.pack('>IIHBBBB', height, width, 3, 7, 7, 0, 0))
    head += box(b'colr', struct.pack('>BBBI', 1, 0, 0, 16))
    start = b'\0\0\0\x0cjP  \r\n\x87\n' + box(b'ftyp', b'jp2 \0\0\0\0jp2 ')
    return start + between + box(b'jp2h', head) + box(b'jp2c', stream)


def jpeg(*between: bytes, sides: tuple[int, int] = (32, 48)) -> bytes:
    """A JPEG of any declared size, with segments after its start."""
    data = encoded('JPEG')
    frame = data.index(b'\xff\xc0') + 5
    data = data[:frame] + struct.pack('>HH', *sides) + data[frame + 4 :]
    return data[:2] + b''.join(between) + data[2:]


def exif(count: int, length: int) -> bytes:
    """An EXIF block whose tags all claim the same `length` bytes."""
    return b'Exif\0\0' + tiff([(1000 + i, 7, length, 8) for i in range(count)]) + bytes(length)


def declared() -> dict[str, bytes]:
    """Bombs that their headers give away."""
    plain = struct.pack('>BBHBBBBBB', 0, 0, 1, 0, 5, 4, 4, 0, 0)
    finest = plain[:6] + b'\0\0' + plain[8:]
    precincts = b'\x01' + plain[1:] + b'\0' * 6
    gif, frame, bmp = bytearray(encoded('GIF')), bytearray(encoded('GIF')), encoded('BMP')
    gif[6:10] = struct.pack('<HH', 65535, 65535)
    at = 13 + (3 << (frame[10] & 7) + 1) * (frame[10] >> 7)
    at = frame.index(b',', at)
    frame[at + 5 : at + 9] = struct.pack('<HH', 65535, 65535)
    canvas = (SIDE - 1).to_bytes(3, 'little') * 2
    riff = b'RIFF\x00\x01\x00\x00WEBP'
    return {
        'png': png(SIDE, SIDE), 'png row': png(2**31 - 1, 1),
        'png largest': png(2**31 - 1, 2**31 - 1),
        'gif': bytes(gif), 'gif frame': bytes(frame), 'jpeg': jpeg(sides=(65500, 65500)),
        'webp extended': riff + b'VP8X' + struct.pack('<II', 10, 0) + canvas + bytes(200),
        'webp lossless': riff + b'VP8L' + struct.pack('<IBI', 99, 0x2F, 0x0FFFFFFF) + bytes(200),
        'webp lossy': riff + b'VP8 c\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f',
        'bmp': bmp[:18] + struct.pack('<ii', SIDE, SIDE) + bmp[26:],
        'bmp top down': bmp[:18] + struct.pack('<ii', SIDE, -SIDE) + bmp[26:],
        'bmp core': bmp[:14] + struct.pack('<IHHHH', 12, 65535, 65535, 1, 24) + bmp[26:],
        'tiff': tiff(sized(SIDE, SIDE)), 'tiff big endian': tiff(sized(SIDE, SIDE), order='>'),
        'tiff big': big_tiff(SIDE, SIDE),
        'tiff tile': tiff([*sized(48, 32), (322, 4, 1, SIDE), (323, 4, 1, SIDE)]),
        'jpeg2000': jp2(SIDE, SIDE, siz(SIDE, SIDE, SIDE, plain)),
        'jpeg2000 stream': siz(SIDE, SIDE, SIDE, plain),
        'jpeg2000 boxes only': jp2(SIDE, SIDE, siz(48, 32, 64, plain)),
        'jpeg2000 stream only': jp2(48, 32, siz(SIDE, SIDE, SIDE, plain)),
        'jpeg2000 tiles': jp2(7000, 7000, siz(7000, 7000, 1, plain)),
        'jpeg2000 code blocks': jp2(7000, 7000, siz(7000, 7000, 7000, finest)),
        'jpeg2000 precincts': jp2(7000, 7000, siz(7000, 7000, 7000, precincts)),
    }  # fmt: skip


def disguised() -> dict[str, bytes]:
    """What one reader of a tag takes for small and another does not."""
    big = b'MM\0+' + struct.pack('>HHQQ', 8, 0, 16, 9)
    big += b''.join(struct.pack('>HHQI4x', n, 4, 1, v) for n, _, _, v in sized(48, 32))
    elsewhere = 0x80000  # what a reader of classic TIFF takes from a BigTIFF of the other order
    classic = deep((3, 16), order='>')
    shift = elsewhere - 8
    lines = [classic[i : i + 12] for i in range(10, 10 + 12 * 9, 12)]
    far = {258, 273}  # their offsets move along
    lines = [
        line[:8] + struct.pack('>I', struct.unpack('>I', line[8:])[0] + shift)
        if struct.unpack_from('>H', line)[0] in far
        else line
        for line in lines
    ]
    moved = classic[8:10] + b''.join(lines) + classic[10 + 12 * 9 :]
    return {
        'tiff tile signed': tiled((9, TILE)), 'tiff tile short': tiled((8, TILE)),
        'tiff tile twice': tiled((4, TILE), (4, 64)), 'tiff tile rational': tiled((5, TILE)),
        'tiff depth signed': deep((8, 16)), 'tiff depth float': deep((12, 16)),
        'tiff depth rational': deep((5, 16)), 'tiff depth twice': deep((3, 16), (3, 8)),
        'tiff depth big': big.ljust(elsewhere, b'\0') + moved,
    }  # fmt: skip


def endless() -> dict[str, bytes]:
    """Bombs that cost time or memory beside the pixels."""
    zeros = zlib.compress(bytes(10**6), 9)
    comment = b'\xff\xfe\0\x02'
    progressive = encoded('JPEG', progressive=True)
    scans = progressive[:-2] + b'\xff\xda\0\x08\x01\x01\0\x01\x3f\0' * 2000 + b'\xff\xd9'
    gif, webp = encoded('GIF'), encoded('WEBP')
    at = gif.index(b',', 13 + (3 << (gif[10] & 7) + 1) * (gif[10] >> 7))
    frames = gif[:-1] + (b',' + bytes(9) + b'\x02\0') * MANY + b';'
    j2k = siz(48, 32, 64, struct.pack('>BBHBBBBBB', 0, 0, 1, 0, 5, 4, 4, 0, 0))[:-2]
    strips = [tag for tag in sized(48, 32) if tag[0] not in (273, 279)]
    pages = b''.join(struct.pack('<HI', 0, 14 + 6 * i) for i in range(MANY // 10))
    block = exif(60_000, 10**6)[6:]
    segment = exif(4000, 15_000)
    previews = b'MPF\0' + tiff([(1000 + i, 3, 32_000, 8) for i in range(300)]).ljust(65_000, b'\0')
    lower = struct.pack('<H', 100) + b''.join(
        struct.pack('<HHII', 1000 + i, 3, 250_000, 8) for i in range(100)
    )
    long = struct.pack('>H', 65_533) + b'Exif\0\0' + tiff([]).ljust(65_525, b'\0')
    loop = struct.pack('<HHHIII', 1, 40965, 4, 1, 14 + 12 * 10, 0)
    return {
        'png texts': png(48, 32, *[chunk(b'zTXt', b'a\0\0' + zeros)] * 100),
        'png international': png(48, 32, *[chunk(b'iTXt', b'a\0\x01\0\0\0' + zeros)] * 100),
        'png profile': png(48, 32, chunk(b'iCCP', b'a\0\0' + zlib.compress(bytes(10**8), 9))),
        'png chunks': png(48, 32, chunk(b'tEXt', b'a\0') * MANY),
        'png empty pixels': png(48, 32, chunk(b'IDAT') * MANY),
        'png tags': png(48, 32, chunk(b'eXIf', block)),
        'gif comments': gif[:13] + b'!\xfe\x01a\0' * MANY + gif[13:],
        'gif blocks': gif[:-1] + b'!\xfe' + b'\x01a' * MANY + b'\0;',
        'gif frames': frames, 'gif junk': gif[:at] + b'x' * MANY + gif[at:],
        'jpeg segments': jpeg(comment * MANY), 'jpeg fill': jpeg(b'\xff' * MANY),
        'jpeg junk': jpeg(b'x' * MANY), 'jpeg restarts': jpeg(b'\xff\xd0' * MANY),
        'jpeg scans': scans,
        'jpeg tags': jpeg(b'\xff\xe1' + struct.pack('>H', len(segment) + 2) + segment),
        'jpeg previews': jpeg(b'\xff\xe2' + struct.pack('>H', len(previews) + 2) + previews),
        'jpeg long tags': jpeg((b'\xff\xe1' + long) * 200),
        'jpeg many tags': jpeg((b'\xff\xe1' + struct.pack('>H', 508) + long[2:508]) * 5_000),
        'tiff beneath': gray((34665, 4, None), below=lower + bytes(500_000)),
        'tiff place': gray((34853, 4, None), below=lower + bytes(500_000)),
        'tiff beneath signed': gray((34665, 9, [1])),
        'tiff beneath loop': gray((34665, 4, None), below=loop),
        'tiff rationals': gray((282, 5, [1] * 300_000), (283, 5, [1] * 300_000)),
        'tiff loop': tiff(sized(48, 32), 8), 'tiff two': tiff(sized(48, 32), 10**9),
        'tiff pages': tiff(sized(48, 32), 122) + pages,
        'tiff tags': tiff([*sized(48, 32), *[(2000 + i % 60_000, 4, 1, 0) for i in range(65_000)]]),
        'tiff big tags': big_tiff(48, 32, 10**6),
        'tiff overlapping': tiff([*sized(48, 32), *[(2000 + i, 7, 10**6, 8) for i in range(4000)]])
        + bytes(10**6),
        'tiff strips': tiff([*strips, (273, 4, 2 * MANY, 8), (279, 4, 2 * MANY, 8)])
        + bytes(8 * MANY),
        'webp chunks': webp[:4] + struct.pack('<I', len(webp) - 8 + 8 * MANY) + webp[8:]
        + b'JUNK\0\0\0\0' * MANY,
        'jpeg2000 boxes': jp2(48, 32, j2k, struct.pack('>I4s', 8, b'free') * MANY),
        'jpeg2000 no box': jp2(48, 32, j2k, struct.pack('>I4s', 0, b'free')),
        'jpeg2000 segments': j2k + b'\xff\x64\0\x02' * MANY,
        'bmp header': encoded('BMP')[:14] + struct.pack('<I', 2**31) + encoded('BMP')[18:],
    }  # fmt: skip


def measured(file: pathlib.Path, repeats: int) -> tuple[float, int, str]:
    """Longest time of the processor in ms, largest rise in bytes, and what came of it."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, '-c', CHILD, str(file), str(drill.ROOT)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        time, rise, outcome = (done.stdout or f'0 0 {done.stderr[-200:]}').split(' ', 2)
        runs.append((float(time), int(rise), outcome.strip()))
    return max(r[0] for r in runs), max(r[1] for r in runs), runs[0][2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0, help='not used: the bombs are fixed')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--list', action='store_true', help='print every bomb on standard error')
    flags = parser.parse_args()
    counts: dict = {'decoded': 0, 'unclear': 0, 'slow': 0, 'large': 0, 'endless_slow': 0}
    with tempfile.TemporaryDirectory() as folder:
        for kind, bombs in (
            ('declared', declared()),
            ('disguised', disguised()),
            ('endless', endless()),
        ):
            found: dict[str, list[float]] = {}
            for name, data in bombs.items():
                file = pathlib.Path(folder, name.replace(' ', '_'))
                file.write_bytes(data)
                took, rise, outcome = measured(file, flags.repeats)
                form = found.setdefault(name.partition(' ')[0], [0.0, 0.0])
                form[:] = max(form[0], round(took, 1)), max(form[1], round(rise / 2**20, 1))
                counts['decoded'] += outcome == 'decoded'
                counts['unclear'] += outcome != 'decoded' and not outcome.startswith('refused')
                counts['large'] += rise > MOST_BYTES
                counts['slow'] += kind != 'endless' and took > MOST_MILLISECONDS
                counts['endless_slow'] += kind == 'endless' and took > ENDLESS_MILLISECONDS
                if flags.list:
                    size = f'{len(data):>9} bytes {took:8.1f} ms {rise / 2**20:6.1f} MiB'
                    print(f'{kind} {name:<22} {size} {outcome}', file=sys.stderr)
            counts[kind] = {'files': len(bombs)} | {
                form: {'milliseconds': time, 'mebibytes': rise}
                for form, (time, rise) in found.items()
            }
    zero = ['decoded', 'unclear', 'slow', 'large', 'endless_slow']
    drill.finish('R5', flags.seed, json.loads(json.dumps(counts)), zero)


if __name__ == '__main__':
    main()
