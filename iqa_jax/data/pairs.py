"""Reference and distorted files that belong together: which they are, and their pixels in batches.

A table of pairs has the columns image_id, reference and distorted, text [N]; the latter two are
files.
"""

import collections
import math
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from iqa_jax.data import sources, tables
from iqa_jax.images import guarded, io
from iqa_jax.runtime import paths
from iqa_jax.runtime.paths import Path, as_path

RECENT_REFERENCES = 4  # kept decoded for the pairs that come next


def read_table(path: str | Path) -> tables.Table:
    """The pairs of a table in its order, their files joined to the table's folder.

    Raises:
      ValueError: there is no such table, it lacks a column, has no row, or an image_id twice.
    """
    path = as_path(path)
    columns = tables.read(path)[0]
    tables.require(columns, ['image_id', 'reference', 'distorted'], path)
    ids = [str(image_id) for image_id in columns['image_id'].tolist()]
    if not ids:
        raise ValueError(f'{path} has no row; give each pair one.')
    if twice := _repeated(ids):
        raise ValueError(f'{path} lists image_id {twice} more than once; keep one row per pair.')
    files = {
        role: [str(paths.join(path.parent, str(file))) for file in columns[role].tolist()]
        for role in ('reference', 'distorted')
    }
    return _table([*zip(ids, files['reference'], files['distorted'], strict=True)])


def match_folders(references: str | Path, distorted: str | Path) -> tuple[tables.Table, list[dict]]:
    """Pairs the pictures of `distorted` with the references whose names theirs begin with.

    `I01_10_05.png` belongs to `I01.png`, as do `I01.bmp` and `i01.AWGN.1.png`: what follows the
    reference's name starts with one of `_.-`, and case does not count. The longest name wins; among
    references of one name in several subfolders, the one in the picture's own subfolder. A folder
    that holds both may be given twice: then the shortest name wins, and a reference makes no pair
    itself.

    Returns:
      The pairs in the order of the distorted files, image_id being the path below `distorted`
      without its suffix; quarantine entries {'file', 'reason'} of pictures without a reference,
      or whose name is no text, 'file' being the path below `distorted`.

    Raises:
      ValueError: a folder is missing or holds no picture, no picture has a reference, or two that
        have differ in nothing but the suffix.
    """
    references, distorted = as_path(references), as_path(distorted)
    known = _by_name(references, both=references.resolve() == distorted.resolve())
    own = {paths.real(file) for files in known.values() for file in files}
    matches, refused = {}, {}
    for file in sources.photo_files(distorted, 'distorted'):
        try:
            file.relative_to(distorted).as_posix().encode()
        except UnicodeEncodeError:
            refused[file] = 'its name is not Unicode text; rename it'
            continue
        names = _beginnings(file.stem.casefold())
        if paths.real(file) in own:
            names = names[1:]
        found = next((known[name] for name in names if name in known), [])
        if len(found) > 1:
            folder = references / file.relative_to(distorted).parent
            found = [f for f in found if f.parent == folder] or found
        if len(found) == 1:
            matches[file] = found[0]
        elif found:
            refused[file] = f'{found[0]} and {found[1]} may both be its reference'
        else:
            refused[file] = f'{references} holds no reference for it'
    used = {paths.real(file) for file in matches.values()}
    rows = [
        (file.relative_to(distorted).with_suffix('').as_posix(), str(reference), str(file))
        for file, reference in matches.items()
        if paths.real(file) not in used
    ]
    if not rows:
        raise ValueError(
            f'No picture of {distorted} has exactly one reference in {references}; distorted '
            'pictures are named after their reference, as I01_10_05.png after I01.png.'
        )
    if twice := _repeated([image_id for image_id, _, _ in rows]):
        raise ValueError(f'{distorted} holds {twice} in two formats; keep one of them.')
    return _table(rows), [
        {'file': file.relative_to(distorted).as_posix(), 'reason': reason}
        for file, reason in refused.items()
        if paths.real(file) not in used
    ]


def batches(
    columns: tables.Table,
    size: int,
    threads: int,
    waiting_mib: float,
    bad: dict[int, str],
    decode: guarded.Decode = io.decode,
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Pairs in batches of one shape; the next ones are decoded while the caller uses a batch.

    Args:
      columns: of the pairs.
      size: most pairs in a batch, and number of pairs decoded ahead.
      threads: that decode.
      waiting_mib: most MiB of decoded pairs that wait for others of their shape; beyond it the
        shape that takes most of it is handed out as it is.
      bad: gets row -> reason for every pair that cannot be used.
      decode: `io.decode`, or what `guarded.decoding` gives.

    Yields:
      (rows, references, distorted), the latter two uint8 [n, H, W, 3]. Which pairs make a batch
      depends on `columns`, `size` and `waiting_mib` only.
    """

    def held(shape: tuple[int, ...]) -> int:
        return 2 * len(waiting[shape]) * math.prod(shape)

    def batch(shape: tuple[int, ...]) -> tuple[list[int], np.ndarray, np.ndarray]:
        rows, references, distorted = zip(*waiting.pop(shape), strict=True)
        return list(rows), np.stack(references), np.stack(distorted)

    waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for row, reference, distorted in _decoded(columns, max(size, threads), threads, bad, decode):
        waiting.setdefault(reference.shape, []).append((row, reference, distorted))
        if len(waiting[reference.shape]) == size:
            yield batch(reference.shape)
        elif sum(map(held, waiting)) > waiting_mib * 2**20:
            yield batch(max(waiting, key=held))
    for shape in list(waiting):
        yield batch(shape)


def _decoded(
    columns: tables.Table, ahead: int, threads: int, bad: dict[int, str], decode: guarded.Decode
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(row, reference, distorted), uint8 [H, W, 3], in order; the reasons of the others go to bad.

    Consecutive pairs that share a reference also share its array.
    """
    rows = range(len(columns['image_id']))
    recent: dict[str, Future] = {}

    def submit(row: int) -> tuple[Future, Future]:
        file = columns['reference'][row]
        recent[file] = recent.pop(file, None) or pool.submit(decode, as_path(file))
        if len(recent) > RECENT_REFERENCES:
            del recent[next(iter(recent))]
        return recent[file], pool.submit(decode, as_path(columns['distorted'][row]))

    with ThreadPoolExecutor(threads) as pool:
        jobs = collections.deque(map(submit, rows[:ahead]))
        for row in rows:
            if row + ahead < len(rows):
                jobs.append(submit(row + ahead))
            try:
                reference, distorted = (job.result() for job in jobs.popleft())
            except io.ImageError as error:
                bad[row] = str(error)
                continue
            if reference.shape != distorted.shape:
                sizes = [f'{x.shape[1]}x{x.shape[0]}' for x in (distorted, reference)]
                bad[row] = f'it is {sizes[0]} pixels, its reference {sizes[1]}'
                continue
            yield row, reference, distorted


def _by_name(folder: Path, both: bool) -> dict[str, list[Path]]:
    """Name in lower case -> files; if the folder holds both, without names that begin with another.

    Of I01, I01_blur and I01_blur_2 only the first is no distorted picture itself.
    """
    known: dict[str, list[Path]] = {}
    for file in sources.photo_files(folder, 'references'):
        known.setdefault(file.stem.casefold(), []).append(file)
    if not both:
        return known
    return {name: x for name, x in known.items() if known.keys().isdisjoint(_beginnings(name)[1:])}


def _beginnings(name: str) -> list[str]:
    """The name and what stands before each `_`, `.` and `-` of it, longest first."""
    return [name[:end] for end in [m.start() for m in re.finditer('[_.-]|$', name)][::-1]]


def _repeated(ids: list[str]) -> str | None:
    """An id that is there more than once, or None."""
    return next((x for x, count in collections.Counter(ids).items() if count > 1), None)


def _table(rows: list[tuple[str, str, str]]) -> tables.Table:
    columns = zip(*rows, strict=True)
    names = ('image_id', 'reference', 'distorted')
    return {name: np.array(column, object) for name, column in zip(names, columns, strict=True)}
