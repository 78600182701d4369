"""CSIQ: csiq.DMOS.xlsx, src_imgs/ and dst_imgs/ with a folder for each type."""

from pathlib import Path

from iqa_jax.data.databases import layout

# Name in the workbook -> (word in file names, KADID's number).
TYPES = {
    'noise': ('AWGN', 11),
    'blur': ('BLUR', 1),
    'contrast': ('contrast', 25),
    'fnoise': ('fnoise', -1),
    'jpeg': ('JPEG', 10),
    'jpeg 2000': ('jpeg2000', 9),
}
HEADER = ('image', 'dst_type', 'dst_lev', 'dmos_std', 'dmos')


def read_csiq(folder: Path, options: dict) -> layout.Found:
    """CSIQ: a difference of opinions in 0..1, lower is better; 1600.AWGN.1.png is of 1600.png."""
    path = layout.find(folder, 'csiq.DMOS.xlsx')
    originals = layout.find(folder, 'src_imgs')
    images = layout.find(folder, 'dst_imgs', 'dst_imgs_all')
    table = layout.read_sheet(path, *HEADER, sheet='all_by_image')
    columns = {name: layout.column(table, name, where=path) for name in HEADER}
    kinds = [str(kind).strip().casefold() for kind in columns['dst_type']]
    if unknown := set(kinds) - set(TYPES):
        raise ValueError(f'{path} has dst_type {min(unknown)}; known are {", ".join(TYPES)}.')
    # Excel keeps the picture named 1600 as a number.
    refs = [str(int(x)) if isinstance(x, int | float) else str(x) for x in columns['image']]
    levels = layout.whole(columns['dst_lev'], 'dst_lev', path).tolist()
    names = [
        f'{ref}.{TYPES[kind][0]}.{level}'
        for ref, kind, level in zip(refs, kinds, levels, strict=True)
    ]
    files, reference_files = layout.pictures(images, deep=True), layout.pictures(originals)
    paths = [layout.lookup(files, f'{name}.png', images) for name in names]
    found = {ref: layout.lookup(reference_files, f'{ref}.png', originals) for ref in refs}
    rows = layout.rows(
        names,
        paths,
        ref_name=refs,
        reference=[found[ref] for ref in refs],
        opinion=layout.numbers(columns['dmos'], 'dmos', path),
        spread=layout.numbers(columns['dmos_std'], 'dmos_std', path),
        type=[TYPES[kind][1] for kind in kinds],
        level=levels,
    )
    extra = layout.unlisted(files | reference_files, paths, found.values())
    return layout.Found(rows, [path], found, extra)
