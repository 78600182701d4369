"""Waterloo Exploration: pristine_images/, without opinions."""

from pathlib import Path

from iqa_jax.data.databases import layout


def read_waterloo(folder: Path, options: dict) -> layout.Found:
    """Waterloo Exploration: every picture of pristine_images/ is a pristine image of the pool.

    Its distorted versions are made by a program of the authors and have no opinions; make_data with
    `config.photos` on this folder makes such a set.
    """
    images = layout.find(folder, 'pristine_images')
    paths = sorted(set(layout.pictures(images).values()))
    if not paths:
        raise ValueError(f'{images} holds no picture.')
    n = len(paths)
    rows = layout.rows([p.stem for p in paths], paths, type=[0] * n, split=['pool'] * n)
    return layout.Found(rows, [])
