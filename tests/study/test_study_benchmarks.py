"""Small forms of the benchmarks of the rating page, and whether they can fail."""

import json
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip('starlette')

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks'


def test_no_answer_is_lost_or_doubled_when_servers_are_killed():
    """A small form of the benchmark: the real server is killed twice while five clients answer."""
    script = BENCHMARKS / 'study_load.py'
    done = subprocess.run(
        [sys.executable, str(script), '--clients=5', '--answers=300', '--kills=2'],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found['answers'], found['missing'], found['kills']) == (300, 0, 2)
    assert found['lost'] == found['doubled'] == found['unasked'] == 0
    assert all(found[what] > 0 for what in ('sent_twice', 'sent_ahead', 'hung_up', 'changed_late'))


def test_requests_that_no_page_sends_do_no_harm():
    """A small form of the benchmark, with broken HTTP, against the real server."""
    script = BENCHMARKS / 'study_hostile.py'
    done = subprocess.run([sys.executable, str(script), '--cases=600'], capture_output=True,
                          text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert sum(found['cases'].values()) == 600 and min(found['cases'].values()) > 50
    assert {'200', '400', '404', '413'} < set(found['codes'])  # it does reach the study


@pytest.mark.parametrize(
    ('code', 'answer', 'word'),
    [('500', b'', 'errors'), ('hung', b'', 'hung'), ('200', b'x SQLite format 3', 'leaked')],
)
def test_the_benchmark_sees_harm(monkeypatch, code, answer, word):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import study_hostile

    counts = study_hostile.collections.Counter()
    study_hostile.judge(code, answer, counts)
    assert {name for name, count in counts.items() if count} == {word}
