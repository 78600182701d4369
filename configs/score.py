"""A saved model over the images of a manifest.

    python -m iqa_jax.main --config configs/score.py --workdir runs/quickstart/score

A manifest may be a CSV of your own: image_id, file. 2 cores of an AMD EPYC: 16 images/s of
512x384 through EfficientNet-Lite0.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    return ConfigDict(
        {
            'task': 'score',
            'root': 'runs/quickstart',
            'manifest': 'data/manifest.parquet',
            'splits': ('test', 'pool'),
            'model': 'model',
            'name': 'quality',  # of the column
            'twin': False,  # True adds the disagreement with the pruned twin
            'calibrated': False,  # True maps scores to opinions, 0..100, as export calibrated them
            'uncertainty': False,  # True adds a standard deviation
            'resize': '',  # | 'unique': short sides above 768 shrink to it, as in UNIQUE's test
            'bucket_step': 64,  # sides are padded to multiples of it
            'pixel_limit': 2**21,  # larger images are cut into tiles
            # Above 0 pictures are decoded in child processes, each file within the limits.
            'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
            'batch_size': 4,
            'shard_size': 16 if arg == 'smoke' else 64,
            'shard': '',  # 'i/n' does every n-th shard from the i-th and joins nothing
        }
    )
