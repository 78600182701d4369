"""SRCC, KRCC, PLCC (raw and after a fitted logistic) and RMSE with intervals by reference.

    python -m iqa_jax.main --config configs/evaluate.py --workdir runs/quickstart/evaluate

Any score tables against the opinions of a rated manifest, or with `proxies` against the mean
equalised proxy.
"""

from ml_collections import ConfigDict

METRICS = ('ssim', 'ms_ssim', 'gmsd', 'mdsi')


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    columns = {
        name: {'scores': 'data/scores.parquet', 'column': name, 'kind': 'full-reference metric'}
        for name in METRICS
    }
    columns['quality'] = {
        'scores': 'active/scores.parquet',
        'column': 'quality',
        'kind': 'blind model',
    }
    return ConfigDict(
        {
            'task': 'evaluate',
            'root': 'runs/quickstart',
            'name': 'rated test photographs',
            'manifest': 'rate/rated.parquet',
            'splits': ('test',),
            'proxies': '',
            'columns': columns,
            'headline': 'quality',
            'pairs': '',
            'logistic_parameters': 4,
            'resamples': 200 if arg == 'smoke' else 1000,
            'allow_trained': 'nothing',  # | 'references' | 'images' that a model was trained on
            'seed': 0,
        }
    )
