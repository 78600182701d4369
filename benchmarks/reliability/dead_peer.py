"""R7: one of several processes dies; the others end and name it, and a restart finishes the work.

    python benchmarks/reliability/dead_peer.py --seed=0 --cases=2

Starts `launch/local_processes.sh` with 2 and with 4 processes on training, scoring and data making
and kills each process in turn (SIGKILL, process 0 too) at seeded instants, `--cases` times each.
Only processes that have met are killed. Nobody helps the survivors: the launcher, which would kill
them in the end, waits longer than the drill. Then the same command runs again, and all that it
leaves is compared by `compare` with an undisturbed run of the same number of processes. Besides,
one process is stopped for 5 s (SIGSTOP), and the port is taken.

The line of JSON has
  cases              processes that were killed while the run was going on
  training, scoring, making   of these
  slowest_end        seconds from a kill until the last survivor was gone
  late               cases in which that took more than 30 s; must be 0
  zero_exit          cases in which the launcher ended with 0; must be 0
  unnamed            cases in which a survivor did not name the dead process and its host, or
                     somebody named another; must be 0
  unfinished         restarts that did not end with 0; must be 0
  compared           files and checkpoints compared after restarts
  different          of them unlike those of the undisturbed run, or in one run only, such as what
                     is left half-written; must be 0
  stragglers         runs with a process that was stopped
  straggler_failed   those that did not end with the undisturbed result; must be 0
  clashes            runs on a taken port
  clash_unclear      those that did not end at once with one sentence; must be 0
"""

import argparse
import collections
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import compare
import drill

LIMIT = 30.0  # seconds
STOPPED = 5.0
PATIENCE = 600.0
MEETING = 2.0  # from the last connection until all watch each other
ESTABLISHED = '01'  # state of a connection, in Linux's table
# What an undisturbed run must have made for a comparison to mean anything.
RESULTS = {
    'training': ('model/weights.msgpack', 'model/model.json'),
    'scoring': ('scores.parquet', 'quarantine.csv'),
    'making': ('manifest.parquet', 'scores.parquet', 'proxies.parquet', 'equalisation.json'),
}
ZERO = (
    'late', 'zero_exit', 'unnamed', 'unfinished', 'different', 'straggler_failed', 'clash_unclear',
)  # fmt: skip


def commands(base: pathlib.Path) -> dict[str, list[str]]:
    """Arguments of each kind of work on the data and the model in `base`."""
    root = f'--config.root={base}'
    return {
        'training': [
            '--config=configs/train_proxies.py:smoke', root, '--config.total_steps=16',
            '--config.checkpoint_steps=4', '--config.eval_steps=8',
        ],
        'scoring': ['--config=configs/score.py:smoke', root, '--config.shard_size=2'],
        'making': ['--config=configs/make_data.py:smoke', '--config.photos_per_shard=1'],
    }  # fmt: skip


def start(count: int, arguments: list[str], workdir: pathlib.Path, **changes: str):
    """The launcher of `count` processes and the file of its log; it never ends them itself."""
    changes = {'PATIENCE': str(round(4 * LIMIT))} | changes
    log = workdir.with_suffix('.log')
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w') as file:
        launcher = subprocess.Popen(
            ['launch/local_processes.sh', str(count), *arguments, f'--workdir={workdir}'],
            cwd=drill.ROOT, env=drill.environment(PYTHON=sys.executable, **changes),
            stdout=file, stderr=file,
        )  # fmt: skip
    return launcher, log


def children(launcher: subprocess.Popen, count: int) -> dict[int, int]:
    """Number of each process that lives -> its process id."""
    found = {}
    listed = pathlib.Path(f'/proc/{launcher.pid}/task/{launcher.pid}/children')
    for pid in listed.read_text().split() if listed.exists() else []:
        try:
            words = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
        except OSError:
            continue
        for number in range(count):
            if f'--process_id={number}'.encode() in words:
                found[number] = int(pid)
    return found


def finished(count: int, arguments: list[str], workdir: pathlib.Path) -> tuple[int, float]:
    """Exit code and seconds of a run that nobody disturbs."""
    begin = time.monotonic()
    launcher, _ = start(count, arguments, workdir)
    return launcher.wait(PATIENCE), time.monotonic() - begin


def connected(port: int) -> int:
    """How many processes have a connection to the service of process 0; each has one."""
    rows = [
        row.split()
        for table in (pathlib.Path('/proc/net/tcp'), pathlib.Path('/proc/net/tcp6'))
        for row in (table.read_text().splitlines()[1:] if table.exists() else [])
    ]
    return sum(row[1].endswith(f':{port:04X}') and row[3] == ESTABLISHED for row in rows)


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def named(text: str, victim: int, count: int) -> bool:
    """Whether each survivor says in a log that the victim is dead, and nobody another name."""
    found = re.findall(rf'Process (\d+) of {count} \(host [^)]*\) has stopped answering', text)
    return found == [str(victim)] * (count - 1)


def killed(
    kind: str, count: int, victim: int, instant: float, arguments: list[str], workdir: pathlib.Path
) -> dict:
    """Kills one process after `instant` seconds; what the case adds to the counts.

    {} if the processes had not met or the work was over.
    """
    port = free_port()
    launcher, log = start(count, arguments, workdir, PORT=str(port))
    time.sleep(max(0.0, instant - MEETING))
    have_met = connected(port) == count
    time.sleep(MEETING)
    there = children(launcher, count)
    if not have_met or len(there) < count or (workdir / 'stage.json').exists():
        launcher.wait(PATIENCE)
        return {}
    os.kill(there[victim], signal.SIGKILL)
    begin = time.monotonic()
    while children(launcher, count) and time.monotonic() - begin < 3 * LIMIT:
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    for left in children(launcher, count).values():
        os.kill(left, signal.SIGKILL)
    code, text = launcher.wait(PATIENCE), log.read_text()
    is_named = named(text, victim, count)
    if not is_named:
        print(text, file=sys.stderr)
    print(f'{kind} {count} victim {victim} at {instant:.1f} s: {seconds:.1f} s, exit code {code}, '
          f'{"named" if is_named else "not named"}', file=sys.stderr)  # fmt: skip
    return {
        'cases': 1, kind: 1, 'slowest_end': seconds, 'late': int(seconds > LIMIT),
        'zero_exit': int(code == 0), 'unnamed': int(not is_named),
    }  # fmt: skip


def differences(workdir: pathlib.Path, wanted: pathlib.Path) -> list[str]:
    """What `compare` finds, printed too."""
    found = compare.differences(workdir, wanted)
    for name in found:
        print(f'{workdir}: {name} differs', file=sys.stderr)
    return found


def straggled(
    count: int, arguments: list[str], workdir: pathlib.Path, instant: float, number: int
) -> int | None:
    """Exit code of a run one process of which sleeps for a while; None if it was over before."""
    launcher, _ = start(count, arguments, workdir)
    time.sleep(instant)
    pid = children(launcher, count).get(number)
    if pid is not None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(STOPPED)
        os.kill(pid, signal.SIGCONT)
    code = launcher.wait(PATIENCE)
    return None if pid is None else code


def clashed(arguments: list[str], workdir: pathlib.Path) -> bool:
    """Whether the launcher, and process 0 by itself, end with one sentence about a taken port."""
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        launcher, log = start(2, arguments, workdir, PORT=str(port))
        clear = launcher.wait(PATIENCE) == 1 and log.read_text().count('\n') == 1
        clear &= f'port {port} is taken' in log.read_text()
        alone = drill.run_main(
            *arguments, f'--workdir={workdir}', '--distributed', '--num_processes=2',
            '--process_id=0', f'--coordinator_address=127.0.0.1:{port}', TF_CPP_MIN_LOG_LEVEL='4',
        )  # fmt: skip
    sentence = alone.stderr.strip().splitlines()
    return clear and alone.returncode == 1 and len(sentence) == 1 and 'taken' in sentence[0]


def drill_kind(
    kind: str,
    count: int,
    arguments: list[str],
    folder: pathlib.Path,
    given: argparse.Namespace,
    dice: random.Random,
    counts: dict,
) -> None:
    """All cases of one kind of work with one number of processes; adds to `counts`."""
    if not given.brief:
        finished(count, arguments, folder / 'warm')  # fills the compilation cache
    code, seconds = finished(count, arguments, folder / 'undisturbed')
    if code:
        raise SystemExit(f'{kind} with {count} processes fails undisturbed, see {folder}.')
    wanted = folder / 'undisturbed'
    if missing := [name for name in RESULTS[kind] if not (wanted / name).is_file()]:
        raise SystemExit(f'{kind} with {count} processes makes no {missing[0]} undisturbed.')
    victims = [dice.randrange(count)] if given.brief else [*range(count)] * given.cases
    for case, victim in enumerate(victims):
        workdir, found = folder / f'case_{case}', {}
        while not found:
            instant = dice.uniform(0.2, 0.95) * seconds
            shutil.rmtree(workdir, ignore_errors=True)
            found = killed(kind, count, victim, instant, arguments, workdir)
        counts['slowest_end'] = max(counts['slowest_end'], round(found.pop('slowest_end'), 1))
        counts.update(found)
        code, _ = finished(count, arguments, workdir)
        counts['unfinished'] += code != 0
        counts['compared'] += compare.count(wanted)
        counts['different'] += len(differences(workdir, wanted))
    if given.brief:
        return
    for part in (0.7, 0.5, 0.3):  # a run may be faster than the undisturbed one
        workdir = folder / f'straggler_{part}'
        code = straggled(count, arguments, workdir, part * seconds, count - 1)
        if code is not None:
            counts['stragglers'] += 1
            counts['straggler_failed'] += code != 0 or differences(workdir, wanted) != []
            break


def main() -> None:
    """Runs the drill and prints its line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cases', type=int, default=2, help='of each process of each run')
    parser.add_argument('--processes', type=int, nargs='+', default=[2, 4])
    parser.add_argument(
        '--base', help='workdir of a finished quickstart smoke run, if there is one'
    )
    parser.add_argument('--brief', action='store_true', help='one victim, no straggler, no clash')
    parser.add_argument('--kinds', nargs='+', default=list(RESULTS), choices=list(RESULTS))
    given = parser.parse_args()
    dice = random.Random(given.seed)
    names = ('cases', *RESULTS, 'slowest_end', 'compared', *ZERO, 'stragglers', 'clashes')
    counts = collections.Counter(dict.fromkeys(names, 0))
    with tempfile.TemporaryDirectory() as scratch:
        base = pathlib.Path(given.base or scratch)
        if not given.base:
            order = '--config.order=("data", "pretrain")'
            quickstart = '--config=configs/quickstart.py:smoke'
            made = drill.run_main(quickstart, order, f'--workdir={base}')
            if made.returncode:
                raise SystemExit(made.stderr)
            shutil.copytree(base / 'pretrain' / 'model', base / 'model')
        for count in given.processes:
            for kind in given.kinds:
                folder = pathlib.Path(scratch, f'{kind}_{count}')
                drill_kind(kind, count, commands(base)[kind], folder, given, dice, counts)
        if not given.brief:
            counts['clashes'] += 1
            folder = pathlib.Path(scratch, 'clash')
            counts['clash_unclear'] += not clashed(commands(base)['scoring'], folder)
    drill.finish('R7', given.seed, dict(counts), list(ZERO))


if __name__ == '__main__':
    main()
