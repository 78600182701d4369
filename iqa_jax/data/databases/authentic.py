"""Photographs with the distortions of their cameras: BID, SPAQ and BIQ2021."""

from pathlib import Path

from iqa_jax.data import tables
from iqa_jax.data.databases import layout

BIQ_TABLES = {
    'train': ('Train (Images and MOS).csv', 'train_data.csv'),
    'test': ('Test (Images and MOS).csv', 'test_data.csv'),
}


def read_bid(folder: Path, options: dict) -> layout.Found:
    """BID: DatabaseGrades.xlsx and DatabaseImage0001.JPG and on; means of 0..5."""
    path = layout.find(folder, 'DatabaseGrades.xlsx')
    table = layout.read_sheet(path, 'Image Number', 'Average Subjective Grade')
    listed = layout.whole(layout.column(table, 'Image Number', where=path), 'Image Number', path)
    names = [f'DatabaseImage{number:04d}' for number in listed]
    spread = layout.column(table, 'std', 'Standard Deviation', where=path, optional=True)
    grades = layout.column(table, 'Average Subjective Grade', where=path)
    files = layout.pictures(folder, deep=True)
    paths = [layout.lookup(files, f'{name}.JPG', folder) for name in names]
    rows = layout.rows(
        names,
        paths,
        opinion=layout.numbers(grades, 'Average Subjective Grade', path),
        spread=layout.numbers(spread, 'std', path),
    )
    return layout.Found(rows, [path], unlisted=layout.unlisted(files, paths))


def read_spaq(folder: Path, options: dict) -> layout.Found:
    """SPAQ: Annotations/MOS and Image attribute scores.xlsx and TestImage/; means of 0..100."""
    name = 'MOS and Image attribute scores.xlsx'
    path = layout.find(folder, name, name.replace(' ', '_'))
    images = layout.find(folder, 'TestImage')
    table = layout.read_sheet(path, 'Image name', 'MOS')
    listed = [str(x) for x in layout.column(table, 'Image name', where=path)]
    files = layout.pictures(images)
    paths = [layout.lookup(files, name, images) for name in listed]
    rows = layout.rows(
        [layout.stem(name) for name in listed],
        paths,
        opinion=layout.numbers(layout.column(table, 'MOS', where=path), 'MOS', path),
    )
    return layout.Found(rows, [path], unlisted=layout.unlisted(files, paths))


def read_biq2021(folder: Path, options: dict) -> layout.Found:
    """BIQ2021: a CSV for each of the official sets train and test, and Images/; means of 0..1.

    The authors' two CSVs have names and MOS alone; a column of deviations is read where there is
    one. How many people rated an image they do not say.
    """
    images = layout.find(folder, 'Images')
    files = layout.pictures(images)
    parts, sources = [], []
    for split, names in BIQ_TABLES.items():
        path = layout.find(folder, *names)
        table = layout.read_csv(path)
        listed = layout.column(table, 'Image Name', 'Images', 'image', 'file', where=path)
        std = ('Standard Deviation', 'Std', 'SD', 'Image SD')
        spread = layout.column(table, *std, where=path, optional=True)
        mos = layout.numbers(layout.column(table, 'MOS', where=path), 'MOS', path)
        part = layout.rows(
            [layout.stem(name) for name in listed],
            [layout.lookup(files, name, images) for name in listed],
            opinion=mos,
            spread=layout.numbers(spread, 'standard deviation', path),
            split=[split] * len(listed),
        )
        parts.append(part)
        sources.append(path)
    rows = tables.concatenate(parts)
    return layout.Found(rows, sources, unlisted=layout.unlisted(files, rows['file'].tolist()))
