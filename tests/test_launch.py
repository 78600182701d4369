"""The launch scripts parse, can be executed and say how they are used."""

import os
import pathlib
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).resolve().parents[1] / 'launch'
SCRIPTS = sorted(LAUNCH.iterdir())


def test_all_are_there():
    names = [path.name for path in SCRIPTS]
    assert names == ['gpu.sh', 'local_processes.sh', 'slurm.sbatch', 'tpu_pod.sh']


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_script(path):
    subprocess.run(['bash', '-n', str(path)], check=True)
    assert os.access(path, os.X_OK)
    assert 'set -euo pipefail' in path.read_text()
    assert 'iqa_jax.main' in path.read_text()


@pytest.mark.parametrize(
    ('name', 'message'), [('local_processes.sh', 'usage:'), ('tpu_pod.sh', 'TPU')]
)
def test_wrong_use(name, message):
    environment = {'PATH': os.environ['PATH']}
    done = subprocess.run(
        [LAUNCH / name], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode != 0
    assert message in done.stderr


def test_tpu_command_is_quoted_for_the_workers(tmp_path):
    fake = tmp_path / 'gcloud'
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'TPU': 'pod', 'ZONE': 'z'}
    done = subprocess.run(
        [LAUNCH / 'tpu_pod.sh', '--config=c.py', '--workdir=/a b'],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    command = 'cd iqa_jax && python3 -m iqa_jax.main --distributed --config=c.py --workdir=/a\\ b'
    assert done.stdout.splitlines()[-1] == f'--command={command}'
    assert '--worker=all' in done.stdout
