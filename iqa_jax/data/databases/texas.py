"""LIVE release 2 and the LIVE In the Wild Challenge, of the laboratory in Austin."""

from pathlib import Path

import numpy as np
from absl import logging

from iqa_jax.data.databases import layout

# In the order of the MATLAB variables: folder, number of pictures, KADID's number.
LIVE_FOLDERS = (
    ('jp2k', 227, 9),
    ('jpeg', 233, 10),
    ('wn', 174, 11),
    ('gblur', 174, 1),
    ('fastfading', 174, -1),
)


def read_live(folder: Path, options: dict) -> layout.Found:
    """LIVE release 2: dmos_realigned.mat, refnames_all.mat, refimgs/ and a folder for each type.

    dmos_new is a difference of opinions, lower is better; it is realigned beyond 0..100. Entry i
    of the variables is the i-th picture of all folders, imgN.bmp. Those marked in `orgs` are
    the reference once more and are left out; refimgs/ has it.
    """
    path = layout.find(folder, 'dmos_realigned.mat')
    names_path = layout.find(folder, 'refnames_all.mat')
    originals = layout.find(folder, 'refimgs')
    dmos, orgs, spread = layout.read_mat(path, 'dmos_new', 'orgs', 'dmos_std')
    (references,) = layout.read_mat(names_path, 'refnames_all')
    layout.same_length(folder, dmos_new=dmos, refnames_all=references)
    cells = [(kind, i, type_) for kind, n, type_ in LIVE_FOLDERS for i in range(1, n + 1)]
    if len(dmos) > len(cells):
        raise ValueError(f'{path} has {len(dmos)} entries; LIVE release 2 has {len(cells)}.')
    kept = np.flatnonzero(orgs == 0)
    logging.info('%d of %d entries are references and left out.', len(dmos) - len(kept), len(dmos))
    folders = {kind: layout.find(folder, kind) for kind in sorted({cells[i][0] for i in kept})}
    files = {kind: layout.pictures(place) for kind, place in folders.items()}
    reference_files = layout.pictures(originals)
    found = {
        layout.stem(name): layout.lookup(reference_files, name, originals)
        for name in references[kept]
    }
    paths, types = [], []
    for i in kept:
        kind, number, type_ = cells[i]
        paths.append(layout.lookup(files[kind], f'img{number}.bmp', folders[kind]))
        types.append(type_)
    names = [f'{cells[i][0]}__img{cells[i][1]}' for i in kept]
    ref_names = [layout.stem(name) for name in references[kept]]
    rows = layout.rows(
        names,
        paths,
        ref_name=ref_names,
        reference=[found[name] for name in ref_names],
        opinion=dmos[kept],
        spread=spread[kept],
        type=types,
    )
    repeats = {
        layout.lookup(files[cells[i][0]], f'img{cells[i][1]}.bmp', folders[cells[i][0]])
        for i in np.flatnonzero(orgs != 0)
        if cells[i][0] in folders
    }
    everything = {str(path): path for part in files.values() for path in part.values()}
    extra = layout.unlisted(everything | reference_files, paths, repeats, found.values())
    return layout.Found(rows, [path, names_path], found, extra)


def read_live_challenge(folder: Path, options: dict) -> layout.Found:
    """LIVE Challenge: Data/All{Images,MOS,StdDev}_release.mat and Images/.

    Means of 0..100, higher is better. The first seven pictures, t1.bmp to t7.bmp in
    Images/trainingImages/, trained the observers; they go to the pool.
    """
    kinds = ('Images', 'MOS', 'StdDev')
    paths = [layout.find(folder, f'All{kind}_release.mat') for kind in kinds]
    listed, mos, spread = (
        layout.read_mat(path, f'All{kind}_release')[0]
        for path, kind in zip(paths, kinds, strict=True)
    )
    layout.same_length(folder, AllImages=listed, AllMOS=mos, AllStdDev=spread)
    images = layout.find(folder, 'Images')
    files = layout.pictures(images, deep=True)
    found = [layout.lookup(files, name, images) for name in listed]
    rows = layout.rows(
        [layout.stem(name) for name in listed],
        found,
        opinion=mos,
        spread=spread,
        split=['pool' if name.startswith('t') else '' for name in listed],
    )
    return layout.Found(rows, paths, unlisted=layout.unlisted(files, found))
