"""Memory goes back to the system."""

import pathlib
import sys

import numpy as np
import pytest

from iqa_jax.runtime import memory


def resident():
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmRSS')).split()[1]) / 1024


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_freed_blocks_leave_the_process():
    # Small blocks come from the heap, which does not shrink while something lies above them.
    blocks = [np.ones(8000) for _ in range(4000)]
    kept = np.ones(8000)
    del blocks
    before = resident()
    if memory.release():
        assert resident() < before
    assert kept.sum() == 8000


def test_other_systems_say_no(monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'win32')
    assert memory.release() is False
