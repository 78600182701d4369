"""One undisturbed smoke run of the whole loop, shared by the tests of this folder."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from configs import quickstart

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='session')
def main():
    """Runs `python -m iqa_jax.main` with arguments and returns the finished process."""

    def run(*args: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, '-m', 'iqa_jax.main', *args],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    return run


@pytest.fixture(scope='session')
def smoke(main, tmp_path_factory) -> pathlib.Path:
    """The workdir of a finished smoke quickstart."""
    workdir = tmp_path_factory.mktemp('smoke')
    done = main('--config', 'configs/quickstart.py:smoke', '--workdir', str(workdir))
    assert done.returncode == 0, done.stderr
    (workdir.parent / 'smoke.stdout').write_text(done.stdout)
    (workdir.parent / 'smoke.stderr').write_text(done.stderr)
    return workdir


@pytest.fixture
def failing_read(monkeypatch):
    """Lets the n-th reading of the pictures of a name end with an error of the system."""

    def fail(name: str, code: int, at: int = 1) -> None:
        read, asked = pathlib.Path.read_bytes, []

        def read_bytes(path: pathlib.Path) -> bytes:
            asked.extend([path] * (path.name == name))
            if path.name == name and len(asked) == at:
                raise OSError(code, os.strerror(code), str(path))
            return read(path)

        monkeypatch.setattr(pathlib.Path, 'read_bytes', read_bytes)

    return fail


@pytest.fixture
def tree_digest():
    """Digest of every file below a folder by relative name."""

    def digest(folder: pathlib.Path) -> dict[str, str]:
        return {
            str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
            for f in sorted(folder.rglob('*'))
            if f.is_file()
        }

    return digest


@pytest.fixture
def begun_loop(smoke, tmp_path):
    """(config, workdir) of a second active run beside the smoke run's, its first search done."""
    config = quickstart.get_config('smoke').stages.active.to_dict() | {'root': str(smoke)}
    del config['folder']
    for part in ('round_00', 'round_01/score', 'round_01/gmad'):
        shutil.copytree(smoke / 'active' / part, tmp_path / 'active' / part)
    return config, tmp_path / 'active'


@pytest.fixture(scope='session')
def json_of():
    """Reads a JSON file."""
    return lambda path: json.loads(path.read_text())
