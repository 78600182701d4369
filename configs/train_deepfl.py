"""DeepFL-IQA's first stage as published: eleven heads on InceptionResNetV2, equalised proxies.

    python -m iqa_jax.main --config configs/train_deepfl.py --workdir runs/deepfl/histogram

Average of the last map (1,536 numbers), a sub-head 512-256-1 per metric with dropout .25 and .5,
squared error, Adam at 1e-4, 10 epochs of batches of 64 on whole 512x384 images. Reads what
`configs/import_database.py --config.name=kadis700k` made in runs/kadis700k, pictures, the authors'
scores and all: 600,000 images for training are 93,750 steps. On 2 cores of an AMD EPYC it would
take about 43 days (computed, docs/train.md).

`:none`, `:minmax` and `:histogram` (the default) are the ablation: the same scores, brought to the
targets by `--config.equalisation=KIND` of the import, in runs/kadis700k_KIND. Images are not made
or scored again for it: an import reads the authors' table, and make_data keeps its shards.
"""

from ml_collections import ConfigDict

METRICS = (
    'ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'vsi', 'fsimc', 'gmsd', 'sff', 'scqi', 'add_gsim',
    'sr_sim',
)  # fmt: skip


def get_config(arg: str = 'histogram') -> ConfigDict:
    """arg: '', 'none', 'minmax', 'histogram' or 'smoke'."""
    smoke = arg == 'smoke'
    data = 'data' if smoke else f'kadis700k_{arg or "histogram"}'
    return ConfigDict(
        {
            'task': 'train',
            'root': 'runs/quickstart' if smoke else 'runs',
            # --- data ---
            'databases': {
                'kadis': {
                    'manifest': f'{data}/manifest.parquet',
                    'scores': f'{data}/proxies.parquet',
                    'weight': 1.0,
                },
            },
            'targets': ('ssim', 'ms_ssim', 'gmsd', 'mdsi') if smoke else METRICS,
            'crop': (64, 64) if smoke else (384, 512),  # all of an image, mirrored or not
            'batch_size': 8 if smoke else 64,
            'pairs_per_database': None,
            'resize': '',
            'cache_mb': 1024 if smoke else 65_536,
            'input_threads': 2 if smoke else 16,
            'prefetch_steps': 4,
            # --- model ---
            'model': {
                'backbone': 'tiny' if smoke else 'inception_resnet_v2',
                'head': 'multitask',
                'pooling': 'gap',
                'normalise': 'none',
                'hidden': (16, 8) if smoke else (512, 256),
                'dropout': (0.25, 0.5),
            },
            'init_from': '' if smoke else 'weights/inception_resnet_v2.h5',  # Keras's file
            'init_optimizer': False,
            'init_output_scale': 1.0,
            # --- objective ---
            'loss': 'mse',
            'loss_options': {},
            'ohem': None,
            # --- optimiser ---
            'total_steps': 4 if smoke else None,
            'total_epochs': None if smoke else 10,
            'total_examples': None,
            'warmup_steps': 0,
            'schedule': 'constant',
            'learning_rate': 1e-4,
            'decay_at': (),
            'decay_factor': 1.0,
            'weight_decay': 0.0,
            'decoupled_weight_decay': True,
            'clip_norm': 1e6,  # none
            'freeze': (),
            'rate_scales': {},
            # --- housekeeping ---
            'eval_steps': 4 if smoke else 9_375,
            'eval_images': 8 if smoke else 10_000,
            'eval_batch_size': 4 if smoke else 64,
            'keep': 'last',
            'checkpoint_steps': 4 if smoke else 2_000,
            'log_steps': 2 if smoke else 100,
            'save_optimizer': False,
            'seed': 0,
        }
    )
