"""What decoding in child processes costs: images/s beside decoding in this one.

    python benchmarks/decoding.py --processes 2

Both sides decode the same files with as many threads, in turn, `--rounds` times; the line holds the
median of each and of their ratios. Files: the bundled photographs as PNG and as JPEG.
"""

import argparse
import io as streams
import json
import pathlib
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from iqa_jax.data import sources
from iqa_jax.images import guarded, io


def pace(decode: guarded.Decode, files: list[bytes], threads: int) -> float:
    """Images per second."""
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for _ in pool.map(decode, files):
            pass
        return len(files) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--processes', type=int, default=2, help='and threads of both sides')
    parser.add_argument('--images', type=int, default=105)
    parser.add_argument('--rounds', type=int, default=5)
    flags = parser.parse_args()
    photos = [file.read_bytes() for file in sources.photo_files('')]
    settings = {'processes': flags.processes, 'seconds': 20.0, 'memory_mib': 2048}
    line: dict = {'processes': flags.processes, 'images': flags.images}
    with guarded.decoding(settings) as decode:
        for form in ('PNG', 'JPEG'):
            files = []
            for data in (photos * flags.images)[: flags.images]:
                buffer = streams.BytesIO()
                Image.open(streams.BytesIO(data)).convert('RGB').save(buffer, form)
                files.append(buffer.getvalue())
            assert all(np.array_equal(decode(data), io.decode(data)) for data in files[:21])
            sides = [
                (pace(io.decode, files, flags.processes), pace(decode, files, flags.processes))
                for _ in range(flags.rounds)
            ]
            here, there = zip(*sides, strict=True)
            line[form] = {
                'in_process': round(statistics.median(here), 1),
                'child_processes': round(statistics.median(there), 1),
                'ratio': round(statistics.median(b / a for a, b in sides), 3),
            }
    print(json.dumps(line))


if __name__ == '__main__':
    main()
