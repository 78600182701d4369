"""The part `input` of data_speed.py: how long training waits for its batches."""

import argparse
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np

from configs import make_data as make_data_config
from configs import train_proxies
from iqa_jax.data import sources
from iqa_jax.tasks import make_data, train

METRIC = 'gmsd'  # one quick target: what is learned does not change the time of a step
CASES = {  # name: (folder of the data, config.cache_mb)
    'stored, cached': ('stored', 1024),
    'stored, decoded each time': ('stored', 0),
    'recipes, references cached': ('recipes', 1024),
}


def make(folder: pathlib.Path, photos: int) -> None:
    """Writes `stored` and `recipes`: the same images of all types and levels, all for training."""
    originals = folder / 'photos'
    originals.mkdir()
    for file in sources.photo_files('')[:photos]:
        shutil.copy(file, originals)
    config = make_data_config.get_config().to_dict()
    config |= {'photos': str(originals), 'metrics': (METRIC,), 'split_shares': (1, 0, 0, 0)}
    for name in ('stored', 'recipes'):
        make_data.run(config | {'images': 'png' if name == 'stored' else 'recipe'}, folder / name)


def measure(folder: pathlib.Path, name: str, steps: int, threads: int) -> dict:
    """Trains on one kind of data and reads its metrics.jsonl, which has a row for every step."""
    source, cache_mb = CASES[name]
    data = folder / source
    files = {'manifest': str(data / 'manifest.parquet'), 'scores': str(data / 'proxies.parquet')}
    config = train_proxies.get_config().to_dict() | {
        'databases': {source: files | {'weight': 1.0}},
        'targets': (METRIC,),
        'cache_mb': cache_mb,
        'input_threads': threads,
        'init_from': '',
        'total_steps': steps,
        'checkpoint_steps': steps,
        'log_steps': 1,
    }
    workdir = folder / f'train {name}'
    train.run(config, workdir)
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()][1:]
    seconds = np.array([config['batch_size'] / row['images_per_second'] for row in rows])
    waited = seconds * [row['data_wait_fraction'] for row in rows]
    return {
        'data': name,
        'steps': len(rows),
        'median_step_ms': round(1000 * float(np.median(seconds)), 1),
        'waiting_share': round(float(waited.sum() / seconds.sum()), 4),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its command line."""
    parser.add_argument('--steps', type=int, default=30)
    parser.add_argument('--photos', type=int, default=6)
    parser.add_argument('--threads', type=int, default=2)


def run(args: argparse.Namespace) -> None:
    """Prints one line per kind of data: stored and cached, stored and decoded anew, recipes."""
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder), args.photos)
        for name in CASES:
            row = measure(pathlib.Path(folder), name, args.steps, args.threads)
            print(json.dumps(row | {'cores': os.cpu_count()}), flush=True)
