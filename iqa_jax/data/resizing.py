"""How training images are resized before the crop; by default they are not.

Resizing is a distortion of its own, which changes what the opinions were given for; the rules here
are for comparison with published results.
"""

import numpy as np

from iqa_jax.images import io

UNIQUE_LEAST, UNIQUE_MOST = 384, 512  # pixels of the short side


def unique(image: np.ndarray) -> np.ndarray:
    """The rule of UNIQUE and of the OHEM code: short sides of 384 to 512 pixels, uint8 [H,W,3].

    A short side below 384 grows to it (bicubic), one of 512 or more shrinks to that (bilinear).
    """
    short = min(image.shape[:2])
    if short < UNIQUE_LEAST:
        return io.resize(image, UNIQUE_LEAST, 'bicubic')
    return io.resize(image, UNIQUE_MOST, 'bilinear') if short > UNIQUE_MOST else image


RULES = {None: lambda image: image, 'unique': unique}
