"""Opinions on images, from a SIMULATED panel: a votes table, a rated manifest, a rater table.

    python -m iqa_jax.main --config configs/study.py --workdir runs/quickstart/rate

The observers vote by a hidden quality that no metric equals, each with a bias and a noise.

With --config.panel.kind=people and another --workdir people are asked instead: add
--config.serve=page to open the rating page, and run without it to aggregate (docs/rating_page.md).
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
            'scaling': {
                'method': 'bias_bt500',  # of votes | mean | bias | bt500 | zscore | ml
                'drop_spammers': False,  # before that, raters whose votes follow nobody's
                'pair_model': 'thurstone',  # of answers to pairs | bradley_terry
                'ties': 'model',  # | half: half a win of each
                'prior_std': 3.0,  # of their scores, keeps images that always win finite
                'points_per_unit': 10.0,  # of 100, at most, for a unit of their scores
            },
            'serve': '',  # of people: 'page' opens the rating page, '' aggregates
            'people': {
                'design': 'single_stimulus',  # or 'acr5'; 'pair_choice' asks about `pairs`
                'anchors': {},  # name -> {'manifest': a rated one, 'count': images}
                'raters': 20,  # places
                'votes_per_item': 15,  # of each image or pair
                'per_session': 150,  # answers
                'session_minutes': 30.0,  # the longest that people should rate at a stretch
                'training': 5,
                'gold_share': 0.05,  # questions with a known answer, per rated image or pair
                'gold_pass': 0.7,  # raters with fewer of them right do not count
                'break_every': 50,  # answers
                'break_seconds': 30.0,
                'texts': '',  # file of title, consent, questionnaire, instructions and thanks
                'host': '127.0.0.1',
                'port': 8642,  # 0 takes a free one
                'command': '',  # status, pause, resume, export, delete or release
                'rater': '',  # whom the last two mean
            },
            'seed': 5,
        }
    )
