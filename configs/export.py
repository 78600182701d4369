"""A trained model where `iqa_jax.load_model` finds it, with its model card.

python -m iqa_jax.main --config configs/export.py --workdir runs/quickstart/model

Calibrated to the SIMULATED panel of the quickstart on 60 images of 2 photographs: SRCC 0.587,
residuals of 20.1 of 100; of the 49 fresh gMAD pairs the model orders 9 against the panel.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'; the smoke form is not calibrated, its model is too poor."""
    calibration = {'manifest': 'rate/rated.parquet', 'splits': ('val',)}
    return ConfigDict(
        {
            'task': 'export',
            'root': 'runs/quickstart',
            'model': 'active/model',
            'calibration': None if arg == 'smoke' else calibration,
            # For the model card, '' where there is none.
            'results': 'active/results.json',
            # Of the last search that was rated: trained on only if the budget or the
            # counterexamples were at an end.
            'pairs': 'active/pairs.parquet',
            'rated': 'active/rated.parquet',
        }
    )
