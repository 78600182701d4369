"""One self-contained HTML page of everything a finished quickstart left on disk.

python -m iqa_jax.main --config configs/report.py --workdir runs/quickstart
"""

from ml_collections import ConfigDict

STAGES = {  # name: (folder, what it does, part of every active round)
    'data': ('data', 'distorts photographs, scores them with full-reference metrics', False),
    'pretrain': ('pretrain', 'learns the equalised proxies', False),
    'score_unseen': ('score_unseen', 'scores photographs never trained on', False),
    'evaluate_unseen': ('evaluate_unseen', 'compares with the mean proxy', False),
    'rate': ('rate', 'asks the observers', False),
    'finetune': ('finetune', 'ranks pairs by opinion, beside the pruned twin', False),
    'active': ('active', 'searches, rates, fine-tunes, searches again', True),
    'evaluate_rated': ('evaluate_rated', 'compares with the opinions', False),
    'export': ('model', 'puts the model where load_model finds it', False),
}


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke', which are the same."""
    del arg
    return ConfigDict(
        {
            'task': 'report',
            'root': 'runs/quickstart',
            'title': 'iqa_jax quickstart',
            'subtitle': 'Distort, score, pretrain, fine-tune with a pruned twin, '
            'find counterexamples, rate, fine-tune again.',
            'command': 'python -m iqa_jax.main --config configs/quickstart.py '
            '--workdir runs/quickstart',
            'stages': {
                name: {'folder': folder, 'does': does, 'repeats': repeats}
                for name, (folder, does, repeats) in STAGES.items()
            },
            'order': tuple(STAGES),
            'data': {'folder': 'data'},
            'trainings': {
                'pretrain': {'folder': 'pretrain'},
                'finetune': {'folder': 'finetune'},
            },
            'training_order': ('pretrain', 'finetune'),  # the active rounds follow
            'evaluations': {
                'unseen': {'folder': 'evaluate_unseen'},
                'rated': {'folder': 'evaluate_rated'},
            },
            'headline': 'unseen',
            'active': {'folder': 'active'},
            'observers': {'folder': 'rate'},
            'hard': {'folder': 'finetune'},
            'gallery_ref': '',  # a photograph; '' is the first of the test split
            'hard_images': 12,
        }
    )
