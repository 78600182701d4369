"""Fingerprints of pictures: exact, for equal pixels, and perceptual, for the same picture altered.

The perceptual one is the sign pattern of the lowest cosine frequencies of the luma, as in the
common DCT hash, of the whole picture and of its largest centred crops of usual aspect ratios.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from scipy import fft

ASPECTS = (1.0, 4 / 3, 3 / 2, 16 / 9)  # of the crops beside the whole picture, long side first
VIEWS = 1 + len(ASPECTS)
WORDS = 4  # of 64 bits per view
# Bits of 255 by which two pictures may differ and count as one. Of 210 photographs the 21,945
# pairs are 90 to 152 bits apart, 121 on average; the same photograph halved, quartered without
# filter, as JPEG of quality 10, blurred by 3 pixels, made brighter by 30 levels or cropped to 1:1,
# 3:2 or 16:9 is at most 56 away (benchmarks/content_hashes.py).
DISTANCE = 60
BITS = 255  # of a view; the last bit of its words is not used
_SIDE, _FREQUENCIES = 64, 16
_BLOCK = 1 << 22  # pairs compared at once, so that memory stays in the tens of MiB


def exact(image: np.ndarray) -> str:
    """SHA-256 (hex) of size and pixels of uint8 [H, W, 3]; BMP and PNG of a picture are equal."""
    height, width = image.shape[:2]
    digest = hashlib.sha256(f'{height}x{width}/'.encode())
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()


def perceptual(image: np.ndarray) -> np.ndarray:
    """Perceptual hash of uint8 [H, W, 3]: uint64 [VIEWS, WORDS], one bit per cosine frequency.

    Two pictures are compared view by view by Hamming distance. Resizing, recompression, mild blur
    and changes of brightness move few bits, and a centred crop to an aspect ratio of `ASPECTS`
    leaves one view alone. Off-centre crops, rotations and mirror images are not recognised.
    """
    gray = Image.fromarray(image).convert('L')
    views = []
    for box in _boxes(*gray.size):
        small = gray.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, box=box)
        x = fft.dctn(np.asarray(small, np.float64), norm='ortho')
        x = x[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]  # without the mean, which is brightness
        bits = x > np.median(x)
        if np.abs(x).max() < 1:  # flat: the signs would be those of rounding errors
            bits = np.unpackbits(np.frombuffer(hashlib.sha256(image).digest(), np.uint8))[1:]
        views.append(np.packbits(np.append(bits, 0)).view('>u8'))
    return np.stack(views).astype(np.uint64)


def near(
    first: np.ndarray, second: np.ndarray | None = None, distance: int = DISTANCE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of pictures whose perceptual hashes are close in some view.

    Args:
      first: uint64 [N, VIEWS, WORDS].
      second: uint64 [M, VIEWS, WORDS]; None compares `first` with itself, each pair once.
      distance: largest number of differing bits.

    Returns:
      (row of first, row of second, distance), int [P] each, ordered by the rows.
    """
    other = first if second is None else second
    step = max(1, _BLOCK // max(1, len(other)))

    def block(start: int) -> tuple[np.ndarray, ...]:
        low = 0 if second is not None else start
        found = _distances(first[start : start + step], other[low:])
        rows, columns = np.nonzero(found <= distance)
        values = found[rows, columns]
        rows, columns = rows + start, columns + low
        keep = slice(None) if second is not None else rows < columns
        return rows[keep], columns[keep], values[keep].astype(int)

    with ThreadPoolExecutor(2) as pool:  # NumPy releases the GIL
        found = list(pool.map(block, range(0, len(first), step)))
    empty = np.zeros(0, int)
    return tuple(np.concatenate(x) for x in zip((empty,) * 3, *found, strict=True))


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int16 [N, M]: smallest Hamming distance over the views."""
    best = np.full((len(first), len(second)), 64 * WORDS, np.int16)
    for view in range(VIEWS):
        total = np.zeros(best.shape, np.int16)
        for word in range(WORDS):
            total += np.bitwise_count(first[:, None, view, word] ^ second[None, :, view, word])
        np.minimum(best, total, out=best)
    return best


def _boxes(width: int, height: int) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of the whole picture and of its centred crops, in pixels."""
    boxes = [(0.0, 0.0, float(width), float(height))]
    for aspect in ASPECTS:
        wanted = aspect if width >= height else 1 / aspect
        w, h = min(width, height * wanted), min(height, width / wanted)
        left, top = (width - w) / 2, (height - h) / 2
        boxes.append((left, top, left + w, top + h))
    return boxes
