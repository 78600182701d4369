"""Finds pictures that are a cut-out of another one, wherever it lies and however it was resized.

Perceptual hashes do not see off-centre crops. Here one picture slides over the other at several
scales, and the largest normalised cross-correlation of their band-passed luma decides.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy import fft, ndimage

# Correlation from which a picture counts as a crop of another. Of 210 photographs the 43,890
# ordered pairs reach at most 0.61; of cut-outs of 55 % to 90 % of the width and height at random
# places, resized by 0.6 to 1.5 and compressed as JPEG of quality 30, two of 840 are below 0.7
# (benchmarks/content_hashes.py).
CORRELATION = 0.7
SIDE = 96  # pixels of the long side at which pictures are compared
_TOGETHER = 256  # pictures correlated at once, so that memory stays below 200 MiB
SCALES = tuple(0.5 * 1.06**k for k in range(12))  # part of the other picture that a crop covers


def gray(image: np.ndarray) -> np.ndarray:
    """Luma of uint8 [H, W, 3] with a long side of 2 * SIDE pixels: uint8 [h, w]."""
    picture = Image.fromarray(image).convert('L')
    return np.asarray(_resized(picture, 2 * SIDE / max(picture.size)))


def search(
    wholes: list[np.ndarray], parts: list[np.ndarray], least: float = CORRELATION
) -> Iterator[tuple[int, int, float]]:
    """Yields (whole, part, correlation) wherever `parts[part]` looks cut out of `wholes[whole]`.

    Args:
      wholes: uint8 [h, w] each, of `gray`.
      parts: likewise; a picture is found in itself only if it shows repeated structure.
      least: smallest normalised cross-correlation that counts.
    """
    for start in range(0, len(wholes), _TOGETHER):
        shapes: dict[tuple[int, int], list[int]] = {}
        small = {}
        for i, whole in enumerate(wholes[start : start + _TOGETHER], start):
            picture = Image.fromarray(whole)
            small[i] = _band_pass(_resized(picture, SIDE / max(picture.size)))
            shapes.setdefault(small[i].shape, []).append(i)
        for shape, members in shapes.items():
            images = _Images(np.stack([small[i] for i in members]))
            for number, part in enumerate(parts):
                best = _best(images, shape, Image.fromarray(part))
                for i in np.flatnonzero(best >= least):
                    yield members[i], number, float(best[i])


def _best(images: '_Images', shape: tuple[int, int], part: Image.Image) -> np.ndarray:
    """[N]: largest correlation of the part with each picture of a size, over all scales."""
    best = np.full(len(images), -1.0)
    for covered in SCALES:
        scale = covered * min(shape[0] / part.height, shape[1] / part.width)
        best = np.maximum(best, images.correlation(_band_pass(_resized(part, scale))))
    return best


class _Images:
    """Pictures [N, H, W] of one size, prepared for the correlation with many templates."""

    def __init__(self, images: np.ndarray):
        self._shape = images.shape[1:]
        self._size = [fft.next_fast_len(n, real=True) for n in self._shape]
        self._spectrum = fft.rfft2(images, self._size)
        self._sum = self._integral(images)
        self._square = self._integral(images * images)

    def __len__(self) -> int:
        return len(self._sum)

    def correlation(self, template: np.ndarray) -> np.ndarray:
        """[N]: largest normalised cross-correlation over all places of [h, w] inside."""
        h, w = template.shape
        height, width = self._shape[0] - h + 1, self._shape[1] - w + 1
        template = template - template.mean()
        spectrum = self._spectrum * np.conj(fft.rfft2(template, self._size))
        product = fft.irfft2(spectrum, self._size)[:, :height, :width]
        energy = self._box(self._square, h, w) - self._box(self._sum, h, w) ** 2 / (h * w)
        # A flat place or template correlates with nothing.
        norm = np.sqrt(np.maximum(energy, 1e-3 * h * w) * max((template**2).sum(), 1e-3 * h * w))
        return (product / norm).max(axis=(1, 2))

    @staticmethod
    def _integral(x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)

    @staticmethod
    def _box(x: np.ndarray, h: int, w: int) -> np.ndarray:
        """Sums over all boxes of h x w pixels, from an integral image."""
        return x[:, h:, w:] - x[:, :-h, w:] - x[:, h:, :-w] + x[:, :-h, :-w]


def _resized(picture: Image.Image, scale: float) -> Image.Image:
    size = [max(1, round(n * scale)) for n in picture.size]
    return picture.resize(size, Image.Resampling.LANCZOS)


def _band_pass(picture: Image.Image) -> np.ndarray:
    """Difference of two Gaussians, squashed so that no single edge decides: float64 [h, w]."""
    x = np.asarray(picture, np.float64)
    x = ndimage.gaussian_filter(x, 0.7) - ndimage.gaussian_filter(x, 2.5)
    return np.tanh(x / (np.sqrt((x * x).mean()) + 0.5))
