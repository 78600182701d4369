"""What the pruned twin (OHEM) changes: paired runs over ten splits of KADID-10k and three seeds.

    python -m iqa_jax.main --config configs/ablate_ohem.py --workdir runs/kadid10k/ablate_ohem

Trains on the long-tailed sets of `configs/split_long_tail.py`, tests on the 640 + 640 + 720 images
of head, mid and tail types. `:balanced` trains on all 8,125 images instead, `:grid` adds one
variant for every other value of each option; `--config.baseline=twin` then compares with the twin,
`--config.baseline=plain_dropout` the dropout twin with its network trained alone.
Wants torchvision's weights of ResNet-18 as runs/weights/resnet18.pth.
`:smoke` is a tiny form on rated images of the quickstart (SIMULATED).
On 2 cores of an AMD EPYC it would take about 85 days (computed, docs/train.md).
"""

import pathlib
import sys

from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from configs import evaluate, score, split_long_tail, train_ranking
from configs.active import inner

# As released: ResNet-18, L2-normalised average of the last map, one linear layer; 384x384 crops;
# Adam with coupled decay, 2e-5 and a fifth of it for the last of four epochs of 90,000 pairs, the
# linear layer at the 1e-4 of the release's own first stage. Not as released: a repeated run is one
# training (`configs/train_ohem.py` has the release's two stages), all pairs of a batch count, and
# the mask is made anew at each epoch of images, every 74 steps of the long-tailed set.
TRAIN = {
    'crop': (384, 384),
    'resize': 'unique',
    'batch_size': 64,  # images, all pairs of which count; the release draws 32 pairs
    'cache_mb': 8192,
    'input_threads': 8,
    'model': {
        'backbone': 'resnet18', 'head': 'gap', 'normalise': 'l2', 'hidden': (), 'dropout': 0.0,
        'frozen_statistics': False,
    },
    'loss_options': {'labels': 'binary', 'hinge_weight': 0.0, 'hinge_margin': 0.025},
    'total_steps': 11_250,
    'warmup_steps': 100,
    'schedule': 'steps',
    'learning_rate': 2e-5,
    'decay_at': (0.75,),
    'decay_factor': 0.2,
    'weight_decay': 5e-4,
    'decoupled_weight_decay': False,
    'clip_norm': 1e6,  # none
    'rate_scales': {'regressor': 5.0},
    'checkpoint_steps': 2000,
    'log_steps': 50,
}  # fmt: skip
SMOKE = {
    'crop': (32, 32),
    'batch_size': 4,
    'model': {'backbone': 'tiny', 'head': 'gap', 'normalise': 'l2', 'hidden': ()},
    'total_steps': 4,
    'rate_scales': {},
    'eval_images': 4,
    'checkpoint_steps': 4,
}
OHEM = {
    'ratio': 0.7,
    'mask': 'magnitude',
    'refresh': 'epoch',
    'twin_weight': 1.0,
    'consistency_weight': 2.0,  # of one mean over both images of a pair; the release adds two
    'stop_gradient': False,
    'batch_stats': 'shared',
    'crops': 'different',
    'layers': 'convolutions',
}
# One option at a time; a ratio of 0 prunes nothing, as mask='none'.
GRID = {
    **{f'ratio_{percent:02d}': {'ratio': percent / 100} for percent in (0, 30, 50, 65, 75, 80, 90)},
    'mask_random': {'mask': 'random'},
    'refresh_fixed': {'refresh': 'fixed'},
    'refresh_step': {'refresh': 'step'},
    'consistency_000': {'consistency_weight': 0.0},
    'consistency_100': {'consistency_weight': 1.0},
    'consistency_400': {'consistency_weight': 4.0},
    'twin_unsupervised': {'twin_weight': 0.0},
    'stop_gradient': {'stop_gradient': True},
    'dual_statistics': {'batch_stats': 'dual'},
    'same_crops': {'crops': 'same'},
}


def get_config(arg: str = '') -> ConfigDict:
    """arg: '', 'balanced', 'grid' or 'smoke'."""
    smoke = arg == 'smoke'
    train = inner(train_ranking, arg, 'databases', 'seed') | (SMOKE if smoke else TRAIN)
    train |= {
        'ohem': OHEM,
        'init_from': '' if smoke else 'weights/resnet18.pth',
        'init_output_scale': 1.0,
    }
    train |= {'databases': {'kadid10k': {'manifest': '', 'scores': '', 'weight': 1.0}}}
    variants = {'plain': {'ohem': None}, 'twin': {}}
    if arg == 'grid':
        soft = {'loss_options': train['loss_options'] | {'labels': 'soft'}}
        variants |= {name: {'ohem': OHEM | changes} for name, changes in GRID.items()}
        variants |= {'plain_soft': {'ohem': None} | soft, 'twin_soft': soft}
        # Dropout has no place without a hidden layer, so this twin has a plain run of its own.
        dropout = {'model': train['model'] | {'hidden': (512,), 'dropout': 0.5}}
        variants |= {
            'plain_dropout': {'ohem': None} | dropout,
            'twin_dropout': {'ohem': OHEM | {'mask': 'none'}} | dropout,
        }
    name = 'kadid10k' if arg == 'balanced' else 'kadid10k_long_tail'
    splits = {}
    for index in range(split_long_tail.get_config(arg).count):
        database = {'kadid10k': {'manifest': f'kadid10k/splits/split_{index:02d}/{name}.parquet'}}
        splits[f'split_{index:02d}'] = {'train': database, 'test': database}
    return ConfigDict(
        {
            'task': 'repeat',
            'root': 'runs',
            'variants': variants,  # name -> what it changes of `train`
            'baseline': 'plain',
            'splits': splits,
            'seeds': (0,) if smoke else (0, 1, 2),
            'rates': (),  # learning rates to choose from on validation images
            'train': train,
            'score': inner(score, arg, 'model', 'name') | {'splits': ('test',), 'resize': 'unique'},
            'evaluate': inner(evaluate, arg, 'name', 'columns', 'headline'),
            'shard': '',  # 'i/n': only every n-th run from the i-th, nothing joined
        }
    )
