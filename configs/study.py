"""Opinions on images, from a SIMULATED panel: a votes table, a rated manifest, a rater table.

    python -m iqa_jax.main --config configs/study.py --workdir runs/quickstart/rate

The observers vote by a hidden quality that no metric equals, each with a bias and a noise.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    draw = {'train': 32, 'val': 8, 'test': 24}
    return ConfigDict(
        {
            'task': 'study',
            'root': 'runs/quickstart',
            'manifest': 'data/manifest.parquet',
            'proxies': 'data/proxies.parquet',
            'pairs': '',  # of the gmad stage: rate the images of its pairs instead of a draw
            'per_split': draw if arg == 'smoke' else {'train': 320, 'val': 60, 'test': 200},
            'database': 'rated',
            'panel': {
                'kind': 'simulated',
                'raters': 24,
                'votes_per_image': 15,
                'bias_std': 6.0,  # points of 100
                'noise_std': 12.0,
                'spammer_fraction': 0.05,
                'seed': 11,
            },
            'seed': 5,
        }
    )
