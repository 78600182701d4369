"""What make_data starts from: a checked config, and the photographs of every shard."""

import re
from concurrent.futures import ThreadPoolExecutor

from iqa_jax import distortions, fr_metrics
from iqa_jax.data import equalise, kadis_builder, shards, sources
from iqa_jax.images import io
from iqa_jax.runtime import parallel, paths
from iqa_jax.runtime.paths import Path, as_path

READING_THREADS = 4
KINDS = dict.fromkeys(('types', 'levels', 'size', 'metrics'), (tuple, 'a list or a tuple'))
KINDS |= dict.fromkeys(('photos', 'images', 'equalisation', 'tfds_runner'), (str, 'text'))
KINDS |= dict.fromkeys(
    ('types_per_photo', 'photos_per_shard', 'knots', 'estimate_images'), (int, 'a whole number')
)


def settings(config: dict, workdir: Path) -> dict:
    """What shapes a shard, types as KADID numbers; a ValueError for what cannot be.

    Everything is checked here, before hours of work that would end in the same sentence.
    """
    for key, (kind, want) in KINDS.items():
        values = config[key] if kind is tuple else [config[key]]
        if not isinstance(values, list | tuple) or not all(
            isinstance(x, str | int if kind is tuple else kind) for x in values
        ):
            raise ValueError(f'config.{key}={config[key]!r} must be {want}.')
    names = config['types'] or distortions.DISTORTIONS
    numbers = sorted(distortions.get(t).number for t in names)
    for name in config['metrics']:
        fr_metrics.metric(name)
    if config['tfds_runner']:
        paths.require_local(workdir, 'tfds data sets are written to a disk (config.tfds_runner)')
    levels, size, photos = tuple(config['levels']), tuple(config['size']), config['photos']
    inside = photos and paths.is_inside(workdir, as_path(photos))
    for key, good, want in (
        ('types', len(set(numbers)) == len(numbers), 'each type once'),
        ('levels', set(levels) <= set(range(1, 6)) and len(set(levels)) == len(levels) > 0,
         'one or more of 1 to 5, each once'),
        ('size', len(size) in (0, 2) and all(type(x) is int and x > 0 for x in size),
         '(height, width), or () for every size'),
        ('images', config['images'] in shards.IMAGES, f'one of {", ".join(shards.IMAGES)}'),
        ('equalisation', config['equalisation'] in equalise.KINDS,
         f'one of {", ".join(equalise.KINDS)}'),
        ('types_per_photo', config['types_per_photo'] >= 0, '0 or more'),
        ('photos_per_shard', config['photos_per_shard'] >= 1, '1 or more'),
        ('knots', config['knots'] >= 2, '2 or more'),
        ('estimate_images', config['estimate_images'] >= 0, '0 or more'),
        ('photos', not inside, 'a folder that does not hold the workdir, whose pictures would be '
         'taken for photographs'),
        ('tfds_runner', not config['tfds_runner']
         or (not config['shard'] and parallel.process_count() == 1),
         "'' with config.shard and --distributed; ask for the tfds data set when all shards are "
         'there'),
        ('tfds_runner', not config['decode']['processes']
         or config['tfds_runner'] in ('', kadis_builder.LOCAL), "'' or 'local' with "
         'config.decode.processes, as the processes of Beam decode for themselves'),
    ):  # fmt: skip
        if not good:
            raise ValueError(f'config.{key}={config[key]!r} must be {want}.')
    return {key: config[key] for key in shards.SETTINGS} | {'types': numbers, 'size': size}


def photo_groups(config: dict) -> list[list[shards.Photo]]:
    """The photographs of each shard, in the order of their ids; none has been read."""
    files = sources.photo_files(config['photos'])
    by_id = dict(zip(sources.photo_ids(files, config['photos']), files, strict=True))
    photos = [shards.Photo(ref_id, by_id[ref_id], '', '') for ref_id in sorted(by_id)]
    for ref_id in by_id:
        original = re.sub(r'_\d\d_\d\d$', '', ref_id)
        if original != ref_id and original in by_id:
            raise ValueError(
                f'{by_id[ref_id]} has the name of a distorted version of {by_id[original]}; '
                'config.photos takes pristine photographs only, or rename it.'
            )
    size = config['photos_per_shard']
    return [photos[first : first + size] for first in range(0, len(photos), size)]


def identified(groups: list[list[shards.Photo]], mine: list[int]) -> list[list[shards.Photo]]:
    """The same with the SHA-256 of each file of the shards `mine`, or why it cannot be read."""

    def identify(photo: shards.Photo) -> shards.Photo:
        try:
            str(photo.file).encode()
        except UnicodeEncodeError:
            return photo._replace(refused='its name is not Unicode text; rename it')
        try:
            return photo._replace(sha256=io.sha256(io.read_file(photo.file)))
        except io.ImageError as error:
            # Without the path, so that a moved folder stays up to date.
            return photo._replace(refused=str(error).removeprefix(f'{photo.file} '))

    with ThreadPoolExecutor(READING_THREADS) as pool:
        found = {i: list(pool.map(identify, groups[i])) for i in mine}
    return [found.get(i, group) for i, group in enumerate(groups)]
