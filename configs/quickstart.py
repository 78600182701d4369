"""The whole loop on the bundled photographs, end to end.

    python -m iqa_jax.main --config configs/quickstart.py --workdir runs/quickstart

`--config configs/quickstart.py:smoke` is a tiny form for tests.
`--config.stages.data.photos=DIR` takes a folder of your own photographs (512x384 or larger).
Opinions come from a SIMULATED panel, and every figure that rests on them says so.
"""

from ml_collections import ConfigDict

TYPES = (
    'gaussian_blur', 'lens_blur', 'motion_blur', 'saturation_hsv', 'saturation_lab', 'jpeg',
    'white_noise', 'color_noise', 'impulse_noise', 'brighten', 'darken', 'mean_shift', 'pixelate',
    'high_sharpen', 'contrast_change',
)  # fmt: skip
METRICS = ('ssim', 'ms_ssim', 'gmsd', 'mdsi')
MANIFEST, PROXIES = 'data/manifest.parquet', 'data/proxies.parquet'
FR_COLUMNS = {
    name: {'scores': 'data/scores.parquet', 'column': name, 'kind': 'full-reference metric'}
    for name in METRICS
}


def trainer(smoke: bool) -> dict:
    """What all training runs of the quickstart share."""
    return {
        'task': 'train',
        'model': {
            'backbone': 'tiny' if smoke else 'efficientnet_lite0',
            'head': 'mlsp',
            'normalise': 'layer',
            'hidden': (8,) if smoke else (256,),
            'dropout': 0.25,
            'frozen_statistics': not smoke,
        },
        'crop': (64, 64) if smoke else (128, 128),
        'batch_size': 8 if smoke else 16,
        'schedule': 'cosine',
        'decay_at': (),
        'decay_factor': 1.0,
        'weight_decay': 1e-4,
        'decoupled_weight_decay': True,
        'clip_norm': 1.0,
        'freeze': (),
        # The pooled vector has thousands of entries: a step of the full rate would move the
        # prediction by several units.
        'rate_scales': {'regressor': 0.03},
        'total_epochs': None,
        'total_examples': None,
        'eval_images': 8 if smoke else 48,
        'eval_batch_size': 8,
        'log_steps': 2 if smoke else 10,
        'checkpoint_steps': 4 if smoke else 40,
        'cache_mb': 1024,
        'seed': 0,
    }


def ohem() -> dict:
    """The pruned twin."""
    return {
        'ratio': 0.7,
        'refresh': 'epoch',
        'twin_weight': 1.0,
        'consistency_weight': 1.0,
        'batch_stats': 'shared',
        'crops': 'same',
    }


def panel() -> dict:
    """Observers that are SIMULATED."""
    return {
        'kind': 'simulated',
        'raters': 24,
        'votes_per_image': 15,
        'bias_std': 6.0,
        'noise_std': 12.0,
        'spammer_fraction': 0.05,
        'seed': 11,
    }


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    data = {
        'task': 'make_data',
        'photos': '',
        'database': 'kadis_like',
        'size': (192, 256) if smoke else (384, 512),
        'types': ('gaussian_blur', 'jpeg', 'white_noise') if smoke else TYPES,
        'levels': (1, 2, 3, 4, 5),
        'types_per_photo': 0,
        'split_shares': (11, 2, 4, 4),
        'metrics': METRICS,
        'equalisation': 'histogram',
        'knots': 256,
        'store_images': True,
        'seed': 0,
    }
    pretrain = trainer(smoke) | {
        'databases': {'proxies': {'manifest': MANIFEST, 'scores': PROXIES, 'weight': 1.0}},
        'targets': METRICS,
        'loss': 'mse',
        'loss_options': {},
        'init_from': '' if smoke else 'imagenet',
        'total_steps': 8 if smoke else 240,
        'warmup_steps': 2 if smoke else 20,
        'learning_rate': 1e-3,
        'ohem': None,
        'eval_steps': 4 if smoke else 60,
    }
    score = {
        'task': 'score',
        'manifest': MANIFEST,
        'splits': ('test', 'pool'),
        'twin': False,
        'batch_size': 8,
        'shard_size': 16 if smoke else 64,
    }
    evaluation = {
        'task': 'evaluate',
        'logistic_parameters': 4,
        'resamples': 200 if smoke else 1000,
        'seed': 0,
        'pairs': '',
    }
    rate = {
        'task': 'study',
        'manifest': MANIFEST,
        'proxies': PROXIES,
        'pairs': '',
        'per_split': {'train': 32, 'val': 8, 'test': 24}
        if smoke
        else {'train': 320, 'val': 60, 'test': 200},
        'database': 'rated',
        'panel': panel(),
        'seed': 5,
    }
    finetune = trainer(smoke) | {
        'databases': {'rated': {'manifest': 'rate/rated.parquet', 'scores': '', 'weight': 1.0}},
        'targets': ('mos',),
        'loss': 'fidelity',
        'loss_options': {'labels': 'soft'},
        'init_from': 'pretrain/model',
        'total_steps': 8 if smoke else 80,
        'warmup_steps': 2 if smoke else 8,
        'learning_rate': 5e-4,
        'ohem': ohem(),
        'eval_steps': 4 if smoke else 40,
    }
    gmad = {
        'task': 'gmad',
        'splits': ('pool',),
        'levels': 3 if smoke else 6,
        'window': 'equal_width',
        'half_width': 0.09,
        'tolerance': None,
        'top_k': 1,
        'max_per_ref': None,
        'max_pairs': 0,
    }
    inner = lambda stage, *drop: {  # noqa: E731
        k: v for k, v in stage.items() if k not in ('task', 'manifest', 'pairs', *drop)
    }
    active = {
        'task': 'active',
        'manifest': MANIFEST,
        'proxies': PROXIES,
        'rated': 'rate/rated.parquet',
        'model': 'finetune/model',
        'name': 'quality',
        'rivals': FR_COLUMNS,
        'rounds': 1,
        'replay_weight': 0.5,
        'score': inner(score),
        'gmad': inner(gmad),
        'study': inner(rate, 'database', 'proxies') | {'per_split': {}},
        'train': inner(finetune, 'databases', 'init_from'),
        'evaluate': inner(evaluation),
    }
    stages = {
        'data': data | {'folder': 'data'},
        'pretrain': pretrain | {'folder': 'pretrain'},
        'score_unseen': score
        | {'model': 'pretrain/model', 'name': 'pretrained', 'folder': 'score_unseen'},
        'evaluate_unseen': evaluation
        | {
            'name': 'unseen photographs, mean proxy',
            'manifest': MANIFEST,
            'splits': ('test', 'pool'),
            'proxies': PROXIES,
            'headline': 'pretrained',
            'columns': {
                'pretrained': {
                    'scores': 'score_unseen/scores.parquet',
                    'column': 'pretrained',
                    'kind': 'blind model',
                }
            },
            'folder': 'evaluate_unseen',
        },
        'rate': rate | {'folder': 'rate'},
        'finetune': finetune | {'folder': 'finetune'},
        'active': active | {'folder': 'active'},
        'evaluate_rated': evaluation
        | {
            'name': 'rated test photographs',
            'manifest': 'rate/rated.parquet',
            'splits': ('test',),
            'proxies': '',
            'headline': 'after the active round',
            'columns': {
                'after the active round': {
                    'scores': 'active/round_02/score/scores.parquet',
                    'column': 'quality',
                    'kind': 'blind model',
                },
                'fine-tuned': {
                    'scores': 'active/round_01/score/scores.parquet',
                    'column': 'quality',
                    'kind': 'blind model',
                },
                'pretrained': {
                    'scores': 'score_unseen/scores.parquet',
                    'column': 'pretrained',
                    'kind': 'blind model',
                },
            }
            | FR_COLUMNS,
            'folder': 'evaluate_rated',
        },
        'export': {'task': 'export', 'model': 'active/round_01/train/model', 'folder': 'model'},
    }
    does = {
        'data': ('distorts photographs, scores them with full-reference metrics', False),
        'pretrain': ('learns the equalised proxies', False),
        'score_unseen': ('scores photographs never trained on', False),
        'evaluate_unseen': ('compares with the mean proxy', False),
        'rate': ('asks the observers', False),
        'finetune': ('ranks pairs by opinion, beside the pruned twin', False),
        'active': ('search, rate, fine-tune, search again', True),
        'evaluate_rated': ('compares with the opinions', False),
        'export': ('puts the model where load_model finds it', False),
    }
    report = {
        'task': 'report',
        'folder': '.',
        'title': 'iqa_jax quickstart',
        'subtitle': 'Distort, score, pretrain, fine-tune with a pruned twin, find counterexamples, '
        'rate, fine-tune again.',
        'stages': {
            name: {'folder': stages[name]['folder'], 'does': text, 'repeats': repeats}
            for name, (text, repeats) in does.items()
        },
        'order': tuple(does),
        'data': {'folder': 'data'},
        'trainings': {
            'pretrain': {'folder': 'pretrain'},
            'finetune': {'folder': 'finetune'},
            'active round': {'folder': 'active/round_01/train'},
        },
        'evaluations': {
            'unseen': {'folder': 'evaluate_unseen'},
            'rated': {'folder': 'evaluate_rated'},
        },
        'headline': 'unseen',
        'active': {'folder': 'active'},
        'observers': {'folder': 'rate'},
        'hard': {'folder': 'finetune'},
        'gallery_ref': '',
        'gmad_pairs': 12,
        'hard_images': 12,
    }
    return ConfigDict({
        'task': 'pipeline',
        'root': '',
        'order': (*stages, 'report'),
        'stages': stages | {'report': report},
        'headlines': {'unseen_photos_srcc': ('evaluate_unseen', 'srcc')},
    })
