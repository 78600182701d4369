"""metrics.jsonl: every row kept, rows after the resumed step and a torn line dropped."""

import importlib.util
import json
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.runtime import metric_writer


def rows(folder):
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_rows(tmp_path):
    writer = metric_writer.MetricWriter(tmp_path / 'run')
    writer.rewind(0)
    writer.write(1, {'loss': np.float32(0.5), 'count': 3, 'rate': jnp.float32(2)})
    writer.write(2, {'loss': float('nan')})
    writer.close()
    assert rows(tmp_path / 'run') == [
        {'step': 1, 'loss': 0.5, 'count': 3, 'rate': 2.0},
        {'step': 2, 'loss': None},
    ]


def test_rewind_equals_an_undisturbed_run(tmp_path):
    writer = metric_writer.MetricWriter(tmp_path)
    for step in range(1, 7):
        writer.write(step, {'loss': 1 / step})
    undisturbed = (tmp_path / 'metrics.jsonl').read_bytes()
    (tmp_path / 'metrics.jsonl').write_bytes(undisturbed[:-9])  # torn in the middle of a row
    writer.rewind(4)
    assert [row['step'] for row in rows(tmp_path)] == [1, 2, 3, 4]
    for step in (5, 6):
        writer.write(step, {'loss': 1 / step})
    assert (tmp_path / 'metrics.jsonl').read_bytes() == undisturbed


def test_a_log_that_is_not_the_one_of_the_checkpoint_is_set_aside_and_said(tmp_path, caplog):
    writer, log = metric_writer.MetricWriter(tmp_path), tmp_path / 'metrics.jsonl'
    writer.write(1, {'loss': 0.25})
    mark, whole = writer.mark(), log.read_bytes()
    writer.write(2, {'loss': 0.5})
    writer.rewind(1, mark)
    assert log.read_bytes() == whole
    log.write_bytes(whole.replace(b'0.25', b'0.35'))  # still a row
    writer.rewind(1, mark)
    assert log.read_bytes() == b''
    (aside,) = tmp_path.glob('metrics.damaged_*.jsonl')
    assert b'0.35' in aside.read_bytes()
    assert f'{log} is missing or damaged: the rows up to step 1' in caplog.text
    caplog.clear()
    log.unlink()
    writer.rewind(1, mark)
    assert 'is missing or damaged' in caplog.text
    writer.write(2, {'loss': 0.5})
    assert [row['step'] for row in rows(tmp_path)] == [2]


@pytest.mark.parametrize('line', [b'not json\n', b'[1]\n', b'{"loss": 1}\n', b'{"step": 2}'])
def test_rewind_drops_what_is_no_row(tmp_path, line):
    (tmp_path / 'metrics.jsonl').write_bytes(b'{"step": 1}\n' + line)
    metric_writer.MetricWriter(tmp_path).rewind(9)
    assert rows(tmp_path) == [{'step': 1}]


@pytest.mark.skipif(importlib.util.find_spec('tensorflow') is not None, reason='needs it absent')
def test_works_without_tensorboard(tmp_path):
    metric_writer.MetricWriter(tmp_path).write(1, {'loss': 1.0})
    assert not (tmp_path / 'tensorboard').exists()


def test_tensorboard_gets_the_finite_values(tmp_path, monkeypatch):
    got = []

    class SummaryWriter:
        def __init__(self, logdir):
            got.append(logdir)

        def write_scalars(self, step, scalars):
            got.append((step, scalars))

        def flush(self):
            got.append('flush')

    fake = types.ModuleType('clu.metric_writers')
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, 'clu.metric_writers', fake)
    monkeypatch.setattr('clu.metric_writers', fake, raising=False)
    writer = metric_writer.MetricWriter(tmp_path)
    writer.write(3, {'loss': 1.0, 'bad': float('inf')})
    writer.close()
    assert got == [str(tmp_path / 'tensorboard'), (3, {'loss': 1.0}), 'flush']
