"""The command line: exit codes, and one sentence instead of a traceback."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import types

import jax
import pytest
from ml_collections import ConfigDict

from iqa_jax import main
from iqa_jax.runtime import artifacts, signals

CONFIG = """
from ml_collections import ConfigDict

def get_config(size='full'):
    if size not in ('full', 'smoke'):
        raise ValueError(f'config argument {size!r} is unknown; use smoke.')
    return ConfigDict({'task': 'export', 'root': '', 'model': 'nowhere', 'nested': {'depth': 3}})
"""
TERMINATED = """
import os, signal, sys, types
from absl import app
from iqa_jax import main

def run(config, workdir):
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        pass

main._check_task = lambda name: None
sys.modules['iqa_jax.tasks.export'] = types.SimpleNamespace(run=run)
app.run(main.main, flags_parser=main._parse)
"""
# The signal comes while a finalizer runs, in which Python drops exceptions.
LOST = TERMINATED.replace(
    'def run(config, workdir):\n    os.kill(os.getpid(), signal.SIGTERM)\n',
    """class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

def run(config, workdir):
    Finalized()
""",
)

# The main thread is in a call of a library that lasts for minutes and hears nothing.
DEAF = TERMINATED.replace(
    'def run(config, workdir):\n    os.kill(os.getpid(), signal.SIGTERM)\n    while True:\n',
    """import hashlib, threading
from iqa_jax.runtime import signals

def run(config, workdir):
    signals.GRACE = 0.5
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while True:
        hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)
""",
).replace('        pass\n', '')
# A library turns the stop into an error of its own.
CHANGED = TERMINATED.replace(
    '    os.kill(os.getpid(), signal.SIGTERM)\n    while True:\n        pass\n',
    """    try:
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            pass
    except BaseException:
        raise RuntimeError('a callback failed')
""",
)
# A forked child is stopped, and not the run itself.
FORKED = TERMINATED.replace(
    '    os.kill(os.getpid(), signal.SIGTERM)\n    while True:\n        pass\n',
    """    import time
    from iqa_jax.runtime import signals
    signals.GRACE = 0.1
    child = os.fork()
    try:
        while not child:
            os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(1)
""",
)
# The program is not there yet, or it is about to end.
BEFORE = """
import os, signal
from iqa_jax.runtime import signals
signals.leave_at_once()
os.kill(os.getpid(), signal.SIGTERM)
while True:
    pass
"""
# Two threads want to end the process; neither leaves before the sentence is written.
SLOW = BEFORE.replace(
    'os.kill',
    """import time
write = os.write
os.write = lambda *words: (time.sleep(0.3), write(*words))
os.kill""",
)
# The main thread waits, in a library, for a process that never joins.
JOINING = TERMINATED.replace(
    'app.run',
    """import threading
threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()
from iqa_jax.runtime import signals
signals.leave_at_once()
app.run""",
)
# Nobody reads what it says any more, as when `| tee` was stopped first.
UNHEARD = """
import os
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 2)
"""
AGAIN = 'run the same command to continue'
PEERS = ['--coordinator_address=127.0.0.1:1', '--num_processes=2', '--process_id=1']


@pytest.fixture
def config_file(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    return tmp_path / 'config.py'


def test_command_lines(config_file, tmp_path):
    config, work = f'--config={config_file}', f'--workdir={tmp_path}/run'
    module = ['-m', 'iqa_jax.main']
    cases = [
        (module, [config], 2, r'Give --config=FILE\.py and --workdir=DIR\.'),
        (
            module,
            [config, work, '--config.modle=x'],
            2,
            r'config\.modle is .* did you mean model\?',
        ),
        (module, ['--config', str(config_file), work, '--config.modle=x'], 2, 'mean model'),
        (module, [config, work, '--config.nested.dept=1'], 2, r'nested\.dept is .* mean depth\?'),
        (module, [config, work, '--config.task=exprt'], 2, 'is not a task; known are .*export'),
        (module, [f'{config}:tiny', work], 2, r"^Error: config argument 'tiny' is"),
        (module, ['--config=nowhere.py', work], 2, 'No such file'),
        (['-c', TERMINATED], [config, work], 143, AGAIN),
        (['-c', TERMINATED.replace('SIGTERM', 'SIGINT')], [config, work], 130, AGAIN),
        (['-c', LOST], [config, work], 143, AGAIN),
        (['-c', DEAF], [config, work], 143, AGAIN),
        (['-c', CHANGED], [config, work], 143, AGAIN),
        (['-c', FORKED], [config, work], 0, ''),
        (['-c', JOINING], [config, work, '--distributed', *PEERS], 143, AGAIN),
        (['-c', UNHEARD + TERMINATED], [config, work], 143, ''),
        (['-c', UNHEARD + DEAF], [config, work], 143, ''),
        (['-c', BEFORE], [], 143, AGAIN),
        (['-c', BEFORE.replace('SIGTERM', 'SIGINT')], [], 130, AGAIN),
        (['-c', SLOW], [], 143, AGAIN),
    ]
    children = [
        subprocess.Popen(
            [sys.executable, *program, *arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for program, arguments, _, _ in cases
    ]
    for child, (_, arguments, code, pattern) in zip(children, cases, strict=True):
        out, error = child.communicate(timeout=120)
        assert (child.returncode, out) == (code, ''), (arguments, error)
        assert 'Traceback' not in error, error
        assert re.search(pattern, error), error


@pytest.fixture
def run_main(monkeypatch, tmp_path):
    """Calls main.main with a task that is the given function."""

    def call(run):
        def leave(code):
            left.append(code)
            sys.exit()

        left = []
        monkeypatch.setattr(signals, 'leave', leave)
        flags = types.SimpleNamespace(
            verbosity=0,
            distributed=False,
            coordinator_address=None,
            num_processes=None,
            process_id=None,
            config=ConfigDict({'task': 'fake'}),
            workdir=str(tmp_path),
        )
        monkeypatch.setattr(main, 'FLAGS', flags)
        monkeypatch.setattr(sys, 'unraisablehook', sys.unraisablehook)  # `main` sets its own
        monkeypatch.setitem(sys.modules, 'iqa_jax.tasks.fake', types.SimpleNamespace(run=run))
        with contextlib.suppress(SystemExit):
            return main.main(['main'])
        return left.pop()

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield call
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def raising(error):
    def run(config, workdir):
        raise error

    return run


def test_exit_codes(run_main, capfd):
    assert run_main(lambda config, workdir: {'quarantined': 0}) == 0
    assert run_main(lambda config, workdir: {'quarantined': 2}) == 3
    assert run_main(lambda config, workdir: None) == 0
    assert capfd.readouterr().err == ''
    assert run_main(raising(artifacts.MissingArtifact('There is no file x.'))) == 1
    assert run_main(raising(OSError(28, 'No space left on device', 'a.bin'))) == 1
    assert run_main(raising(KeyboardInterrupt())) == 130
    assert capfd.readouterr().err.splitlines() == [
        'Error: There is no file x.',
        'Error: a.bin cannot be used (No space left on device); make room and run the same command '
        'again: it goes on from what was committed.',
        'Stopped; run the same command to continue.',
    ]


def test_memory_that_runs_out_is_one_sentence(run_main, capfd):
    device = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory (7 bytes).\nA table')
    for error in (device, MemoryError('Unable to allocate 9 GiB'), MemoryError()):
        assert run_main(raising(error)) == 1
    assert capfd.readouterr().err.splitlines() == [
        'Error: memory does not suffice: RESOURCE_EXHAUSTED: Out of memory (7 bytes).',
        'Error: memory does not suffice: Unable to allocate 9 GiB',
        'Error: memory does not suffice: MemoryError',
    ]


def test_another_error_of_the_device_keeps_its_traceback(run_main):
    with pytest.raises(jax.errors.JaxRuntimeError):
        run_main(raising(jax.errors.JaxRuntimeError('INTERNAL: a kernel failed')))


@pytest.mark.parametrize('error', [ImportError('no module named x'), KeyError('x'), TypeError()])
def test_other_errors_keep_their_traceback(run_main, error):
    with pytest.raises(type(error)):
        run_main(raising(error))


def test_the_task_gets_config_and_workdir(run_main, tmp_path):
    got = []
    run_main(lambda config, workdir: got.extend([config.task, workdir]))
    assert got == ['fake', str(tmp_path)]


def test_a_failing_import_of_a_task_is_not_masked(run_main, monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'missing_dependency'")

    monkeypatch.setattr(main.importlib, 'import_module', fail)
    with pytest.raises(ModuleNotFoundError, match='missing_dependency'):
        run_main(None)


def test_size():
    assert len(pathlib.Path(main.__file__).read_text().splitlines()) < 120
