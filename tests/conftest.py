"""Tests run on the CPU, offline, from fixed seeds; compiled programs are kept between runs."""

import os
import pathlib
import signal

# Before JAX is imported anywhere; child processes of tests inherit it.
os.environ['JAX_PLATFORMS'] = 'cpu'
_CACHE = pathlib.Path(__file__).resolve().parents[1] / '.pytest_cache' / 'jax'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
# A background job of a shell ignores Ctrl-C, and so would the programs that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

HEIGHT, WIDTH = 96, 128


@pytest.fixture(autouse=True)
def _seeds():
    """The global NumPy generator starts equal for every test; ours take explicit seeds."""
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of four photo-like PNG files, 96x128: smooth shading, edges and texture."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for seed in range(4):
        Image.fromarray(_photo(seed)).save(folder / f'photo{seed}.png')
    return folder


def _photo(seed: int) -> np.ndarray:
    """uint8 [96, 128, 3]: a horizon, shaded discs before it and grain that grows downwards."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    sky, ground = rng.uniform(90, 230, 3), rng.uniform(30, 150, 3)
    slope = np.clip(y / HEIGHT + 0.05 * np.sin(x / rng.uniform(8, 20)), 0, 1)[..., None]
    image = sky * (1 - slope) + ground * slope
    for _ in range(5):
        cy, cx, radius = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), rng.uniform(8, 26)
        distance = np.hypot(y - cy, x - cx)[..., None] / radius
        disc = rng.uniform(20, 240, 3) * (1.1 - 0.5 * distance)
        image = np.where(distance < 1, disc, image)
    wave = np.sin(x * rng.uniform(0.5, 1.5)) * np.sin(y * rng.uniform(0.5, 1.5))
    grain = rng.normal(0, 1, (HEIGHT, WIDTH, 1)) * 6 + wave[..., None] * 10
    return np.clip(np.rint(image + grain * (0.2 + slope)), 0, 255).astype(np.uint8)


@pytest.fixture
def store():
    """An empty object store in memory behind gs:// and s3://, for this test only."""
    import memory_store

    with memory_store.opened() as found:
        yield found
