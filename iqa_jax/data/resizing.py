"""How images are resized before a crop is taken or a score given; by default they are not.

Resizing is a distortion of its own, which changes what the opinions were given for; the rules here
are for comparison with published results.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from iqa_jax.images import io

UNIQUE_LEAST, UNIQUE_MOST = 384, 512  # pixels of the short side in training
UNIQUE_SCORED = 768  # and at most when scored


def unique(image: np.ndarray) -> np.ndarray:
    """The rule of UNIQUE and of the OHEM code: short sides of 384 to 512 pixels, uint8 [H,W,3].

    A short side below 384 grows to it (bicubic), one of 512 or more shrinks to that (bilinear).
    """
    short = min(image.shape[:2])
    if short < UNIQUE_LEAST:
        return io.resize(image, UNIQUE_LEAST, 'bicubic')
    return io.resize(image, UNIQUE_MOST, 'bilinear') if short > UNIQUE_MOST else image


def unique_scored(image: np.ndarray) -> np.ndarray:
    """Their rule of the test: a short side above 768 shrinks to it (bilinear), uint8 [H,W,3]."""
    small = min(image.shape[:2]) <= UNIQUE_SCORED
    return image if small else io.resize(image, UNIQUE_SCORED, 'bilinear')


def _as_it_is(image: np.ndarray) -> np.ndarray:
    return image


class Rule(NamedTuple):
    """What becomes of an image before it is cropped for training, and before it is scored."""

    train: Callable[[np.ndarray], np.ndarray] = _as_it_is
    score: Callable[[np.ndarray], np.ndarray] = _as_it_is


RULES = {'': Rule(), 'unique': Rule(unique, unique_scored)}
