"""Ten content-disjoint splits of one or several databases, as CSV and as manifests.

    python -m iqa_jax.main --config configs/split.py --workdir runs/quickstart/splits

Add your databases to `databases`; train and evaluate with the manifests of `split_00/` to
`split_09/`. `:NAME` takes runs/NAME/manifest.parquet, 60 % to train with and 20 % each to choose by
and to test, as DeepFL-IQA's second stage does.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '', the name of a database or 'smoke'."""
    named = arg not in ('', 'smoke')
    name, path = (arg, f'{arg}/manifest.parquet') if named else ('photos', 'data/manifest.parquet')
    return ConfigDict(
        {
            'task': 'split',
            'root': 'runs' if named else 'runs/quickstart',
            # name -> manifest; keep=True leaves its own splits as they are
            'databases': {name: {'manifest': path, 'keep': False}},
            # train, val, test, pool, by content
            'split_shares': (6, 2, 2, 0) if named else (8, 0, 2, 0),
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
