"""TID2013: mos_with_names.txt, mos_std.txt, distorted_images/ and reference_images/."""

import re
from pathlib import Path

from iqa_jax.data.databases import layout

# Its 24 types where KADID has the same kind of distortion; strengths differ between the two.
KADID_NUMBERS = {
    1: 11,  # additive white noise
    6: 13,  # impulse noise
    7: 22,  # quantization noise
    8: 1,  # Gaussian blur
    9: 15,  # denoising
    10: 10,  # JPEG
    11: 9,  # JPEG2000
    14: 20,  # non-eccentricity pattern noise
    16: 18,  # mean shift
    17: 25,  # contrast change
    19: 14,  # multiplicative noise
    22: 6,  # colour quantization with dither
}


def read_tid2013(folder: Path, options: dict) -> layout.Found:
    """TID2013: means of 0..9, higher is better, `I01_08_3.bmp` is type 8 and level 3 of I01.

    Names are written I or i, .bmp or .BMP, differently in the list and on disk. mos_std.txt is
    small because it is the spread of the mean, not of single opinions.
    """
    path = layout.find(folder, 'mos_with_names.txt')
    spread_path = layout.find(folder, 'mos_std.txt', optional=True)
    images = layout.find(folder, 'distorted_images')
    originals = layout.find(folder, 'reference_images')
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        if len(line) != 2 or not re.fullmatch(r'i\d+_\d+_\d+\.bmp', line[1].casefold()):
            raise ValueError(f'{path} entry {number} is {line}; expected like 5.51 I01_08_3.bmp.')
    listed = [name for _, name in lines]
    names = [layout.stem(name).upper() for name in listed]
    parts = [name.split('_') for name in names]
    spread = None
    if spread_path:
        spread = layout.numbers(spread_path.read_text().split(), 'mos_std', spread_path)
        layout.same_length(folder, mos=listed, mos_std=spread)
    files, reference_files = layout.pictures(images), layout.pictures(originals)
    paths = [layout.lookup(files, name, images) for name in listed]
    found = {ref: layout.lookup(reference_files, f'{ref}.bmp', originals) for ref, *_ in parts}
    rows = layout.rows(
        names,
        paths,
        ref_name=[ref for ref, *_ in parts],
        reference=[found[ref] for ref, *_ in parts],
        opinion=layout.numbers([value for value, _ in lines], 'mos', path),
        spread=spread,
        type=[KADID_NUMBERS.get(int(number), -1) for _, number, _ in parts],
        level=[int(level) for *_, level in parts],
    )
    sources = [path, *([spread_path] if spread_path else [])]
    extra = layout.unlisted(files | reference_files, paths, found.values())
    return layout.Found(rows, sources, found, extra)
