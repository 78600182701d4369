"""JPEG and JPEG2000 through Pillow (KADID types 9, 10): exact codecs, on the host."""

import io
import os

import numpy as np
from PIL import Image

JPEG2000_RATIOS = (16, 32, 45, 120, 400)
JPEG_QUALITIES = (43, 36, 24, 7, 4)

# Pillow keeps other Python threads waiting while it codes JPEG2000, so the cores can only share the
# work on one image. OpenJPEG reads this for every image; the bytes are the same for any number.
os.environ.setdefault('OPJ_NUM_THREADS', 'ALL_CPUS')


def jpeg2000(image: np.ndarray, level: int) -> np.ndarray:
    """KADID type 9 of uint8 [H, W, 3]: irreversible 9/7, one quality layer, raw bytes / ratio."""
    # Without mct=1 Pillow codes RGB untransformed, 1 to 5 dB worse.
    return _recode(
        image,
        format='JPEG2000',
        irreversible=True,
        mct=1,
        num_resolutions=6,
        quality_mode='rates',
        quality_layers=[JPEG2000_RATIOS[level - 1]],
    )


def jpeg(image: np.ndarray, level: int) -> np.ndarray:
    """KADID type 10 of uint8 [H, W, 3]: baseline, 4:2:0, standard tables scaled by quality."""
    return _recode(image, format='JPEG', quality=JPEG_QUALITIES[level - 1], subsampling='4:2:0')


def _recode(image: np.ndarray, **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **options)
    return np.asarray(Image.open(buffer))
