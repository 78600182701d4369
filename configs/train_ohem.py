"""OHEM by a pruned self-competitor: a ResNet-18 ranker beside its twin, on KADID-10k or KonIQ-10k.

    python -m iqa_jax.main --config configs/train_ohem.py --workdir runs/ohem

`:koniq` takes KonIQ-10k; `:smoke` is a tiny form. Wants the manifest of `split` and
weights/resnet18.pth (torchvision's file) beside the workdir. The mask is made anew every epoch, as
the paper says; the released code makes one before the first step: `MASK_REFRESH = 'fixed'`.
The first weights of the last layer are LeCun's, a factor of sqrt 2 below Kaiming's.
On 2 cores of an AMD EPYC it would take about 2.4 days (computed, docs/train.md).
"""

from ml_collections import ConfigDict

SPLIT = '../splits/split_00'  # relative to the workdir; one run each for split_00 to split_09
MASK_REFRESH = 'epoch'  # | 'fixed', the released code | 'step'


def get_config(arg: str = '') -> ConfigDict:
    """arg: '', 'koniq', 'smoke' or 'koniq,smoke'."""
    smoke, koniq = 'smoke' in arg.split(','), 'koniq' in arg.split(',')
    name = 'koniq10k' if koniq else 'kadid10k'

    def stage(folder: str, **changes) -> dict:
        path = '../quickstart/rate/rated.parquet' if smoke else f'{SPLIT}/{name}.parquet'
        config = {
            'task': 'train',
            'folder': folder,
            # --- data ---
            'databases': {name: {'manifest': path, 'scores': '', 'weight': 1.0}},
            'targets': ('mos',),
            'pairs_per_database': {name: 10 if smoke else 90_000},
            'resize': 'unique',
            'crop': (64, 64) if smoke else (384, 384),
            'cache_mb': 1024 if smoke else 16_384,
            'input_threads': 2 if smoke else 8,
            'prefetch_steps': 4,
            # --- model ---
            'model': {
                'backbone': 'tiny' if smoke else 'resnet18',
                'head': 'gap',
                'normalise': 'l2',
            },
            'init_output_scale': 1.0,
            # --- objective ---
            'loss': 'fidelity',
            # The hinge needs an uncertainty head, which is not here: the spread is 1.
            'loss_options': {'labels': 'binary', 'hinge_weight': 0.0, 'hinge_margin': 0.025},
            'ohem': {
                'ratio': 0.65 if koniq else 0.7,
                'mask': 'magnitude',
                'refresh': MASK_REFRESH,
                'twin_weight': 1.0,
                # The code adds the mean over first images to that over second ones, each with
                # weight 1; here it is one mean over all images.
                'consistency_weight': 2.0,
                'stop_gradient': False,
                'batch_stats': 'shared',
                'crops': 'same' if koniq else 'different',
                'layers': 'convolutions',
            },
            # --- optimiser ---
            'total_steps': None,
            'total_examples': None,
            'warmup_steps': 0,
            'schedule': 'epochs',
            'decay_factor': 0.2,
            'weight_decay': 5e-4,
            'decoupled_weight_decay': False,
            'clip_norm': 1e9,  # none
            'rate_scales': {},
            # --- housekeeping ---
            'eval_steps': 4 if smoke else 2_000,
            'eval_images': 8 if smoke else 200,
            'eval_batch_size': 4,
            'keep': 'last',
            'checkpoint_steps': 4 if smoke else 1_000,
            'log_steps': 2 if smoke else 50,
            'seed': 0,
        }
        return config | changes

    head = stage(
        'head',
        init_from='' if smoke else '../weights/resnet18.pth',
        init_optimizer=False,
        save_optimizer=True,
        freeze=('backbone',),  # its batch statistics move all the same
        batch_size=4 if smoke else 128,  # pairs
        total_epochs=1 if smoke else 3,
        learning_rate=1e-4,
        decay_at=(),
    )
    whole = stage(
        'whole',
        init_from='head/model',
        init_optimizer=True,  # Adam of the head goes on, that of the backbone begins
        save_optimizer=False,
        freeze=(),
        batch_size=4 if smoke else 32,
        total_epochs=2 if smoke else 9 if koniq else 4,
        # The official code decays once when it takes up the run: 2e-5 in epochs 3 to 5, 4e-6 in
        # epoch 6, where KADID ends, and up to 8, 8e-7 in 9 to 11.
        learning_rate=2e-5,
        decay_at=(1,) if smoke else (3, 6) if koniq else (3,),
    )
    return ConfigDict(
        {
            'task': 'pipeline',
            'root': '',
            'order': ('head', 'whole'),
            'stages': {'head': head, 'whole': whole},
            'headlines': {'val_srcc': ('whole', 'val_srcc')},
        }
    )
