"""Speed of the train step: mapped against plain jit, the twin against one model, us against torch.

    pip install -e '.[bench]'
    python benchmarks/train_speed.py              # seven rounds; several minutes on two cores
    python benchmarks/train_speed.py --no-torch   # our side alone

ResNet-18 from random weights, global average, unit length, one linear output; the fidelity loss of
8 pairs (16 pictures) of 224x224; Adam with weight decay 5e-4 added to the gradient; the twin is
pruned by 30 % through a product with its mask. `score` is inference of 8 pictures of 512x384.
`train_speed_torch.py` holds the other side, as one would write it there.

Each side is a process of its own on `--threads` processor threads (2), in huge pages as of
launch/cpu.sh, and sleeps while the other one runs. The calls go by turns, each twice in a row, of
which the second counts: after a pause the first one waits for the system to find memory. Medians of
seconds, and of processor seconds of all threads together, which suffer less from whatever else the
machine does. Bars: pmapped at most 1.05 times jit, the twin at most 2.1 times the plain step, at
least 1.2 times as fast as torch.

On an accelerator it prints instead pictures per second at 224 and 384 for a few batches, in float32
and with the backbone in bfloat16 (head, statistics and parameters stay float32), and the share of
the rate of a large product of matrices in the same type that the step reaches.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

PAIRS, SIDE = 8, 224
SCORED = (8, 384, 512)  # pictures, height, width
# (what, the slower side, the faster side, the bar and whether it is the least or the most)
BARS = (
    ('pmapped / jit', 'ours step', 'ours step_jit', 'most', 1.05),
    ('twin / plain', 'ours twin', 'ours step', 'most', 2.1),
    ('torch / ours, step', 'torch step', 'ours step', 'least', 1.2),
    ('torch / ours, twin', 'torch twin', 'ours twin', 'least', 1.2),
    ('torch / ours, score', 'torch score', 'ours score', 'least', 1.2),
)


def side_calls(side: str, threads: int) -> dict:
    """The calls of one side by name; only that side's framework computes here."""
    from benchmarks import train_speed_ours as ours

    if side == 'ours':
        return ours.calls(PAIRS, SIDE, SCORED)
    from benchmarks import train_speed_torch

    scored = ours.batch(*SCORED)['image'].astype('float32') / 255
    return train_speed_torch.calls(
        ours.batch(2 * PAIRS, SIDE, SIDE), scored, ours.OHEM, ours.OPTIMIZER, ours.RATE, threads
    )


def serve(side: str, threads: int) -> None:
    """Runs the call that each line of the standard input names; answers with its two times."""
    calls = side_calls(side, threads)
    for call in calls.values():
        call()
    print(json.dumps(list(calls)), flush=True)
    for line in sys.stdin:
        call = calls[line.strip()]
        call()  # not counted
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        print(
            json.dumps({'wall': time.perf_counter() - wall, 'cpu': time.process_time() - cpu}),
            flush=True,
        )


def measure(sides: list[str], rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """Median wall and processor seconds of every call of every side, by 'side call'."""
    servers = {}
    names = []
    for side in sides:
        servers[side] = subprocess.Popen(
            [sys.executable, __file__, '--side', side, '--threads', str(threads)],
            env=os.environ | {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'},  # as launch/cpu.sh
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        names += [(side, call) for call in json.loads(answer(servers[side]))]
    times = {f'{side} {call}': [] for side, call in names}
    for _ in range(rounds):
        for side, call in names:
            servers[side].stdin.write(f'{call}\n')
            servers[side].stdin.flush()
            times[f'{side} {call}'].append(json.loads(answer(servers[side])))
    for server in servers.values():
        server.stdin.close()
        server.wait()
    return {
        name: {kind: statistics.median(t[kind] for t in found) for kind in ('wall', 'cpu')}
        for name, found in times.items()
    }


def answer(server: subprocess.Popen) -> str:
    """The next line of a side; SystemExit if it ended, as it has said why itself."""
    line = server.stdout.readline()
    if not line:
        raise SystemExit(f'{" ".join(server.args)} ended with {server.wait()}.')
    return line


def report(found: dict[str, dict[str, float]]) -> None:
    """Prints the table and, last, one JSON line."""
    print(f'{"":24s}{"seconds":>9s}{"processor":>11s}')
    for name, times in found.items():
        print(f'{name:24s}{times["wall"]:9.3f}{times["cpu"]:11.3f}')
    print(f'\n{"ratio":24s}{"seconds":>9s}{"processor":>11s}   bar')
    ratios = {}
    for what, above, below, kind, bar in BARS:
        if above not in found:
            continue
        ratios[what] = {k: found[above][k] / found[below][k] for k in ('wall', 'cpu')}
        print(f'{what:24s}{ratios[what]["wall"]:9.3f}{ratios[what]["cpu"]:11.3f}   at {kind} {bar}')
    rows = {'seconds': found, 'ratios': ratios}
    print(json.dumps(rows, default=float))


def main() -> None:
    """Prints the table and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--no-torch', action='store_true')
    parser.add_argument('--side', choices=('ours', 'torch'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is None:
        import jax

        if jax.default_backend() != 'cpu':
            from benchmarks import train_speed_ours

            train_speed_ours.accelerator(options.rounds)
            return
    if hasattr(os, 'sched_setaffinity'):  # before the threads of either side are made
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    if options.side is not None:
        serve(options.side, options.threads)
        return
    sides = ['ours'] if options.no_torch else ['ours', 'torch']
    report(measure(sides, options.rounds, options.threads))


if __name__ == '__main__':
    main()
