"""Two processes run every stage of the loop and leave what one process leaves."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BY_SEVERAL = (
    'score_unseen/scores.parquet', 'rate/rated.parquet', 'active/active.json', 'report.html',
    'active/round_02/gmad/pairs.parquet', 'active/round_02/study/rated.parquet', 'model/model.json',
    'gmad_rank/ranking.csv', 'imported/manifest.parquet', 'summary.json',
)  # fmt: skip


def test_two_processes_leave_the_files_of_one(smoke, tmp_path):
    script = ROOT / 'benchmarks/reliability/several_processes.py'
    done = subprocess.run(
        [sys.executable, script, '--brief', f'--base={smoke}', f'--keep={tmp_path}'],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert (counts['failed'], counts['different']) == (0, [])
    assert counts['files'] > counts['remade'] > 200
    # Nothing was trained again, neither by one process nor by two.
    assert done.stderr.count('train: up to date') == 2 * 3, done.stderr
    for name in BY_SEVERAL:
        assert (tmp_path / 'shared' / name).is_file(), name
