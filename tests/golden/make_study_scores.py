"""Writes study/scores.npz: what sureal and choix make of seeded votes and answers.

    pip install sureal choix && python tests/golden/make_study_scores.py

Needs nothing of this package. The votes have the shapes of the examples that come with sureal: the
five by four of its documentation, 26 raters by 79 videos and 24 by 72 with whole grades, and half
of a table missing. -1 stands for no vote.
"""

import contextlib
import importlib.metadata
import io
import pathlib
import warnings

import choix
import numpy as np
from sureal import dataset_reader, pc_subjective_model, subjective_model

ARCHIVE = pathlib.Path(__file__).resolve().parent / 'study' / 'scores.npz'
DOCUMENTED = ((100, 100, 100, 100, 100), (40, 45, 50, 55, 60), (90, 90, 90, 90, 90),
              (70, 75, 80, 85, 90))  # fmt: skip
VOTE_MODELS = {
    'mean': subjective_model.MosModel,
    'bias': subjective_model.BiasremvMosModel,
    'bt500': subjective_model.SubjrejMosModel,
    'zscore': subjective_model.ZscoringMosModel,
    'ml': subjective_model.SubjectMLEModelProjectionSolver,
}


class Dataset:
    """What sureal reads: attributes as in its dataset files."""

    def __init__(self, opinions: list[dict]):
        self.ref_videos = [{'content_id': 0, 'content_name': 'content', 'path': 'content'}]
        self.dis_videos = [
            {'content_id': 0, 'asset_id': i, 'path': str(i), 'os': os}
            for i, os in enumerate(opinions)
        ]


def panels() -> dict[str, np.ndarray]:
    """Whole votes [raters, images] in 0..100, -1 where there is none."""
    rng = np.random.default_rng(20)
    found = {'documented': np.array(DOCUMENTED).T}
    for name, shape, step, missing in (
        ('netflix', (26, 79), 1, 0.0),
        ('grades', (24, 72), 25, 0.0),
        ('partial', (24, 72), 1, 0.5),
    ):
        noise = 10 * np.exp(0.25 * rng.standard_normal((shape[0], 1)))
        votes = rng.uniform(15, 85, shape[1]) + rng.normal(0, 6, (shape[0], 1))
        votes = votes + noise * rng.standard_normal(shape)
        votes[3] = rng.uniform(0, 100, shape[1])
        votes = (step * np.round(votes.clip(0, 100) / step)).astype(int)
        found[name] = np.where(rng.random(shape) < missing, -1, votes)
    return found


def from_votes(votes: np.ndarray) -> dict[str, np.ndarray]:
    """Scores by every model, and the other results of maximum likelihood."""
    names = [f'r{i:02d}' for i in range(len(votes))]
    opinions = [
        {name: int(v) for name, v in zip(names, column, strict=True) if v >= 0}
        for column in votes.T
    ]
    reader, found = dataset_reader.RawDatasetReader(Dataset(opinions)), {}
    for name, model in VOTE_MODELS.items():
        result = model(reader).run_modeling()
        found[name] = np.array(result['quality_scores'])
        if name == 'ml':
            for key in ('observer_bias', 'observer_inconsistency'):
                found[key] = np.array(result[key])
            for key in ('quality_scores', 'observer_bias', 'observer_inconsistency'):
                found[f'{key}_std'] = np.array(result[f'{key}_std'])
    return found


def answers() -> np.ndarray:
    """Winner and loser of 600 comparisons of 8 images by 30 raters, rater in the third column."""
    rng = np.random.default_rng(21)
    score = rng.normal(0, 1, 8)
    rows = []
    for rater in range(30):
        for i in range(8):
            for j in range(i + 1, 8):
                first = score[i] - score[j] + np.sqrt(2) * rng.standard_normal() > 0
                rows.append((i, j, rater) if first else (j, i, rater))
    keep = rng.permutation(len(rows))[:600]
    return np.array(rows)[np.sort(keep)]


def from_answers(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Bradley-Terry by choix, with a prior and almost without; both models by sureal."""
    pairs = [(int(a), int(b)) for a, b, _ in rows]
    found = {
        # choix 0.4.1 adds alpha * sum of squares, without a half: a variance of 1 / (2 alpha).
        'choix_prior': choix.opt_pairwise(8, pairs, alpha=0.5 / 1.5**2, tol=1e-12),
        'choix': choix.opt_pairwise(8, pairs, alpha=1e-6, tol=1e-12),
    }
    opinions = [{} for _ in range(8)]
    for winner, loser, rater in rows.tolist():
        opinions[winner][f'r{rater:02d}', loser] = 1
        opinions[loser][f'r{rater:02d}', winner] = 0
    reader = dataset_reader.PairedCompDatasetReader(Dataset(opinions))
    for name, model in (
        ('sureal_thurstone', pc_subjective_model.ThurstoneMlePairedCompSubjectiveModel),
        ('sureal_bradley_terry', pc_subjective_model.BradleyTerryMlePairedCompSubjectiveModel),
    ):
        found[name] = np.array(model(reader).run_modeling()['quality_scores'])
    return found


def main() -> None:
    arrays = {}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # sureal divides by the noise of raters without any
        for name, votes in panels().items():
            arrays[f'{name}/votes'] = votes.astype(np.int8)
            arrays |= {f'{name}/{key}': x for key, x in from_votes(votes).items()}
        rows = answers()
        arrays['answers'] = rows.astype(np.int8)
        arrays |= from_answers(rows)
    versions = [f'{name} {importlib.metadata.version(name)}' for name in ('sureal', 'choix')]
    arrays['versions'] = np.array(versions)
    ARCHIVE.parent.mkdir(exist_ok=True)
    np.savez_compressed(ARCHIVE, **arrays)
    print(f'{ARCHIVE.name}: {len(arrays)} arrays, {ARCHIVE.stat().st_size} bytes, {versions}')


if __name__ == '__main__':
    main()
