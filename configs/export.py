"""A trained model where `iqa_jax.load_model` finds it, with its model card.

python -m iqa_jax.main --config configs/export.py --workdir runs/quickstart/model
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke', which are the same."""
    del arg
    return ConfigDict(
        {
            'task': 'export',
            'root': 'runs/quickstart',
            'model': 'active/model',
        }
    )
