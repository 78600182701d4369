"""How every stage begins: a plain config, its keys checked, its paths resolved."""

from typing import Any

from iqa_jax.data import manifest, records
from iqa_jax.images import guarded
from iqa_jax.runtime import paths, stages

# Keys whose values are paths, relative to config.root. What lies there enters a stage's fingerprint
# by digest and not by name, so a moved workdir stays up to date.
PATHS = {
    'manifest', 'scores', 'model', 'init_from', 'proxies', 'pairs', 'photo', 'rated', 'folder',
    'references', 'distorted', 'results', 'features', 'rated_scores', 'votes', 'texts',
}  # fmt: skip
NOT_PATHS = {'', 'imagenet'}


def begin(config: Any, keys: set[str]) -> tuple[dict, dict]:
    """Checks a stage's config and resolves its paths.

    Args:
      config: ConfigDict or dict with `task`, `root` ('' is the current directory) and `keys`.
      keys: every key the stage reads; each must be there, so that no default hides in code.

    Returns:
      (config with paths joined to root, what identifies the stage: the config without paths).

    Raises:
      ValueError: an unknown or a missing key, with the nearest known one; limits of decoding that
        cannot be.
    """
    plain = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    check_keys(plain, keys | {'task', 'root'}, 'config')
    root = plain.pop('root')
    if not isinstance(root, str | paths.Path):
        raise ValueError(f"config.root={root!r} must be a folder, or '' for the current one.")
    root = paths.as_path(root)
    plain.pop('task')
    given = _without_paths(plain)
    if 'decode' in plain:
        guarded.check(plain['decode'])
        given['decode'] = guarded.identity(plain['decode'])
    return _resolve(plain, root), given


def check_known(config: dict, keys: set[str], where: str) -> None:
    """Raises a ValueError for keys that are unknown."""
    stages.check_config(config, keys, where)


def check_keys(config: dict, keys: set[str], where: str) -> None:
    """Raises a ValueError for keys that are unknown or missing."""
    check_known(config, keys, where)
    if missing := sorted(keys - set(config)):
        raise ValueError(f'{where}.{missing[0]} is missing; set it in the config file.')


def unsigned_files(path: str) -> list:
    """(id, size, time) of files whose manifest has no digest, so that a changed one is seen."""
    columns = manifest.read(path)
    found = []
    for image_id, file, digest in zip(
        columns['image_id'], columns['file'], columns['sha256'], strict=True
    ):
        if file and not digest and records.exists(file):
            status = paths.as_path(records.path_of(file)).stat()
            found.append([image_id, status.st_size, status.st_mtime_ns])
    return found


def _resolve(value: Any, root: paths.Path, key: str = '') -> Any:
    if isinstance(value, dict):
        return {k: _resolve(v, root, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(v, root, key) for v in value]
    is_path = key in PATHS and isinstance(value, str) and value not in NOT_PATHS
    return str(paths.join(root, value)) if is_path else value


def _without_paths(value: Any, key: str = '') -> Any:
    if isinstance(value, dict):
        return {k: _without_paths(v, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(v, key) for v in value]
    is_path = key in PATHS and isinstance(value, str) and value not in NOT_PATHS
    return '' if is_path else value
