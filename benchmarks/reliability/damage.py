"""Damages files, tables and steps of checkpoints so that their bytes differ, from one seed."""

import io
import pathlib
import random
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

STEPS = (10, 20, 30)  # of the checkpoints in a folder
REDRAWS = 100


def of_bytes(data: bytes, kind: str, rng: random.Random) -> bytes:
    """Bytes with one flipped bit, cut, partly zeroed or longer."""
    at = rng.randrange(max(1, len(data)))
    if kind == 'flip' and data:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 'truncate':
        return data[:at]
    if kind == 'zero':
        return data[:at] + bytes(len(data) - at)
    return data + rng.randbytes(rng.randrange(1, 20))


def of_table(file: pathlib.Path, rng: random.Random) -> bytes:
    """The bytes of a table with one value changed, all else as it was; b'' if that cannot be."""
    data = file.read_bytes()
    if file.suffix == '.csv':
        digits = [m.start() for m in re.finditer(rb'[0-9]', data)]
        if not digits:
            return b''
        at = rng.choice(digits)
        return data[:at] + str((int(data[at : at + 1]) + 1) % 10).encode() + data[at + 1 :]
    table = pq.read_table(file)
    numbers = [name for name in table.column_names if pa.types.is_floating(table[name].type)]
    if not numbers or not table.num_rows:
        return b''
    name = rng.choice(numbers)
    values = table[name].to_numpy().copy()
    values[rng.randrange(len(values))] += 1
    kind = table.schema.field(name).type
    table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression='zstd')
    return sink.getvalue()


def bytes_of(folder: pathlib.Path) -> dict[str, bytes]:
    """Content of every file below a folder by name."""
    files = (f for f in folder.rglob('*') if f.is_file())
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def files_of(folder: pathlib.Path, step: int) -> list[pathlib.Path]:
    """Every file of a step, relative: those of Orbax, the record and its sidecar."""
    found = [f for f in sorted((folder / 'steps' / str(step)).rglob('*')) if f.is_file()]
    return [f.relative_to(folder) for f in found + sorted(folder.glob(f'step_{step}.json*'))]


def of_step(folder: pathlib.Path, step: int, kind: str, rng: random.Random) -> None:
    """Damages one file of a step, or replaces or removes all of it, so that it differs."""
    before = bytes_of(folder)
    for _ in range(REDRAWS):
        _of_step(folder, step, kind, rng)
        if bytes_of(folder) != before:
            return


def _of_step(folder: pathlib.Path, step: int, kind: str, rng: random.Random) -> None:
    ours, other = files_of(folder, step), rng.choice([s for s in STEPS if s != step])
    theirs = files_of(folder, other)
    if kind == 'whole_step':
        for old, new in ((f'steps/{other}', f'steps/{step}'),
                         (f'step_{other}.json', f'step_{step}.json'),
                         (f'step_{other}.json.meta.json',
                          f'step_{step}.json.meta.json')):  # fmt: skip
            shutil.rmtree(folder / new, ignore_errors=True)
            copy = shutil.copytree if (folder / old).is_dir() else shutil.copy
            copy(folder / old, folder / new)
        return
    if kind == 'vanish':
        shutil.rmtree(folder / 'steps' / str(step), ignore_errors=True)
        for file in folder.glob(f'step_{step}.json*'):
            file.unlink()
        return
    if not ours:
        return
    file = folder / rng.choice(ours)
    if kind == 'delete':
        file.unlink()
    elif kind == 'swap':
        second = folder / rng.choice(ours)
        data = file.read_bytes()
        file.write_bytes(second.read_bytes())
        second.write_bytes(data)
    elif kind == 'other_step' and theirs:
        twin = str(file.relative_to(folder)).replace(str(step), str(other))
        file.write_bytes((folder / (twin if (folder / twin).is_file() else rng.choice(theirs)))
                         .read_bytes())  # fmt: skip
    else:
        file.write_bytes(of_bytes(file.read_bytes(), kind, rng))
