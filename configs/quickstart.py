"""The whole loop on the bundled photographs, end to end.

    python -m iqa_jax.main --config configs/quickstart.py --workdir runs/quickstart

`--config configs/quickstart.py:smoke` is a tiny form for tests.
`--config.photos=DIR` takes a folder of your own photographs (512x384 or larger).
Opinions come from a SIMULATED panel, and every figure that rests on them says so.

2 cores of an AMD EPYC beside other trainings: 12 min, and 10 min for the active round. SRCC with
the mean equalised proxy on photographs never trained on 0.666 [0.543, 0.802] (8 photographs, 608
images, bootstrap by photograph).
"""

import pathlib
import sys

from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from configs import (
    active,
    evaluate,
    export,
    make_data,
    report,
    score,
    study,
    train_proxies,
    train_ranking,
)


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""

    def stage(module, folder: str, **changes) -> dict:
        config = module.get_config(arg).to_dict()
        del config['root']
        return config | changes | {'folder': folder}

    pretrained = {
        'scores': 'score_unseen/scores.parquet',
        'column': 'pretrained',
        'kind': 'blind model',
    }
    finetuned = {
        'scores': 'active/round_00/old_rated/scores.parquet',
        'column': 'quality',
        'kind': 'blind model',
    }
    columns = evaluate.get_config(arg).columns.to_dict()
    columns['after the active round'] = columns.pop('quality')
    stages = {
        'data': stage(make_data, 'data'),
        'pretrain': stage(train_proxies, 'pretrain'),
        'score_unseen': stage(score, 'score_unseen', model='pretrain/model', name='pretrained'),
        'evaluate_unseen': stage(
            evaluate,
            'evaluate_unseen',
            name='unseen photographs, mean proxy',
            manifest='data/manifest.parquet',
            splits=('test', 'pool'),
            proxies='data/proxies.parquet',
            columns={'pretrained': pretrained},
            headline='pretrained',
        ),
        'rate': stage(study, 'rate'),
        'finetune': stage(train_ranking, 'finetune'),
        'active': stage(active, 'active'),
        'evaluate_rated': stage(
            evaluate,
            'evaluate_rated',
            columns=columns | {'fine-tuned': finetuned, 'pretrained': pretrained},
            headline='after the active round',
        ),
        'export': stage(export, 'model'),
        'report': stage(report, '.'),
    }
    config = ConfigDict(
        {
            'task': 'pipeline',
            'root': '',
            'photos': '',  # a folder; '' is the bundled ones
            'order': tuple(stages),
            'stages': stages,
            'headlines': {
                'unseen_photos_srcc': ('evaluate_unseen', 'srcc'),
                'unseen_photos_srcc_interval': ('evaluate_unseen', 'srcc_interval'),
            },
        }
    )
    config.stages.data.photos = config.get_ref('photos')
    return config
