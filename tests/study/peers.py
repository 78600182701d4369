"""What sureal and choix made of seeded votes and answers, by `golden/make_study_scores.py`."""

import pathlib

import numpy as np

ARCHIVE = np.load(pathlib.Path(__file__).resolve().parents[1] / 'golden' / 'study' / 'scores.npz')


def table(name):
    """Votes [raters, images] given to sureal, nan where there is none."""
    votes = ARCHIVE[f'{name}/votes'].astype(float)
    return np.where(votes < 0, np.nan, votes)


def votes_of(matrix):
    """A votes table of a [raters, images] array; nan is no vote."""
    rater, image = np.nonzero(~np.isnan(matrix))
    return {
        'rater_id': np.array([f'r{i:03d}' for i in rater], object),
        'image_id': np.array([f'i{i:03d}' for i in image], object),
        'vote': matrix[rater, image],
    }


def answers():
    """The answers given to both, the preferred image first; images are '0' to '7'."""
    first, second, rater = ARCHIVE['answers'].astype(str).T
    choice = np.full(len(first), 'a')
    return {'rater_id': rater, 'image_id_a': first, 'image_id_b': second, 'choice': choice}
