"""Active fine-tuning: search for counterexamples, have them rated, fine-tune, search again.

    python -m iqa_jax.main --config configs/active.py --workdir runs/quickstart/active

Runs the stages score, gmad, study, train and evaluate with the configs of their own files.
2 cores of an AMD EPYC beside other trainings: 594 s. SIMULATED observers: SRCC on the old set
0.680 -> 0.653, change -0.028 [-0.068, 0.045] (4 photographs). Of fresh gMAD pairs, never trained
on, right 61 % -> 82 % of 49, change 0.20 [0.08, 0.33]; of each model's own, 61 % of 33 -> 86 % of
28, change 0.25 [0.06, 0.43].

`:large` is for some hundred photographs: more pairs, more steps. On 210 of them, after data,
pretrain, rate and finetune of configs/quickstart.py with --config.photos (2 cores beside other
work: 20 min without figures and sheets; SIMULATED observers, 316 pairs in the round): SRCC on the
old set 0.496 -> 0.569, change 0.072 [0.001, 0.161] (40 photographs). Of 276 fresh pairs found
against the first model 68 % -> 75 % are right, change 0.065 [0.025, 0.112]; of 264 found against
the new one 76 % -> 72 %, change -0.038 [-0.091, 0.011]; of all 464 74 % -> 75 %, change 0.009
[-0.030, 0.045]; of each model's own 68 % -> 72 %, change 0.042 [-0.023, 0.111].
"""

import pathlib
import sys

from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from configs import evaluate, gmad, score, study, train_ranking


def inner(module, arg: str, *given: str) -> dict:
    """A stage's config without what the rounds fill in."""
    config = module.get_config(arg).to_dict()
    return {k: v for k, v in config.items() if k not in {'task', 'root', 'manifest', *given}}


def get_config(arg: str = '') -> ConfigDict:
    """arg: '', 'large' or 'smoke'."""
    large = arg == 'large'
    # Less than the training before, so that what it learned is not washed out.
    search, learn, share = {}, {'init_output_scale': 1.0, 'learning_rate': 1e-4}, 0.25
    if large:
        search, share = {'top_k': 12}, 0.5
        learn |= {'total_steps': 300, 'learning_rate': 2e-4, 'eval_steps': 50, 'keep': 'best'}
    return ConfigDict(
        {
            'task': 'active',
            'root': 'runs/quickstart',
            'manifest': 'data/manifest.parquet',
            'proxies': 'data/proxies.parquet',
            # The old databases, with their shares of each batch.
            'replay': {'rated': {'manifest': 'rate/rated.parquet', 'weight': 1 - share}},
            'gmad_weight': share,  # of all counterexamples together, beside those of `replay`
            'model': 'finetune/model',
            'name': 'quality',
            'rivals': gmad.get_config(arg).rivals,
            'rounds': 1,  # at most; a last search tests the final model
            # Whom the last search is against: pairs found against one model are hardest for that
            # one, so that before and after are compared fairly on pairs against both.
            'fresh_against': ('after', 'before'),
            # A model that falls further on validation images of an old database is rolled back.
            'guard': {'srcc_fall': 2.0 if arg == 'smoke' else 0.02},
            'stop': {
                'pairs_right': 1.0,  # once the model orders this share of its counterexamples
                'ratings': 0,  # to buy in all rounds and the last search; 0: no limit
            },
            'score': inner(score, arg, 'model', 'name', 'splits'),
            'gmad': inner(gmad, arg, 'models', 'rivals', 'exclude') | search,
            'study': inner(study, arg, 'proxies', 'pairs', 'database') | {'per_split': {}},
            'train': inner(train_ranking, arg, 'databases', 'init_from') | learn,
            'evaluate': inner(
                evaluate,
                arg,
                'name',
                'splits',
                'proxies',
                'columns',
                'headline',
                'pairs',
                'allow_trained',
            ),
        }
    )
