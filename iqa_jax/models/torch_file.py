"""Read the tensors of a torch .pth file without torch, through an unpickler that runs nothing."""

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
DTYPES = {
    'FloatStorage': np.dtype('<f4'),
    'DoubleStorage': np.dtype('<f8'),
    'HalfStorage': np.dtype('<f2'),
    'LongStorage': np.dtype('<i8'),
    'IntStorage': np.dtype('<i4'),
}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError('a tensor in the weight file has no storage')
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


ALLOWED = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
    **{('torch', name): dtype for name, dtype in DTYPES.items()},
}


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows the handful of names a state dict needs; anything else in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise ValueError(
                f'the weight file wants to load {module}.{name}, which a file of plain tensors '
                'never needs; it was refused'
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != 'storage':
            raise ValueError(f'the weight file refers to an unknown object {pid!r}')
        _, dtype, key, _, size = pid[:5]
        if not isinstance(dtype, np.dtype) or not isinstance(size, int) or size < 0:
            raise ValueError(f'the weight file describes a storage wrongly: {pid!r}')
        return _Storage(str(key), dtype, size)


def _load(file: BinaryIO) -> Any:
    """One pickle from the file; every failure is a ValueError with a sentence."""
    try:
        return _RestrictedUnpickler(file).load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f'the weight file is not a readable torch file ({error!r})') from error


def _view(tensor: _Tensor, data: np.ndarray, name: str) -> np.ndarray:
    """The strided view of a storage as a compact array, with the bounds checked first."""
    pairs = list(zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset < 0 or any(size < 0 or stride < 0 for size, stride in pairs):
        raise ValueError(f'tensor {name!r} has a negative size, stride or offset')
    last = tensor.offset + sum((size - 1) * stride for size, stride in pairs)
    if 0 not in tensor.shape and last >= data.size:
        raise ValueError(f'tensor {name!r} reaches past the end of its storage')
    strides = [stride * data.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides)
    return np.array(view, order='C')


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """Magic number, protocol, system information, object, storage keys, then raw storages."""
    if _load(file) != LEGACY_MAGIC or _load(file) != LEGACY_PROTOCOL:
        raise ValueError('the weight file is neither a zip nor a legacy torch file')
    if not _load(file).get('little_endian'):
        raise ValueError('the weight file is big-endian, which this reader does not know')
    state, keys = _load(file), _load(file)
    storages = {storage.key: storage for storage in map(lambda t: t.storage, _tensors(state))}
    raw = {}
    for key in keys:
        size = int.from_bytes(file.read(8), 'little')
        if key not in storages or size != storages[key].size:
            raise ValueError(f'storage {key!r} of the weight file is unknown or has another size')
        raw[key] = file.read(size * storages[key].dtype.itemsize)
    return state, raw


def _read_zip(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """A zip with <name>/data.pkl and one uncompressed member <name>/data/<key> per storage."""
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError('the weight file is a zip without one data.pkl: not a torch file')
        root = pickles[0].removesuffix('data.pkl')
        order = f'{root}byteorder'
        if order in archive.namelist() and archive.read(order).strip() != b'little':
            raise ValueError('the weight file is big-endian, which this reader does not know')
        state = _load(io.BytesIO(archive.read(pickles[0])))
        raw = {}
        for tensor in _tensors(state):
            storage, member = tensor.storage, f'{root}data/{tensor.storage.key}'
            size = storage.size * storage.dtype.itemsize
            if member not in archive.namelist() or archive.getinfo(member).file_size != size:
                raise ValueError(f'storage {storage.key!r} of the weight file has another size')
            raw[storage.key] = archive.read(member)
    return state, raw


def _tensors(state: Any) -> list[_Tensor]:
    """The tensors of a flat state dict; raises ValueError when the file holds something else."""
    if not isinstance(state, dict) or not all(isinstance(v, _Tensor) for v in state.values()):
        raise ValueError('the weight file does not hold a flat state dict of tensors')
    return list(state.values())


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by name from a .pth file of either torch format; ValueError says what is wrong."""
    with open(path, 'rb') as file:
        reader = _read_zip if zipfile.is_zipfile(file) else _read_legacy
        file.seek(0)
        try:
            state, raw = reader(file)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
    arrays = {}
    for name, tensor in state.items():
        storage = tensor.storage
        if len(raw[storage.key]) != storage.size * storage.dtype.itemsize:
            raise ValueError(f'{path}: storage {storage.key!r} is cut short')
        arrays[name] = _view(tensor, np.frombuffer(raw[storage.key], storage.dtype), name)
    return arrays
