"""What a rater does, as transactions on the study's database.

Every function takes an open database and works inside the caller's transaction; what it returns
must reach the browser only after the commit. `now` is in seconds since 1970. A rater is known by a
secret that the browser draws; the database keeps its digest alone.
"""

import hashlib
import json
import re
import secrets
import sqlite3

from iqa_jax.study import designs, schema, sessions

_KEY = re.compile(r'[0-9a-f]{32}')
PRELOADED = 4  # images of trials to come that the browser may fetch ahead
MOST_EVENTS = 10_000  # of one rater
EVENTS = ('screen', 'hidden', 'too_small', 'image_failed')  # what a page may report


class Refused(ValueError):
    """A request that the study does not accept; `status` is the HTTP code."""

    def __init__(self, sentence: str, status: int = 409):
        super().__init__(sentence)
        self.status = status


def join(db: sqlite3.Connection, key: object, questionnaire: dict, now: float) -> dict:
    """Gives a rater who consented a place; the same secret again gets the same place."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Refused('The key of a rater is 32 hexadecimal digits.', 400)
    digest = _digest(key)
    known = db.execute('SELECT * FROM raters WHERE key = ?', (digest,)).fetchone()
    if known:
        return {'rater_id': known['rater_id']}
    _check_open(db)
    free = db.execute('SELECT * FROM raters WHERE key IS NULL ORDER BY number LIMIT 1').fetchone()
    if not free:
        raise Refused('All places of this study are taken. Thank you for your interest.')
    db.execute(
        'UPDATE raters SET key = ?, joined = ?, questionnaire = ? WHERE number = ?',
        (digest, now, json.dumps(questionnaire, sort_keys=True), free['number']),
    )
    schema.log(db, now, free['number'], 'joined', {})
    return {'rater_id': free['rater_id']}


def begin(db: sqlite3.Connection, key: object, screen: dict, now: float) -> dict:
    """Begins the rater's next session, or continues the one that is open; keeps the screen."""
    rater = _rater(db, key)
    _check_open(db)
    session = _session(db, rater)
    if session and session['began'] is None:
        db.execute(
            'UPDATE sessions SET began = ?, screen = ? WHERE number = ?',
            (now, json.dumps(screen, sort_keys=True), session['number']),
        )
        schema.log(db, now, rater['number'], 'session', {'place': session['place']})
    elif session and json.loads(session['screen']) != screen:
        _note(db, now, rater['number'], 'screen', screen)
    return state(db, key, now)


def answer(
    db: sqlite3.Connection,
    key: object,
    session: int,
    trial: int,
    value: object,
    milliseconds: int,
    now: float,
) -> dict:
    """Keeps the first answer to a trial: {'answer': 'stored' | 'repeated' | 'different', ...state}.

    The same answer again is acknowledged and changes nothing; of another one the first is kept.
    Raises Refused for a trial that is not the rater's or not due yet.
    """
    rater = _rater(db, key)
    place = (session, trial)
    planned = db.execute(
        'SELECT s.began FROM trials t JOIN sessions s ON s.number = t.session '
        'WHERE t.session = ? AND t.trial = ? AND s.rater = ?', (*place, rater['number']),
    ).fetchone()  # fmt: skip
    if not planned:
        raise Refused('This trial is not one of yours, or no longer.', 404)
    try:
        number = designs.find(schema.setting(db, 'design'))[1](value)
    except ValueError as error:
        raise Refused(str(error), 400) from None
    sql = 'SELECT value FROM answers WHERE session = ? AND trial = ?'
    if kept := db.execute(sql, place).fetchone():
        said = 'repeated' if kept['value'] == number else 'different'
        if said == 'different':
            _note(db, now, rater['number'], 'different_answer', {'place': place})
        return {'answer': said} | state(db, key, now)
    _check_open(db)
    due = sessions.next_trial(db, session)
    if planned['began'] is None or trial != due:
        raise Refused(f'Trial {trial} is not due; the next is trial {due}.')
    if _break(db, session, trial):
        raise Refused('There is a break before this trial.')
    db.execute(
        'INSERT INTO answers VALUES (?, ?, ?, ?, ?)', (*place, number, milliseconds, now)
    )  # fmt: skip
    _finish(db, rater, session, trial + 1, now)
    return {'answer': 'stored'} | state(db, key, now)


def end_break(db: sqlite3.Connection, key: object, session: int, trial: int, now: float) -> dict:
    """Ends the break before a trial once its time is over; ending it again changes nothing."""
    rater = _rater(db, key)
    due = _session(db, rater)
    pause = _break(db, session, trial)
    if due and due['number'] == session and pause:
        if pause['began'] is None or _rest_left(pause, now) > 1:
            raise Refused('The break is not over yet.')
        db.execute(
            'UPDATE breaks SET finished = ? WHERE session = ? AND trial = ?', (now, session, trial)
        )
    return state(db, key, now)


def event(db: sqlite3.Connection, key: object, kind: object, detail: dict, now: float) -> dict:
    """Notes what the page reports, such as a changed window."""
    if kind not in EVENTS:
        raise Refused(f'An event is one of {", ".join(EVENTS)}.', 400)
    rater = _rater(db, key)
    _note(db, now, rater['number'], kind, detail)
    return {}


def _note(db: sqlite3.Connection, now: float, rater: int, kind: str, detail: dict) -> None:
    """Logs what a page may report as often as it likes, but not of a page gone wild."""
    count = 'SELECT COUNT(*) FROM events WHERE rater = ?'
    if db.execute(count, (rater,)).fetchone()[0] < MOST_EVENTS:
        schema.log(db, now, rater, kind, detail)


def state(db: sqlite3.Connection, key: object, now: float) -> dict:
    """Where the rater is: what the page has to show next.

    step: 'paused', 'begin' (a session), 'break', 'trial' or 'done'; with it what that screen needs.
    Gold questions look like all others.
    """
    rater = _rater(db, key)
    session, paused = _session(db, rater), schema.setting(db, 'paused')
    if session and not paused and sessions.end_in_time(db, session, now):
        session = _session(db, rater)
    sql = 'SELECT COUNT(*) FROM sessions WHERE rater = ?'
    count = db.execute(sql, (rater['number'],)).fetchone()[0]
    found = {'rater_id': rater['rater_id'], 'sessions': count}
    if not session:
        return found | {'step': 'done', 'code': rater['code']}
    found |= {'place': session['place'], 'total': session['trials']}
    if paused:
        return found | {'step': 'paused'}
    if session['began'] is None:
        about = {'minutes': schema.setting(db, 'session_minutes')}
        return found | {'step': 'begin', 'practice': _practice(db, session['number'])} | about
    number = session['number']
    due = sessions.next_trial(db, number)
    found |= {'session': number, 'trial': due}
    if pause := _break(db, number, due):
        if pause['began'] is None:
            db.execute(
                'UPDATE breaks SET began = ? WHERE session = ? AND trial = ?', (now, number, due)
            )
        return found | {'step': 'break', 'seconds': _rest_left(pause, now)}
    coming = _coming(db, number, due)
    first = coming[0]
    return found | {
        'step': 'trial',
        'training': first['kind'] == 'training',
        'images': _shown(first),
        'preload': [image for row in coming[1:] for image in _shown(row)],
    }


def _coming(db: sqlite3.Connection, session: int, due: int) -> list[sqlite3.Row]:
    return db.execute(
        'SELECT i.kind, i.image_a, i.image_b, t.swapped FROM trials t '
        'JOIN items i ON i.number = t.item WHERE t.session = ? AND t.trial >= ? '
        'ORDER BY t.trial LIMIT ?', (session, due, 1 + PRELOADED),
    ).fetchall()  # fmt: skip


def _shown(row: sqlite3.Row) -> list[int]:
    """Numbers of a trial's images, from left to right."""
    if row['image_b'] is None:
        return [row['image_a']]
    sides = [row['image_a'], row['image_b']]
    return sides[::-1] if row['swapped'] else sides


def _finish(db: sqlite3.Connection, rater: sqlite3.Row, session: int, due: int, now: float) -> None:
    """Closes a session after its last answer, and with the last session the rater's work."""
    sql = 'UPDATE sessions SET finished = ? WHERE number = ? AND trials = ?'
    if not db.execute(sql, (now, session, due)).rowcount:
        return
    schema.log(db, now, rater['number'], 'session_finished', {'session': session})
    if not _session(db, rater):
        code = secrets.token_hex(4).upper()
        db.execute(
            'UPDATE raters SET finished = ?, code = ? WHERE number = ?',
            (now, code, rater['number']),
        )


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _rater(db: sqlite3.Connection, key: object) -> sqlite3.Row:
    row = None
    if isinstance(key, str) and _KEY.fullmatch(key):
        row = db.execute('SELECT * FROM raters WHERE key = ?', (_digest(key),)).fetchone()
    if row is None:
        raise Refused('This study does not know you; open its first page again.', 403)
    return row


def _session(db: sqlite3.Connection, rater: sqlite3.Row) -> sqlite3.Row | None:
    """The first session that is not finished."""
    return db.execute(
        'SELECT * FROM sessions WHERE rater = ? AND finished IS NULL ORDER BY place LIMIT 1',
        (rater['number'],),
    ).fetchone()


def _practice(db: sqlite3.Connection, session: int) -> int:
    """How many of a session's trials are practice."""
    return db.execute(
        'SELECT COUNT(*) FROM trials t JOIN items i ON i.number = t.item '
        "WHERE t.session = ? AND i.kind = 'training'", (session,),
    ).fetchone()[0]  # fmt: skip


def _rest_left(pause: sqlite3.Row, now: float) -> float:
    """Seconds that a break still lasts; a clock that was set back ends it."""
    passed = 0.0 if pause['began'] is None else now - pause['began']
    return max(0.0, pause['seconds'] - passed) if passed >= 0 else 0.0


def _break(db: sqlite3.Connection, session: int, trial: int) -> sqlite3.Row | None:
    """The break before a trial, if it is not over."""
    sql = 'SELECT * FROM breaks WHERE session = ? AND trial = ? AND finished IS NULL'
    return db.execute(sql, (session, trial)).fetchone()


def _check_open(db: sqlite3.Connection) -> None:
    if schema.setting(db, 'paused'):
        raise Refused('The study is paused; please come back later.')
