"""gallery: one photograph at every level of every distortion -> one picture to look at."""

import time

import numpy as np

from iqa_jax import distortions
from iqa_jax.data import kadis, sources
from iqa_jax.evaluation import figures_gallery, figures_pictures
from iqa_jax.images import io
from iqa_jax.runtime import artifacts, progress, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening

KEYS = {'photo', 'size', 'crop', 'types', 'levels', 'seed'}
BUNDLED = 'kitten'  # fine hair, strong edges, smooth colour


@sharing.on_main
def run(config: dict, workdir: str | Path) -> dict:
    """Writes gallery.png: centre crops of the distorted photograph, never resized.

    Returns:
      The summary: types, images, quarantined, seconds and the artifact.

    Raises:
      ValueError: an unknown type, a level outside 1..5, or a crop that is no part of the picture.
      images.io.ImageError: the photograph cannot be read or is smaller than config.size.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    rows = _types(config['types'])
    _check(config)
    path = _photo(config['photo'])
    name = sources.photo_ids([path], path.parent)[0]
    try:
        identity = [name, io.sha256(io.read_file(path))]
        photo = sources.load_photo(path, tuple(config['size']))
    except io.ImageError as error:
        raise io.ImageError(f'config.photo={path} cannot be shown: {error}') from None
    stage = stages.Stage('gallery', workdir, given | {'photo': identity})
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    drawn = []
    with progress.progress(total=len(rows), desc='gallery', unit='types') as bar:
        for row in rows:
            drawn.append(_row(row, photo, name, config))
            bar.update(1)
    height, width = config['crop']
    caption = [
        f'{name}, {photo.shape[1]}x{photo.shape[0]} pixels; shown are the middle {width}x{height}, '
        'not resized.',
        'Above each picture: the level and its value.',
        f'S: stochastic; each picture is one draw (seed {config["seed"]}).',
    ]
    reference = figures_pictures.centre_crop(photo, *config['crop'])
    picture = figures_gallery.draw(reference, caption, drawn)
    output = workdir / 'gallery.png'
    artifacts.commit(output, io.encode_png(picture, 9), fingerprint=stage.fingerprint)
    summary = {
        'types': len(rows),
        'images': len(rows) * len(config['levels']),
        'quarantined': 0,
        'seconds': time.monotonic() - start,
        'headline': f'{name} in {picture.shape[1]}x{picture.shape[0]} pixels',
        'artifact': output.name,
    }
    return stage.finish(summary, [output])


def _types(names: tuple[str | int, ...]) -> list[distortions.Distortion]:
    """Registry rows by number; () is all there are."""
    rows = [distortions.get(name) for name in names] or list(distortions.DISTORTIONS.values())
    return sorted(rows, key=lambda row: row.number)


def _photo(path: str) -> Path:
    """The file to show; '' is a bundled one."""
    if path:
        return as_path(path)
    return next(file for file in sources.photo_files('') if file.stem == BUNDLED)


def _check(config: dict) -> None:
    if not config['levels']:
        raise ValueError('config.levels is empty; name at least one level.')
    for name, side, whole in zip(('height', 'width'), config['crop'], config['size'], strict=True):
        if not 1 <= side <= whole:
            raise ValueError(
                f'config.crop has {name} {side}; it must be from 1 to {whole}, that of config.size.'
            )


def _row(row: distortions.Distortion, photo: np.ndarray, name: str, config: dict) -> dict:
    """What `figures_gallery.draw` takes of one type."""
    levels = np.array(config['levels'])
    # The seeds of make_data: a data set of this photograph and seed has these very pictures.
    seeds = [kadis.image_seed(config['seed'], name, row.number, int(level)) for level in levels]
    images = distortions.distort_batch(
        np.stack([photo] * len(levels)), row.number, levels, np.array(seeds)
    )
    return {
        'label': f'{row.number} {row.name}',
        'stochastic': row.stochastic,
        'values': [f'level {level}: {row.levels[level - 1]:g}' for level in levels],
        'images': [figures_pictures.centre_crop(image, *config['crop']) for image in images],
    }
