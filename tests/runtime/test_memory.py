"""Memory goes back to the system, and what runs out of it goes on with less at once."""

import pathlib
import sys

import jax
import numpy as np
import pytest

from iqa_jax.runtime import memory, parallel


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


def small_memory(most, error=None):
    """A computation that fails for more than `most` items, and the ranges it was asked for."""
    asked = []

    def compute(first, last):
        asked.append((first, last))
        if last - first > most:
            raise error or jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory')
        return list(range(first, last))

    return compute, asked


def computed(parts):
    return [x for _, _, part in parts for x in part]


@pytest.mark.parametrize(
    'error', [None, MemoryError('no'), RuntimeError("can't start new thread")]
)  # fmt: skip
def test_half_as_much_at_once_is_remembered_and_said_once(caplog, error):
    at_once = memory.AtOnce('images', 'config.batch_size')
    compute, asked = small_memory(3, error)
    assert computed(at_once.parts(compute, 10, 8, (20, 30))) == list(range(10))
    assert asked == [(0, 8), (0, 4), (0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert computed(at_once.parts(compute, 5, 8, (20, 30))) == list(range(5))
    assert asked[7:] == [(0, 2), (2, 4), (4, 5)]
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f'Memory does not suffice for {n} images of 30x20 pixels at once: it goes on with {n // 2} '
        'at once; lower config.batch_size.'
        for n in (8, 4)
    ]
    # The budget is of pixels: small images need not suffer from large ones.
    compute, asked = small_memory(100)
    assert computed(at_once.parts(compute, 8, 8, (10, 15))) == list(range(8)) and len(asked) == 1


def test_what_is_too_large_alone_is_named_and_the_others_are_computed():
    def compute(first, last):
        if first <= 2 < last:
            raise MemoryError
        return [*range(first, last)]

    found = [*memory.AtOnce('images', 'config.size').parts(compute, 5, 4, (20, 30))]
    refused = [(first, part) for first, _, part in found if isinstance(part, memory.DoesNotFit)]
    assert [first for first, _ in refused] == [2] and refused[0][1].item == 2
    assert str(refused[0][1]) == 'memory does not suffice for one image of 30x20 pixels'
    assert computed(part for part in found if part[0] != 2) == [0, 1, 3, 4]


def test_a_passing_shortage_loses_no_image(monkeypatch, caplog):
    released, failures = [], {(1, 2): 1, (4, 5): 2}
    monkeypatch.setattr(memory, 'release', lambda: released.append(1))

    def compute(first, last):
        if failures.get((first, last), 0):
            failures[first, last] -= 1
            raise MemoryError
        return [*range(first, last)]

    found = [*memory.AtOnce('images', 'config.batch_size').parts(compute, 6, 1, (20, 30))]
    refused = [part.item for *_, part in found if isinstance(part, memory.DoesNotFit)]
    assert refused == [4] and len(released) == 2  # once for each before it was computed again
    assert [first for first, *_ in found] == [*range(6)]
    assert computed(part for part in found if part[0] != 4) == [0, 1, 2, 3, 5]
    assert not caplog.records  # nothing was halved


def test_other_errors_pass():
    compute, _ = small_memory(3, jax.errors.JaxRuntimeError('INTERNAL: broken'))
    with pytest.raises(jax.errors.JaxRuntimeError, match='broken'):
        list(memory.AtOnce('images', 'config.batch_size').parts(compute, 8, 8, (20, 30)))
    with pytest.raises(KeyError), memory.explained('never said'):
        raise KeyError
    with pytest.raises(ValueError, match=r'lower it\.'), memory.explained('lower it.'):
        raise MemoryError


def test_a_batch_that_did_not_fit_pads_no_later_one(monkeypatch):
    lengths = []
    real = jax.pmap

    def mapped(fn, *arguments, **options):
        run = real(fn, *arguments, **options)

        def call(state, batch):
            lengths.append(batch.shape[1])
            if batch.shape[1] > 4:
                raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory')
            return run(state, batch)

        return call

    monkeypatch.setattr(jax, 'pmap', mapped)
    step = parallel.eval_step(lambda state, batch: state * batch)
    with pytest.raises(jax.errors.JaxRuntimeError):
        step(np.float32(2), np.ones((8, 3), np.float32))
    for n in (4, 2):
        assert step(np.float32(2), np.ones((n, 3), np.float32)).shape == (n, 3)
    assert lengths == [8, 4, 4]  # what has fitted pads, so that the last batch compiles nothing
