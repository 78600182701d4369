"""A KADIS-like data set as a tfds data set, made in this process or by Apache Beam on a cluster.

Either way the work is `shards.make`: a shard that is there is not made again, and what Beam leaves
in the shared folder is joined like the shards of any other run.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from iqa_jax.data import records, shards, tables

LOCAL = 'local'  # the runner that is no Beam runner
SPLIT = 'images'  # tfds reserves `all`; the split of a photograph is a column of the manifest


def build(
    groups: list[list[shards.Photo]],
    marks: list[str],
    settings: dict,
    workdir: Path,
    mark: str,
    runner: str,
    options: list[str],
) -> None:
    """Makes all shards and writes them as ArrayRecord files of a tfds data set under tfds/.

    Every example has image_id, ref_id, type, level, seed, one float per metric and, where pictures
    are kept, `image` (its file's bytes).

    Args:
      groups: the photographs of each shard; their files are where every worker finds them.
      marks: of each shard, see `shards.make`.
      settings: see `shards.make`.
      workdir: a folder that every worker shares.
      mark: fingerprint of the data set, names its folder.
      runner: 'local', or a Beam runner such as 'DirectRunner' or 'DataflowRunner'.
      options: command-line options of the Beam runner.

    Raises:
      ValueError: Beam is asked for and not installed.
    """
    work = [(index, photos, marks[index]) for index, photos in enumerate(groups)]
    make = functools.partial(examples, settings=settings, workdir=workdir)
    builder = _builder_class()(make, work, settings, runner, data_dir=str(workdir / 'tfds' / mark))
    builder.download_and_prepare(download_config=_download_config(runner, options))


def examples(
    item: tuple[int, list[shards.Photo], str], settings: dict, workdir: Path
) -> list[tuple[str, dict]]:
    """Makes one shard, or finds it made, and gives its rows as (image_id, example)."""
    index, photos, mark = item
    shards.make(photos, settings, workdir, index, mark)
    return list(_examples_of(tables.read(shards.path_of(workdir, index))[0], settings, workdir))


def _examples_of(
    table: tables.Table, settings: dict, workdir: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in range(len(table.get('image_id', []))):
        example = {name: table[name][row] for name in ('image_id', 'ref_id')}
        example |= {name: int(table[name][row]) for name in ('type', 'level', 'seed')}
        example |= {name: float(table[name][row]) for name in settings['metrics']}
        if settings['images'] != 'recipe':
            example['image'] = records.read(workdir / table['file'][row])
        yield example['image_id'], example


def _download_config(runner: str, options: list[str]) -> Any:
    import tensorflow_datasets as tfds

    if runner == LOCAL:
        return tfds.download.DownloadConfig()
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError(
            f"config.tfds_runner={runner!r} needs Apache Beam; install the extra 'beam', or use "
            f"config.tfds_runner='{LOCAL}'."
        ) from error
    return tfds.download.DownloadConfig(beam_runner=runner, beam_options=PipelineOptions(options))


@functools.cache
def _builder_class() -> type:
    # Importing tfds takes a second that only this needs.
    import tensorflow_datasets as tfds

    class KadisLike(tfds.core.GeneratorBasedBuilder):
        """Distorted photographs with full-reference scores."""

        VERSION = tfds.core.Version('1.0.0')

        def __init__(self, make, work, settings, runner, **kwargs):
            self._make, self._work, self._runner = make, work, runner
            self._settings = settings
            super().__init__(file_format='array_record', **kwargs)

        @classmethod
        def get_metadata(cls):
            # tfds would look for description files in the folder of this module.
            return tfds.core.dataset_metadata.DatasetMetadata(
                description=cls.__doc__, citation='', tags=[]
            )

        def _info(self):
            features = {name: tfds.features.Text() for name in ('image_id', 'ref_id')}
            features |= {name: tfds.features.Scalar(np.int64) for name in ('type', 'level', 'seed')}
            features |= {
                name: tfds.features.Scalar(np.float32) for name in self._settings['metrics']
            }
            if self._settings['images'] != 'recipe':
                form = 'png' if self._settings['images'] == 'png' else None
                features['image'] = tfds.features.Image(shape=(None, None, 3), encoding_format=form)
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {SPLIT: self._generate_examples()}

        def _generate_examples(self):
            if self._runner == LOCAL:
                return (example for item in self._work for example in self._make(item))
            import apache_beam as beam

            return beam.Create(self._work) | beam.Reshuffle() | beam.FlatMap(self._make)

    return KadisLike
