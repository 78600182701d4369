"""What parity of a backbone with its peer is measured by: equal weights, a photograph, numbers.

The weights are a function of each tensor's name and shape alone, so that nothing large is stored:
`golden/make_backbone_parity.py` gives them to the peer, `test_parity.py` to ours.
"""

import hashlib
import json
import math
import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / 'golden'
ARCHIVE = GOLDEN / 'backbone_parity.npz'
TOLERANCE = 1e-4  # of the root mean square of the peer's map
PROBES = 16
# Odd sides that become odd and even ones on the way down, so that every rule of padding shows.
CROP = (slice(20, 103), slice(40, 147))


def photo() -> np.ndarray:
    """A crop of a photograph, float32 [1, 83, 107, 3] in [0, 1]."""
    pixels = np.asarray(Image.open(GOLDEN / 'photos/palace.png').convert('RGB'))
    return pixels[CROP][None].astype(np.float32) / 255


def _uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Float32 from the raw Philox stream, which NumPy promises never to change."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], 'little')
    raw = np.random.Philox(key=key).random_raw(math.prod(shape))
    unit = (raw >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    return (low + (high - low) * unit).astype(np.float32).reshape(shape)


def random_state(
    shapes: Mapping[str, tuple[int, ...]], outputs_axis: int = 0
) -> dict[str, np.ndarray]:
    """Weights by a file's tensor names: He-scaled kernels and statistics that are not trivial.

    `outputs_axis` is where kernels have their output channels: 0 in torch's files, -1 in Keras's.
    """
    state = {}
    for name, shape in shapes.items():
        leaf = name.rsplit('/', 1)[-1].rsplit('.', 1)[-1].split(':')[0]
        if leaf == 'num_batches_tracked':
            state[name] = np.zeros(shape, np.int64)
        elif len(shape) > 1:
            limit = math.sqrt(6 * shape[outputs_axis] / math.prod(shape))
            state[name] = _uniform(name, shape, -limit, limit)
        elif leaf in ('running_var', 'moving_variance'):
            # Larger than what comes in: otherwise 20 blocks with ReLU6 are chaotic and float32
            # and float64 of one program differ by more than the tolerance.
            state[name] = _uniform(name, shape, 0.75, 2.25)
        elif leaf in ('weight', 'gamma'):
            state[name] = _uniform(name, shape, 0.5, 1.5)
        else:
            state[name] = _uniform(name, shape, -0.3, 0.3)
    return state


def summary(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of every map [1,H,W,C]: root mean square, H, W, C and 3 x 16 values, float32 [52].

    They are means and standard deviations of evenly chosen channels and evenly chosen pixels, the
    first and the last one included.
    """
    result = {}
    for name, x in maps.items():
        x = np.asarray(x, np.float64)[0]
        channels = x[..., _even(x.shape[-1])].reshape(-1, PROBES)
        pixels = x.ravel()[_even(x.size)]
        head = [math.sqrt(np.square(x).mean()), *x.shape]
        parts = [head, channels.mean(0), channels.std(0), pixels]
        result[name] = np.concatenate(parts).astype(np.float32)
    return result


def _even(size: int) -> np.ndarray:
    return np.linspace(0, size - 1, PROBES).round().astype(int)


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of two summaries of one map over the root mean square of the peer's."""
    assert tuple(ours[1:4]) == tuple(theirs[1:4]), 'the maps differ in shape'
    return float(np.abs(ours - theirs)[[0, *range(4, len(ours))]].max() / theirs[0])


def write(
    peers: Mapping[str, tuple[Mapping[str, tuple[int, ...]], Mapping[str, np.ndarray]]],
    archive: pathlib.Path = ARCHIVE,
) -> None:
    """Stores (shapes of the tensors, summaries of the maps) of every peer, older ones replaced."""
    stored = dict(np.load(archive)) if archive.exists() else {}
    for peer, (shapes, maps) in peers.items():
        stored[f'{peer}/shapes'] = np.array(json.dumps({k: list(v) for k, v in shapes.items()}))
        stored[f'{peer}/maps'] = np.array(list(maps))
        stored[f'{peer}/values'] = np.stack(list(maps.values()))
    np.savez_compressed(archive, **stored)


def read(
    peer: str, archive: pathlib.Path = ARCHIVE
) -> tuple[dict[str, tuple[int, ...]], dict[str, np.ndarray]]:
    """What `write` stored of a peer."""
    with np.load(archive) as stored:
        shapes = json.loads(str(stored[f'{peer}/shapes']))
        maps = dict(zip(stored[f'{peer}/maps'].tolist(), stored[f'{peer}/values'], strict=True))
    return {name: tuple(shape) for name, shape in shapes.items()}, maps
