"""What a finished run must have in common with an undisturbed one, bit for bit.

Every file of either workdir is compared by its bytes, but for three kinds:

* files that state times (stage.json, summary.json, metrics.jsonl, denoiser.json, report.html) are
  compared without the times: the keys of TIMES, the speed in a headline, and in the page the
  durations, their shares, the seconds of its table of stages and the digests of metrics.jsonl.
  Everything else in them counts: every step, loss and validation score to the last digit;
* sidecars are compared without the record of the data that was there before, and those of files
  that state times without digest and size. Fingerprints count, which proves that no time entered
  what a later stage hashes; those of report.html and summary.json at the top of a workdir, and of
  the stage.json beside them, are left out, as these three show the times;
* of checkpoints, whose files Orbax names at random and dates, the newest step is restored. Every
  array is compared, by type, shape and bits, and its metadata as text: validation score and best
  step, without times and without size and digest of the metric log, whose rows are compared.

The database of a study holds times and names drawn by lot; benchmarks/study_load.py judges it.
A file that only one of them has counts as different, checkpoints older than the newest one aside;
so does a half-written file or step among the checkpoints.
"""

import base64
import json
import pathlib
import re

import numpy as np
import orbax.checkpoint as ocp

from iqa_jax.runtime import artifacts, checkpoints

TIMED = ('stage.json', 'summary.json', 'metrics.jsonl', 'denoiser.json', 'report.html')
TIMES = ('seconds', 'images_per_second', 'data_wait_fraction')
# At the top of the workdir: they are marked by the times that they show.
SHOW_TIMES = {'report.html', 'summary.json'}
LOG = 'log'  # of a checkpoint's metadata: length and digest of the metric log
SIDECAR = '.meta.json'
DATABASE = 'study.sqlite'  # and what SQLite keeps beside it
SPEED = re.compile(r'[\d.,]+ (images|pairs)/s')
DURATION = re.compile(r'\b(\d+ h \d\d min|\d+ min \d\d s|[\d.]+ s)(?=[<.])')
SHARE = re.compile(r'class="share" style="width:[\d.]+%" title="[\d.]+ %"')
STAGES = re.compile(r'download="stages\.csv" href="data:text/csv;charset=utf-8;base64,([\w+/=]+)"')
LOG_DIGEST = re.compile(r'(/metrics\.jsonl</th>.{,40}?<code>)[0-9a-f]{64}')


def differences(folder: pathlib.Path, wanted: pathlib.Path) -> list[str]:
    """Names of what differs between two workdirs, checkpoints as 'FOLDER: LEAF'."""
    found = []
    ours, theirs = _files(folder), _files(wanted)
    found += sorted(ours ^ theirs)
    marked = SHOW_TIMES | {'stage.json'} if SHOW_TIMES & ours & theirs else set()
    for name in sorted(ours & theirs):
        a, b = (pathlib.Path(place, name).read_bytes() for place in (folder, wanted))
        is_marked = name.removesuffix(SIDECAR) in marked
        if a != b and not _equal_but_times(name, a, b, is_marked):
            found.append(name)
    ours, theirs = _checkpoints(folder), _checkpoints(wanted)
    found += sorted(ours ^ theirs)
    for name in sorted(ours & theirs):
        a, b = (_leaves_or_error(place / name) for place in (folder, wanted))
        found += [f'{name}: {leaf}' for leaf in unequal(a, b)]
    return found


def count(folder: pathlib.Path) -> int:
    """How many files and checkpoints `differences` looks at."""
    return len(_files(folder)) + len(_checkpoints(folder))


def newest_leaves(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays of the newest committed step of a folder of checkpoints by name.

    Two more tell its number and its metadata without times.
    """
    steps = checkpoints.Checkpoints(folder).steps()
    if not steps:
        return {}
    step = folder / 'steps' / str(steps[-1])
    saved = ocp.PyTreeCheckpointer().restore(step / 'state')
    metadata = _untimed(ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(step / 'data'))
    metadata = {key: value for key, value in metadata.items() if key != LOG}
    about = {'step': steps[-1], 'metadata': json.dumps(metadata, sort_keys=True)}
    return {name: np.asarray(leaf) for name, leaf in (saved | about).items()}


def unequal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> list[str]:
    """Names of arrays that differ in type, shape or any bit, or that only one of them has."""
    return sorted(a.keys() ^ b.keys()) + [
        name
        for name in sorted(a.keys() & b.keys())
        if (a[name].dtype, a[name].shape) != (b[name].dtype, b[name].shape)
        or a[name].tobytes() != b[name].tobytes()
    ]


def rows_of(log: pathlib.Path) -> list[dict]:
    """The rows of a metric log without what tells speed."""
    return [_untimed(json.loads(line)) for line in log.read_text().splitlines()]


def _leaves_or_error(folder: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return newest_leaves(folder)
    except Exception as error:  # Orbax raises nearly any class on damage
        return {f'{type(error).__name__}: {error}'[:200]: np.zeros(0)}


def _files(folder: pathlib.Path) -> set[str]:
    files = (f.relative_to(folder) for f in folder.rglob('*') if f.is_file())
    finished = {
        str(step)
        for name in _checkpoints(folder)
        for number in checkpoints.Checkpoints(folder / name).steps()
        for step in _of_step(pathlib.Path(name), number)
    }
    return {
        str(file)
        for file in files
        if not file.name.startswith(DATABASE)
        and not ('checkpoints' in file.parts and {str(file), *map(str, file.parents)} & finished)
    }


def _of_step(folder: pathlib.Path, number: int) -> list[pathlib.Path]:
    """What belongs to a finished step of a folder of checkpoints: record, sidecar and folder."""
    record = folder / f'step_{number}.json'
    return [record, artifacts.sidecar_path(record), folder / 'steps' / str(number)]


def _checkpoints(folder: pathlib.Path) -> set[str]:
    return {str(f.parent.relative_to(folder)) for f in folder.rglob('step_*.json')}


def _equal_but_times(name: str, a: bytes, b: bytes, is_marked: bool) -> bool:
    try:
        return _plain(name, a, is_marked) == _plain(name, b, is_marked)
    except (ValueError, KeyError, TypeError):  # no longer what it was
        return False


def _plain(name: str, data: bytes, is_marked: bool) -> object:
    """What of a file is compared; the fingerprint of one marked by times is not."""
    file = pathlib.Path(name).name
    if file.endswith(SIDECAR):
        record, of = json.loads(data), file.removesuffix(SIDECAR)
        keys = ['meta'] + ['sha256', 'size'] * (of not in TIMED)
        keys += ['fingerprint'] * (not is_marked)
        return {key: record[key] for key in keys}
    if file not in TIMED:
        return data
    if file == 'metrics.jsonl':
        return [_untimed(json.loads(line)) for line in data.splitlines()]
    return _page(data.decode()) if file == 'report.html' else _untimed(json.loads(data))


def _untimed(value: object) -> object:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [_untimed(item) for item in value]
    return SPEED.sub('', value) if isinstance(value, str) else value


def _page(text: str) -> str:
    def without_seconds(match: re.Match) -> str:
        rows = base64.b64decode(match[1]).decode().splitlines()
        return str([(row.split(',')[0], row.split(',')[2:]) for row in rows])

    text = LOG_DIGEST.sub(r'\1', text)
    return DURATION.sub('', SHARE.sub('', STAGES.sub(without_seconds, text)))
