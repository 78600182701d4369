"""UNIQUE: ranking on seven databases at once, with a learnt uncertainty, in two stages.

    python -m iqa_jax.main --config configs/train_unique.py --workdir runs/unique

Wants the manifests of `split` and weights/resnet34.pth (torchvision's file) beside the workdir.
Pairs, loss, rates and decay are those of the official code. Its bilinear pooling is not here: the
average of the last map is our choice. `:smoke` is a tiny form.
On 2 cores of an AMD EPYC it would take about 15 days (computed, docs/train.md).
"""

from ml_collections import ConfigDict

SPLIT = '../splits/split_00'  # relative to the workdir; one run each for split_00 to split_09
PAIRS = {
    'live': 25_000, 'csiq': 35_000, 'tid2013': 30_000, 'kadid10k': 50_000, 'bid': 20_000,
    'live_challenge': 40_000, 'koniq10k': 90_000,
}  # fmt: skip


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    manifests = {name: f'{SPLIT}/{name}.parquet' for name in PAIRS}
    pairs = PAIRS
    if smoke:
        manifests = dict.fromkeys(('live', 'csiq'), '../quickstart/rate/rated.parquet')
        pairs = {'live': 6, 'csiq': 10}

    def stage(folder: str, **changes) -> dict:
        config = {
            'task': 'train',
            'folder': folder,
            # --- data ---
            'databases': {
                name: {'manifest': path, 'scores': '', 'weight': 1.0}
                for name, path in manifests.items()
            },
            'targets': ('mos',),
            'pairs_per_database': pairs,
            'resize': 'unique',
            'crop': (64, 64) if smoke else (384, 384),
            'cache_mb': 1024 if smoke else 16_384,
            'input_threads': 2 if smoke else 8,
            'prefetch_steps': 4,
            # --- model ---
            'model': {
                'backbone': 'tiny' if smoke else 'resnet34',
                'head': 'gap',
                'normalise': 'l2',
                'uncertainty': True,
            },
            'init_output_scale': 1.0,
            # --- objective ---
            'loss': 'fidelity',
            'loss_options': {'labels': 'soft', 'hinge_weight': 1.0, 'hinge_margin': 0.025},
            'ohem': None,
            # --- optimiser ---
            'total_steps': None,
            'total_examples': None,
            'warmup_steps': 0,
            'schedule': 'epochs',
            'decay_factor': 0.1,
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
        init_from='' if smoke else '../weights/resnet34.pth',
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
        total_epochs=2 if smoke else 9,
        # The official code decays once when it takes up the run: epochs 3 to 5 of 12 have 1e-5,
        # 6 to 8 1e-6, 9 to 11 1e-7.
        learning_rate=1e-5,
        decay_at=(1,) if smoke else (3, 6),
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
