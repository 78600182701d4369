"""DeepFL-IQA's second stage: heads on MLSP features over ten content splits (our number).

    python -m iqa_jax.main --config configs/deepfl_splits.py --workdir runs/deepfl/kadid10k

60/20/20 by content, the learning rate of each run from {1e-1, ..., 1e-5} on validation, 30 epochs
of batches of 64, the best validation kept; mean and sd over splits. Compares narrow features of
ImageNet weights with those of the proxy-trained backbone, and two heads: that of AVA-MLSP (2048,
1024, 256, 1) and that of the sub-heads (512, 256, 1). `:koniq10k` or the name of any other database
takes that one; `:smoke` is a tiny form on the quickstart's features.

Wants in runs/deepfl/ `splits`, of `configs/split.py:NAME`; `histogram`, of
`configs/train_deepfl.py`; and NAME_imagenet and NAME_proxies, of `configs/extract_features.py` with
`config.features.pooling='mean'` on either backbone (docs/repeat.md has the commands).
"""

import pathlib
import sys

from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from configs import evaluate, score, train_mlsp
from configs.active import inner

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


def get_config(arg: str = '') -> ConfigDict:
    """arg: '', the name of a database or 'smoke'."""
    smoke, name = arg == 'smoke', 'kadid10k' if arg in ('', 'smoke') else arg
    if smoke:
        sets = dict.fromkeys(('imagenet', 'proxies'), 'quickstart/features/features.parquet')
        weights = dict.fromkeys(sets, 'quickstart/pretrain/model')
    else:
        sets = {k: f'deepfl/{name}_{k}/features.parquet' for k in ('imagenet', 'proxies')}
        weights = {
            'imagenet': 'weights/inception_resnet_v2.h5',
            'proxies': 'deepfl/histogram/model',
        }
    train = inner(train_mlsp, 'smoke' if smoke else '', 'databases', 'seed')
    # The weights of the body want sides of 75 pixels to be shaped by.
    train |= {} if smoke else {'crop': (96, 96)}
    body = {} if smoke else {'backbone': 'inception_resnet_v2', 'pooling': 'mean'}
    train['model'] |= body | {'normalise': 'none'}
    train |= {'init_from': weights['imagenet']}
    train |= {'total_epochs': 1} if smoke else {}
    database = {'manifest': '', 'scores': '', 'weight': 1.0, 'features': sets['imagenet']}
    train |= {'databases': {name: database}}
    short = {'model': train['model'] | train_mlsp.HEADS['smoke' if smoke else 'short']}
    if smoke:
        short['model'] |= {'hidden_norm': 'none'}
    proxies = {'init_from': weights['proxies'], 'databases': {name: {'features': sets['proxies']}}}
    variants = {'imagenet': {}, 'imagenet_short': short}
    variants |= {'proxies': proxies, 'proxies_short': proxies | short}
    if smoke:
        variants = {key: variants[key] for key in ('imagenet', 'proxies_short')}
    # The smoke's backbone was pretrained on the very images of the test.
    checks = {'allow_trained': 'images'} if smoke else {}
    folder = 'kadid10k/splits' if smoke else 'deepfl/splits'
    splits = {}
    for index in range(1 if smoke else 10):
        where = {name: {'manifest': f'{folder}/split_{index:02d}/{name}.parquet'}}
        splits[f'split_{index:02d}'] = {'train': where, 'test': where}
    return ConfigDict(
        {
            'task': 'repeat',
            'root': 'runs',
            'variants': variants,  # name -> what it changes of `train`
            'baseline': 'imagenet',
            'splits': splits,
            'seeds': (0,),
            'rates': (1e-2, 1e-4) if smoke else RATES,
            'train': train,
            'score': inner(score, arg, 'model', 'name') | {'splits': ('test',)},
            'evaluate': inner(evaluate, arg, 'name', 'columns', 'headline') | checks,
            'shard': '',  # 'i/n': only every n-th run from the i-th, nothing joined
        }
    )
