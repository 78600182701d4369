"""What each section of the report shows, read from the artifacts of the stages."""

import json
from pathlib import Path

import numpy as np

from iqa_jax import distortions
from iqa_jax.data import manifest, tables
from iqa_jax.data.store import ImageStore
from iqa_jax.runtime import artifacts


def read_json(path: Path) -> dict:
    """A committed JSON file, verified."""
    return json.loads(artifacts.read(path))


def gallery(columns: tables.Table, store: ImageStore, ref_id: str) -> dict | None:
    """All types and levels of one photograph; the first of the test split unless named."""
    ref_id = ref_id or str(columns['ref_id'][columns['split'] == 'test'][0])
    inside = columns['ref_id'] == ref_id
    if not inside.any():
        raise ValueError(f'config.gallery_ref={ref_id} is not a photograph of the data set.')
    rows = []
    for number in sorted(set(columns['type'][inside].tolist()) - {0}):
        cells = np.flatnonzero(inside & (columns['type'] == number))
        cells = cells[np.argsort(columns['level'][cells])]
        known = distortions.get(number)
        rows.append({
            'number': number, 'name': known.name, 'note': known.approximation,
            'images': store.load(cells),
        })  # fmt: skip
    pristine = store.load(np.flatnonzero(inside & (columns['type'] == 0)))[0]
    return {'reference': pristine, 'rows': rows}


def proxies(data: Path, columns: tables.Table) -> dict:
    raw, meta = tables.read(data / 'scores.parquet')
    equalised = tables.read(data / 'proxies.parquet')[0]
    train = columns['split'] == 'train'
    return {
        name: {
            'raw': raw[name][train],
            'equalised': equalised[name][train],
            'higher_is_better': described['higher_is_better'],
        }
        for name, described in meta['columns'].items()
    }


def training(folder: Path) -> dict:
    """A training's curves, and whether a simulated panel gave its targets."""
    summary = read_json(folder / 'stage.json')
    return {
        'curves': curves(folder / 'metrics.jsonl'),
        'simulated': summary.get('simulated', False),
    }


def curves(path: Path) -> dict:
    """{quantity: (steps, values)} of a committed record of training, verified."""
    rows = [json.loads(line) for line in artifacts.read(path).splitlines()]
    curves = {}
    for name in ('loss', 'val_srcc', 'disagreement'):
        found = [(row['step'], row[name]) for row in rows if name in row]
        if found:
            curves[name] = tuple(np.array(found, np.float64).T)
    return curves


def _type_names(types: np.ndarray) -> np.ndarray:
    names = {d.number: d.name for d in distortions.DISTORTIONS.values()} | {0: 'pristine'}
    return np.array([names.get(t, 'unknown') for t in types.tolist()], object)


def family(distortion: distortions.Distortion) -> str:
    """The file a distortion lives in names its family."""
    return distortion.function.__module__.rpartition('.')[2].replace('_', ' ')


def target_name(results: dict) -> str:
    """What a set was compared with, as the page writes it."""
    return {'mos': 'MOS'}.get(results['target'], results['target'])


def round_name(folder: str) -> str:
    """'round_02' as the page writes it: round 2."""
    return f'round {int(folder.removeprefix("round_"))}'


def scatter(folder: Path, results: dict) -> dict:
    found = tables.read(folder / 'predictions.parquet')[0]
    row = results['rows'][0]
    return {
        'model': row['model'],
        'set': results['name'],
        'prediction': found[row['model']],
        'mos': found['target'],
        'target': target_name(results),
        'type': _type_names(found['type']),
        'curve': tuple(np.array(axis) for axis in row['curve']),
        'simulated': results['simulated'],
    }


def per_distortion(folder: Path, results: dict) -> dict:
    table = tables.read(folder / 'per_distortion.csv')[0]
    models = [k for k in table if k not in ('type', 'name', 'n')]
    return {
        'types': table['name'].tolist(),
        'models': models,
        'srcc': np.stack([table[m].astype(np.float64) for m in models], axis=1),
        'n': table['n'].tolist(),
        'set': results['name'],
        'simulated': results['simulated'],
    }


def gmad(folder: Path, columns: tables.Table, store: ImageStore) -> list[dict]:
    """The pairs of a round with both scores and the opinions under every image."""
    pairs = tables.read(folder / 'gmad' / 'pairs.parquet')[0]
    path = folder / 'study' / 'rated.parquet'
    rated, simulated = manifest.read(path), bool(tables.read(path)[1].get('simulated'))
    row_of = {image_id: i for i, image_id in enumerate(columns['image_id'].tolist())}
    opinion = {image_id: i for i, image_id in enumerate(rated['image_id'].tolist())}

    def picture(i: int, side: str) -> dict:
        image_id = pairs[f'image_id_{side}'][i]
        row = row_of[image_id]
        at = opinion.get(image_id)
        return {
            'image': store.load([row])[0],
            'image_id': image_id,
            'defender_score': float(pairs[f'defender_{side}'][i]),
            'attacker_score': float(pairs[f'attacker_{side}'][i]),
            'mos': float('nan') if at is None else float(rated['mos'][at]),
            'mos_std': float('nan') if at is None else float(rated['mos_std'][at]),
            'type': str(_type_names(columns['type'][row : row + 1])[0]),
            'severity': int(columns['level'][row]),
        }

    return [
        {
            'round': round_name(folder.name),
            'simulated': simulated,
            'defender': pairs['defender'][i],
            'attacker': pairs['attacker'][i],
            'level': int(pairs['level'][i]) + 1,
            'best': picture(i, 'best'),
            'worst': picture(i, 'worst'),
        }
        for i in range(len(pairs['defender']))
    ]


def hard(folder: Path, columns: tables.Table, store: ImageStore, limit: int) -> list[dict]:
    """Training images on which the model and its pruned twin disagreed most."""
    found = tables.read(folder / 'hard_examples.parquet')[0]
    row_of = {image_id: i for i, image_id in enumerate(columns['image_id'].tolist())}
    examples = []
    for image_id, gap in zip(found['image_id'][:limit], found['disagreement'], strict=False):
        row = row_of[image_id]
        examples.append({
            'image': store.load([row])[0], 'image_id': image_id, 'disagreement': float(gap),
            'type': str(_type_names(columns['type'][row : row + 1])[0]),
            'severity': int(columns['level'][row]),
        })  # fmt: skip
    return examples


def observers(folder: Path) -> dict:
    """A study's raters and what it counted."""
    raters = tables.read(folder / 'raters.csv')[0]
    summary, meta = (
        read_json(folder / 'stage.json'),
        artifacts.meta(folder / 'rated.parquet')['meta'],
    )
    names = {'rater_id': 'rater', 'inconsistency': 'spread', 'answers': 'votes'}
    rows = [
        {
            names.get(name, name): value == 'True' if name == 'excluded' else value
            for name, value in zip(raters, values, strict=True)
        }
        for values in zip(*raters.values(), strict=True)
    ]
    return {
        'summary': {
            'observers': f'{summary["raters"]}' + (' (SIMULATED)' if meta['simulated'] else ''),
            'votes': f'{summary.get("votes", summary.get("answers")):,}',
            'excluded': f'{summary["excluded"]}',
            'images': f'{len(tables.read(folder / "rated.parquet")[0]["image_id"])}',
        },
        'raters': rows,
        'simulated': meta['simulated'],
    }


def quarantine(folders: dict[str, Path]) -> list[dict]:
    """What the stages set aside, by stage; a stage without quarantine.csv sets nothing aside."""
    rows = []
    for stage, folder in folders.items():
        outputs = artifacts.meta(folder / 'stage.json')['meta']['outputs']
        if 'quarantine.csv' not in outputs:
            continue
        table = tables.read(folder / 'quarantine.csv')[0]
        for file, reason in zip(table['file'], table['reason'], strict=True):
            rows.append({'stage': stage, 'file': file, 'reason': reason})
    return rows


def provenance(folders: dict[str, Path], command: str) -> dict:
    records = {
        name: artifacts.meta(folder / 'stage.json')['meta'] for name, folder in folders.items()
    }
    digests = {
        f'{name}/{output}': artifacts.meta(folder / output)['sha256']
        for name, folder in folders.items()
        for output in records[name]['outputs']
    }
    return {
        'command': command,
        'config': {name: record['config'] for name, record in records.items()},
        'versions': artifacts.versions(),
        'digests': digests,
    }
