"""The failing disk of faults.c: compiled, loaded before everything else, switched on and off."""

import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).with_name('faults.c')
KINDS = {'full': 1, 'read_only': 2, 'no_permission': 3, 'sync_fails': 4, 'write_fails': 5}
SLOW = 6
READS = {'read_fails': 7, 'no_descriptors': 8}  # EIO of read, EMFILE of open, of files to read
COUNT = 9
LOADED = 'IQA_JAX_DRILL_SHIM'


def load() -> None:
    """Starts this program again with the shim loaded, unless it is; removes its file at the end.

    Raises:
      RuntimeError: there is no C compiler.
    """
    if LOADED in os.environ:
        return
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder, 'faults.so')
        command = ['cc', '-shared', '-fPIC', '-O1', '-o', str(library), str(SOURCE), '-ldl']
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f'The failing disk cannot be compiled: {error}.') from error
        environment = os.environ | {'LD_PRELOAD': str(library), LOADED: str(library)}
        done = subprocess.run([sys.executable, *sys.argv], env=environment, check=False)
    sys.exit(done.returncode)


def begin(folder: pathlib.Path, kind: int, after: int) -> None:
    """Calls on files below a folder fail from now on, when `after` bytes or calls were made."""
    ctypes.CDLL(None).fault_begin(os.fsencode(folder), kind, ctypes.c_long(after))


def end() -> int:
    """How many calls failed or were slow since `begin`, which ends."""
    library = ctypes.CDLL(None)
    library.fault_hits.restype = ctypes.c_long
    library.fault_end()
    return library.fault_hits()


def counted() -> dict[str, int]:
    """Bytes (full) or calls of each kind since `begin` with COUNT, during which none fails."""
    library = ctypes.CDLL(None)
    library.fault_counted.restype = ctypes.c_long
    return {name: library.fault_counted(kind) for name, kind in (KINDS | READS).items()}


def environment(folder: pathlib.Path, kind: int, after: int) -> dict[str, str]:
    """What makes a program that is started fail so from its first call on."""
    values = {'FAULT_ROOT': str(folder), 'FAULT_KIND': str(kind), 'FAULT_AFTER': str(after)}
    return values | {'LD_PRELOAD': os.environ[LOADED]}
