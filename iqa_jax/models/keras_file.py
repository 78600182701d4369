"""Read the arrays of a Keras .h5 file of either layout; nothing in the file is run or followed."""

import re
from pathlib import Path
from typing import Any

import numpy as np

AUTOMATIC = re.compile(r'(conv2d|batch_normalization)(?:_(\d+))?')
# Files that hold a whole model beside its weights, and what training left in them.
MODEL = 'model_weights/'
OPTIMIZER = re.compile(r'optimizer(_weights)?/')
DEEPEST = 16


def read_keras(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays by '<layer>/<weight>' from a Keras .h5 or .weights.h5 file.

    Keras numbers unnamed layers on through a session, so the number in a file says the order of
    creation and no more: convolutions and batch normalisations without a name of their own get
    their rank in front, '#0 conv2d_204/kernel'. Weights of .weights.h5 are '0', '1', ... in Keras's
    order; its layers are 'layers/conv2d_3' where an older Keras did not store their names. An
    optimizer's state is left out. ValueError says what is wrong with a file.
    """
    try:
        import h5py  # only who has such a file needs it
    except ImportError as error:
        raise ValueError(
            f"{path}: reading Keras files needs h5py, which is in the extra 'pretrained': "
            "pip install -e '.[pretrained]'"
        ) from error
    try:
        with h5py.File(path, 'r') as file:
            found = _arrays(file, h5py, '', DEEPEST)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    except (OSError, RuntimeError, KeyError, TypeError) as error:  # what HDF5 raises on damage
        raise ValueError(f'{path}: not a whole HDF5 file ({error})') from error
    if not found:
        raise ValueError(f'{path}: the file holds no weights')
    return _ranked(found)


def _arrays(group: Any, h5py: Any, prefix: str, depth: int) -> dict[tuple[str, str], np.ndarray]:
    """Arrays by (layer, weight) of a group and all groups in it."""
    if depth == 0:
        raise ValueError(f'groups are nested more than {DEEPEST} deep at {prefix}')
    found = {}
    for key in group:
        name = prefix + key
        if OPTIMIZER.match(f'{name}/'):
            continue
        # Soft and external links could name another file or close a circle; Keras writes none.
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f'{name} is a link, which a Keras file never needs; it was refused')
        entry = group[key]
        if isinstance(entry, h5py.Group):
            inside = _arrays(entry, h5py, f'{name}/', depth - 1)
        elif isinstance(entry, h5py.Dataset):
            inside = {_layer_and_weight(name, group): _array(entry, h5py, name)}
        else:
            raise ValueError(f'{name} is neither a group nor an array')
        if twice := found.keys() & inside.keys():
            raise ValueError(f'the file has {"/".join(min(twice))} twice')
        found |= inside
    return found


def _layer_and_weight(name: str, group: Any) -> tuple[str, str]:
    """('conv2d_1', 'kernel') of an array called `name` in the file, which lies in `group`."""
    if match := re.fullmatch(r'(?:layers|_layer_checkpoint_dependencies)/(.+)/vars/(\d+)', name):
        layer = group.attrs.get('name', f'layers/{match[1]}')
        return (layer.decode() if isinstance(layer, bytes) else str(layer)), match[2]
    # TensorFlow ends the names of variables in ':0'; between layer and weight are its name scopes.
    layer, _, rest = name.removeprefix(MODEL).partition('/')
    return layer, rest.rpartition('/')[2].removesuffix(':0')


def _array(entry: Any, h5py: Any, name: str) -> np.ndarray:
    """The values of an array that lies in one piece in this very file."""
    layout = entry.id.get_create_plist()
    plain = layout.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    # Pieces may be other files, or be compressed without bound; references point anywhere.
    if entry.dtype.kind not in 'fiu' or not plain or layout.get_external_count():
        raise ValueError(
            f'{name} is not stored as plain numbers, as Keras does ({entry.dtype}); it was refused'
        )
    if entry.id.get_storage_size() != entry.size * entry.dtype.itemsize:
        raise ValueError(f'{name} says it has {entry.size} values, but the file has others')
    return entry[()]


def _ranked(found: dict[tuple[str, str], np.ndarray]) -> dict[str, np.ndarray]:
    """Join layer and weight, with the rank of automatically named layers among their kind."""
    automatic = [AUTOMATIC.fullmatch(layer) for layer in dict.fromkeys(key[0] for key in found)]
    kinds: dict[str, list[tuple[int, str]]] = {}
    for match in filter(None, automatic):
        kinds.setdefault(match[1], []).append((int(match[2] or 0), match[0]))
    rank = {name: i for kind in kinds.values() for i, (_, name) in enumerate(sorted(kind))}
    return {
        f'#{rank[layer]} {layer}/{weight}' if layer in rank else f'{layer}/{weight}': array
        for (layer, weight), array in found.items()
    }
