"""A world small enough for thousands of cases: 24 rated pictures, their scores, one short training.

Everything follows from fixed seeds. `VARIANTS` are the kinds of training whose states differ.
"""

import json
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from configs import (  # noqa: E402
    extract_features,
    make_data,
    score,
    score_pairs,
    train_annotators,
    train_proxies,
    train_ranking,
)
from iqa_jax.data import manifest, tables  # noqa: E402
from iqa_jax.images import io  # noqa: E402

SIDE, PICTURES = 32, 24
COLUMNS = ('ssim', 'ms_ssim', 'gmsd', 'mdsi')
PICTURE_FILES = {'manifest': 'rated.parquet', 'weight': 1.0}
PROXIES = {'scores': 'proxies.parquet'}
CONFIG = """
import json
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(json.loads({text!r}))
"""
TWIN = train_ranking.get_config('smoke').ohem.to_dict()


def make(folder: pathlib.Path) -> None:
    """Writes pictures/, rated.parquet (16 to train, 8 to validate) and proxies.parquet."""
    rng = np.random.default_rng(0)
    names = [f'p{i:02d}' for i in range(PICTURES)]
    (folder / 'pictures').mkdir(parents=True)
    for name in names:
        image = rng.integers(0, 256, (SIDE + 4, SIDE + 8, 3), np.uint8)
        (folder / f'pictures/{name}.png').write_bytes(io.encode_png(image))
    files = [folder / f'pictures/{name}.png' for name in names]
    columns = {
        'image_id': np.array(names, object),
        'ref_id': np.array(names, object),
        'file': np.array([str(file) for file in files], object),
        'sha256': np.array([io.sha256(file.read_bytes()) for file in files], object),
        'split': np.array(['train'] * 16 + ['val'] * 8, object),
        'mos': rng.uniform(0, 100, PICTURES).astype(np.float32),
        'mos_std': rng.uniform(5, 10, PICTURES).astype(np.float32),
    }
    manifest.write(folder / 'rated.parquet', columns, {})
    scores = {name: rng.uniform(0, 1, PICTURES).astype(np.float32) for name in COLUMNS}
    origin = {name: {'higher_is_better': True, 'origin': name} for name in COLUMNS}
    table = {'image_id': columns['image_id']} | scores
    tables.write(folder / 'proxies.parquet', table, {'columns': origin})


def training(folder: pathlib.Path, variant: str, **changes: object) -> dict:
    """The config of a training of 12 steps on a world, 2 steps of 8 images an epoch.

    Args:
      folder: of the world.
      variant: a name of VARIANTS.
      changes: keys of the config.
    """
    module, database, more = VARIANTS[variant]
    config = module.get_config('smoke').to_dict()
    common = {
        'root': str(folder),
        'databases': {'rated': PICTURE_FILES | {'scores': ''} | database},
        'crop': (SIDE, SIDE), 'batch_size': 8, 'total_steps': 12, 'warmup_steps': 2,
        'eval_steps': 3, 'eval_images': 8, 'checkpoint_steps': 1, 'log_steps': 1, 'cache_mb': 4,
        'init_from': '', 'init_output_scale': 1.0,
    }  # fmt: skip
    return config | common | more | changes


def extraction(folder: pathlib.Path, model: str) -> dict:
    """The config that extracts the features which the variant 'features' is trained on."""
    config = extract_features.get_config('smoke').to_dict()
    changes = {'root': str(folder), 'manifest': 'rated.parquet', 'splits': ('train', 'val')}
    return config | changes | {'model': model, 'shard_size': 10}


def scoring(folder: pathlib.Path, model: str) -> dict:
    """The config that scores all pictures of a world in three shards."""
    config = score.get_config('smoke').to_dict()
    changes = {'root': str(folder), 'manifest': 'rated.parquet', 'splits': ('train', 'val')}
    return config | changes | {'model': model, 'name': 'quality', 'shard_size': 8}


def pairing(folder: pathlib.Path) -> dict:
    """The config that scores each picture of a world against the next one, in three shards."""
    files = [str(file) for file in sorted((folder / 'pictures').iterdir())]
    columns = {'image_id': [pathlib.Path(file).stem for file in files]}
    columns |= {'reference': files, 'distorted': files[1:] + files[:1]}
    table = {name: np.array(values, object) for name, values in columns.items()}
    tables.write(folder / 'pairs.csv', table)
    config = score_pairs.get_config('smoke').to_dict()
    changes = {'root': str(folder), 'pairs': 'pairs.csv', 'references': '', 'distorted': ''}
    return config | changes | {'metrics': ('gmsd',), 'shard_size': 8}


def config_file(folder: pathlib.Path, config: dict) -> pathlib.Path:
    """Writes a config as a file that `iqa_jax.main` reads."""
    file = folder / f'{config["task"]}.py'
    file.write_text(CONFIG.format(text=json.dumps(config)))
    return file


def data(folder: pathlib.Path) -> dict:
    """The config that distorts and labels 8 of a world's pictures, two to a shard."""
    config = make_data.get_config('smoke').to_dict()
    photos = folder / 'photos'
    if not photos.is_dir():
        photos.mkdir()
        for file in sorted((folder / 'pictures').iterdir())[:8]:
            (photos / file.name).write_bytes(file.read_bytes())
    changes = {'photos': str(photos), 'size': (), 'metrics': ('psnr', 'gmsd'), 'levels': (1, 2)}
    changes |= {'types': ('jpeg',), 'split_shares': (2, 1, 1, 0), 'photos_per_shard': 2}
    return config | changes


# name -> (module of configs, database, further keys)
VARIANTS = {
    # several targets, dropout, schedule with warm-up
    'proxies': (train_proxies, PROXIES, {}),
    # the twin: dropout, batch statistics of its own, random pruning anew every epoch, keep best
    'twin': (
        train_ranking, {},
        {'keep': 'best', 'ohem': TWIN | {'mask': 'random', 'refresh': 'epoch',
                                         'batch_stats': 'dual', 'crops': 'different'}},
    ),
    # the twin pruned by magnitude before every step, statistics shared
    'pruned_each_step': (
        train_ranking, {}, {'ohem': TWIN | {'mask': 'magnitude', 'refresh': 'step'}}
    ),
    # votes of annotators with a state of the loss
    'annotators': (
        train_annotators, PROXIES,
        {'warmup_steps': 0, 'rate_scales': {},
         'loss_options': train_annotators.get_config('smoke').loss_options.to_dict()
         | {'optimise': 'em'}},
    ),
    # a head on features that were extracted before
    'features': (train_ranking, {'features': 'features/features.parquet'},
                 {'ohem': None, 'init_from': 'model'}),
}  # fmt: skip
