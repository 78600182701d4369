"""export: puts a trained model where `iqa_jax.load_model` and other programs find it.

With rated images it is calibrated to opinions; the model card says where it comes from and what it
is known to get wrong.
"""

import time

from iqa_jax.data import tables
from iqa_jax.runtime import artifacts, sharing, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import calibration_fit, model_card, opening
from iqa_jax.training import calibration, saved_model

KEYS = {'model', 'calibration', 'results', 'pairs', 'rated'}


@sharing.on_main
def run(config: dict, workdir: str | Path) -> dict:
    """Copies a saved model, verified, calibrates it and writes MODEL_CARD.md and quarantine.csv.

    `calibration` is {'manifest', 'splits'} of rated images, or None, which keeps the calibration
    that the model has. For the card alone, each '' or a path: `results` of evaluate, `pairs` of
    gmad, `rated`, the manifest with opinions on the images of these pairs.

    Raises:
      ValueError: the calibration is impossible (see `calibration_fit`), or `rated` has no pair.
    """
    (config, given), workdir = opening.begin(config, KEYS), as_path(workdir)
    source, wanted = as_path(config['model']), config['calibration']
    if config['rated'] and not config['pairs']:
        raise ValueError('config.rated needs config.pairs, the gMAD pairs that were rated.')
    if wanted:
        opening.check_keys(wanted, calibration_fit.KEYS, 'config.calibration')
    own = saved_model.files(source, calibrated=not wanted)
    rated = [wanted['manifest']] if wanted else []
    rated += [config['rated']] if config['rated'] else []
    inputs = own + rated + [config[key] for key in ('results', 'pairs') if config[key]]
    identity = given | {'unsigned_files': [opening.unsigned_files(path) for path in rated]}
    stage = stages.Stage('export', workdir, identity, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    start, mark = time.monotonic(), stage.fingerprint
    model = saved_model.load(source)
    known, quarantine = model.calibration, []
    if wanted:
        known, quarantine = calibration_fit.fit(model, source, wanted)
    failures = []
    if config['pairs']:
        failures, bad = model_card.failures(model, config['pairs'], config['rated'])
        quarantine += bad
    card = model_card.text(model, known, failures, config['results'])
    outputs = _copy(own, workdir, mark)
    if known:
        outputs.append(calibration.write(workdir, known, workdir / 'weights.msgpack', mark))
    outputs += [workdir / 'MODEL_CARD.md', workdir / 'quarantine.csv']
    artifacts.commit(outputs[-2], card.encode(), fingerprint=mark)
    artifacts.commit(outputs[-1], tables.quarantine_csv(quarantine), fingerprint=mark)
    headline = f'{model.spec["backbone"]}, {model_card.parameters(model):,} parameters'
    if known:
        people = 'SIMULATED opinions' if known['simulated'] else 'opinions'
        headline += f', {known["residual_std"]:.1f} of 100 from {people}'
    summary = {
        'quarantined': len(quarantine),
        'seconds': time.monotonic() - start,
        'headline': headline,
        'artifact': 'model.json',
    }
    return stage.finish(summary, outputs)


def _copy(files: list[Path], workdir: Path, mark: str) -> list[Path]:
    """Copies the model; what an earlier one left beside it is removed first."""
    contents = {p.name: artifacts.read(p) for p in files if p.name != calibration.FILE}
    saved_model.forget_training(workdir)
    calibration.forget(workdir)
    for name, data in contents.items():
        artifacts.commit(workdir / name, data, fingerprint=mark)
    return [workdir / name for name in contents]
