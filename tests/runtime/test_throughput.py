"""Images per second and the share of waiting, on a clock that the test moves."""

import pytest

from iqa_jax.runtime import throughput


def test_waiting_and_working_are_told_apart(monkeypatch):
    now = 100.0
    monkeypatch.setattr(throughput.time, 'monotonic', lambda: now)

    def slow():
        nonlocal now
        for i in range(5):
            now += 1.0
            yield i

    speed, seen = throughput.Throughput(batch_size=8), []
    for i in speed.watch(slow()):
        seen.append(i)
        now += 3.0
        if i == 1:
            values = speed.read()
            assert values == {'images_per_second': 16 / 8, 'data_wait_fraction': 0.25}
        if i == 3:
            now += 60.0
            speed.restart()  # as after validation: neither its time nor what was before counts
    assert seen == [0, 1, 2, 3, 4]
    values = speed.read()
    assert values['images_per_second'] == pytest.approx(8 / 4)
    assert values['data_wait_fraction'] == pytest.approx(1 / 4)
