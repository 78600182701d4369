"""Repeated runs: means over splits and paired differences, each with its interval.

Runs are float64 [splits, seeds], NaN where a run has no result. The seeds of one split share its
images, so they are averaged first and the splits are the sample.
"""

import numpy as np
import scipy.stats

from iqa_jax.evaluation.page_format import number, signed

METHOD = {
    'pairs': 'runs of one split and one seed; the seeds of a split are averaged first, so a split '
    'counts once however many seeds it has',
    't': 'mean difference over splits +- Student t quantile x sd / sqrt(splits)',
    'corrected': 'the same with sqrt(1 / splits + tested / trained contents) for 1 / sqrt(splits): '
    'splits share training contents, so their differences are not independent (Nadeau and Bengio, '
    'Machine Learning 52, 2003); only for sets whose database is trained on',
    'bootstrap': 'percentiles of the mean when splits are drawn with replacement, and the seeds of '
    'each drawn split as well',
}
_HEADS = (
    'variant', 'types', 'mean', 'sd', 'median', 'change', '95 % t', 'corrected', 'bootstrap', '',
)  # fmt: skip


def summary(values: np.ndarray) -> dict[str, float | int]:
    """Mean, sd and median of the splits' means of runs [S, R], NaN where there is no result.

    Returns:
      mean, sd (n - 1, over splits), median; sd_seeds, pooled within splits; splits and runs that
      have a result. NaN where too few have.
    """
    runs = _splits(values)
    means = np.array([run.mean() for run in runs])
    freedom = sum(len(run) - 1 for run in runs)
    within = sum(float(((run - run.mean()) ** 2).sum()) for run in runs)
    return {
        'mean': float(means.mean()) if len(means) else float('nan'),
        'sd': float(means.std(ddof=1)) if len(means) > 1 else float('nan'),
        'median': float(np.median(means)) if len(means) else float('nan'),
        'sd_seeds': float(np.sqrt(within / freedom)) if freedom else float('nan'),
        'splits': len(means),
        'runs': sum(map(len, runs)),
    }


def paired_difference(
    values: np.ndarray,
    baseline: np.ndarray,
    *,
    tested_per_trained: float = float('nan'),
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict:
    """Mean of `values` - `baseline`, both [S, R] over the same splits and seeds, with intervals.

    Pairs in which either is NaN are left out. The intervals are those of METHOD.

    Args:
      values: of the variant.
      baseline: of what it is compared with.
      tested_per_trained: contents tested for each content trained on; NaN where none of them is
        of a database that is trained on.
      resamples: of the bootstrap.
      seed: likewise.
      confidence: of the intervals.

    Returns:
      {'value', 'sd' (of the splits' differences), 't', 'corrected' and 'bootstrap' as [low, high],
      'splits', 'runs'}; NaN where there are fewer than two splits.

    Raises:
      ValueError: the two have different shapes.
    """
    values, baseline = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if values.shape != baseline.shape or values.ndim != 2:
        raise ValueError(f'Pairs need two [splits, seeds], not {values.shape}, {baseline.shape}.')
    about = summary(values - baseline)
    count, found = about['splits'], {key: about[key] for key in ('sd', 'splits', 'runs')}
    found['value'] = about['mean']
    quantile = scipy.stats.t.ppf((1 + confidence) / 2, count - 1) if count > 1 else float('nan')
    for name, share in (('t', 0.0), ('corrected', tested_per_trained)):
        half = quantile * about['sd'] * np.sqrt(1 / max(count, 1) + share)
        found[name] = [float(found['value'] - half), float(found['value'] + half)]
    found['bootstrap'] = [float('nan')] * 2
    if count > 1:
        means = _resampled(_splits(values - baseline), resamples, seed)
        tail = 50 * (1 - confidence)
        found['bootstrap'] = np.percentile(means, [tail, 100 - tail]).tolist()
    return found


def table(rows: list[dict], baseline: str) -> str:
    """Rows of one set and measure as aligned text, a block for each variant.

    Args:
      rows: {'variant', 'group', 'difference' and what `summary` returns}, blocks in order.
      baseline: the variant that all are compared with.
    """
    most = max(row['splits'] for row in rows)
    cells = [list(_HEADS)]
    for i, row in enumerate(rows):
        first = i == 0 or rows[i - 1]['variant'] != row['variant']
        cells.append([row['variant'] if first else '', row['group']])
        cells[-1] += [number(row[key]) for key in ('mean', 'sd', 'median')]
        if row['variant'] == baseline:
            cells[-1] += [''] * 4
        else:
            change = row['difference']
            cells[-1].append(signed(change['value'], 3))
            cells[-1] += [_ends(change[name]) for name in ('t', 'corrected', 'bootstrap')]
        paired = row['difference']['splits']
        cells[-1].append('' if paired == most else f'{paired} of {most} splits')
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEADS))]
    lines = []
    for line in cells:
        padded = [f'{c:<{w}}' for c, w in zip(line[:2], widths[:2], strict=True)]
        padded += [f'{c:>{w}}' for c, w in zip(line[2:], widths[2:], strict=True)]
        lines.append('  '.join(padded).rstrip())
    return '\n'.join([lines[0], '-' * max(map(len, lines)), *lines[1:]])


def _ends(ends: list[float]) -> str:
    low, high = (signed(end, 3) for end in ends)
    return 'n/a' if 'n/a' in (low, high) else f'[{low}, {high}]'


def _splits(values: np.ndarray) -> list[np.ndarray]:
    """The results of each split that has any."""
    runs = [run[np.isfinite(run)] for run in np.asarray(values, np.float64)]
    return [run for run in runs if len(run)]


def _resampled(runs: list[np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """Means [resamples] of splits drawn with replacement, and of seeds within each drawn one."""
    rng = np.random.default_rng(seed)
    sizes = np.array([len(run) for run in runs])
    padded = np.zeros((len(runs), sizes.max()))
    for row, run in zip(padded, runs, strict=True):
        row[: len(run)] = run
    split = rng.integers(len(runs), size=(resamples, len(runs)))
    size = sizes[split][..., None]
    position = np.arange(padded.shape[1])
    drawn = (rng.random((*split.shape, padded.shape[1])) * size).astype(int)
    inside = position < size
    means = (padded[split[..., None], drawn] * inside).sum(-1) / size[..., 0]
    return means.mean(axis=1)
