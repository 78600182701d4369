"""What a study holds, as tables: answers, raters, the log of events."""

import hashlib
import json
import sqlite3

import numpy as np

from iqa_jax.study import designs, schema

COUNTED = "i.kind IN ('rating', 'anchor')"
ANSWERS = (
    'FROM answers a JOIN trials t ON t.session = a.session AND t.trial = a.trial '
    'JOIN items i ON i.number = t.item JOIN sessions s ON s.number = a.session '
    'JOIN raters r ON r.number = s.rater '
)
Table = dict[str, np.ndarray]


def gold(db: sqlite3.Connection) -> dict[str, dict]:
    """rater_id -> {'gold': questions answered, 'gold_right': of them right}."""
    found: dict[str, dict] = {}
    for row in _answers(db, "i.kind = 'gold'"):
        tally = found.setdefault(row['rater_id'], {'gold': 0, 'gold_right': 0})
        tally['gold'] += 1
        tally['gold_right'] += int(row['low'] <= row['vote'] <= row['high'])
    return found


def _answers(db: sqlite3.Connection, where: str) -> list[dict]:
    """Answers with what they were about; `vote` in 0..100, of pairs the preference for a."""
    to_vote = designs.find(schema.setting(db, 'design'))[2]
    rows = db.execute(
        'SELECT r.rater_id, s.place AS session, a.trial, i.number AS item, i.kind, i.low, i.high, '
        'i.image_a, i.image_b, t.swapped, a.value, a.milliseconds, a.received '
        f'{ANSWERS} WHERE {where} ORDER BY r.number, s.place, a.trial'
    )
    found = []
    for row in map(dict, rows):
        vote = to_vote(row['value'])
        found.append(
            row | {'vote': -vote if row['swapped'] and row['image_b'] is not None else vote}
        )
    return found


def answers(db: sqlite3.Connection) -> Table:
    """All answers as a table, one row each, in the order of raters and trials.

    Columns: rater_id, session and trial (int32, from 0), kind (rating, anchor, training or gold),
    simulated (all False), milliseconds (int32), and of single images image_id and vote (float32,
    0..100), of pairs image_id_a, image_id_b, left (id of the image shown on the left) and
    preference (float32, -100..100, positive: a is better) and choice (a, b or tie). Ids of anchors
    begin with their label.
    """
    paired = designs.find(schema.setting(db, 'design'))[0] == 2
    names = {
        row['number']: ':'.join(filter(None, (row['label'], row['image_id'])))
        for row in db.execute('SELECT number, label, image_id FROM images')
    }
    rows = _answers(db, '1')

    def column(name: str, dtype: type) -> np.ndarray:
        return np.array([row[name] for row in rows], dtype)

    def ids(key: str) -> np.ndarray:
        return np.array([names[row[key]] for row in rows], object)

    table = {'rater_id': column('rater_id', object)}
    if paired:
        table |= {'image_id_a': ids('image_a'), 'image_id_b': ids('image_b')}
        swapped = column('swapped', bool)
        table['left'] = np.where(swapped, table['image_id_b'], table['image_id_a'])
    else:
        table['image_id'] = ids('image_a')
    table |= {'session': column('session', np.int32), 'trial': column('trial', np.int32)}
    table['preference' if paired else 'vote'] = column('vote', np.float32)
    if paired:
        words = np.array(['b', 'tie', 'a'], object)
        table['choice'] = words[np.sign(table['preference']).astype(int) + 1]
    return table | {
        'kind': column('kind', object),
        'milliseconds': column('milliseconds', np.int32),
        'simulated': np.zeros(len(rows), bool),
    }


def raters(db: sqlite3.Connection) -> Table:
    """Everybody who joined, one row each, with their questionnaires and last screens as JSON."""
    checks = gold(db)
    rows = db.execute(
        'SELECT r.rater_id, r.joined, r.finished, r.questionnaire, '
        '(SELECT s.screen FROM sessions s WHERE s.rater = r.number AND s.began IS NOT NULL '
        ' ORDER BY s.place DESC LIMIT 1) AS screen '
        'FROM raters r WHERE r.key IS NOT NULL ORDER BY r.number'
    ).fetchall()
    table = {
        name: np.array(['' if row[name] is None else row[name] for row in rows], object)
        for name in ('rater_id', 'joined', 'finished', 'questionnaire', 'screen')
    }
    for name in ('gold', 'gold_right'):
        counts = [checks.get(row['rater_id'], {}).get(name, 0) for row in rows]
        table[name] = np.array(counts, np.int32)
    return table


def log(db: sqlite3.Connection) -> Table:
    """The log of events, oldest first: at (seconds since 1970), rater_id, kind, detail (JSON)."""
    rows = db.execute(
        "SELECT e.at, COALESCE(r.rater_id, '') AS rater_id, e.kind, e.detail FROM events e "
        'LEFT JOIN raters r ON r.number = e.rater ORDER BY e.number'
    ).fetchall()
    return {
        name: np.array([row[name] for row in rows], object)
        for name in ('at', 'rater_id', 'kind', 'detail')
    }


def digest(db: sqlite3.Connection) -> str:
    """SHA-256 (hex) of all answers and of the plan they belong to."""
    found = hashlib.sha256()
    for row in _answers(db, '1'):
        found.update(json.dumps(row, sort_keys=True).encode())
    return found.hexdigest()
