"""What whoever runs a study does: create it, watch it, pause it, delete a rater's data."""

import contextlib
import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from iqa_jax.study import collected, schema


def create(
    path: str | Path,
    *,
    design: str,
    images: Sequence[dict],
    items: Sequence[dict],
    sessions: Sequence[Sequence[dict]],
    votes_per_item: int,
    break_seconds: float,
    about: dict,
    now: float,
) -> None:
    """Writes a study: images, items and every rater's sessions as `plan.make` gives them.

    `images`: {'label', 'image_id', 'file', 'media', 'sha256', 'width', 'height'}; `items`: {'kind',
    'image_a', 'image_b' (indices into images, None), 'low', 'high'}; `about`: JSON kept as it is.
    """

    def fill(db: sqlite3.Connection) -> None:
        settings = {
            'design': design, 'votes_per_item': votes_per_item, 'about': about, 'paused': False,
            'created': now, 'token': secrets.token_urlsafe(18),
            'admin_token': secrets.token_urlsafe(18),
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
        for number, planned in enumerate(sessions):
            _add_place(db, number, planned, break_seconds)
        schema.log(db, now, None, 'created', {'images': len(images), 'items': len(items)})

    schema.build(path, fill)


def _add_place(
    db: sqlite3.Connection, number: int, planned: Sequence[dict], break_seconds: float
) -> None:
    db.execute(
        'INSERT INTO raters (number, rater_id) VALUES (?, ?)', (number, f'rater_{number + 1:03d}')
    )
    for place, session in enumerate(planned):
        sql = 'INSERT INTO sessions (rater, place, trials) VALUES (?, ?, ?)'
        at = db.execute(sql, (number, place, len(session['trials']))).lastrowid
        db.executemany(
            'INSERT INTO trials VALUES (?, ?, ?, ?)',
            [(at, trial, item, side) for trial, (item, side) in enumerate(session['trials'])],
        )
        db.executemany(
            'INSERT INTO breaks (session, trial, seconds) VALUES (?, ?, ?)',
            [(at, trial, break_seconds) for trial in session['breaks']],
        )


def status(db: sqlite3.Connection) -> dict:
    """Counts of a study and of each rater; `missing` is how many ratings it still needs."""
    needed, missing = _missing(db)
    progress = db.execute(
        'SELECT r.rater_id, r.joined, r.finished, r.code, '
        '(SELECT SUM(trials) FROM sessions WHERE rater = r.number) AS trials, '
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
    """Deletes everything that a rater gave; the place is free again: {'answers': deleted}.

    The log keeps that somebody was deleted, not who. Raises ValueError for an unknown rater.
    """
    row = db.execute('SELECT number FROM raters WHERE rater_id = ?', (rater_id,)).fetchone()
    if row is None:
        raise ValueError(f'This study has no rater {rater_id!r}; its status lists them.')
    mine = 'session IN (SELECT number FROM sessions WHERE rater = ?)'
    number = (row['number'],)
    deleted = db.execute(f'DELETE FROM answers WHERE {mine}', number).rowcount
    db.execute(f'UPDATE breaks SET began = NULL, finished = NULL WHERE {mine}', number)
    db.execute(
        'UPDATE sessions SET began = NULL, finished = NULL, screen = NULL WHERE rater = ?', number
    )
    db.execute(
        'UPDATE raters SET key = NULL, joined = NULL, finished = NULL, code = NULL, '
        'questionnaire = NULL WHERE number = ?', number,
    )  # fmt: skip
    db.execute('DELETE FROM events WHERE rater = ?', number)
    schema.log(db, now, None, 'rater_deleted', {'answers': deleted})
    return {'answers': deleted}


def release(db: sqlite3.Connection, rater_id: str, now: float) -> dict:
    """Gives what a rater who stopped has not answered to a new place: {'trials': given away}.

    The answers stay, the rater's work counts as finished. Raises ValueError for an unknown rater
    and for one with nothing left.
    """
    row = db.execute('SELECT number FROM raters WHERE rater_id = ?', (rater_id,)).fetchone()
    if row is None:
        raise ValueError(f'This study has no rater {rater_id!r}; its status lists them.')
    old = row['number']
    open_sessions = db.execute(
        'SELECT * FROM sessions WHERE rater = ? AND finished IS NULL ORDER BY place', (old,)
    ).fetchall()
    if not open_sessions:
        raise ValueError(f'{rater_id} has answered everything; there is nothing to release.')
    training = _plan_of(db, "i.kind = 'training' AND s.rater = ? AND s.place = 0", old)
    waits = [
        part for session in open_sessions
        if (part := _plan_of(
            db, "i.kind != 'training' AND s.number = ? AND a.value IS NULL", session['number']
        ))
    ]  # fmt: skip
    number = db.execute('SELECT MAX(number) + 1 FROM raters').fetchone()[0]
    planned = [{'trials': part, 'breaks': []} for part in waits]
    planned[0]['trials'] = training + planned[0]['trials']
    _add_place(db, number, planned, 0.0)
    for session in open_sessions:
        db.execute(
            'UPDATE sessions SET finished = ?, began = COALESCE(began, ?), '
            "screen = COALESCE(screen, '{}') WHERE number = ?", (now, now, session['number']),
        )  # fmt: skip
    given = sum(map(len, waits))
    schema.log(db, now, old, 'released', {'trials': given})
    return {'trials': given}


def _plan_of(db: sqlite3.Connection, where: str, value: int) -> list[tuple[int, int]]:
    rows = db.execute(
        'SELECT t.item, t.swapped FROM trials t JOIN items i ON i.number = t.item '
        'JOIN sessions s ON s.number = t.session '
        'LEFT JOIN answers a ON a.session = t.session AND a.trial = t.trial '
        f'WHERE {where} ORDER BY t.session, t.trial', (value,),
    )  # fmt: skip
    return [(row['item'], row['swapped']) for row in rows]


def truncate_log(db: sqlite3.Connection) -> None:
    """Empties the write-ahead log, which may still hold what was deleted."""
    with contextlib.suppress(sqlite3.OperationalError):  # a reader is busy: the next one does it
        db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
