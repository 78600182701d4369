"""Any imported database as a TensorFlow Datasets builder that writes ArrayRecord files.

TensorFlow is not needed: images go in as encoded bytes, and `as_data_source` reads them back.
"""

import contextlib
import io as streams
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iqa_jax.data import records, tables
from iqa_jax.data.databases.registry import Database
from iqa_jax.data.store import ImageStore
from iqa_jax.images import io

VERSION = '1.0.0'
SPLITS = ('train', 'val', 'test', 'pool')
NUMBERS = {'mos': np.float32, 'mos_std': np.float32, 'votes': np.int32}
NUMBERS |= {'type': np.int32, 'level': np.int32}
MADE_AT_ONCE = 16  # recipes of one call, so that images of one type are distorted together


def make(database: Database, columns: tables.Table, name: str, folder: Path) -> Any:
    """A `tfds.core.GeneratorBasedBuilder` of the rows of a manifest.

    Args:
      database: row of the registry, for description and citation.
      columns: manifest rows, their files resolved; recipes are made and stored as PNG.
      name: of the data set, letters, digits and `_`.
      folder: the data set is written below it, as NAME/1.0.0.

    Returns:
      The builder; `download_and_prepare()` writes and `as_data_source(split)` reads. Splits without
      rows are left out.

    Raises:
      ValueError: TensorFlow Datasets does not take the name.
    """
    check_name(name)
    import tensorflow_datasets as tfds  # half a second that only this function needs

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()

    class RatedImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> tfds.core.DatasetInfo:
            features = {'image': tfds.features.Image(shape=(None, None, 3))}
            features |= {key: tfds.features.Text() for key in ('image_id', 'ref_id')}
            features |= {key: tfds.features.Scalar(dtype) for key, dtype in NUMBERS.items()}
            return tfds.core.DatasetInfo(
                builder=self,
                description=f'{database.title}; mos is 0..100, higher is better.',
                features=tfds.features.FeaturesDict(features),
                homepage=database.homepage or None,
                citation=database.citation or None,
            )

        def _split_generators(self, manager: tfds.download.DownloadManager) -> dict:
            there = set(columns['split'].tolist())
            return {split: self._generate_examples(split) for split in SPLITS if split in there}

        def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
            yield from examples(tables.select(columns, columns['split'] == split))

    RatedImages.name = name
    return RatedImages(data_dir=folder, file_format='array_record')


def check_name(name: str) -> None:
    """Raises a ValueError for a name that TensorFlow Datasets does not take."""
    if not re.fullmatch(r'[a-z][a-z0-9_]*', name):
        raise ValueError(
            f'{name!r} cannot name a data set; use small letters, digits and _ in config.database.'
        )


def write(database: Database, columns: tables.Table, name: str, folder: Path) -> Path:
    """Writes the data set anew, whatever was there, and returns its folder."""
    builder = make(database, columns, name, folder)
    shutil.rmtree(builder.data_path, ignore_errors=True)
    with contextlib.redirect_stdout(streams.StringIO()):  # it speaks of downloads; there are none
        builder.download_and_prepare()
    return Path(builder.data_path)


def examples(columns: tables.Table) -> Iterator[tuple[str, dict]]:
    """(image_id, features) of each row; `image` is its file's bytes or, of recipes, a PNG.

    A file that plain decoders show otherwise than this program does also becomes a PNG: a turned
    photograph (EXIF), a palette, one or four channels.

    Raises:
      images.io.ImageError: a file is missing, undecodable or not the one of the manifest.
    """
    store = ImageStore(columns)
    for first in range(0, len(store), MADE_AT_ONCE):
        rows = range(first, min(first + MADE_AT_ONCE, len(store)))
        made = dict.fromkeys(row for row in rows if not columns['file'][row])
        made = dict(zip(made, store.load(list(made)), strict=True))
        for row in rows:
            image_id = columns['image_id'][row]
            data = io.encode_png(made[row]) if row in made else _bytes(columns, row)
            example = {'image': data, 'image_id': image_id, 'ref_id': columns['ref_id'][row]}
            yield image_id, example | {key: columns[key][row] for key in NUMBERS}


def _bytes(columns: tables.Table, row: int) -> bytes:
    file, digest = columns['file'][row], columns['sha256'][row]
    data = records.read(file)
    if digest and io.sha256(data) != digest:
        raise io.ImageError(f'{file} changed while it was imported; run the same command again.')
    try:
        pixels = io.decode(data)
    except io.ImageError as error:
        said = str(error).replace('image data', file)
        raise io.ImageError(f"{said}; config.check='decode' leaves such files out") from None
    with Image.open(streams.BytesIO(data)) as image:
        same = np.array_equal(np.asarray(image), pixels)
    return data if same else io.encode_png(pixels)
