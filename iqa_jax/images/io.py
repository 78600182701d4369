"""Decoding and encoding of image files that nobody has checked.

Every image that enters the program passes `decode`, which refuses whatever it could only represent
by changing pixels silently, with the reason in one sentence.
"""

import contextlib
import errno
import hashlib
import io
import os
import pathlib
import re
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from iqa_jax.images import headers, tiff_directory
from iqa_jax.images.refusal import ImageError, Refused

FORMATS = ('PNG', 'JPEG', 'JPEG2000', 'WEBP', 'BMP', 'TIFF', 'GIF')
MAX_PIXELS = 64_000_000
UNNAMED = 'image data'  # what messages call bytes without a path
WEBP_SIDE = 16_383  # the format's limit
# Errors of the system that say what a file is; all others say how the machine fares.
NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
NOT_READABLE = {
    errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV,
    errno.EILSEQ, errno.EFBIG, errno.EOVERFLOW,
}  # fmt: skip
# What Pillow converts to RGB without losing a bit; every other mode is refused.
EIGHT_BIT_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA')
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# One file could make Pillow warn for each of its tags; what is wrong with it is said by an error.
_QUIET = ('ignore', None, Warning, re.compile('PIL[.]'), 0)
_lock = threading.Lock()
_decoding = 0  # threads inside _strictly
_theirs: tuple[bool, int | None] = (False, None)


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of file bytes, the identity of an image in every manifest."""
    return hashlib.sha256(data).hexdigest()


def encode_png(array: np.ndarray, compress_level: int = 1) -> bytes:
    """PNG bytes of uint8 [H,W,3], lossless; raises ImageError for another shape or dtype."""
    return _encode(array, 'PNG', compress_level=compress_level)


def encode_webp(array: np.ndarray, method: int = 0) -> bytes:
    """Lossless WebP bytes of uint8 [H,W,3]; raises ImageError for another shape or dtype.

    `method` 0 (quickest) to 6 (smallest); sides above WEBP_SIDE do not fit the format.
    """
    # `quality` is the effort of the lossless coder; `exact` changes only transparent pixels.
    return _encode(array, 'WEBP', lossless=True, quality=0, method=method)


def _encode(array: np.ndarray, form: str, **options: object) -> bytes:
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or array.size == 0:
        raise ImageError(f'an image to encode is uint8 [H,W,3], not {array.dtype} {array.shape}')
    buffer = io.BytesIO()
    try:
        Image.fromarray(array).save(buffer, form, **options)
    except (ValueError, OSError) as error:
        height, width = array.shape[:2]
        raise ImageError(f'{width}x{height} pixels do not fit {form}: {error}') from error
    return buffer.getvalue()


def resize(image: np.ndarray, short: int, method: str) -> np.ndarray:
    """uint8 [H,W,3] with a short side of `short` pixels, as Pillow resizes, antialiased.

    The long side is rounded down, as torchvision does. `method` is 'bilinear' or 'bicubic' (of
    a = -0.5); fr_metrics need MATLAB's way instead, which `images.resize` has.
    """
    height, width = image.shape[:2]
    least = min(height, width)
    size = (short * width // least, short * height // least)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling[method.upper()]))


def read_file(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """Bytes of a file that may hold an image; never waits and never fills the memory.

    `path` may also be of another class with the methods of pathlib.Path.

    Raises:
      ImageError: it is a folder, a pipe, a dangling link, a file that may not be read, an empty
        one, or one too large for an image of max_pixels; the message starts with the path.
      OSError: the machine could not read it now, which tells nothing of the picture.
    """
    name = str(path)
    if not hasattr(path, 'read_bytes'):
        path = pathlib.Path(path)
    if '\0' in name:
        raise ImageError(f'{name} is not a file')
    try:
        size = path.stat().st_size  # before is_file, which hides what went wrong
        # Opening a pipe would wait for ever.
        if not path.is_file():
            raise ImageError(f'{name} is not a file')
        _check_size(name, size, max_pixels)
        return path.read_bytes()
    except UnicodeEncodeError:
        raise ImageError(f'{name!a} is not a file') from None
    except OSError as error:
        raise unread(name, error) from None


def unread(name: str, error: OSError) -> ImageError | OSError:
    """What to raise for a file that was not read: an ImageError only if the file is the reason.

    An image is left out for good, so a full table of open files or a disk that fails must not
    count as a bad picture.
    """
    if isinstance(error, FileNotFoundError) or error.errno in NOT_THERE:
        return ImageError(f'{name} is not a file')
    if error.errno in NOT_READABLE:
        return ImageError(f'{name} cannot be read: {error.strerror}')
    return OSError(
        f'{name} could not be read ({error.strerror or error}), which need not be its own fault; '
        'run the same command again, or take the file out if this stays.'
    )


def decode(data: bytes | str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels uint8 [H,W,3] RGB of an image file, given its bytes or its path.

    Gray, palette and fully opaque images become RGB; the EXIF orientation is applied; ICC profiles
    are ignored (pixels are taken as sRGB). Raises ImageError for an unknown format, more than
    max_pixels (known from the header, before any pixel is decoded) or more pieces than a picture
    needs, truncated or damaged data, an animation, CMYK, more than 8 bits per channel, or
    transparency. What the host program set in Pillow does not matter.
    """
    name, data = read_named(data, max_pixels)
    try:
        header = headers.check(data, max_pixels)
        if not header.format:
            raise UnidentifiedImageError
        with _strictly(), Image.open(io.BytesIO(data), formats=[header.format]) as image:
            _check_header(image, name, header, max_pixels)
            image.load()
            image = _upright(image)
            if ImageFile.LOAD_TRUNCATED_IMAGES:
                raise ImageError(f'{name} was decoded while another thread let Pillow load damage')
            return _to_rgb(image, name)
    except Refused as error:
        raise ImageError(f'{name} {error}') from None
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        known = ', '.join(FORMATS)
        raise ImageError(f'{name} is not an image, or is damaged, or not one of {known}') from None
    # Damaged files make Pillow raise almost any class; all of them mean the same to the caller.
    except Exception as error:
        raise ImageError(f'{name} is damaged or truncated: {error}') from error


def read_named(data: bytes | str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[str, bytes]:
    """Name for messages and file bytes, both checked as in `read_file`."""
    if not isinstance(data, bytes):
        return str(data), read_file(data, max_pixels=max_pixels)
    _check_size(UNNAMED, len(data), max_pixels)
    return UNNAMED, data


def _check_size(name: str, size: int, max_pixels: int) -> None:
    """Raises ImageError for a number of bytes that no image of max_pixels has."""
    if not size:
        raise ImageError(f'{name} is empty')
    # No image of max_pixels needs more than 4 raw bytes per pixel and some metadata.
    if size > 4 * max_pixels + 2**24:
        raise ImageError(f'{name} has {size} bytes, too many for an image of {max_pixels} pixels')


@contextlib.contextmanager
def _strictly() -> Iterator[None]:
    """Pillow refuses damage, warns of nothing and leaves the limit of pixels to us.

    So it does in all threads until the last one leaves.
    """
    global _decoding, _theirs
    with _lock:
        if not _decoding:
            _theirs = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
            # Through `filterwarnings` every warning of the program would be shown once more.
            warnings.filters.insert(0, _QUIET)
        _decoding += 1
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding:
                ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = _theirs
                with contextlib.suppress(ValueError):  # another thread has put its own list there
                    warnings.filters.remove(_QUIET)


def _check_header(image: Image.Image, name: str, header: headers.Header, max_pixels: int) -> None:
    """Raises ImageError for what the header alone gives away; decodes no pixel."""
    # What Pillow will decode, should it differ from what was checked.
    headers.check_pixels(*image.size, max_pixels)
    # A camera's MPO is a plain JPEG followed by previews; its first frame is the photo.
    several = image.format in ('PNG', 'WEBP') and image.n_frames > 1
    if several:
        raise ImageError(f'{name} has several frames; save the wanted one as a single image')
    if image.mode == 'CMYK':
        raise ImageError(f'{name} is CMYK; convert it to RGB')
    # Pillow hands 16-bit RGB over as 8-bit RGB without a word.
    if header.bits > 8 or image.mode.startswith(('I', 'F')):
        raise ImageError(f'{name} has more than 8 bits per channel; convert it to 8 bits')
    if image.mode not in EIGHT_BIT_MODES:
        raise ImageError(f'{name} has the pixel mode {image.mode}; convert it to RGB')


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF block, or else its XMP, says it is to be held; Pillow turns TIFF."""
    if image.format == 'TIFF':
        return image
    block, turned = image.info.get('exif', b''), 0
    if not block and (text := image.info.get('Raw profile type exif')):
        block = bytes.fromhex(''.join(text.split('\n')[3:]))
    if block:
        turned = tiff_directory.check_exif(block)
    if not turned:
        xmp = image.info.get('XML:com.adobe.xmp') or image.info.get('xmp') or b''
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp)
        turned = int(found[1]) if found else 0
    return image.transpose(UPRIGHT[turned]) if turned in UPRIGHT else image


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.has_transparency_data:
        image = image.convert('RGBA')
        if image.getextrema()[3][0] < 255:
            raise ImageError(f'{name} is partly transparent; compose it on a background')
    return np.array(image if image.mode == 'RGB' else image.convert('RGB'))
