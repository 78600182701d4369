"""What the drills compare: every bit that is a result is seen, and no time is."""

import base64
import json
import pathlib
import sys

import numpy as np
import pytest

from iqa_jax.runtime import artifacts, checkpoints

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'benchmarks/reliability'))
import compare

PAGE = """<span>12 s</span><p>Measured wall time: {time}.</p><b>SRCC 0.5</b>
<span class="share" style="width:{share}%" title="{share} %"></span>
<a download="stages.csv" href="data:text/csv;charset=utf-8;base64,{rows}">
<th scope="row">train/metrics.jsonl</th><td class="text"><code>{digest}</code></td>"""


def write(folder: pathlib.Path, seconds: float) -> None:
    """A finished run that took so many seconds."""
    rows = base64.b64encode(f'name,seconds,counts\ntrain,{seconds},"8 steps"\n'.encode()).decode()
    page = PAGE.format(time=f'{seconds} s', share=seconds, rows=rows, digest=f'{seconds:064.0f}')
    log = {'step': 1, 'loss': 0.123456789, 'images_per_second': 8 / seconds}
    summary = {'images': 8, 'seconds': seconds, 'headline': f'SRCC 0.5, {8 / seconds:.1f} images/s'}
    for name, data in (
        ('table.parquet', b'\0' * 99),
        ('train/metrics.jsonl', json.dumps(log).encode() + b'\n'),
        ('train/stage.json', json.dumps(summary).encode()),
        ('report.html', page.encode()),
    ):
        mark = str(seconds) if name == 'report.html' else 'same'
        artifacts.commit(folder / name, data, fingerprint=mark)
    saved = checkpoints.Checkpoints(folder / 'train/checkpoints/abc')
    log = [int(seconds), str(seconds)]
    metadata = {'seconds': seconds, 'val': 0.5, 'best': 2, 'log': log}
    saved.save(4, {'w': np.zeros(3, np.float32)}, metadata)
    saved.close()


@pytest.fixture
def runs(tmp_path):
    """Two equal runs of different speed."""
    for name, seconds in (('a', 12.5), ('b', 3.25)):
        write(tmp_path / name, seconds)
    return tmp_path / 'a', tmp_path / 'b'


def test_equal_runs_of_different_speed_are_equal(runs):
    assert compare.differences(*runs) == []
    assert compare.count(runs[0]) == 8 + 1


@pytest.mark.parametrize(
    ('file', 'old', 'new'),
    [
        ('table.parquet', b'\0', b'\1'),
        ('train/metrics.jsonl', b'0.123456789', b'0.123456788'),
        ('train/stage.json', b'"images": 8', b'"images": 9'),
        ('train/stage.json', b'SRCC 0.5', b'SRCC 0.6'),
        ('report.html', b'SRCC 0.5', b'SRCC 0.6'),
        ('train/metrics.jsonl.meta.json', b'same', b'some'),
        ('table.parquet.meta.json', b'"size":99', b'"size":98'),
        ('table.parquet.meta.json', b'}', b''),
    ],
)
def test_a_changed_result_is_seen(runs, file, old, new):
    path = runs[0] / file
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    assert compare.differences(*runs) == [file]


def test_a_flipped_bit_of_a_checkpoint_and_a_file_more_are_seen(runs):
    saved = checkpoints.Checkpoints(runs[0] / 'train/checkpoints/abc')
    state = {'w': np.array([0, -0.0, 0], np.float32)}  # equal in value, not in bits
    saved.save(4, state, {'val': 0.5, 'best': 2})
    saved.close()
    (runs[1] / '.table.parquet.0.tmp').write_bytes(b'')
    assert compare.differences(*runs) == ['.table.parquet.0.tmp', "train/checkpoints/abc: ['w']"]


@pytest.mark.parametrize('metadata', [{'val': 0.4, 'best': 2}, {'val': 0.5, 'best': 3}, {}])
def test_what_a_checkpoint_remembers_is_compared(runs, metadata):
    saved = checkpoints.Checkpoints(runs[0] / 'train/checkpoints/abc')
    saved.save(4, {'w': np.zeros(3, np.float32)}, metadata)
    saved.close()
    assert compare.differences(*runs) == ['train/checkpoints/abc: metadata']


def test_what_is_left_among_the_checkpoints_is_seen(runs):
    folder = runs[0] / 'train/checkpoints'
    left = ['abc/.step_5.json.0.tmp', 'abc/steps/5/data/metadata', 'abc/steps/6.tmp/x', 'def/x']
    for name in left:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'')
    assert compare.differences(*runs) == [f'train/checkpoints/{name}' for name in left]


@pytest.mark.parametrize('beside', [None, 'report.html', 'summary.json'])
def test_the_mark_of_a_stage_counts_unless_times_lie_beside_it(tmp_path, beside):
    pair = tmp_path / 'a', tmp_path / 'b'
    for folder in pair:
        artifacts.commit(folder / 'stage.json', b'{}', fingerprint=folder.name)
        if beside:
            artifacts.commit(folder / beside, b'{}', fingerprint=folder.name)
    found = compare.differences(*pair)
    assert found == ([] if beside else ['stage.json.meta.json'])
