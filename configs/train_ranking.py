"""Pairwise ranking of opinion scores by the fidelity loss, beside a magnitude-pruned twin (OHEM).

    python -m iqa_jax.main --config configs/train_ranking.py --workdir runs/quickstart/finetune

Continues from the proxy-trained model. All pairs within a database of each batch count.
2 cores of an AMD EPYC beside a test suite: 158 s, validation SRCC 0.610 (2 photographs, SIMULATED
observers).
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    return ConfigDict(
        {
            'task': 'train',
            'root': 'runs/quickstart',
            # --- data ---
            'databases': {
                'rated': {'manifest': 'rate/rated.parquet', 'scores': '', 'weight': 1.0},
            },
            'targets': ('mos',),
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
                'frozen_statistics': not smoke,
            },
            'init_from': 'pretrain/model',
            'init_optimizer': False,  # True: continue Adam of what init_from trained
            # Proxies lie in 0..1; Thurstone scores of unit spread differ by some units.
            'init_output_scale': 8.0,
            # --- objective ---
            'loss': 'fidelity',
            'loss_options': {
                'labels': 'soft',  # | 'binary', as the released OHEM code
                'hinge_weight': 1.0,  # of the std head, with config.model.uncertainty
                'hinge_margin': 0.025,
            },
            'ohem': {
                'ratio': 0.3,
                'mask': 'magnitude',  # | 'random' | 'none'
                'refresh': 'epoch',  # | 'fixed' | 'step'
                'twin_weight': 1.0,  # of the loss of the pruned branch
                'consistency_weight': 0.1,
                'stop_gradient': False,  # True: consistency does not move the full branch
                'batch_stats': 'shared',  # | 'dual'
                'crops': 'same',  # | 'different'
                'layers': 'convolutions',  # | 'all': dense layers too
            },
            # --- optimiser ---
            'total_steps': 8 if smoke else 60,
            'total_epochs': None,
            'total_examples': None,
            'warmup_steps': 2 if smoke else 8,
            'schedule': 'cosine',  # | 'constant' | 'steps' | 'epochs'
            'learning_rate': 3e-4,
            'decay_at': (),
            'decay_factor': 1.0,
            'weight_decay': 1e-4,
            'decoupled_weight_decay': True,
            'clip_norm': 1.0,
            'freeze': (),
            'rate_scales': {'regressor': 0.03},
            # --- housekeeping ---
            'eval_steps': 4 if smoke else 30,
            'eval_images': 8 if smoke else 48,
            'eval_batch_size': 4,
            'keep': 'last',  # | 'best': the weights of the best validation
            'checkpoint_steps': 4 if smoke else 40,
            'log_steps': 2 if smoke else 10,
            'save_optimizer': False,  # for a second stage with init_optimizer
            'seed': 0,
        }
    )
