"""One of two processes that wait for each other; the tests stop, kill or end one of them.

Arguments: address, number of this process, what it does: 'wait' for the other one, 'ready' to be
killed or stopped, or 'fail'.
"""

import os
import sys
import time

from iqa_jax.runtime import parallel, signals


def main(address: str, index: int, does: str) -> None:
    parallel.initialize(True, address, 2, index)
    signals.listen(parallel.end)
    code, sentence = 0, ''
    try:
        print(f'pid {os.getpid()}', flush=True)
        if does == 'ready':
            time.sleep(10)
        if does == 'fail':
            raise ValueError('only mine')
        parallel.barrier('both are there')
    except ValueError as error:
        code, sentence = 1, f'Error: {error}'
    except KeyboardInterrupt:
        code, sentence = 143, 'Stopped.'
    parallel.end(code, sentence)


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
