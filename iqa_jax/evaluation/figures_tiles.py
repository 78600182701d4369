"""Images as tiles of a larger picture: native pixels, thumbnails, or a grey tile saying why not."""

import io
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw

from iqa_jax.evaluation import figures_lettering as lettering
from iqa_jax.evaluation.figures_pictures import centre_crop

GREY, FRAME, RULE = (222, 224, 228), (190, 195, 203), (200, 205, 212)
INK, SOFT = (29, 33, 39), (84, 92, 102)
ROLES = {'defender': (33, 92, 184), 'attacker': (168, 78, 14)}
SIDES = ('best', 'worst')
Load = Callable[[object], np.ndarray]


def tile(load: Load, image_id: object, side: int, *, reduce: bool, grey: int) -> dict:
    """Returns an image with at most `side` pixels a side, never enlarged.

    Args:
      load: takes an image id and returns uint8 [H, W, 3]; ValueError (images.io.ImageError is one),
        OSError and LookupError mean that there is no such image.
      image_id: of the image.
      side: largest height and width of the tile.
      reduce: whether a larger image is reduced, by Pillow's Lanczos filter, or cropped to its
        central pixels.
      grey: side of the tile that stands for an image which cannot be loaded.

    Returns:
      'image' (Pillow, RGB), 'size' (width, height of the whole image, None if missing) and
      'missing', [] or [{'file' (the image id), 'reason'}].

    Raises:
      ValueError: `load` returned something else than an image.
    """
    try:
        array = load(image_id)
    except (ValueError, OSError, LookupError) as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        if isinstance(error, LookupError):
            reason = 'unknown image id'
        missing = [{'file': str(image_id), 'reason': reason}]
        return {'image': _grey(min(side, grey), reason), 'size': None, 'missing': missing}
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or not array.size:
        raise ValueError(
            f'load({image_id!r}) must return uint8 [H, W, 3], not {array.dtype} {array.shape}; '
            'decode files with iqa_jax.images.io.decode.'
        )
    height, width = array.shape[:2]
    if reduce and max(height, width) > side:
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = Image.fromarray(np.ascontiguousarray(array)).resize(size, Image.Resampling.LANCZOS)
    else:
        image = Image.fromarray(np.ascontiguousarray(centre_crop(array, side, side)))
    return {'image': image, 'size': (width, height), 'missing': []}


def _grey(side: int, reason: str) -> Image.Image:
    face = lettering.font(13)
    image, inner, step = (
        Image.new('RGB', (side, side), GREY),
        side - 16,
        lettering.line_height(face),
    )
    if inner < step:
        return image
    lines = lettering.wrap(lettering.readable(f'No image: {reason}'), inner, face)
    room = inner // step
    if len(lines) > room:
        lines = [*lines[: room - 1], lettering.elide(' '.join(lines[room - 1 :]), inner, face)]
    for i, line in enumerate(lines):
        lettering.write(image, (8, 8 + i * step), inner, line, face, INK, paper=GREY)
    return image


def paste(page: Image.Image, image: Image.Image, place: tuple[int, int]) -> tuple:
    """Puts a tile at (left, top) of the page, framed outside its pixels; returns its box."""
    (x, y), (width, height) = place, image.size
    ImageDraw.Draw(page).rectangle((x - 1, y - 1, x + width, y + height), outline=FRAME)
    page.paste(image, place)
    return (x, y, x + width, y + height)


def drawn(page: Image.Image, places: list, tiles: Iterable[dict]) -> dict[str, object]:
    """Returns a finished picture: 'png' (bytes, lossless, no metadata), 'places' and 'missing'."""
    buffer = io.BytesIO()
    page.save(buffer, 'PNG')
    missing = {entry['file']: entry for tile in tiles for entry in tile['missing']}
    return {'png': buffer.getvalue(), 'places': places, 'missing': list(missing.values())}
