"""MLSP features of every image of a manifest, whole and at its own size, for heads on top of them.

    python -m iqa_jax.main --config configs/extract_features.py --workdir runs/quickstart/features

ImageNet weights here; `--config.model=` a weight file, or the folder of any saved model, takes that
backbone instead, which is the other half of DeepFL-IQA's comparison. Poolings: 'gap' (average of
the last map), 'mean' (narrow MLSP: average of every tap), 'mean_std' (with standard deviations) or
'grid5' (wide MLSP: 5x5 area averages of every tap), which is `:wide`, with
`--workdir runs/quickstart/features_wide`.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '', 'wide' or 'smoke'."""
    smoke = arg == 'smoke'
    return ConfigDict(
        {
            'task': 'score',
            'root': 'runs/quickstart',
            'manifest': 'rate/rated.parquet',
            'splits': ('train', 'val', 'test'),
            'model': 'pretrain/model' if smoke else 'imagenet',  # | a file, a folder
            'features': {
                'backbone': 'tiny' if smoke else 'efficientnet_lite0',
                'pooling': 'grid5' if arg == 'wide' else 'mean_std',  # | 'mean' | 'grid5' | 'gap'
                'preprocess': None,  # | imagenet | lite | half, where a weight file asks for it
            },
            # Above 0 pictures are decoded in child processes, each file within the limits.
            'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
            'batch_size': 4,
            'shard_size': 16 if smoke else 256,
            'shard': '',  # 'i/n' does every n-th shard from the i-th and joins nothing
        }
    )
