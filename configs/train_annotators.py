"""A blind model from the votes of full-reference metrics on pairs, how far each is to be trusted.

    python -m iqa_jax.main --config configs/train_annotators.py --workdir runs/annotators

Pretraining of "Active Fine-Tuning from gMAD Examples", after what its authors' other work tells:
eleven metrics vote on pairs of KADIS images (configs/kadis_make.py), and the network learns
together with the hit and correct-rejection rate of each. No opinion is needed. What none of the
sources says is marked [D], a default that may be changed.
`:lfc` trains the network of LFC (ICIP 2019), 159,506 parameters, instead of ResNet-18.
`:smoke` is a tiny form on the quickstart's data.
On 2 cores of an AMD EPYC 100,000 images would take about 1.0 days (computed, docs/train.md).
"""

from ml_collections import ConfigDict

METRICS = (
    'ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'vsi', 'fsimc', 'gmsd', 'sff', 'sr_sim', 'haarpsi',
    'nlpd',
)  # fmt: skip


def get_config(arg: str = '') -> ConfigDict:
    """arg: '', 'lfc' or 'smoke'."""
    smoke, lfc = arg == 'smoke', arg == 'lfc'
    data = 'quickstart/data' if smoke else 'kadis'
    return ConfigDict(
        {
            'task': 'train',
            'root': 'runs',
            # --- data ---
            'databases': {
                'kadis': {
                    'manifest': f'{data}/manifest.parquet',
                    'scores': f'{data}/scores.parquet',  # raw: equalised ones tie at their ends
                    'weight': 1.0,
                },
            },
            'targets': ('ssim', 'ms_ssim', 'gmsd', 'mdsi') if smoke else METRICS,  # [D]
            'crop': (64, 64) if smoke else (384, 384),
            'batch_size': 8 if smoke else 16,  # [D] 16 images make 120 pairs
            'pairs_per_database': None,
            'resize': '',
            'cache_mb': 1024,
            'input_threads': 2,
            'prefetch_steps': 4,  # batches made and sent to the devices ahead
            # --- model ---
            'model': {
                'backbone': 'tiny' if smoke else 'lfc' if lfc else 'resnet18',  # [D] | 'resnet34'
                'head': 'gap',
                'normalise': 'none',
                'hidden': (128,) if lfc else (),
                'dropout': 0.0,
                # The variances of P are predicted; False fixes them at 1.
                'uncertainty': 'exp' if lfc else True,
                'frozen_statistics': False,
            },
            'init_from': '',  # [D] | weight file | folder of a saved model
            'init_optimizer': False,
            'init_output_scale': 1.0,
            # --- objective ---
            'loss': 'annotators',
            'loss_options': {
                'optimise': 'gradient',  # of network and rates together | 'em'
                'first_rate': 0.62,  # logit .5, the middle of U[0, 1) from which they were drawn
                'abstain_below': 0.0,  # who scores two images nearer than this does not vote
                'em_memory': 0.99,  # of 'em', per step
            },
            'ohem': None,
            # --- optimiser ---
            'total_steps': 8 if smoke else None,
            'total_epochs': None if smoke else 8,
            'total_examples': None,
            'warmup_steps': 0,
            'schedule': 'steps',
            'learning_rate': 1e-4,
            'decay_at': (2 / 3,),  # [D]
            'decay_factor': 0.1,
            'weight_decay': 0.0,
            'decoupled_weight_decay': False,
            'clip_norm': 1e9,  # never
            'freeze': (),
            # The rates learn at 1e-3, those of the published LFC at 1e-4 as all; {} for 'em'.
            'rate_scales': {} if lfc else {'loss': 10.0},
            # --- housekeeping ---
            'eval_steps': 4 if smoke else 5000,
            'eval_images': 8 if smoke else 500,
            'eval_batch_size': 4,
            'keep': 'last',
            'checkpoint_steps': 4 if smoke else 5000,
            'log_steps': 2 if smoke else 100,
            'save_optimizer': False,
            'seed': 0,
        }
    )
