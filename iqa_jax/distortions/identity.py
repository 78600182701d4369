"""What a recipe rests on beside its own columns: the code, libraries and device that make it."""

import functools
import hashlib
from pathlib import Path

import jax

from iqa_jax.runtime import artifacts

FOLDERS = ('distortions', 'images')
SUFFIXES = ('.py', '.npz')
LIBRARIES = ('jax', 'jaxlib', 'numpy', 'pillow')


@functools.cache
def identity() -> dict[str, str]:
    """Digest of the code and weights, versions, and the kind of device; equal means equal bytes."""
    package = Path(__file__).resolve().parents[1]
    files = [file for name in FOLDERS for file in (package / name).rglob('*')]
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.suffix in SUFFIXES):
        digest.update(f'{file.relative_to(package)}\0'.encode() + file.read_bytes())
    versions = {name: artifacts.versions()[name] for name in LIBRARIES}
    return versions | {'code': digest.hexdigest(), 'device': jax.default_backend()}
