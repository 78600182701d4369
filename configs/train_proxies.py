"""DeepFL-IQA's weak supervision: one output per equalised full-reference metric.

    python -m iqa_jax.main --config configs/train_proxies.py --workdir runs/quickstart/pretrain

EfficientNet-Lite0 from ImageNet weights, mean and standard deviation of every block's depthwise
output as features, trained end to end on crops. Needs the `pretrained` extra; `:smoke` does not.
2 cores of an AMD EPYC beside a test suite: 362 s, validation SRCC 0.794 (2 photographs).
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
            'task': 'train',
            'root': 'runs/quickstart',
            # --- data ---
            'databases': {
                'proxies': {
                    'manifest': 'data/manifest.parquet',
                    'scores': 'data/proxies.parquet',
                    'weight': 1.0,
                },
            },
            'targets': ('ssim', 'ms_ssim', 'gmsd', 'mdsi') if smoke else METRICS,
            'crop': (64, 64) if smoke else (128, 128),
            'batch_size': 8 if smoke else 16,
            'pairs_per_database': None,  # | {name: pairs}: literal lists, batch_size counts pairs
            'resize': '',  # | 'unique'
            'cache_mb': 1024,
            'input_threads': 2,
            'prefetch_steps': 4,  # batches made and sent to the devices ahead
            # --- model ---
            'model': {
                'backbone': 'tiny' if smoke else 'efficientnet_lite0',
                'preprocess': None,  # | imagenet | lite | half, where a weight file asks for it
                'head': 'mlsp',
                'normalise': 'layer',
                'hidden': (8,) if smoke else (256,),
                'dropout': 0.25,
                'frozen_statistics': not smoke,  # small batches keep ImageNet's statistics
            },
            'init_from': '' if smoke else 'imagenet',  # | weight file | folder of a saved model
            'init_optimizer': False,
            'init_output_scale': 1.0,
            # --- objective ---
            'loss': 'mse',
            'loss_options': {},
            'ohem': None,
            # --- optimiser ---
            'total_steps': 8 if smoke else 280,
            'total_epochs': None,
            'total_examples': None,
            'warmup_steps': 2 if smoke else 20,
            'schedule': 'cosine',  # | 'constant' | 'steps' | 'epochs'
            'learning_rate': 5e-4,
            'decay_at': (),
            'decay_factor': 1.0,
            'weight_decay': 1e-4,
            'decoupled_weight_decay': True,
            'clip_norm': 1.0,
            'freeze': (),
            # The pooled vector has thousands of entries: at the full rate one step would move the
            # prediction by several units.
            'rate_scales': {'regressor': 0.03},
            # --- housekeeping ---
            'eval_steps': 4 if smoke else 70,
            'eval_images': 8 if smoke else 48,
            'eval_batch_size': 4,
            'keep': 'last',  # | 'best': the weights of the best validation
            'checkpoint_steps': 4 if smoke else 40,
            'log_steps': 2 if smoke else 10,
            'save_optimizer': False,
            'seed': 0,
        }
    )
