"""What several processes tell each other; the tests run it in processes.

Arguments: output folder, coordinator address, number of processes, process number.
"""

import json
import pathlib
import sys

from iqa_jax.runtime import artifacts, parallel, sharing


class OddError(ValueError):
    """Cannot be copied by `pickle`: it wants two arguments and keeps one."""

    def __init__(self, a: str, b: str):
        super().__init__(f'{a} and {b}')


def refused(error: Exception):
    """The type and the sentence with which the whole cluster refuses."""

    @sharing.on_main
    def work():
        raise error

    try:
        work()
    except (ValueError, OSError) as found:
        return [type(found).__name__, str(found)]
    return None


def main(folder: pathlib.Path, address: str, count: int, index: int) -> None:
    parallel.initialize(True, address, count, index)

    @sharing.on_main
    def inner() -> list[int]:
        return [parallel.process_index(), parallel.process_count()]

    @sharing.on_main
    def outer() -> dict:
        parallel.barrier('nobody else is here')
        return {'here': inner(), 'agreed': parallel.agree(False), 'index': index}

    shards = sharing.Shards({folder / f'shard{i}.txt': f'mark {i}' for i in range(3)})
    made = []

    def make(path: pathlib.Path, mark: str) -> None:
        made.append(path.name)
        artifacts.commit(path, mark.encode(), fingerprint=mark)

    first = len(shards.make(make))
    shards.wait()
    parallel.barrier('all shards are there')
    artifacts.forget(shards.paths[1])
    parallel.barrier('one is gone')
    second = len(shards.make(make))
    shards.wait()
    result = {
        'exchanged': [x.decode() for x in parallel.exchange(f'I am {index}'.encode())],
        'agreed': parallel.agree(index == 0),
        'outer': outer(),
        'made': made,
        'counts': [first, second],
        'sum': sharing.gathered(index),
        'gathered': [len(x) for x in parallel.gather_bytes(b'x' * (index * 1000 + 1))],
        'errors': [
            refused(ValueError('wrong')),
            refused(FileNotFoundError(2, 'no file', 'a.txt')),
            refused(OddError('this', 'that')),
        ],
    }
    for call in (
        lambda: parallel.check_same(index, 'the number'),
        lambda: parallel.barrier(f'place {min(index, 1)}'),
        lambda: sharing.Shards({folder / 'x': f'of config {min(index, 1)}'}).make(make),
    ):
        try:
            call()
        except ValueError as error:
            result['errors'].append([type(error).__name__, str(error)])
    (folder / f'process{index}.json').write_text(json.dumps(result))
    parallel.end(0, '')


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
