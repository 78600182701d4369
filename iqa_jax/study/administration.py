"""What whoever runs a study does: create it, watch it, pause it, delete a rater's data."""

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from iqa_jax.study import collected, schema, sessions


def create(
    path: str | Path,
    *,
    design: str,
    images: Sequence[dict],
    items: Sequence[dict],
    places: Sequence[Sequence[dict]],
    votes_per_item: int,
    session_minutes: float,
    break_seconds: float,
    about: dict,
    now: float,
) -> None:
    """Writes a study: images, items and every rater's `places`, sessions as `plan.make` gives them.

    `images`: {'label', 'image_id', 'file', 'media', 'sha256', 'width', 'height'}; `items`: {'kind',
    'image_a', 'image_b' (indices into images, None), 'low', 'high'}; `session_minutes`: 0 for any
    length; `about`: JSON kept as it is.
    """

    def fill(db: sqlite3.Connection) -> None:
        settings = {
            'design': design, 'votes_per_item': votes_per_item, 'about': about, 'paused': False,
            'created': now, 'token': secrets.token_urlsafe(18), 'named': 0,
            'admin_token': secrets.token_urlsafe(18), 'session_minutes': session_minutes,
            'break_seconds': break_seconds,
        }  # fmt: skip
        for key, value in settings.items():
            schema.set_setting(db, key, value)
        names = ('label', 'image_id', 'file', 'media', 'sha256', 'width', 'height')
        db.executemany(
            f'INSERT INTO images VALUES (?{", ?" * len(names)})',
            [(n, *(image[name] for name in names)) for n, image in enumerate(images)],
        )
        names = ('kind', 'image_a', 'image_b', 'low', 'high')
        db.executemany(
            f'INSERT INTO items VALUES (?{", ?" * len(names)})',
            [(n, *(item[name] for name in names)) for n, item in enumerate(items)],
        )
        for number, planned in enumerate(places):
            db.execute('INSERT INTO raters (number, rater_id) VALUES (?, ?)', (number, _new_id(db)))
            for place, session in enumerate(planned):
                sessions.add(db, number, place, session)
        schema.log(db, now, None, 'created', {'images': len(images), 'items': len(items)})

    schema.build(path, fill)


def status(db: sqlite3.Connection) -> dict:
    """Counts of a study and of each rater; `missing` is how many ratings it still needs."""
    needed, missing = _missing(db)
    progress = db.execute(
        'SELECT r.rater_id, r.joined, r.finished, r.code, '
        '(SELECT COALESCE(SUM(trials), 0) FROM sessions WHERE rater = r.number) AS trials, '
        '(SELECT COUNT(*) FROM answers a JOIN sessions s ON s.number = a.session '
        ' WHERE s.rater = r.number) AS answers, '
        '(SELECT MAX(received) FROM answers a JOIN sessions s ON s.number = a.session '
        ' WHERE s.rater = r.number) AS last_answer '
        'FROM raters r WHERE r.key IS NOT NULL ORDER BY r.number'
    )
    checks = collected.gold(db)
    raters = [dict(row) | checks.get(row['rater_id'], {}) for row in progress]
    count = db.execute('SELECT COUNT(*) FROM raters').fetchone()[0]
    return {
        'design': schema.setting(db, 'design'),
        'paused': schema.setting(db, 'paused'),
        'places': count,
        'free': count - len(raters),
        'joined': len(raters),
        'finished': sum(rater['finished'] is not None for rater in raters),
        'answers': sum(rater['answers'] for rater in raters),
        'needed': needed,
        'missing': missing,
        'raters': raters,
    }


def _missing(db: sqlite3.Connection) -> tuple[int, int]:
    """(ratings that the study needs, those that are missing); surplus ones fill no gap."""
    each = schema.setting(db, 'votes_per_item')
    total = db.execute(f'SELECT COUNT(*) FROM items i WHERE {collected.COUNTED}').fetchone()[0]
    there = db.execute(
        f'SELECT COUNT(*) AS votes {collected.ANSWERS} WHERE {collected.COUNTED} GROUP BY i.number'
    ).fetchall()
    return total * each, total * each - sum(min(row['votes'], each) for row in there)


def set_paused(db: sqlite3.Connection, paused: bool, now: float) -> dict:
    """Pauses or resumes: a paused study keeps what it has and takes nothing new."""
    schema.set_setting(db, 'paused', paused)
    schema.log(db, now, None, 'paused' if paused else 'resumed', {})
    return {'paused': paused}


def delete_rater(db: sqlite3.Connection, rater_id: str, now: float) -> dict:
    """Deletes everything that a rater gave: {'answers': deleted}.

    The place is free again, for somebody with another number. The log keeps that somebody was
    deleted, not who. Raises ValueError for an unknown rater.
    """
    mine = 'session IN (SELECT number FROM sessions WHERE rater = ?)'
    number = (_joined(db, rater_id),)
    deleted = db.execute(f'DELETE FROM answers WHERE {mine}', number).rowcount
    db.execute(f'UPDATE breaks SET began = NULL, finished = NULL WHERE {mine}', number)
    db.execute(
        'UPDATE sessions SET began = NULL, finished = NULL, screen = NULL WHERE rater = ?', number
    )
    db.execute(
        'UPDATE raters SET rater_id = ?, key = NULL, joined = NULL, finished = NULL, code = NULL, '
        'questionnaire = NULL WHERE number = ?', (_new_id(db), *number),
    )  # fmt: skip
    # Of somebody who gave all trials away without an answer no work is left.
    db.execute(
        'DELETE FROM raters WHERE number = ? AND number NOT IN (SELECT rater FROM sessions)', number
    )
    db.execute('DELETE FROM events WHERE rater = ?', number)
    schema.log(db, now, None, 'rater_deleted', {'answers': deleted})
    return {'answers': deleted}


def release(db: sqlite3.Connection, rater_id: str, now: float) -> dict:
    """Gives what a rater who stopped has not answered to a new place: {'trials': given away}.

    The answers stay, the rater's work counts as finished. Raises ValueError for an unknown rater
    and for one with nothing left.
    """
    old = _joined(db, rater_id)
    number = db.execute('SELECT MAX(number) + 1 FROM raters').fetchone()[0]
    db.execute('INSERT INTO raters (number, rater_id) VALUES (?, ?)', (number, _new_id(db)))
    given = sessions.hand_over(db, old, number, now)
    if not given:
        raise ValueError(f'{rater_id} has answered everything; there is nothing to release.')
    schema.log(db, now, old, 'released', {'trials': given})
    return {'trials': given}


def _joined(db: sqlite3.Connection, rater_id: str) -> int:
    """The number of a rater; raises ValueError where nobody is called so."""
    sql = 'SELECT number FROM raters WHERE rater_id = ? AND key IS NOT NULL'
    if (row := db.execute(sql, (rater_id,)).fetchone()) is None:
        raise ValueError(f'This study has no rater {rater_id!r}; its status lists them.')
    return row['number']


def _new_id(db: sqlite3.Connection) -> str:
    """A name that nobody had before: an old one would mean two people, one of them deleted."""
    number = schema.setting(db, 'named') + 1
    schema.set_setting(db, 'named', number)
    return f'rater_{number:03d}'


def truncate_log(db: sqlite3.Connection) -> bool:
    """Empties the write-ahead log, which may still hold what was deleted; False if it is in use."""
    try:
        return not db.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()[0]
    except sqlite3.OperationalError:
        return False
