"""Ten content-disjoint splits of one or several databases, as CSV and as manifests.

    python -m iqa_jax.main --config configs/split.py --workdir runs/quickstart/splits

Add your databases to `databases`; train and evaluate with the manifests of `split_00/` to
`split_09/`.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    return ConfigDict(
        {
            'task': 'split',
            'root': 'runs/quickstart',
            # name -> manifest; keep=True leaves its own splits as they are
            'databases': {'photos': {'manifest': 'data/manifest.parquet', 'keep': False}},
            'split_shares': (8, 0, 2, 0),  # train, val, test, pool, by content
            'long_tail': {},  # see configs/split_long_tail.py
            'count': 2 if arg == 'smoke' else 10,
            'distance': 60,  # bits of 255 by which perceptual hashes of one picture may differ
            'correlation': 0.7,  # least one of a picture with what it is cut out of
            # Databases with more pairs of references are not searched for crops: 6 ms per pair.
            'crop_pairs': 30_000,
            'shard_size': 256,
            'seed': 0,
        }
    )
