"""How well hashes and the search for crops tell one photograph from another, and their speed.

    python benchmarks/content_hashes.py --photos=DIR            # '' is the bundled photographs
    python benchmarks/content_hashes.py --photos=DIR --no-speed

Distances in bits of 255 between different photographs and between a photograph and altered copies
of it, which is what `hashes.DISTANCE` rests on; the largest correlations of different photographs
and of cut-outs at random places, which is what `crops.CORRELATION` rests on; seconds for matching
140,000 hashes with 5,000.
"""

import argparse
import io
import time

import numpy as np
from PIL import Image, ImageFilter

from iqa_jax.data import crops, hashes, sources
from iqa_jax.images import io as image_io


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The picture compressed and decoded again."""
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=quality)
    return Image.open(buffer).convert('RGB')


def scaled(image: Image.Image, factor: float, method: int) -> Image.Image:
    """The picture resized by one factor."""
    return image.resize([round(n * factor) for n in image.size], method)


def centred(image: Image.Image, aspect: float) -> Image.Image:
    """The largest centred crop of an aspect ratio."""
    w, h = min(image.width, image.height * aspect), min(image.height, image.width / aspect)
    left, top = round((image.width - w) / 2), round((image.height - h) / 2)
    return image.crop((left, top, left + round(w), top + round(h)))


def trimmed(image: Image.Image, share: float) -> Image.Image:
    """The picture without that share of its width and height on every side."""
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


ALTERED = {
    'halved': lambda x: scaled(x, 0.5, Image.Resampling.BICUBIC),
    'times 0.9375': lambda x: scaled(x, 0.9375, Image.Resampling.BILINEAR),
    'every fourth pixel': lambda x: scaled(x, 0.25, Image.Resampling.NEAREST),
    'JPEG quality 10': lambda x: jpeg(x, 10),
    'blurred, sigma 3': lambda x: x.filter(ImageFilter.GaussianBlur(3)),
    'brighter by 30': lambda x: x.point(lambda v: min(255, v + 30)),
    'gamma 0.7': lambda x: x.point(lambda v: round(255 * (v / 255) ** 0.7)),
    'centred 1:1': lambda x: centred(x, 1),
    'centred 3:2': lambda x: centred(x, 3 / 2),
    'centred 16:9': lambda x: centred(x, 16 / 9),
    '3:2, halved, JPEG 50': lambda x: jpeg(
        scaled(centred(x, 3 / 2), 0.5, Image.Resampling.BICUBIC), 50
    ),
    'border of 2 % trimmed': lambda x: trimmed(x, 0.02),
    'border of 5 % trimmed': lambda x: trimmed(x, 0.05),
}


def hash_distances(photos: list[np.ndarray]) -> None:
    """Prints distances of different photographs and of altered copies."""
    found = np.stack([hashes.perceptual(photo) for photo in photos])
    apart = hashes.near(found, distance=255)[2]
    low, mean, high = apart.min(), apart.mean(), apart.max()
    print(f'{len(apart)} pairs of different photographs: {low} to {high} bits, mean {mean:.1f}')
    for name, alter in ALTERED.items():
        copies = [np.asarray(alter(Image.fromarray(photo))) for photo in photos]
        distances = np.array([
            hashes.near(a[None], hashes.perceptual(b)[None], 255)[2][0]
            for a, b in zip(found, copies, strict=True)
        ])  # fmt: skip
        missed = int((distances > hashes.DISTANCE).sum())
        print(
            f'{name}: median {np.median(distances):.0f}, largest {distances.max()}, '
            f'{missed} of {len(photos)} beyond {hashes.DISTANCE}'
        )


def crop_correlations(photos: list[np.ndarray]) -> None:
    """Prints correlations of different photographs and of cut-outs at random places."""
    rng = np.random.default_rng(0)
    small = [crops.gray(photo) for photo in photos]
    start = time.perf_counter()
    apart = [value for i, j, value in crops.search(small, small, -1.0) if i != j]
    seconds = (time.perf_counter() - start) / len(photos) ** 2
    print(
        f'{len(apart)} ordered pairs of different photographs: correlation up to {max(apart):.3f}, '
        f'{seconds * 1e3:.1f} ms each'
    )
    for width, height in ((0.55, 0.55), (2 / 3, 3 / 4), (0.8, 0.8), (0.9, 0.9)):
        values = []
        for photo, whole in zip(photos, small, strict=True):
            picture = Image.fromarray(photo)
            w, h = round(picture.width * width), round(picture.height * height)
            left, top = (rng.integers(0, n + 1) for n in (picture.width - w, picture.height - h))
            part = picture.crop((left, top, left + w, top + h))
            part = jpeg(scaled(part, rng.uniform(0.6, 1.5), Image.Resampling.BICUBIC), 30)
            values.append(next(crops.search([whole], [crops.gray(np.asarray(part))], -1.0))[2])
        values = np.array(values)
        print(
            f'{width:.2f} x {height:.2f} cut out: correlation from {values.min():.3f}, median '
            f'{np.median(values):.3f}, {(values < crops.CORRELATION).sum()} of {len(values)} missed'
        )


def speed(photo: np.ndarray) -> None:
    """Prints seconds per hash and for matching a large training pool with test references."""
    for name, function in (('exact', hashes.exact), ('perceptual', hashes.perceptual)):
        start = time.perf_counter()
        for _ in range(10):
            function(photo)
        print(f'{name} hash: {(time.perf_counter() - start) * 100:.1f} ms per photograph')
    rng = np.random.default_rng(0)
    draw = [
        rng.integers(0, 2**64, (n, hashes.VIEWS, hashes.WORDS), np.uint64) for n in (140_000, 5_000)
    ]
    start = time.perf_counter()
    found = hashes.near(*draw)
    print(f'140,000 x 5,000 hashes: {time.perf_counter() - start:.1f} s, {len(found[0])} near')


def main() -> None:
    """Parses the command line and prints one section after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--photos', default='')
    parser.add_argument('--no-speed', action='store_true')
    flags = parser.parse_args()
    photos = [image_io.decode(file) for file in sources.photo_files(flags.photos)]
    hash_distances(photos)
    crop_correlations(photos)
    if not flags.no_speed:
        speed(photos[0])


if __name__ == '__main__':
    main()
