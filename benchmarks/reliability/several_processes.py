"""R9: do several processes leave what one leaves, in every stage of the whole loop and after it?

    python benchmarks/reliability/several_processes.py [--processes=2] [--base=DIR] [--keep=DIR]
        [--brief]

Runs the smoke quickstart with one process (or takes that of --base), then gmad_rank and
import_database on it. In a copy, of which only the trainings and the first data stay, several
processes that share the work do the same: scoring, studies, searches, evaluations, exports, page.
Every file that either leaves is compared as in compare.py: byte for byte, times aside. Without
--brief several processes then run the whole quickstart, trainings too, in an empty folder. As the
order of float32 sums decides over later searches, only names are compared there. The data set that
import_database can write is left out: TensorFlow Datasets stores the fields of a record in another
order each time.

The line of JSON has
  files              files and checkpoints compared bit for bit
  remade             of these, files that the several processes have made
  failed             commands that did not end with 0; must be 0
  files_different    files that differ or that one side lacks, named in `different`; must be 0
  whole              files of the loop that several processes ran from its beginning
  whole_missing      files of the one process's loop that are not among them; must be 0
"""

import argparse
import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

import drill

sys.path.insert(0, str(drill.ROOT))
import compare

TRAINED = ('data', 'pretrain', 'finetune', 'active/round_01/train')
QUICKSTART = '--config=configs/quickstart.py:smoke'


def commands(workdir: pathlib.Path) -> list[list[str]]:
    """Arguments of the whole loop and of what goes on from it, each with its own workdir."""
    return [
        [QUICKSTART, f'--workdir={workdir}'],
        ['--config=configs/gmad_rank.py:smoke', f'--config.root={workdir}',
         f'--workdir={workdir}/gmad_rank'],
        ['--config=configs/import_database.py:smoke', f'--config.folder={workdir}/rate',
         '--config.array_record=False', f'--workdir={workdir}/imported'],
    ]  # fmt: skip


def several(count: int, arguments: list[str]) -> int:
    """Exit code of a command that `count` processes share."""
    done = subprocess.run(
        ['launch/local_processes.sh', str(count), *arguments], cwd=drill.ROOT,
        env=drill.environment(PYTHON=sys.executable), stdout=sys.stderr, check=False,
    )  # fmt: skip
    return done.returncode


def one(arguments: list[str]) -> int:
    """Exit code of a command of one process."""
    done = drill.run_main(*arguments)
    print(done.stderr, file=sys.stderr)
    return done.returncode


def names(folder: pathlib.Path) -> set[str]:
    """Files below a folder that every finished run has."""
    files = (file.relative_to(folder) for file in folder.rglob('*') if file.is_file())
    return {str(f) for f in files if 'checkpoints' not in f.parts and f.suffix != '.png'}


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0, help='nothing here is drawn')
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--base', type=pathlib.Path, help='workdir of a finished smoke quickstart')
    parser.add_argument('--brief', action='store_true', help='trainings by one process only')
    parser.add_argument('--keep', type=pathlib.Path, help='folder that the runs are left in')
    given = parser.parse_args()
    counts = dict.fromkeys(('files', 'remade', 'failed', 'files_different'), 0)
    scratch = contextlib.nullcontext(given.keep) if given.keep else tempfile.TemporaryDirectory()
    with scratch as made:
        alone, shared, whole = (pathlib.Path(made, name) for name in ('one', 'shared', 'whole'))
        if given.base:
            shutil.copytree(given.base, alone)
        for arguments in commands(alone):
            counts['failed'] += one(arguments) != 0
        for name in TRAINED:
            shutil.copytree(alone / name, shared / name)
        before = compare.count(shared)
        for arguments in commands(shared):
            counts['failed'] += several(given.processes, arguments) != 0
        different = compare.differences(shared, alone)
        counts |= {'files': compare.count(shared), 'files_different': len(different)}
        counts |= {'remade': counts['files'] - before, 'different': different}
        zero = ['failed', 'files_different']
        if not given.brief:
            counts['failed'] += several(given.processes, [QUICKSTART, f'--workdir={whole}']) != 0
            mine = {n for n in names(alone) if not n.startswith(('gmad_rank/', 'imported/'))}
            counts |= {'whole': len(names(whole)), 'whole_missing': len(mine - names(whole))}
            zero.append('whole_missing')
    drill.finish('R9', given.seed, counts, zero)


if __name__ == '__main__':
    main()
