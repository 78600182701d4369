"""The pairs of images on which a model and its rivals contradict each other most (gMAD).

    python -m iqa_jax.main --config configs/gmad.py --workdir runs/quickstart/gmad

Needs score tables only, whoever made them. Both roles, one pair per contest and level; figures of
the pairs as papers show them.
"""

from ml_collections import ConfigDict

METRICS = ('ssim', 'ms_ssim', 'gmsd', 'mdsi')


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    return ConfigDict(
        {
            'task': 'gmad',
            'root': 'runs/quickstart',
            'manifest': 'data/manifest.parquet',  # '': the images of the score tables
            'splits': ('pool',),
            'models': {
                'quality': {'scores': 'active/round_01/score/scores.parquet', 'column': 'quality'},
            },
            'rivals': {name: {'scores': 'data/scores.parquet', 'column': name} for name in METRICS},
            'id_column': 'image_id',  # of a score table without a manifest
            'content_column': '',  # and which of its columns names the photograph, '' for none
            'exclude': {},  # label -> {'manifest': rated images that are not chosen again}
            'scale': 'percentile',  # | 'logistic', opinions of `rated` as 0..100 | 'own'
            'rated': '',  # manifest with opinions on images that every score table holds
            'levels': 3 if arg == 'smoke' else 6,
            'window': 'equal_width',  # | 'quantile'
            'half_width': 0.09,  # of a level, as a share of the defender's range
            'half_points': None,  # or in points of 100; 9 with 'logistic' is the Waterloo toolbox
            'engine': 'binned',  # | 'exact': with a tolerance, also pairs that straddle a level
            'objective': 'gap',  # | 'disagreement': less the defender's gap ('exact')
            'tolerance': None,  # largest gap of the defender inside a pair, points of 100
            'top_k': 1,
            'max_per_ref': None,  # images of one photograph among all pairs
            'each_image_once': True,  # no image in two different pairs
            'roles': ('defender', 'attacker'),  # of the models; the rivals take the other one
            'max_pairs': 0,  # 0: all of them
            'figures': 2 if arg == 'smoke' else 12,  # of two models against each other, at most
            'sheets': True,  # all pairs on contact sheets
        }
    )
