"""decode() gives exact pixels or a reason, never silently other pixels."""

import errno
import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from iqa_jax.images import io as image_io


@pytest.fixture(scope='module')
def photo():
    """A smooth colourful picture [48, 64, 3] with some noise, so that codecs have work to do."""
    rows, cols = np.mgrid[0:48, 0:64]
    planes = [rows * 4, cols * 3, 128 + 60 * np.sin(rows / 5 + cols / 7)]
    noise = np.random.default_rng(0).normal(0, 6, (48, 64, 3))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)


def encoded(image, kind, **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, body):
    crc = struct.pack('>I', zlib.crc32(kind + body))
    return struct.pack('>I', len(body)) + kind + body + crc


def png(width, height, depth, colour, rows):
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    body = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + body


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF'])
def test_lossless_formats_give_the_exact_pixels_as_bytes_and_as_path(photo, kind, tmp_path):
    path = tmp_path / f'a b ü.{kind.lower()}'
    path.write_bytes(encoded(photo, kind))
    for source in (path, str(path), path.read_bytes()):
        pixels = image_io.decode(source)
        assert pixels.dtype == np.uint8 and pixels.flags.writeable
        np.testing.assert_array_equal(pixels, photo)


def test_lossless_webp_and_jpeg2000_give_the_exact_pixels(photo):
    np.testing.assert_array_equal(image_io.decode(encoded(photo, 'WEBP', lossless=True)), photo)
    np.testing.assert_array_equal(image_io.decode(encoded(photo, 'JPEG2000')), photo)


def test_jpeg_is_pillows_decoding_and_the_name_of_a_file_means_nothing(photo, tmp_path):
    data = encoded(photo, 'JPEG', quality=80)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    (tmp_path / 'a.png').write_bytes(data)
    np.testing.assert_array_equal(image_io.decode(tmp_path / 'a.png'), expected)


def test_encode_png_round_trip_is_exact_and_deterministic(photo):
    data = image_io.encode_png(photo)
    np.testing.assert_array_equal(image_io.decode(data), photo)
    assert data == image_io.encode_png(photo)
    assert len(image_io.encode_png(photo, compress_level=9)) <= len(data)
    assert image_io.sha256(b'abc').startswith('ba7816bf') and len(image_io.sha256(data)) == 64


@pytest.mark.parametrize(
    'bad', [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)]
)
def test_encode_png_refuses_other_shapes_and_dtypes(bad):
    for encode in (image_io.encode_png, image_io.encode_webp):
        with pytest.raises(image_io.ImageError, match='uint8'):
            encode(bad)


def test_encode_webp_round_trip_is_exact_and_deterministic(photo):
    data = image_io.encode_webp(photo)
    np.testing.assert_array_equal(image_io.decode(data), photo)
    assert data == image_io.encode_webp(photo)
    with pytest.raises(image_io.ImageError, match='20000x1 pixels do not fit WEBP'):
        image_io.encode_webp(np.zeros((1, 20000, 3), np.uint8))


def test_one_pixel_image():
    pixel = np.array([[[7, 130, 255]]], np.uint8)
    np.testing.assert_array_equal(image_io.decode(image_io.encode_png(pixel)), pixel)


def test_gray_bilevel_and_palette_become_rgb(photo):
    gray = photo[..., 0]
    decoded = image_io.decode(encoded(gray, 'PNG'))
    np.testing.assert_array_equal(decoded, np.repeat(gray[..., None], 3, -1))
    bilevel = Image.fromarray(gray > 100)
    decoded = image_io.decode(encoded(bilevel, 'PNG'))
    np.testing.assert_array_equal(decoded[..., 1], (gray > 100) * np.uint8(255))
    palette = Image.fromarray(photo).quantize(16)
    for kind in ('PNG', 'GIF'):
        decoded = image_io.decode(encoded(palette, kind))
        np.testing.assert_array_equal(decoded, np.asarray(palette.convert('RGB')))


def test_opaque_alpha_is_dropped_and_other_alpha_refused(photo):
    alpha = np.full((48, 64, 1), 255, np.uint8)
    image = np.concatenate([photo, alpha], -1)
    np.testing.assert_array_equal(image_io.decode(encoded(image, 'PNG')), photo)
    gray = Image.fromarray(photo[..., 0])
    gray.putalpha(255)
    assert image_io.decode(encoded(gray, 'PNG')).shape == (48, 64, 3)
    image[3, 5, 3] = 254
    for kind, options in [('PNG', {}), ('WEBP', {'lossless': True})]:
        with pytest.raises(image_io.ImageError, match='transparent'):
            image_io.decode(encoded(image, kind, **options))


def test_palette_transparency_counts_only_where_it_is_used(photo):
    palette = Image.fromarray(photo).quantize(16)
    with pytest.raises(image_io.ImageError, match='transparent'):
        image_io.decode(encoded(palette, 'PNG', transparency=3))
    assert image_io.decode(encoded(palette, 'PNG', transparency=200)).shape == (48, 64, 3)


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG', 'TIFF'])
def test_animations_and_pages_are_refused_and_single_frames_accepted(photo, kind):
    first, second = Image.fromarray(photo), Image.fromarray(photo[::-1].copy())
    animation = encoded(first, kind, save_all=True, append_images=[second])
    with pytest.raises(image_io.ImageError, match='several frames'):
        image_io.decode(animation)
    assert image_io.decode(encoded(first, kind, save_all=True)).shape == photo.shape


def test_cmyk_jpeg_is_refused(photo):
    with pytest.raises(image_io.ImageError, match='CMYK'):
        image_io.decode(encoded(Image.fromarray(photo).convert('CMYK'), 'JPEG'))


@pytest.mark.parametrize('colour,channels', [(0, 1), (2, 3), (6, 4)])
def test_sixteen_bit_png_is_refused(colour, channels):
    rows = (b'\0' + bytes(2 * channels * 3)) * 2
    assert Image.open(io.BytesIO(png(3, 2, 16, colour, rows))).size == (3, 2)
    with pytest.raises(image_io.ImageError, match='8 bits'):
        image_io.decode(png(3, 2, 16, colour, rows))
    eight = (b'\0' + b'\xff' * channels * 3) * 2
    assert image_io.decode(png(3, 2, 8, colour, eight)).shape == (2, 3, 3)


@pytest.mark.parametrize('kind', ['TIFF', 'JPEG2000'])
def test_sixteen_bit_and_float_pixels_of_other_formats_are_refused(photo, kind):
    with pytest.raises(image_io.ImageError, match='8 bits'):
        image_io.decode(encoded(Image.fromarray(photo[..., 0].astype(np.uint16) * 257), kind))
    if kind == 'TIFF':
        with pytest.raises(image_io.ImageError, match='8 bits'):
            image_io.decode(encoded(Image.fromarray(photo[..., 0].astype(np.float32)), kind))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_applied(photo, orientation):
    upright = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo, -1),
        7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(image_io.decode(encoded(photo, 'PNG', exif=exif)), upright)


def test_icc_profile_is_ignored(photo):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()
    data = encoded(photo, 'PNG', icc_profile=profile)
    np.testing.assert_array_equal(image_io.decode(data), photo)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP', 'JPEG2000', 'GIF', 'TIFF'])
def test_a_truncated_file_is_refused_or_complete(photo, kind):
    """Cutting trailing bytes that hold no pixel may pass; then the pixels are the whole file's."""
    data = encoded(photo, kind)
    whole = image_io.decode(data)
    refused = 0
    for length in np.linspace(1, len(data) - 1, 60).astype(int):
        try:
            np.testing.assert_array_equal(image_io.decode(data[:length]), whole)
        except image_io.ImageError as error:
            assert str(error).startswith('image data ')
            refused += 1
    assert refused >= 55


def test_flipped_bytes_end_in_pixels_or_in_an_image_error(photo):
    rng = np.random.default_rng(1)
    for kind in ('PNG', 'JPEG', 'GIF', 'WEBP', 'TIFF', 'BMP', 'JPEG2000'):
        data = encoded(photo, kind)
        for _ in range(60):
            broken = bytearray(data)
            for place in rng.integers(0, len(data), 3):
                broken[place] ^= 1 << int(rng.integers(8))
            try:
                assert image_io.decode(bytes(broken), max_pixels=100_000).shape[-1] == 3
            except image_io.ImageError:
                continue


@pytest.mark.parametrize('side', [30_000, 100_000])
def test_header_bombs_are_refused_before_decoding(photo, side):
    bomb = bytearray(png(side, side, 8, 2, b'\0' * 1000))
    gif = bytearray(encoded(Image.fromarray(photo).quantize(16), 'GIF'))
    gif[6:10] = struct.pack('<HH', 65535, 65535)
    for data in (bytes(bomb), bytes(gif)):
        with pytest.raises(image_io.ImageError, match=r'pixels|exceeds'):
            image_io.decode(data)


def test_pixel_cap_is_inclusive(photo):
    data = image_io.encode_png(photo)
    assert image_io.decode(data, max_pixels=48 * 64).shape == photo.shape
    with pytest.raises(image_io.ImageError, match='64x48 pixels'):
        image_io.decode(data, max_pixels=48 * 64 - 1)


def test_files_that_are_no_images_are_refused_by_name(tmp_path):
    (tmp_path / 'page.jpg').write_text('<!doctype html><html><body>404</body></html>')
    (tmp_path / 'empty.png').write_bytes(b'')
    (tmp_path / 'loop.png').symlink_to(tmp_path / 'loop.png')
    (tmp_path / 'zeros.png').write_bytes(bytes(4096))
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'folder.png').mkdir()
    reasons = {
        'page.jpg': 'not an image',
        'empty.png': 'is empty',
        'loop.png': 'not a file',
        'zeros.png': 'not an image',
        'pipe.png': 'not a file',
        'folder.png': 'not a file',
        'missing.png': 'not a file',
    }
    for name, reason in reasons.items():
        for read in (image_io.decode, image_io.read_file):
            if read is image_io.read_file and reason == 'not an image':
                continue
            with pytest.raises(image_io.ImageError, match=f'{name}.*{reason}'):
                read(tmp_path / name)
    with pytest.raises(image_io.ImageError, match='empty'):
        image_io.decode(b'')


def test_a_file_far_larger_than_any_allowed_image_is_not_read(tmp_path):
    with open(tmp_path / 'huge.png', 'wb') as file:
        file.truncate(2**33)
    for read in (image_io.decode, image_io.read_file):
        with pytest.raises(image_io.ImageError, match='huge.png has .* too many for an image'):
            read(tmp_path / 'huge.png')


def test_a_file_that_may_not_be_read_is_refused_with_its_path_first(tmp_path, monkeypatch):
    path = tmp_path / 'secret.png'
    path.write_bytes(b'x')
    assert image_io.read_file(path) == b'x'

    def refuse(self):
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(type(path), 'read_bytes', refuse)  # root may read every file
    with pytest.raises(image_io.ImageError) as error:
        image_io.read_file(path)
    assert str(error.value) == f'{path} cannot be read: Permission denied'


@pytest.mark.parametrize('where', ['stat', 'read_bytes'])
@pytest.mark.parametrize('code', [errno.EIO, errno.EMFILE, errno.ESTALE, errno.ENOMEM])
def test_an_error_of_the_machine_is_no_refusal_of_the_picture(tmp_path, monkeypatch, where, code):
    path = tmp_path / 'good.png'
    path.write_bytes(b'x')

    def fail(self, **options):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(type(path), where, fail)
    said = re.escape(f'{path} could not be read ({os.strerror(code)})')
    with pytest.raises(OSError, match=f'^{said}.*run the same command again'):
        image_io.decode(path)


def test_names_that_no_file_can_have_are_refused(tmp_path):
    (tmp_path / 'loop.png').symlink_to(tmp_path / 'loop.png')
    (tmp_path / 'file').write_bytes(b'x')
    for name in ('loop.png', 'file/below.png', 'nul\0.png', '\ud800.png', 'gone.png', 'n' * 300):
        with pytest.raises(image_io.ImageError, match='is not a file$|File name too long$'):
            image_io.read_file(tmp_path / name)
