"""Pristine photographs: the bundled ones or a folder of the user's."""

import hashlib
import importlib.resources
import re
from collections.abc import Iterator

import numpy as np
from absl import logging
from PIL import Image

from iqa_jax.images import io
from iqa_jax.runtime.paths import Path, as_path, is_remote

SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff', '.jp2', '.gif')
LONGEST_ID = 160  # bytes; names that are made of it may have 255
TERMS = 'the bundled photographs are CC0 1.0'  # data/photos/LICENSES.md


def photo_files(folder: str | Path, key: str = 'photos') -> list[Path]:
    """Picture files of a folder and its subfolders in name order; '' is the bundled photographs.

    Links to pictures are followed, links to folders are not. Errors call the folder config.`key`.

    Raises:
      ValueError: the folder does not exist or holds no picture.
      OSError: a folder in it may not be read.
    """
    if not folder:
        bundled = importlib.resources.files('iqa_jax.data') / 'photos'
        return sorted(as_path(str(bundled)).glob('*.png'))
    folder = as_path(folder)
    if not folder.is_dir():
        raise ValueError(f'config.{key}={folder} is not a folder; give one that holds photographs.')
    files = sorted(f for f in _below(folder) if f.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(
            f'config.{key}={folder} holds no picture; these are read: {", ".join(SUFFIXES)}.'
        )
    return files


def _below(folder: Path) -> Iterator[Path]:
    """Everything below a folder; links to folders, which may be loops, are named in a warning."""
    if is_remote(folder):  # where there are no links
        yield from folder.rglob('*')
        return
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            inside = sorted(here.iterdir())
        except OSError as error:
            reason = f'{error.strerror}; allow it or move it away'
            raise OSError(f'{here} cannot be read: {reason}.') from None
        for path in inside:
            yield path
            if path.is_dir() and path.is_symlink():
                logging.warning('%s is a link to a folder and is not entered.', path)
            elif path.is_dir():
                waiting.append(path)


def load_photo(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Decodes a photograph and brings it to one size, as `fit` does.

    Raises:
      images.io.ImageError: undecodable, of a kind that is refused, or smaller than the size.
    """
    return fit(io.decode(path), size)


def fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest centred crop of the target's aspect ratio, then Lanczos downscaling.

    Args:
      image: uint8 [H, W, 3].
      size: (height, width), or () for the size it has.

    Returns:
      uint8 [height, width, 3]; the image itself when it already has the size.

    Raises:
      images.io.ImageError: it is smaller than the size.
    """
    if not size or image.shape[:2] == tuple(size):
        return image
    height, width = size
    h, w = image.shape[:2]
    scale = min(h / height, w / width)
    if scale < 1:
        raise io.ImageError(
            f'it is {w}x{h} pixels, smaller than {width}x{height}; '
            'enlarging would distort it, so lower config.size or leave it out'
        )
    crop_h, crop_w = round(height * scale), round(width * scale)
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    crop = Image.fromarray(image[top : top + crop_h, left : left + crop_w])
    return np.asarray(crop.resize((width, height), Image.Resampling.LANCZOS))


def photo_ids(files: list[Path], folder: str | Path) -> list[str]:
    """Unique ids from file names: characters that trouble file systems become '_'.

    What is longer than LONGEST_ID bytes ends in a digest, since file names are made of ids.
    """
    root = as_path(folder) if folder else files[0].parent
    ids: dict[str, None] = {}
    for file in files:
        stem = '__'.join(file.relative_to(root).with_suffix('').parts)
        stem = re.sub(r'[^\w.-]', '_', stem)
        if len(whole := stem.encode()) > LONGEST_ID:
            cut = whole[: LONGEST_ID - 17].decode(errors='ignore')
            stem = f'{cut}_{hashlib.sha256(whole).hexdigest()[:16]}'
        ids[f'{stem}_{file.suffix[1:].lower()}' if stem in ids else stem] = None
    if len(ids) < len(files):
        raise ValueError(f'Two photographs of {root} have the same name; rename one of them.')
    return list(ids)
