"""DeepFL-IQA's second stage: a regression head on features that were extracted once.

    python -m iqa_jax.main --config configs/train_mlsp.py --workdir runs/quickstart/mlsp

The head of AVA-MLSP and KonCept512 (2048, 1024, 256, 1; ReLU, batch norm, dropout); `:short` is
that of the eleven sub-heads (512, 256, 1). `:wide` reads the 5x5 area averages of `:wide` of
`configs/extract_features.py`, in runs/quickstart/features_wide, through a layer of 1,024 that all
cells share. The saved result is the whole model, backbone included. Squared error, Adam, 30 epochs
of batches of 64, the best validation kept; the paper chooses the learning rate from 1e-1 to 1e-5
on validation.

`:power` is ours: (512, 256, 1) with more dropout behind power normalisation, 20 epochs of a cosine.
2 cores of an AMD EPYC that other work shared, BIQ2021 with ImageNet features `mean_std` (19,200
numbers), 1,500 photographs to learn from and 300 others to test: `:power`, seeds 0, 1 and 2, SRCC
0.826, 0.818 and 0.813 in 75 s each (how it was chosen is in docs/train.md). `:ensemble` has eight
such heads that learn apart and takes their mean: 0.826, 0.825 and 0.823, in 190 to 250 s each.
"""

from ml_collections import ConfigDict

BROAD = {'hidden': (2048, 1024, 256), 'dropout': (0.25, 0.25, 0.5), 'hidden_norm': 'batch'}
POWER = {
    'hidden': (512, 256),
    'dropout': (0.5, 0.5),
    'hidden_norm': 'none',
    'normalise': 'power',
}
HEADS = {
    '': BROAD,
    'wide': BROAD | {'pooling': 'grid5', 'cells': (1024,)},
    'short': {'hidden': (512, 256), 'dropout': (0.25, 0.5), 'hidden_norm': 'none'},
    'power': POWER,
    'ensemble': POWER | {'members': 8},
    'smoke': {'hidden': (16, 8), 'dropout': (0.25, 0.5), 'hidden_norm': 'batch'},
}


def get_config(arg: str = '') -> ConfigDict:
    """arg: '', 'short', 'power', 'ensemble', 'wide' or 'smoke'."""
    smoke, power = arg == 'smoke', arg in ('power', 'ensemble')
    return ConfigDict(
        {
            'task': 'train',
            'root': 'runs/quickstart',
            # --- data ---
            'databases': {
                'rated': {
                    'manifest': 'rate/rated.parquet',
                    'scores': '',
                    'weight': 1.0,
                    'features': f'features{"_wide" * (arg == "wide")}/features.parquet',
                },
            },
            'targets': ('mos',),
            'crop': (64, 64),  # shapes the first weights only: features are of whole images
            'batch_size': 8 if smoke else 64,
            'pairs_per_database': None,
            'resize': '',
            'cache_mb': 0,
            'input_threads': 2,
            'prefetch_steps': 4,
            # --- model ---
            'model': {
                'backbone': 'tiny' if smoke else 'efficientnet_lite0',
                'head': 'mlsp',
                'pooling': 'mean_std',
                'normalise': 'layer',
                'cells': (),
                'members': 1,
                **HEADS[arg],
            },
            'init_from': 'pretrain/model' if smoke else 'imagenet',  # what extracted the features
            'init_optimizer': False,
            'init_output_scale': 1.0,
            # --- objective ---
            'loss': 'mse',
            'loss_options': {},
            'ohem': None,
            # --- optimiser ---
            'total_steps': None,
            'total_epochs': 2 if smoke else 20 if power else 30,
            'total_examples': None,
            'warmup_steps': 0,
            'schedule': 'cosine' if power else 'constant',
            'learning_rate': 1e-4,  # thousands of inputs add up
            'decay_at': (),
            'decay_factor': 1.0,
            'weight_decay': 0.0,
            'decoupled_weight_decay': True,
            'clip_norm': 1e6,  # none
            'freeze': (),
            'rate_scales': {},
            # --- housekeeping ---
            'eval_steps': 2 if smoke else 0,  # once per epoch
            'eval_images': 10_000,  # features are cheap: all of them
            'eval_batch_size': 64,
            'keep': 'last' if power else 'best',
            'checkpoint_steps': 4 if smoke else 240,
            'log_steps': 2 if smoke else 24,
            'save_optimizer': False,
            'seed': 0,
        }
    )
