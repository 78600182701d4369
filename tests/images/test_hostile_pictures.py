"""Pictures that lie, and hosts that set Pillow otherwise: exact pixels or a reason, at once."""

import io as streams
import pathlib
import re
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from iqa_jax.images import headers, io, tiff_directory

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'benchmarks/reliability'))
import bombs

REASONS = {
    'png texts': 'more than 4194304 bytes of texts', 'png international': 'bytes of texts',
    'png profile': 'bytes of texts', 'png chunks': 'more than 65536 chunks',
    'png tags': 'more than 4096 tags', 'gif comments': 'more than 65536 blocks',
    'gif frames': 'several frames', 'jpeg segments': 'more than 65536 segments',
    'jpeg fill': 'more than 65536 bytes between its segments', 'jpeg scans': 'more than 100 scans',
    'jpeg tags': 'tags claim more bytes', 'jpeg previews': 'more than 65536 numbers in its tags',
    'jpeg long tags': 'more than 64 EXIF segments', 'jpeg many tags': 'more than 64 EXIF segments',
    'tiff beneath': 'more than 65536 numbers', 'tiff place': 'more than 65536 numbers',
    'tiff beneath signed': 'its tag 34665 holds no whole number',
    'tiff beneath loop': 'more than 4096 tags', 'tiff rationals': 'more than 65536 numbers',
    'tiff loop': 'several frames',
    'tiff overlapping': 'tags claim more bytes', 'tiff strips': 'values of tag 273',
    'webp chunks': 'more than 65536 chunks', 'jpeg2000 boxes': 'more than 65536 boxes',
    'jpeg2000 no box': 'has no end', 'jpeg2000 segments': 'more than 65536 segments',
}  # fmt: skip


@pytest.fixture(scope='module')
def photo():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def encoded(image, form, **options):
    buffer = streams.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def careless():
    """A host program that lets Pillow load damage and small pictures only."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = True, 10
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'GIF', 'TIFF', 'BMP', 'WEBP', 'JPEG2000'])
def test_what_the_host_program_set_in_pillow_does_not_matter(photo, careless, form):
    data = encoded(photo, form)
    assert io.decode(data).shape == photo.shape
    with pytest.raises(io.ImageError):
        io.decode(data[: len(data) * 2 // 3])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True and Image.MAX_IMAGE_PIXELS == 10


def test_a_host_that_changes_pillow_meanwhile_gets_no_pixels(photo, monkeypatch):
    load = ImageFile.ImageFile.load

    def changed(self):
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, 'load', changed)
    with pytest.raises(io.ImageError, match='while another thread let Pillow load damage'):
        io.decode(encoded(photo, 'JPEG'))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize('name', bombs.declared())
def test_a_header_that_declares_too_much_is_refused_before_pillow_sees_it(name):
    data = bombs.declared()[name]
    if name == 'jpeg2000 boxes only':  # its codestream is small; the boxes are Pillow's to read
        pytest.skip('refused for its codestream')
    with pytest.raises(headers.Refused, match='more than'):
        headers.check(data, io.MAX_PIXELS)


@pytest.mark.parametrize('name', bombs.disguised())
def test_tags_that_decoders_read_in_different_ways_are_refused_before_pillow_sees_them(name):
    reason = {'twice': r'it has tag \d+ twice', 'big': 'is a big-endian BigTIFF'}
    with pytest.raises(headers.Refused, match=reason.get(name.split()[-1], 'no whole number')):
        headers.check(bombs.disguised()[name], io.MAX_PIXELS)


def test_sixteen_bits_are_refused_in_whatever_type_a_tag_says_so():
    for kind in (3, 4, 5, 8, 9, 12):
        with pytest.raises(io.ImageError, match='more than 8 bits|no whole number'):
            io.decode(bombs.deep((kind, 16)))
    two = bombs.gray((322, 4, [64, 64]), (323, 4, [64]))
    with pytest.raises(io.ImageError, match='tag 322 holds more than one number'):
        io.decode(two)


def test_what_has_no_end_is_refused_with_the_reason():
    found = bombs.endless()
    assert found.keys() >= REASONS.keys()
    for name, data in found.items():
        with pytest.raises(io.ImageError) as error:
            io.decode(data)
        assert re.search(REASONS.get(name, ''), str(error.value)), name


def test_the_size_of_the_boxes_and_that_of_the_codestream_both_count(photo):
    data = bytearray(encoded(photo, 'JPEG2000'))
    at = data.index(b'ihdr') + 4
    data[at : at + 8] = struct.pack('>II', 10**5, 10**5)
    with pytest.raises(io.ImageError, match='declares 100000x100000 pixels'):
        io.decode(bytes(data))


def test_depth_is_that_of_the_codestream_and_of_the_first_chunk(photo):
    """Bytes that look like a header of 8 bits stand before the one of 16."""
    deep = photo[..., 0].astype(np.uint16) * 257
    j2k = encoded(deep, 'JPEG2000')
    start = j2k.index(b'jp2h') - 4
    decoy = b'\xff\x4f\xff\x51' + bytes(38) + b'\x07'
    box = struct.pack('>I4s', 8 + len(decoy), b'free') + decoy
    assert Image.open(streams.BytesIO(j2k[:start] + box + j2k[start:])).size == (60, 40)
    png = encoded(deep, 'PNG')
    text = bombs.chunk(b'tEXt', b'IHDR\0' + bytes(7) + b'\x08')
    for data in (j2k[:start] + box + j2k[start:], png[:33] + text + png[33:]):
        with pytest.raises(io.ImageError, match='more than 8 bits'):
            io.decode(data)
    with pytest.raises(io.ImageError, match='one IHDR'):
        io.decode(png[:33] + encoded(photo, 'PNG')[8:33] + png[33:])


def test_pictures_with_much_beside_their_pixels_are_read(photo):
    text = bombs.chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(10**6)))
    png = encoded(photo, 'PNG')
    np.testing.assert_array_equal(io.decode(png[:33] + 4 * text + png[33:]), photo)
    gif = encoded(photo, 'GIF')
    comment = b'!\xfe' + b'\xff' + b'x' * 255 + b'\0'
    np.testing.assert_array_equal(io.decode(gif[:-1] + comment * 99 + b';'), io.decode(gif))
    for options in ({'progressive': True}, {'comment': b'x' * 60_000}, {'exif': exif(1)}):
        data = encoded(photo, 'JPEG', **options)
        expected = np.asarray(Image.open(streams.BytesIO(data)))
        np.testing.assert_array_equal(io.decode(data), expected)
        np.testing.assert_array_equal(io.decode(data + b'\xff\xda' * 1000), expected)
    for options in ({'tiled': True}, {'compression': 'tiff_lzw'}, {'big_tiff': True}):
        np.testing.assert_array_equal(io.decode(encoded(photo, 'TIFF', **options)), photo)


def camera(orientation=6):
    """An EXIF block as cameras write it: Exif, GPS, interoperability and a maker's own note."""
    block = exif(orientation)
    block[0x010F], block[0x011A] = 'Maker', 72.0
    block[0x8769] = {0x829A: 0.01, 0x927C: bytes(30_000), 0xA005: {1: 'R98'}}
    block[0x8825] = {1: 'N', 2: (52.0, 31.0, 12.5)}
    read = Image.Exif()
    read.load(block.tobytes())
    return read


@pytest.mark.parametrize('form', ['JPEG', 'TIFF', 'PNG', 'WEBP', 'MPO'])
def test_photographs_with_all_that_cameras_write_are_read(photo, form):
    options = {'lossless': True} if form == 'WEBP' else {}
    if form == 'MPO':
        options = {'save_all': True, 'append_images': [Image.fromarray(photo[:20, :30])]}
    plain = io.decode(encoded(photo, form, **options))
    data = encoded(photo, form, exif=camera(), **options)
    np.testing.assert_array_equal(io.decode(data), np.rot90(plain, -1))


def test_a_preview_in_the_exif_block_and_a_lost_directory_harm_nothing(photo):
    plain = encoded(photo, 'JPEG')
    at = 8 + 2 + 12 + 4
    thumbnail = struct.pack('<H', 2) + struct.pack('<HHII', 513, 4, 1, at + 30)
    thumbnail += struct.pack('<HHII', 514, 4, 1, len(plain)) + bytes(4)
    block = b'Exif\0\0' + bombs.tiff([(274, 3, 1, 6)], after=at) + thumbnail + plain
    segments = [
        b'\xff\xe1' + struct.pack('>H', len(part) + 2) + part
        for part in (block[:100], block[:6] + block[100:])
    ]
    expected = np.rot90(io.decode(plain), -1)
    data = plain[:2] + b''.join(segments) + plain[2:]
    np.testing.assert_array_equal(io.decode(data), expected)
    lost = bombs.gray((34665, 4, [10**9]), (34853, 4, [10**9]))
    assert io.decode(lost).shape == (32, 48, 3)
    broken = b'\xff\xe2\0\x10MPF\0II*\0\x08\0\0\0\x09\0'
    np.testing.assert_array_equal(io.decode(plain[:2] + broken + plain[2:]), io.decode(plain))


def test_warnings_of_pillow_are_neither_shown_nor_taken_for_damage():
    data = bombs.gray((34665, 4, [10**9]))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        before = [*warnings.filters]
        io.decode(data)
        assert not seen and warnings.filters == before
        Image.open(streams.BytesIO(data)).load()
        assert seen
        warnings.simplefilter('error')
        io.decode(data)


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


@pytest.mark.parametrize('form', ['JPEG', 'WEBP', 'TIFF', 'PNG'])
@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_every_format_is_turned_as_its_exif_block_says(photo, form, orientation):
    options = {'lossless': True} if form == 'WEBP' else {}
    plain = io.decode(encoded(photo, form, **options))
    turned = np.rot90(plain, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    data = encoded(photo, form, exif=exif(orientation), **options)
    np.testing.assert_array_equal(io.decode(data), turned)


def test_without_exif_the_xmp_says_how_a_picture_is_held(photo):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    plain = io.decode(encoded(photo, 'JPEG'))
    turned = io.decode(encoded(photo, 'JPEG', xmp=xmp))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_an_orientation_that_does_not_exist_turns_nothing_and_a_damaged_block_is_refused(photo):
    data = encoded(photo, 'PNG', exif=exif(99))
    np.testing.assert_array_equal(io.decode(data), photo)
    block = bombs.chunk(b'eXIf', b'no tags at all')
    png = encoded(photo, 'PNG')
    with pytest.raises(io.ImageError, match='its tags have no beginning'):
        io.decode(png[:33] + block + png[33:])


def test_orientation_is_read_in_both_byte_orders():
    for order in '<>':
        block = bombs.tiff([(274, 3, 1, 6 if order == '<' else 6 << 16)], order=order)
        assert tiff_directory.check_exif(b'Exif\0\0' + block) == 6
        assert tiff_directory.check_exif(block) == 6
    assert tiff_directory.check_exif(bombs.tiff([])) == 0
    assert tiff_directory.check_exif(bombs.tiff([(274, 3, 1, 6)] * 2)) == 6
    with pytest.raises(headers.Refused, match='in two ways how it is to be held'):
        tiff_directory.check_exif(bombs.tiff([(274, 3, 1, 6), (274, 3, 1, 1)]))
