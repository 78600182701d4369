"""Who attacks well, who resists and who wins: statistics of a rated gMAD competition.

    python -m iqa_jax.main --config configs/gmad_rank.py --workdir runs/quickstart/gmad_rank

Takes the pairs of the first active round and the votes on their images, of a SIMULATED panel there.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    return ConfigDict(
        {
            'task': 'gmad_rank',
            'root': 'runs/quickstart',
            'pairs': 'active/round_01/gmad/pairs.parquet',
            'votes': 'active/round_01/study/votes.parquet',  # of images, or answers to pairs
            'level_images': {},  # defender -> images in each level; {} takes what `pairs` says
            'screening': 'bt500',  # | 'toolbox' | 'none'
            'over': ('raters', 'pairs'),  # what the intervals resample; either alone works too
            'resamples': 100 if smoke else 1000,
            'method': 'bradley_terry',  # | 'thurstone' | 'perron': of ranking.csv and the figure
            'prior_std': 1.0,  # of the scores, in log odds (Bradley-Terry) or standard deviations
            'budget': {
                'pairs': (6, 12, 24, 48),  # per contest, all levels together; () plans nothing
                'raters': (5, 10, 20, 40),
                'spreads': {},  # noise_std, pair_std, rater_std; {} takes them from these votes
                'half_width': 10.0,  # wanted of the aggressiveness' 95 % interval, points of 100
            },
            'seed': 0,
        }
    )
