"""A KADIS-like data set by Apache Beam on a cluster, and as a tfds data set.

Beam's workers make the same shards as any other run, in a folder that all of them see; the tfds
data set is written from the joined rows, in this process or by Beam.
"""

import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from iqa_jax.data import shards, tables
from iqa_jax.data.databases import builder
from iqa_jax.runtime import artifacts

LOCAL = 'local'  # the runner that is no Beam runner
NAME = 'kadis_like'
ROWS_AT_ONCE = 64
TEXT, NUMBERS = ('image_id', 'ref_id'), ('type', 'level', 'seed')


def make_shards(
    groups: list[list[shards.Photo]],
    marks: list[str],
    settings: dict,
    workdir: Path,
    runner: str,
    options: list[str],
) -> None:
    """Makes all shards with Beam; a shard that is there is not made again.

    Args:
      groups: the photographs of each shard; their files are where every worker finds them.
      marks: of each shard, see `shards.make`.
      settings: see `shards.make`.
      workdir: a folder that every worker shares.
      runner: a Beam runner such as 'DirectRunner' or 'DataflowRunner'.
      options: command-line options of the runner.

    Raises:
      ValueError: Beam is not installed.
    """
    beam, options = _beam(runner, options)
    work = [(index, photos, marks[index]) for index, photos in enumerate(groups)]
    make = functools.partial(_make, settings=settings, workdir=workdir)
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = pipeline | beam.Create(work) | beam.Reshuffle() | beam.Map(make)


def folder(workdir: Path, mark: str) -> Path:
    """Where the tfds data set of a run lies."""
    return workdir / 'tfds' / mark[:16] / NAME / builder.VERSION


def is_written(workdir: Path, mark: str) -> bool:
    """Whether the tfds data set of a run is complete."""
    return (folder(workdir, mark) / 'dataset_info.json').is_file()


def write(
    columns: tables.Table,
    values: dict[str, np.ndarray],
    workdir: Path,
    mark: str,
    runner: str,
    options: list[str],
) -> None:
    """Writes the rows as ArrayRecord files of a tfds data set with the splits of the manifest.

    Every example has `image` (bytes of its file, or of the PNG that its recipe makes), image_id,
    ref_id, type, level, seed and the values.

    Args:
      columns: manifest rows, their files resolved.
      values: name -> float32 [N], such as raw and equalised scores.
      workdir: of the run; the data set goes to `folder`.
      mark: fingerprint of the run.
      runner: 'local' or a Beam runner.
      options: command-line options of the Beam runner.

    Raises:
      ValueError: Beam is asked for and not installed.
    """
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig()
    if runner != LOCAL:
        _, options = _beam(runner, options)
        config = tfds.download.DownloadConfig(beam_runner=runner, beam_options=options)
    place = str(folder(workdir, mark).parents[1])
    made = _builder_class()(columns, values, runner, data_dir=place)
    made.download_and_prepare(download_config=config)


def _make(work: tuple[int, list[shards.Photo], str], settings: dict, workdir: Path) -> None:
    index, photos, mark = work
    # A runner may start the same work twice at once.
    with artifacts.writing_as(f'{socket.gethostname()}-{os.getpid()}'):
        shards.make(photos, settings, workdir, index, mark)


def _examples(part: tuple[tables.Table, dict[str, np.ndarray]]) -> Iterator[tuple[str, dict]]:
    columns, values = part
    for row, (image_id, example) in enumerate(builder.examples(columns)):
        found = {key: example[key] for key in ('image', *TEXT)}
        found |= {key: int(columns[key][row]) for key in NUMBERS}
        yield image_id, found | {key: float(column[row]) for key, column in values.items()}


def _beam(runner: str, options: list[str]) -> tuple[Any, Any]:
    """Apache Beam and its pipeline options."""
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError(
            f"config.tfds_runner={runner!r} needs Apache Beam; install the extra 'beam', or use "
            f"config.tfds_runner='{LOCAL}'."
        ) from error
    return beam, PipelineOptions(options)


@functools.cache
def _builder_class() -> type:
    # Importing tfds takes half a second that only this needs.
    import tensorflow_datasets as tfds

    class KadisLike(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Distorted photographs with full-reference scores."""

        VERSION = tfds.core.Version(builder.VERSION)

        def __init__(self, columns, values, runner, **kwargs):
            self._columns, self._values, self._runner = columns, values, runner
            super().__init__(file_format='array_record', **kwargs)

        def _info(self):
            features = {'image': tfds.features.Image(shape=(None, None, 3))}
            features |= {name: tfds.features.Text() for name in TEXT}
            features |= {name: tfds.features.Scalar(np.int64) for name in NUMBERS}
            features |= {name: tfds.features.Scalar(np.float32) for name in self._values}
            return tfds.core.DatasetInfo(
                builder=self,
                description=self.__doc__,
                features=tfds.features.FeaturesDict(features),
            )

        def _split_generators(self, dl_manager):
            there = [s for s in builder.SPLITS if s in self._columns['split']]
            return {split: self._generate_examples(split) for split in there}

        def _generate_examples(self, split):
            rows = np.flatnonzero(self._columns['split'] == split)
            chunks = np.split(rows, range(ROWS_AT_ONCE, len(rows), ROWS_AT_ONCE))
            parts = [
                (tables.select(self._columns, chunk), tables.select(self._values, chunk))
                for chunk in chunks
            ]
            if self._runner == LOCAL:
                return (example for part in parts for example in _examples(part))
            import apache_beam as beam

            return beam.Create(parts) | beam.Reshuffle() | beam.FlatMap(_examples)

    KadisLike.name = NAME
    return KadisLike
