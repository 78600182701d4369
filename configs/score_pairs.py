"""Full-reference metrics over pairs of files, from two folders or from a table.

    python -m iqa_jax.main --config configs/score_pairs.py --workdir runs/quickstart/score_pairs

`--config.references=DIR --config.distorted=DIR` scores folders; I01_10_05.png belongs to I01.png.
`--config.references= --config.distorted= --config.pairs=FILE.csv` scores a table: image_id,
reference, distorted. `:smoke` takes two metrics. 2 cores of an AMD EPYC: 53 s for 1,575 pairs of
512x384.
"""

from ml_collections import ConfigDict

METRICS = (
    'ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'vsi', 'fsimc', 'gmsd', 'sff', 'sr_sim', 'haarpsi',
    'nlpd',
)  # fmt: skip


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    return ConfigDict(
        {
            'task': 'score_pairs',
            'root': '',
            'pairs': '',  # a table; '': the two folders
            'references': 'runs/quickstart/data/images',
            'distorted': 'runs/quickstart/data/images',  # the same one, as it holds both
            'metrics': ('gmsd', 'mdsi') if smoke else METRICS,
            'policy': 'safe',  # | 'parity': NaN and infinity where the originals give them
            'batch_size': 8,
            'waiting_mib': 1024,  # of decoded pairs that wait for others of their shape
            'threads': 2,  # that decode
            # Above 0 pictures are decoded in child processes, each file within the limits.
            'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
            'shard_size': 32 if smoke else 256,
            'shard': '',  # 'i/n' does every n-th shard from the i-th and joins nothing
        }
    )
