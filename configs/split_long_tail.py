"""Ten content-disjoint splits of KADID-10k, each with a balanced and a long-tailed training set.

    python -m iqa_jax.main --config configs/split_long_tail.py --workdir runs/kadid10k/splits

reads runs/kadid10k/manifest.parquet of `configs/import_database.py --config.name=kadid10k
--config.folder=DIR --workdir runs/kadid10k`. 65 references train and 16 test; of 8,125 training
images the long tail keeps 4,745; the test images are 640 of head, 640 of mid and 720 of tail types.
`:smoke` takes the images that the quickstart's study rated (SIMULATED) instead.
"""

import pathlib
import sys

from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from configs import split


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    path = 'quickstart/rate/rated.parquet' if smoke else 'kadid10k/manifest.parquet'
    # KADID-10k has 25 types at 5 levels: 65 x (8 x 5 + 8 x 3 + 9 x 1) images are kept.
    tail = {
        'types': (1, 1, 1) if smoke else (8, 8, 9),  # how many are head, mid and tail
        'images': (3, 2, 1) if smoke else (5, 3, 1),  # kept of each reference and such a type
    }
    changes = {
        'root': 'runs',
        'databases': {'kadid10k': {'manifest': path, 'keep': False}},
        # The published protocol has no validation set; (58, 7, 16, 0) takes one from the 65.
        'split_shares': (9, 2, 6, 0) if smoke else (65, 0, 16, 0),
        'long_tail': {'kadid10k': tail},
    }
    return ConfigDict(split.get_config(arg).to_dict() | changes)
