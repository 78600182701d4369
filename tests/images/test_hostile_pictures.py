"""Pictures that lie, and hosts that set Pillow otherwise: exact pixels or a reason, at once."""

import io as streams
import pathlib
import re
import struct
import sys
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
    'jpeg tags': 'tags claim more bytes', 'tiff loop': 'several frames',
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
