"""Candidate lists of a whole competition, built chunk by chunk on every device and merged."""

import functools
import pickle
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from iqa_jax.competition import kernel
from iqa_jax.competition.windows import Cells, Windows, cells
from iqa_jax.runtime import parallel

_NEVER = np.int32(np.iinfo(np.int32).max)  # above every key: a cut that nobody reaches


class Meeting(NamedTuple):
    """A defender, its windows, and its attackers, as numbers of columns."""

    defender: int
    attackers: tuple[int, ...]
    windows: Windows


class Lists(NamedTuple):
    """Lists of one meeting, best first: `index` and `keys` int [2 * M, levels, K], -1 where empty.

    The first half is each attacker's largest scores, the second half its smallest by complemented
    key. `tied` bool [2 * M, levels]: an image that was left out equals the last of the list.
    `images` int [levels]: how many a level holds.
    """

    index: np.ndarray
    keys: np.ndarray
    tied: np.ndarray
    images: np.ndarray


class _Group(NamedTuple):
    """Meetings with equally many attackers, which the kernel takes in one loop."""

    members: list[int]
    cells: list[Cells]
    axes: kernel.Axes


class Builder:
    """Takes a score table in chunks and lists every attacker's `candidates` extremes by level."""

    def __init__(self, meetings: Sequence[Meeting], candidates: int, chunk_size: int):
        self._chunk_size = chunk_size + -chunk_size % kernel.MULTIPLE
        self._lanes = parallel.local_device_count()
        self._meetings, self._candidates = meetings, candidates
        rivals = sorted({len(meeting.attackers) for meeting in meetings})
        self._groups = [_group(meetings, count) for count in rivals]
        self._axes = tuple(group.axes for group in self._groups)
        self._states = tuple(_empty(group, candidates, self._lanes) for group in self._groups)

    @property
    def batch_size(self) -> int:
        """Images that `add` takes at a time."""
        return self._chunk_size * self._lanes

    def add(self, scores: np.ndarray, out: np.ndarray, index: np.ndarray) -> None:
        """At most `batch_size` images more, as in `kernel.update`, above all earlier ones."""
        shape = (self._lanes, self._chunk_size)
        if missing := self.batch_size - len(index):  # one shape, one compilation
            scores = np.pad(scores, ((0, 0), (0, missing)))
            out = np.pad(out, (0, missing), constant_values=True)
            index = np.pad(index, (0, missing), constant_values=kernel.NOBODY)
        if self._lanes > 1:
            scores = np.ascontiguousarray(scores.reshape(-1, *shape).swapaxes(0, 1))
        chunk = (
            scores.reshape(self._lanes, -1, self._chunk_size),
            *(x.reshape(shape) for x in (out, index)),
        )
        self._states = _step()(self._states, self._axes, chunk)

    def listed(self) -> np.ndarray:
        """Numbers of the images that are in some list of this process, ascending."""
        found = [np.ravel(state.index) for state in parallel.fetch(self._states)]
        return np.unique(np.concatenate(found))

    def finish(self) -> list[Lists]:
        """The lists of every meeting, of all devices and processes; all of them must call it."""
        parts = gathered(parallel.fetch(self._states))
        found: dict[int, Lists] = {}
        for number, group in enumerate(self._groups):
            lanes = kernel.Extremes(
                *(np.concatenate(x) for x in zip(*(part[number] for part in parts), strict=True))
            )
            for place, member in enumerate(group.members):
                of_one = kernel.Extremes(*(x[:, place] for x in lanes))
                found[member] = _merge(of_one, group.cells[place].runs, self._candidates)
        return [found[member] for member in range(len(self._meetings))]


def gathered(value) -> list:
    """What every process holds, by process number."""
    return [pickle.loads(data) for data in parallel.gather_bytes(pickle.dumps(value))]


def _group(meetings: Sequence[Meeting], rivals: int) -> _Group:
    members = [i for i, meeting in enumerate(meetings) if len(meeting.attackers) == rivals]
    divided = [cells(meetings[i].windows) for i in members]
    most = max(len(part.cuts) for part in divided)
    cuts = [np.pad(p.cuts, (0, most - len(p.cuts)), constant_values=_NEVER) for p in divided]
    cell_of = [np.pad(p.cell_of, (0, most + 1 - len(p.cell_of))) for p in divided]
    axes = kernel.Axes(
        np.array([meetings[i].defender for i in members], np.int32),
        np.array([meetings[i].attackers for i in members], np.int32),
        np.stack(cuts),
        np.stack(cell_of),
    )
    return _Group(members, divided, axes)


def _empty(group: _Group, candidates: int, lanes: int) -> kernel.Extremes:
    defenders, rivals = group.axes.attackers.shape
    count = max(part.count for part in group.cells)
    state = parallel.fetch(kernel.empty(defenders, count, rivals, candidates))
    return kernel.Extremes(*(np.stack([x] * lanes) for x in state))


@functools.cache
def _step() -> Callable:
    return parallel.lanes(lambda states, axes, chunk: kernel.update(states, axes, *chunk))


def _merge(found: kernel.Extremes, runs: list[slice], candidates: int) -> Lists:
    """Lists [lanes, cells, 2 * M, K] of one defender's cells as lists of its windows."""
    sides = found.dropped.shape[-1]
    index = np.full((sides, len(runs), candidates), kernel.NOBODY)
    keys = np.full(index.shape, kernel.EMPTY)
    tied = np.zeros(index.shape[:2], bool)
    for level, run in enumerate(runs):
        if run.start == run.stop:
            continue
        key, number, dropped = (np.moveaxis(x[:, run], 2, 0).reshape(sides, -1) for x in found[:3])
        order = np.lexsort((number, -key.astype(np.int64)))[:, :candidates]
        keys[:, level] = np.take_along_axis(key, order, 1)
        index[:, level] = np.take_along_axis(number, order, 1)
        last = keys[:, level, -1:]
        more = (key == last).sum(1) > (keys[:, level] == last).sum(1)
        tied[:, level] = (more | (dropped == last).any(1)) & (last[:, 0] != kernel.EMPTY)
    images = found.images.astype(np.int64).sum(0)
    return Lists(index, keys, tied, np.array([images[run].sum() for run in runs]))
