"""The public face: what a user types, and the page that says so."""

import pathlib
import re
import types

import jax
import numpy as np
import pytest

import iqa_jax
from iqa_jax.distortions import DISTORTIONS

PAGE = pathlib.Path(__file__).resolve().parents[2] / 'docs/distortions.md'


def test_the_package_is_a_module_that_lists_when_called():
    assert isinstance(iqa_jax.distortions, types.ModuleType)
    assert iqa_jax.distortions.distort_batch is not None
    listing = iqa_jax.distortions()
    assert [row.number for row in listing] == sorted(row.number for row in DISTORTIONS.values())
    assert {*listing} == {*DISTORTIONS.values()}
    lines = repr(listing).splitlines()
    assert lines[0].split() == ['1', 'gaussian_blur', '0.1', '0.5', '1', '2', '5']
    assert lines[2].split() == ['3', 'motion_blur', '1', '2', '4', '6', '10', 'S']
    for line, row in zip(lines, listing, strict=True):
        assert line.endswith(row.approximation) and line == line.rstrip()


def test_one_image_or_a_batch_bytes_or_floats_name_or_number(small_images):
    by_name = iqa_jax.distort(small_images[0], 'gaussian_blur', level=3)
    assert by_name.dtype == np.uint8 and by_name.shape == small_images[0].shape
    np.testing.assert_array_equal(iqa_jax.distort(small_images[0], 1, level=3), by_name)
    batch = iqa_jax.distort(small_images, 1, level=[3, 1, 1, 5], key=jax.random.key(0))
    np.testing.assert_array_equal(batch[0], by_name)
    floats = iqa_jax.distort(small_images / 255, 1, level=3)
    assert floats.dtype == np.float32 and floats.shape == small_images.shape
    assert np.abs(255 * floats[0] - by_name).max() <= 0.51


@pytest.mark.parametrize(
    'key', [1.5, 'seven', [1, 2], 2**63, -(2**63) - 1, np.arange(2), np.float32(3)]
)
def test_keys_that_are_no_whole_number_are_refused(small_images, key):
    with pytest.raises(ValueError, match='key must be a whole number of 64 bits or one jax'):
        iqa_jax.distort(small_images, 'white_noise', level=1, key=key)


def test_several_or_raw_jax_keys_are_refused(small_images):
    for key in (jax.random.split(jax.random.key(0), 4), jax.random.PRNGKey(0)):
        with pytest.raises(ValueError, match='one jax.random.key, not .*[24]'):
            iqa_jax.distort(small_images, 'white_noise', level=1, key=key)


@pytest.mark.parametrize('level', [None, '3', True, 3.0, np.array([], int)])
def test_levels_that_are_no_whole_number_are_refused(small_images, level):
    with pytest.raises(ValueError, match='level must be a whole number from 1 to 5'):
        iqa_jax.distort(small_images, 'darken', level=level)


def test_the_table_of_the_page_is_the_registry():
    rows = re.findall(
        r'^\| (\d+) \| `(\w+)` \| (.*?) \| .*? \| (.*?)\| (.*?)\|$', PAGE.read_text(), re.M
    )
    page = {int(row[0]): row[1:] for row in rows}
    assert [int(row[0]) for row in rows] == list(range(1, 26))
    assert {entry.number for entry in DISTORTIONS.values()} <= {*page}
    for entry in DISTORTIONS.values():
        name, levels, stochastic, approximation = page[entry.number]
        assert name == entry.name
        assert tuple(float(value) for value in levels.split()) == entry.levels
        assert stochastic.strip() == ('yes' if entry.stochastic else ''), name
        assert bool(approximation.strip()) == bool(entry.approximation), name


def test_the_python_of_the_page_runs(capsys):
    code = re.search(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)[1]
    exec(compile(code, PAGE.name, 'exec'), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == '(96, 128, 3) uint8 (2, 96, 128, 3)'
    assert len(said) == 1 + len(DISTORTIONS)
