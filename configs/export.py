"""A trained model where `iqa_jax.load_model` finds it, with its model card.

python -m iqa_jax.main --config configs/export.py --workdir runs/quickstart/model
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'; the smoke form is not calibrated, its model is too poor."""
    last = 'active/round_02'  # its pairs were found against the final model, and not trained on
    calibration = {'manifest': 'rate/rated.parquet', 'splits': ('val',)}
    return ConfigDict(
        {
            'task': 'export',
            'root': 'runs/quickstart',
            'model': 'active/model',
            'calibration': None if arg == 'smoke' else calibration,
            # For the model card, '' where there is none.
            'results': 'active/evaluate/fresh/results.json',
            'pairs': f'{last}/gmad/pairs.parquet',
            'rated': f'{last}/study/rated.parquet',
        }
    )
