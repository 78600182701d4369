"""The reduced form of R12."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ZEROS = (
    'scores_different', 'quarantined_wrongly', 'lines_missing_or_extra', 'half_written',
    'died_without_sentence', 'stopped_by_too_large',
)  # fmt: skip


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize('stage', ['score', 'features', 'score_pairs', 'make_data', 'train'])
def test_a_stage_goes_on_with_less_at_once(stage):
    script = ROOT / 'benchmarks' / 'reliability' / 'out_of_memory.py'
    cases = 2 if stage in ('train', 'make_data') else 3  # these take longest
    done = subprocess.run(
        [sys.executable, str(script), '--cases', str(cases), '--limits', '1', '--stages', stage],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert not any(found[name] for name in ZEROS)
    if stage == 'train':
        assert found['cases'] == {'once': cases, 'limits': 1}
        assert found['ended_in_a_sentence'] >= cases
    else:
        assert found['cases'] == {'capacity': cases, 'once': cases, 'limits': 1}
        assert found['halvings'] > 0
