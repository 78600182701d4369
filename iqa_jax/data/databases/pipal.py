"""PIPAL's public training part: Train_Ref/, Train_Label/ and the distorted pictures."""

import re
from pathlib import Path

from iqa_jax.data.databases import layout

FOLDERS = ('Train_Dist', *(f'Distortion_{i}' for i in range(1, 5)))


def read_pipal(folder: Path, options: dict) -> layout.Found:
    """PIPAL: Train_Label/A0001.txt has a line `A0001_00_00.bmp,1419.95` for each of A0001.

    Opinions are Elo ratings, higher is better. The middle number of a name is a group of
    distortions and the last a member of it, so neither is a KADID type or level. Pictures lie
    in Train_Dist/ or in Distortion_1/ to Distortion_4/.
    """
    labels = layout.find(folder, 'Train_Label')
    originals = layout.find(folder, 'Train_Ref')
    places = [place for name in FOLDERS if (place := layout.find(folder, name, optional=True))]
    if not places:
        raise ValueError(f'{folder} holds neither Train_Dist nor Distortion_1 to Distortion_4.')
    sources = sorted(path for path in labels.rglob('*') if path.suffix.lower() == '.txt')
    if not sources:
        raise ValueError(f'{labels} holds no label file such as A0001.txt.')
    listed, ratings = [], []
    for path in sources:
        for number, line in enumerate(path.read_text().split(), 1):
            match = re.fullmatch(r'(A\d+_\d+_\d+\.\w+),([-+.\de]+)', line, re.IGNORECASE)
            if not match:
                raise ValueError(
                    f'{path} entry {number} is {line!r}; expected like A0001_00_00.bmp,1419.95.'
                )
            listed.append(match[1])
            ratings.append(match[2])
    files = {k: v for place in places for k, v in layout.pictures(place, deep=True).items()}
    reference_files = layout.pictures(originals, deep=True)
    refs = [name.split('_')[0] for name in listed]
    found = {ref: layout.lookup(reference_files, f'{ref}.bmp', originals) for ref in refs}
    paths = [layout.lookup(files, name, places[0]) for name in listed]
    rows = layout.rows(
        [layout.stem(name) for name in listed],
        paths,
        ref_name=refs,
        reference=[found[ref] for ref in refs],
        opinion=layout.numbers(ratings, 'rating', labels),
        split=['train'] * len(listed),
    )
    extra = layout.unlisted(files | reference_files, paths, found.values())
    return layout.Found(rows, sources, found, extra)
