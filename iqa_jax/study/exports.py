"""Votes and answers in the forms that sureal and pwcmp read, and tables for spreadsheets."""

import csv
import io
import json
from collections.abc import Mapping

import numpy as np

from iqa_jax.study import pairwise
from iqa_jax.study import votes as votes_table

_VOTE_COLUMNS = ('rater_id', 'image_id', 'vote')
_FORMULA = ('=', '+', '-', '@', '\t', '\r')  # what a cell that a spreadsheet runs begins with
_WON_BY_A = {'a': 1.0, 'b': 0.0, 'tie': 0.5}


def sureal_votes(
    votes: Mapping[str, np.ndarray], ref_ids: Mapping[str, str] | None = None
) -> bytes:
    """A sureal dataset in JSON of a votes table (rater_id, image_id, vote in 0..100).

    Each image is a distorted video whose path is its image_id and whose `os` maps a rater to the
    vote, or to the list of votes where the rater saw it several times. `ref_ids` (image_id ->
    ref_id) names the contents; without it each image is its own. Missing votes are simply absent.
    Raises ValueError.
    """
    votes_table.matrix(votes)  # refuses what is not a votes table
    scores: dict[str, dict[str, list[float]]] = {}
    rows = zip(*(np.asarray(votes[key]).tolist() for key in _VOTE_COLUMNS), strict=True)
    for rater, image, vote in rows:
        scores.setdefault(str(image), {}).setdefault(str(rater), []).append(float(vote))
    opinions = {
        image: {rater: mine[0] if len(mine) == 1 else mine for rater, mine in by_rater.items()}
        for image, by_rater in sorted(scores.items())
    }
    dataset = _sureal_dataset(list(opinions), list(opinions.values()), ref_ids)
    return json.dumps(dataset, indent=1).encode() + b'\n'


def sureal_matrix(votes: Mapping[str, np.ndarray]) -> bytes:
    """Votes as CSV, an image a row and a rater a column, as sureal's models see them.

    Several votes of a rater for an image are their mean, missing ones empty. Raises ValueError.
    """
    table, raters, images = votes_table.matrix(votes)
    rows = (
        [image, *('' if np.isnan(value) else f'{value:.9g}' for value in row)]
        for image, row in zip(images, table.T.tolist(), strict=True)
    )
    return _csv([['image_id', *raters], *rows])


def sureal_answers(
    answers: Mapping[str, np.ndarray], ref_ids: Mapping[str, str] | None = None
) -> bytes:
    """A sureal dataset of paired comparisons (a .py file, UTF-8) of an answers table.

    `os` maps (rater, asset_id of the other image) to 1 where the image was preferred, 0 where the
    other one was, 0.5 for a tie, in both images' entries; sureal has no repetitions of pairs, so of
    a rater's repeated answers to a pair the majority counts. JSON has no such keys. `ref_ids` as
    for `sureal_votes`. Raises ValueError.
    """
    images = pairwise.counts(answers)[0].tolist()
    number = {image: i for i, image in enumerate(images)}
    won: list[dict[tuple[str, int], list[float]]] = [{} for _ in images]
    for rater, a, b, choice in _answer_rows(answers):
        value = _WON_BY_A[choice]
        won[number[a]].setdefault((rater, number[b]), []).append(value)
        won[number[b]].setdefault((rater, number[a]), []).append(1 - value)
    opinions = [
        {key: (1 + float(np.sign(sum(mine) - len(mine) / 2))) / 2 for key, mine in os.items()}
        for os in won
    ]
    dataset = _sureal_dataset(images, opinions, ref_ids)
    return ''.join(f'{name} = {value!r}\n' for name, value in dataset.items()).encode()


def comparison_matrix(answers: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Image ids [M] sorted and float64 [M, M]: how often image i was preferred to image j.

    A tie counts half for each. This is pwcmp's matrix. Raises ValueError.
    """
    ids, pairs, table = pairwise.counts(answers)
    first, second = pairs.T
    matrix = np.zeros((len(ids), len(ids)))
    matrix[first, second] = table[:, 0] + table[:, 2] / 2
    matrix[second, first] = table[:, 1] + table[:, 2] / 2
    return ids, matrix


def pwcmp_matrix(answers: Mapping[str, np.ndarray]) -> bytes:
    """`comparison_matrix` as CSV: a header of image ids, then a row an image, its id first.

    MATLAB: D = table2array(readtable(file, 'ReadRowNames', true)); pw_scale(D).
    """
    ids, matrix = comparison_matrix(answers)
    rows = (
        [name, *(f'{value:g}' for value in row)]
        for name, row in zip(ids, matrix.tolist(), strict=True)
    )
    return _csv([['image_id', *ids], *rows])


def pwcmp_answers(
    answers: Mapping[str, np.ndarray], ref_ids: Mapping[str, str] | None = None
) -> bytes:
    """An answers table as CSV in pwcmp's long form: scene, observer, condition_A, condition_B, ...

    The last column, selected_A, is 1 or 0. `scene` is the ref_id of both images, 'all' without
    `ref_ids` and for pairs across contents. Raises ValueError, for ties too: this form has no room
    for them, `pwcmp_matrix` does.
    """
    pairwise.counts(answers)
    rows = []
    for rater, a, b, choice in _answer_rows(answers):
        if choice == 'tie':
            raise ValueError(
                f"{rater} found {a} and {b} equal; pwcmp's long form has no ties, export the "
                'comparison matrix instead.'
            )
        scenes = {(ref_ids or {}).get(image, 'all') for image in (a, b)}
        rows.append([scenes.pop() if len(scenes) == 1 else 'all', rater, a, b, int(choice == 'a')])
    return _csv([['scene', 'observer', 'condition_A', 'condition_B', 'selected_A'], *rows])


def _answer_rows(answers: Mapping[str, np.ndarray]):
    """(rater, image a, image b, choice) of each row, as text."""
    names = ('rater_id', 'image_id_a', 'image_id_b', 'choice')
    return zip(*(np.asarray(answers[name], str).tolist() for name in names), strict=True)


def _sureal_dataset(images: list[str], opinions: list[dict], ref_ids) -> dict:
    contents = [str(ref_ids[image]) if ref_ids else image for image in images]
    number = {content: i for i, content in enumerate(dict.fromkeys(contents))}
    return {
        'ref_videos': [
            {'content_id': i, 'content_name': content, 'path': content}
            for content, i in number.items()
        ],
        'dis_videos': [
            {'content_id': number[content], 'asset_id': i, 'os': os, 'path': image}
            for i, (content, image, os) in enumerate(zip(contents, images, opinions, strict=True))
        ],
    }


def harmless(value: object) -> object:
    """A cell of a CSV file that no spreadsheet takes for a formula: text gets an apostrophe."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value  # -5 is no formula


def table_csv(columns: Mapping[str, np.ndarray]) -> bytes:
    """A table as CSV with its names as header, each cell `harmless`."""
    body = zip(*(column.tolist() for column in columns.values()), strict=True)
    return _csv([list(columns), *body])


def _csv(rows: list) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
