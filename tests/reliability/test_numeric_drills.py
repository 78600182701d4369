"""The reduced forms of R8 and R9; those of R12 are in test_out_of_memory_drill."""

import json
import math
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def drilled(name: str, *arguments: str) -> dict:
    """The line of a reliability script."""
    script = ROOT / 'benchmarks' / 'reliability' / f'{name}.py'
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_numeric_laws_hold():
    kept = ['--metrics', 'psnr', 'gmsd', '--distortions', 'jpeg', 'white_noise']
    found = drilled('numeric_laws', '--cases', '2', *kept, '--no-golden')
    assert found['figure'] == 'R8' and found['violations'] == 0 and found['gpu'] is None
    laws = {
        'identical', 'symmetric', 'batch', 'jit', 'bytes', 'float64', 'extreme', 'nan',
        'model batch', 'model bytes', 'model buckets', 'model nan', 'distortion',
    }  # fmt: skip
    assert set(found['laws']) == laws
    assert all(law['cases'] > 0 for law in found['laws'].values())


def test_a_figure_that_is_no_number_stays_the_worst(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks' / 'reliability')
    monkeypatch.setattr(sys, 'path', [*sys.path])
    import numeric_laws

    tally = numeric_laws.Tally()
    for who, figure in (('a', 0.5), ('b', math.nan), ('c', 0.75), ('d', 0.0)):
        tally.check('law', who, figure, 1.0)
    row = tally.laws['law']
    assert math.isnan(row['worst']) and row['of'] == 'b'
    assert (row['cases'], row['violations'], row['violated']) == (4, 1, ['b'])


def test_ties_of_gmad_do_not_depend_on_the_machine_or_the_order_of_rows():
    found = drilled('determinism', '--no-pipeline')
    assert found['failed'] == found['pairs_different'] == 0
    assert found['gmad_searches'] == 4 and found['gmad_pairs'] > 20
