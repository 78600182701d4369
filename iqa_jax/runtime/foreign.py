"""Files without a record: those of other programs are used as they are, ours count as damaged."""

from iqa_jax.runtime import artifacts, paths

STAGE = 'stage.json'  # marks a stage as done; its record lists what the stage has written
LEVELS = 3  # folders above a file in which the stage that wrote it may stand


def is_foreign(path: paths.AnyPath) -> bool:
    """Whether a file is there without a record because another program wrote it.

    Raises:
      artifacts.DamagedArtifact: a stage wrote it, so the record was lost and its bytes may be any.
    """
    path = paths.as_path(path).absolute()
    if not path.is_file() or artifacts.sidecar_path(path).is_file():
        return False
    folder = path
    for _ in range(LEVELS):
        folder = folder.parent
        if _lists(folder / STAGE, paths.relative(path, folder)):
            raise artifacts.DamagedArtifact(
                f'{path} was written by the stage of {folder}, but its record '
                f'{artifacts.sidecar_path(path).name} is gone, so its content cannot be trusted: '
                'put that back or run the stage again; a copy in another folder is used as it is.'
            )
    return True


def _lists(summary: paths.Path, name: str) -> bool:
    """Whether a stage wrote the file of that name, as far as can be known."""
    if not summary.is_file():
        return False
    try:
        return name in artifacts.meta(summary)['meta'].get('outputs', ())
    except (artifacts.MissingArtifact, artifacts.DamagedArtifact):
        return True  # nobody can say any more
