"""Reference outputs of the original code, read from tests/golden/distortions."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'golden' / 'distortions'


@pytest.fixture
def golden() -> Callable[[str], np.ndarray]:
    """Reads uint8 [144, 192, 3] by a name like 'coffee/ref' or 'coffee/01_05'."""
    return lambda name: np.asarray(Image.open(FOLDER / f'{name}.png').convert('RGB'))


@pytest.fixture
def golden_folder() -> pathlib.Path:
    """The folder that holds the reference outputs."""
    return FOLDER


@pytest.fixture
def small_images() -> np.ndarray:
    """uint8 [4, 48, 64, 3]: shaded noise, each over its own range of levels."""
    rng = np.random.default_rng(0)
    shade = np.linspace(0, 120, 64)[:, None] + np.linspace(0, 60, 48)[:, None, None]
    images = shade + rng.uniform(0, 60, (4, 48, 64, 3))
    return (images * np.array([1.0, 0.9, 0.7, 0.5])[:, None, None, None]).astype(np.uint8)
