"""The launch scripts parse, can be executed and say how they are used."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

LAUNCH = pathlib.Path(__file__).resolve().parents[1] / 'launch'
SCRIPTS = sorted(LAUNCH.iterdir())


def test_all_are_there():
    names = [path.name for path in SCRIPTS]
    assert names == ['cpu.sh', 'gpu.sh', 'local_processes.sh', 'slurm.sbatch', 'tpu_pod.sh']


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_script(path):
    subprocess.run(['bash', '-n', str(path)], check=True)
    assert os.access(path, os.X_OK)
    assert 'set -euo pipefail' in path.read_text()
    assert 'iqa_jax.main' in path.read_text()


@pytest.mark.parametrize(('given', 'tunables'), [({}, ''), ({'GLIBC_TUNABLES': 'a=1'}, ':a=1')])
def test_cpu_asks_for_huge_pages_before_tunables_of_the_user(tmp_path, given, tunables):
    (program := tmp_path / 'python').write_text(
        '#!/bin/sh\necho "$JAX_PLATFORMS $GLIBC_TUNABLES $*"\n'
    )
    program.chmod(0o755)
    said = subprocess.run(
        [LAUNCH / 'cpu.sh', '--workdir=a b'],
        env={'PATH': os.environ['PATH'], 'PYTHON': str(program), **given},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == f'cpu glibc.malloc.hugetlb=1{tunables} -m iqa_jax.main --workdir=a b\n'


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


def fake(folder: pathlib.Path, name: str, does: str) -> None:
    """A command of the cluster that notes its arguments and then does something."""
    notes = f'printf "{name} %s\\n" "$*" >> {folder}/notes'
    (folder / name).write_text(f'#!/usr/bin/env bash\n{notes}\n{does}\n')
    (folder / name).chmod(0o755)


def cluster(folder: pathlib.Path, **environment: str) -> dict[str, str]:
    """An environment in which the commands of the folder are found."""
    return {'PATH': f'{folder}:{os.environ["PATH"]}', **environment}


def notes(folder: pathlib.Path, expected: int) -> list[str]:
    """What the fakes have noted, when there are so many lines."""
    file, until = folder / 'notes', time.monotonic() + 20
    while time.monotonic() < until:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) >= expected:
            break
        time.sleep(0.02)
    return lines


def test_tpu_command_is_quoted_for_the_workers(tmp_path):
    fake(tmp_path, 'gcloud', 'exit 7')
    done = subprocess.run(
        [LAUNCH / 'tpu_pod.sh', '--config=c.py', '--workdir=/a b'],
        env=cluster(tmp_path, TPU='pod', ZONE='z'), check=False,
    )  # fmt: skip
    assert done.returncode == 7
    command = (
        'cd iqa_jax && TF_CPP_MIN_LOG_LEVEL=4 python3 -m iqa_jax.main --distributed '
        '--config=c.py --workdir=/a\\ b'
    )
    (said,) = notes(tmp_path, 1)
    assert said.endswith(f'--worker=all --command={command}')


def test_a_signal_reaches_the_workers_of_a_tpu(tmp_path):
    # The first call is the run, which ends as soon as the second has stopped it.
    # Not all workers have a process any more.
    fake(
        tmp_path, 'gcloud', f'[[ "$*" == *pkill* ]] && touch {tmp_path}/stopped && exit 1\n'
        f'until [[ -e {tmp_path}/stopped ]]; do sleep 0.02; done; exit 143'
    )  # fmt: skip
    launcher = subprocess.Popen(
        [LAUNCH / 'tpu_pod.sh', '--config=c.py'], env=cluster(tmp_path, TPU='pod', ZONE='z')
    )
    assert len(notes(tmp_path, 1)) == 1
    launcher.terminate()
    assert launcher.wait(20) == 143
    assert 'pkill -TERM -f "[i]qa_jax.main --distributed"' in notes(tmp_path, 2)[1]


def element(number: int, lowest: int, highest: int, count: int) -> dict[str, str]:
    """What Slurm tells a job of the array 40."""
    values = {'JOB_ID': 40, 'TASK_ID': number, 'TASK_COUNT': count}
    values |= {'TASK_MIN': lowest, 'TASK_MAX': highest}
    return {f'SLURM_ARRAY_{key}': str(value) for key, value in values.items()}


def slurm(folder: pathlib.Path, *, does: str, **environment: str) -> subprocess.Popen:
    """The batch script with a srun that does something."""
    fake(folder, 'srun', does)
    fake(folder, 'scancel', f'touch {folder}/stopped')
    fake(folder, 'scontrol', 'exit 0')
    return subprocess.Popen(
        [LAUNCH / 'slurm.sbatch', '--config=c.py'],
        env=cluster(
            folder, SLURM_JOB_ID='12', SLURM_CPUS_PER_TASK='8', PYTHON='python3', **environment
        ),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_slurm_starts_all_processes_and_gives_their_exit_code(tmp_path):
    assert slurm(tmp_path, does='exit 3').wait(20) == 3
    (said,) = notes(tmp_path, 1)
    expected = '--kill-on-bad-exit=0 --gpu-bind=none --cpus-per-task=8 python3 -m iqa_jax.main'
    assert said == f'srun {expected} --config=c.py --distributed'


def test_an_array_of_slurm_makes_shards_in_jobs_of_their_own(tmp_path):
    assert slurm(tmp_path, does='exit 0', **element(2, 0, 3, 4)).wait(20) == 0
    (said,) = notes(tmp_path, 1)
    # Several tasks of a job would otherwise each make the whole share.
    assert said.endswith('iqa_jax.main --config=c.py --distributed --config.shard=2/4')


def test_a_shard_of_an_array_is_a_command_line_that_is_understood(tmp_path):
    config = 'from ml_collections import ConfigDict\n\n\ndef get_config():\n'
    config += "    return ConfigDict({'task': 'nothing', 'shard': ''})\n"
    (tmp_path / 'c.py').write_text(config)
    fake(tmp_path, 'srun', f'cd {tmp_path} && exec "${{@:4}}"')
    done = subprocess.run(
        [LAUNCH / 'slurm.sbatch', '--config=c.py', f'--workdir={tmp_path}'],
        env=os.environ
        | cluster(tmp_path, SLURM_JOB_ID='12', PYTHON=sys.executable, **element(2, 0, 3, 4)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("Error: config.task='nothing' is not a task")


@pytest.mark.parametrize('array', [(3, 3, 3, 1), (1, 1, 4, 4), (2, 0, 6, 4)])
def test_an_array_of_slurm_that_leaves_shards_out_is_refused(tmp_path, array):
    job = slurm(tmp_path, does='exit 0', **element(*array))
    _, said = job.communicate(timeout=20)
    count = array[-1]
    assert job.returncode == 2 and not (tmp_path / 'notes').exists()
    assert said == (
        f'Error: --array must be 0-{count - 1} for {count} jobs; to start job i of n again, leave '
        '--array out and give --config.shard=i/n.\n'
    )


ENDS = {  # what happens -> (signal, exit code of the step, whether the job is queued again)
    'time is up': (signal.SIGUSR1, 143, True),
    'cancelled': (signal.SIGTERM, 143, False),
    'done meanwhile': (signal.SIGUSR1, 0, False),
    'done with quarantined files': (signal.SIGUSR1, 3, False),
}


@pytest.mark.parametrize(('known', 'job'), [({}, '12'), (element(0, 0, 9, 10), '40_0')])
@pytest.mark.parametrize('end', ENDS)
def test_slurm_stops_the_processes_and_queues_again_when_time_is_up(tmp_path, end, known, job):
    number, code, again = ENDS[end]
    wait = f'until [[ -e {tmp_path}/stopped ]]; do sleep 0.02; done; exit {code}'
    launcher = slurm(tmp_path, does=wait, **known)
    assert len(notes(tmp_path, 1)) == 1
    launcher.send_signal(number)
    assert launcher.wait(20) == code
    expected = [f'scancel --signal=TERM {job}'] + [f'scontrol requeue {job}'] * again
    assert notes(tmp_path, 2)[1:] == expected
    assert '#SBATCH --signal=B:USR1@120' in (LAUNCH / 'slurm.sbatch').read_text()


def test_slurm_queues_again_where_the_step_has_just_ended(tmp_path):
    launcher = slurm(
        tmp_path, does=f'until [[ -e {tmp_path}/stopped ]]; do sleep 0.02; done; exit 143'
    )
    fake(tmp_path, 'scancel', f'touch {tmp_path}/stopped; exit 1')
    assert len(notes(tmp_path, 1)) == 1
    launcher.send_signal(signal.SIGUSR1)
    assert launcher.wait(20) == 143
    assert notes(tmp_path, 3)[2] == 'scontrol requeue 12'


def test_bound_processes_share_the_cores_that_the_launcher_may_use(tmp_path):
    fake(
        tmp_path,
        'taskset',
        """
if [[ $1 == -pc ]]; then echo "pid $2's current affinity list: 1,4-6"; exit; fi
exec "${@:3}" """,
    )
    fake(tmp_path, 'python', 'exit 0')
    subprocess.run(
        [LAUNCH / 'local_processes.sh', '2', '--config=c.py'],
        env=cluster(tmp_path, BIND='1'), check=True,
    )  # fmt: skip
    said = [note.split()[2] for note in notes(tmp_path, 5) if note.startswith('taskset -c')]
    assert sorted(said) == ['1,4', '5,6']


def test_the_launcher_ends_with_the_first_process_that_fails(tmp_path):
    # Process 1 dies at once; the other one, which has not met it, is stopped for it.
    fake(tmp_path, 'python', '[[ "$*" == *--process_id=1* ]] && kill -KILL $$\nexec sleep 100')
    begin = time.monotonic()
    done = subprocess.run(
        [LAUNCH / 'local_processes.sh', '2', '--config=c.py'],
        env=cluster(tmp_path, PATIENCE='1'), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert time.monotonic() - begin < 20
    assert done.returncode == 137
    assert 'Process 1 of 2 has stopped with exit code 137; the others are stopped' in done.stderr


def test_a_signal_to_the_launcher_reaches_all_processes(tmp_path):
    fake(tmp_path, 'python', 'trap "exit 143" TERM\nwhile true; do sleep 0.02; done')
    launcher = subprocess.Popen(
        [LAUNCH / 'local_processes.sh', '3', '--config=c.py'], env=cluster(tmp_path)
    )
    assert len(notes(tmp_path, 3)) == 3
    time.sleep(0.5)  # until the traps are set
    launcher.terminate()
    assert launcher.wait(20) == 143


def test_a_taken_port_is_one_sentence(tmp_path):
    fake(tmp_path, 'python', 'exit 0')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [LAUNCH / 'local_processes.sh', '2', '--config=c.py'],
            env=cluster(tmp_path, PORT=str(port)), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1 and not (tmp_path / 'notes').exists()
    said = f'Error: port {port} is taken; set PORT to a free one, or leave it unset.\n'
    assert done.stderr == said
