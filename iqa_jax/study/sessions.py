"""Sessions of a study's plan: added, cut before a trial that nobody has answered, and divided."""

import sqlite3

from iqa_jax.study import schema

LAST = 5  # trials that are never cut off: nobody begins a session for so few


def add(db: sqlite3.Connection, rater: int, place: int, planned: dict) -> None:
    """Adds a session of 'trials' [(item, swapped)] and of 'breaks' before some of them."""
    sql = 'INSERT INTO sessions (rater, place, trials) VALUES (?, ?, ?)'
    at = db.execute(sql, (rater, place, len(planned['trials']))).lastrowid
    db.executemany(
        'INSERT INTO trials VALUES (?, ?, ?, ?)',
        [(at, trial, item, side) for trial, (item, side) in enumerate(planned['trials'])],
    )
    seconds = schema.setting(db, 'break_seconds')
    db.executemany(
        'INSERT INTO breaks (session, trial, seconds) VALUES (?, ?, ?)',
        [(at, trial, seconds) for trial in planned['breaks']],
    )


def next_trial(db: sqlite3.Connection, session: int) -> int:
    """Answers come in order, so the next trial follows the last answer."""
    sql = 'SELECT COALESCE(MAX(trial) + 1, 0) FROM answers WHERE session = ?'
    return db.execute(sql, (session,)).fetchone()[0]


def cut(db: sqlite3.Connection, session: int) -> dict:
    """Takes what is not answered out of a session; a session with no answer at all is no more.

    Returns the rest as `add` takes it.
    """
    due = next_trial(db, session)
    rest = db.execute(
        'SELECT item, swapped FROM trials WHERE session = ? AND trial >= ? ORDER BY trial',
        (session, due),
    ).fetchall()
    breaks = db.execute(
        'SELECT trial FROM breaks WHERE session = ? AND trial > ? ORDER BY trial', (session, due)
    ).fetchall()
    for table in ('breaks', 'trials'):
        db.execute(f'DELETE FROM {table} WHERE session = ? AND trial >= ?', (session, due))
    if due:
        db.execute('UPDATE sessions SET trials = ? WHERE number = ?', (due, session))
    else:
        db.execute('DELETE FROM sessions WHERE number = ?', (session,))
    return {
        'trials': [(row['item'], row['swapped']) for row in rest],
        'breaks': [row['trial'] - due for row in breaks],
    }


def end_in_time(db: sqlite3.Connection, session: sqlite3.Row, now: float) -> bool:
    """Ends a session that has lasted long enough; what is left becomes the rater's next one.

    A session without an answer waits to be begun again. Returns whether the session has changed.
    """
    limit, began = schema.setting(db, 'session_minutes'), session['began']
    if not limit or began is None or now - began < 60 * limit:
        return False
    number, place, rater = session['number'], session['place'], session['rater']
    due = next_trial(db, number)
    if session['trials'] - due <= LAST and due:
        return False
    if not due:
        sql = 'UPDATE sessions SET began = NULL, screen = NULL WHERE number = ?'
        db.execute(sql, (number,))
        return True
    rest = cut(db, number)
    db.execute('UPDATE sessions SET finished = ? WHERE number = ?', (now, number))
    # In two steps, as a place is never there twice.
    db.execute(
        'UPDATE sessions SET place = -1 - place WHERE rater = ? AND place > ?', (rater, place)
    )
    db.execute('UPDATE sessions SET place = -place WHERE rater = ? AND place < 0', (rater,))
    add(db, rater, place + 1, rest)
    schema.log(db, now, rater, 'session_ended_in_time', {'session': number, 'answers': due})
    return True


def hand_over(db: sqlite3.Connection, old: int, new: int, now: float) -> int:
    """Gives what rater `old` has not answered to the place `new`, with the practice before it.

    Returns the number of trials given, practice left out; 0 where there is none.
    """
    practice = db.execute(
        'SELECT t.item, t.swapped FROM trials t JOIN items i ON i.number = t.item '
        "JOIN sessions s ON s.number = t.session WHERE s.rater = ? AND i.kind = 'training' "
        'ORDER BY s.place, t.trial', (old,),
    ).fetchall()  # fmt: skip
    practice = [(row['item'], row['swapped']) for row in practice]
    sql = 'SELECT number FROM sessions WHERE rater = ? AND finished IS NULL ORDER BY place'
    rests = []
    for row in db.execute(sql, (old,)).fetchall():
        rests.append(_without(cut(db, row['number']), {item for item, _ in practice}))
        db.execute('UPDATE sessions SET finished = ? WHERE number = ?', (now, row['number']))
    rests = [rest for rest in rests if rest['trials']]
    for place, rest in enumerate(rests):
        first = practice if place == 0 else []
        planned = {
            'trials': first + rest['trials'],
            'breaks': [len(first) + trial for trial in rest['breaks']],
        }
        add(db, new, place, planned)
    return sum(len(rest['trials']) for rest in rests)


def _without(planned: dict, items: set[int]) -> dict:
    """A session without its practice, which comes first."""
    left_out = sum(item in items for item, _ in planned['trials'])
    return {
        'trials': planned['trials'][left_out:],
        'breaks': [trial - left_out for trial in planned['breaks'] if trial > left_out],
    }
