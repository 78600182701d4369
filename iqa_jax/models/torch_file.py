"""Read the tensors of a torch .pth file without torch, through an unpickler that runs nothing."""

import collections
import io
import math
import pickle
import pickletools
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

    @classmethod
    def rebuild(cls, storage, offset, shape, strides, *_) -> '_Tensor':
        """What torch._utils._rebuild_tensor_v2 becomes here: a description, no memory yet."""
        if not isinstance(storage, _Storage):
            raise ValueError('a tensor in the weight file has no storage')
        return cls(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))

    @classmethod
    def parameter(cls, data, *_) -> '_Tensor':
        """What torch._utils._rebuild_parameter becomes here: the tensor inside."""
        return data


# Storage types stand for themselves as plain strings: nothing a file could call or change.
ALLOWED = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor_v2'): _Tensor.rebuild,
    ('torch._utils', '_rebuild_parameter'): _Tensor.parameter,
    **{('torch', name): name for name in DTYPES},
}


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows the handful of names a state dict needs; anything else in the file is refused."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

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
            raise ValueError('the weight file refers to an unknown object')
        _, kind, key, _, size = pid[:5]
        if kind not in DTYPES or not isinstance(size, int) or size < 0:
            raise ValueError('the weight file describes a storage wrongly')
        return self.storages.setdefault(str(key), _Storage(str(key), DTYPES[kind], size))


def _load(file: BinaryIO) -> Any:
    """One pickle from the file; every failure is a ValueError with a sentence."""
    return _load_with_storages(file)[0]


def _load_with_storages(file: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """One pickle, and every storage that anything in it refers to."""
    unpickler, start = _RestrictedUnpickler(file), file.tell()
    try:
        # A false number of a remembered object makes the unpickler reserve room up to it.
        for number, (code, argument, _) in enumerate(pickletools.genops(file)):
            if code.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and argument > number:
                raise ValueError('the weight file remembers an object by a false number')
        file.seek(start)
        return unpickler.load(), unpickler.storages
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
    if math.prod(tensor.shape) > data.size or (0 not in tensor.shape and last >= data.size):
        raise ValueError(f'tensor {name!r} reaches past the end of its storage')
    strides = [stride * data.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides)
    return np.array(view, order='C')


def _read_legacy(file: BinaryIO) -> tuple[Any, dict[str, memoryview]]:
    """Magic number, protocol, system information, object, storage keys, then raw storages."""
    if _load(file) != LEGACY_MAGIC or _load(file) != LEGACY_PROTOCOL:
        raise ValueError('the weight file is neither a zip nor a legacy torch file')
    system = _load(file)
    if not isinstance(system, dict) or system.get('little_endian') is not True:
        raise ValueError('the weight file is big-endian, which this reader does not know')
    (saved, storages), keys = _load_with_storages(file), _load(file)
    state = _state_dict(saved)
    if not isinstance(keys, list) or not all(str(key) in storages for key in keys):
        raise ValueError('the weight file lists storages that no tensor uses')
    raw, rest = {}, memoryview(file.read())  # whole: a false size cannot ask for more
    for key in keys:
        size = int.from_bytes(rest[:8], 'little') * storages[str(key)].dtype.itemsize
        raw[str(key)], rest = rest[8 : 8 + size], rest[8 + size :]
    return state, raw


def _read_zip(file: BinaryIO) -> tuple[Any, dict[str, memoryview]]:
    """A zip with <name>/data.pkl and one uncompressed member <name>/data/<key> per storage."""
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError('the weight file is a zip without one data.pkl: not a torch file')
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError('the weight file has compressed members, which torch never writes')
        root = pickles[0].removesuffix('data.pkl')
        order = f'{root}byteorder'
        if order in archive.namelist() and archive.read(order).strip() != b'little':
            raise ValueError('the weight file is big-endian, which this reader does not know')
        state = _state_dict(_load(io.BytesIO(archive.read(pickles[0]))))
        keys = {tensor.storage.key for tensor in state.values()}
        members = {f'{root}data/{key}': key for key in keys}
        present = set(archive.namelist()) & set(members)
        return state, {members[name]: memoryview(archive.read(name)) for name in present}


def _state_dict(saved: Any) -> dict[str, _Tensor]:
    """The tensors by name: what was saved, or its 'state_dict' where a training program saved more.

    Raises ValueError when the file holds something else.
    """
    if isinstance(saved, dict) and isinstance(saved.get('state_dict'), dict):
        saved = saved['state_dict']
    if not isinstance(saved, dict) or not all(isinstance(v, _Tensor) for v in saved.values()):
        raise ValueError('the weight file does not hold a flat state dict of tensors')
    return saved


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by name from a .pth file of either torch format; ValueError says what is wrong."""
    with open(path, 'rb') as file:
        reader = _read_zip if zipfile.is_zipfile(file) else _read_legacy
        file.seek(0)
        try:
            state, raw = reader(file)
            return {name: _array(name, tensor, raw) for name, tensor in state.items()}
        except (ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(f'{path}: {error}') from error
        except EOFError as error:  # of a member that the zip declares longer than the file is
            raise ValueError(f'{path}: the weight file ends too early') from error


def _array(name: str, tensor: _Tensor, raw: dict[str, memoryview]) -> np.ndarray:
    """One tensor as a compact array, with the bounds of its view checked first."""
    storage = tensor.storage
    data = raw.get(storage.key, memoryview(b''))
    if len(data) != storage.size * storage.dtype.itemsize:
        raise ValueError(f'the storage of tensor {name!r} is missing or has another size')
    return _view(tensor, np.frombuffer(data, storage.dtype), name)
