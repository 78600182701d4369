"""People who stop, leave or rate for too long: nothing is lost, and what is deleted is gone."""

import contextlib

import pytest
import studies

from iqa_jax.study import administration, collected, schema, store


def test_deleting_a_rater_leaves_no_trace_of_the_answers(opened, tmp_path):
    db = opened()
    store.join(db, studies.key(1), {'note': 'a very personal remark'}, 0.0)
    studies.take_part(db, 1)
    studies.take_part(db, 2)
    before = collected.digest(db)
    assert administration.delete_rater(db, 'rater_001', 9.0) == {'answers': 7}
    administration.truncate_log(db)
    assert (
        set(collected.answers(db)['rater_id']) == {'rater_002'} and collected.digest(db) != before
    )
    kept = b''.join(f.read_bytes() for f in (tmp_path / 'study').glob('study.sqlite*'))
    assert b'personal remark' not in kept
    with pytest.raises(store.Refused, match='does not know you'):
        store.state(db, studies.key(1), 9.0)
    # Nobody else is called so: deleting rater_001 once more must not mean somebody else.
    assert store.join(db, studies.key(4), {}, 9.0) == {'rater_id': 'rater_003'}
    assert studies.take_part(db, 4)['step'] == 'done'
    for nobody in ('rater_001', 'rater_077'):
        with pytest.raises(ValueError, match=nobody):
            administration.delete_rater(db, nobody, 9.0)


def test_what_a_log_in_use_may_still_hold_is_not_called_deleted(opened, tmp_path):
    db = opened()
    db.execute('PRAGMA busy_timeout=0')
    studies.take_part(db, until=2)
    with contextlib.closing(schema.connect(tmp_path / 'study/study.sqlite')) as reader:
        reader.execute('BEGIN')
        reader.execute('SELECT * FROM answers').fetchone()
        administration.delete_rater(db, 'rater_001', 3.0)
        assert not administration.truncate_log(db)
        reader.execute('COMMIT')
    assert administration.truncate_log(db)


def test_what_somebody_left_undone_goes_to_somebody_else(opened):
    db = opened(items=6, per_session=3)
    at = studies.take_part(db, 1, until=2)
    assert administration.release(db, 'rater_001', 5.0) == {'trials': 5}
    with pytest.raises(store.Refused, match='no longer'):
        store.answer(db, studies.key(1), at['session'], 2, 50, 1, 6.0)
    assert store.state(db, studies.key(1), 6.0)['step'] == 'done'
    studies.take_part(db, 2)
    assert administration.status(db)['missing'] == 5
    assert studies.take_part(db, 3)['rater_id'] == 'rater_003'
    assert administration.status(db)['missing'] == 0
    with pytest.raises(ValueError, match='nothing to release'):
        administration.release(db, 'rater_001', 7.0)
    # Deleted after that, the rater leaves the trials that were answered, not those given away.
    assert administration.delete_rater(db, 'rater_001', 8.0) == {'answers': 2}
    assert administration.status(db)['missing'] == 1
    assert studies.take_part(db, 4)['step'] == 'done'
    found = administration.status(db)
    assert found['missing'] == 0 and found['answers'] == 2 + 7 + 6


def test_a_place_that_nobody_has_cannot_be_released(opened):
    db = opened()
    with pytest.raises(ValueError, match='rater_002'):
        administration.release(db, 'rater_002', 5.0)
    assert studies.take_part(db, 1)['step'] == 'done' and studies.take_part(db, 2)['step'] == 'done'
    assert administration.status(db)['missing'] == 0


def test_who_left_before_the_first_answer_leaves_all_work_and_no_empty_place(opened):
    db = opened(items=6, per_session=4, break_every=2, break_seconds=9.0)
    store.join(db, studies.key(1), {}, 0.0)
    before = [tuple(row) for row in db.execute(PLAN, (0,))]
    assert administration.release(db, 'rater_001', 5.0) == {'trials': 6}
    assert [tuple(row) for row in db.execute(PLAN, (2,))] == before  # breaks and practice too
    assert store.state(db, studies.key(1), 6.0)['step'] == 'done'
    administration.delete_rater(db, 'rater_001', 7.0)
    studies.take_part(db, 2)
    assert studies.take_part(db, 3)['rater_id'] == 'rater_003'
    found = administration.status(db)
    assert (found['missing'], found['places'], found['free']) == (0, 2, 0)


PLAN = (
    'SELECT s.place, t.trial, t.item, t.swapped, b.seconds FROM sessions s '
    'JOIN trials t ON t.session = s.number '
    'LEFT JOIN breaks b ON b.session = t.session AND b.trial = t.trial '
    'WHERE s.rater = ? ORDER BY s.place, t.trial'
)


def answer_at(db, at, now, value=50):
    """Answers the trial that is due, at a time."""
    return store.answer(db, studies.key(1), at['session'], at['trial'], value, 900, now)


def test_a_session_ends_in_time_and_nothing_is_lost(opened):
    db, key = opened(items=20, per_session=15, session_minutes=30.0, break_every=4), studies.key(1)
    plan_before = [row['item'] for row in db.execute(PLAN, (0,))]
    store.join(db, key, {}, 0.0)
    assert store.state(db, key, 0.0) == {
        'rater_id': 'rater_001', 'sessions': 2, 'place': 0, 'total': 11, 'step': 'begin',
        'practice': 1, 'minutes': 30.0,
    }  # fmt: skip
    at = store.begin(db, key, studies.SCREEN, 100.0)
    for _ in range(3):
        at = answer_at(db, at, 200.0)
    old = at
    at = answer_at(db, at, 1901.0)  # the answer that was on the way when the time was over counts
    assert at['answer'] == 'stored'
    assert (at['step'], at['place'], at['sessions'], at['total']) == ('begin', 1, 3, 7)
    assert answer_at(db, old, 1902.0)['answer'] == 'repeated'
    with pytest.raises(store.Refused, match='no longer'):  # another window still shows it
        answer_at(db, old | {'trial': 4}, 1903.0)
    assert [row['item'] for row in db.execute(PLAN, (0,))] == plan_before
    at = store.begin(db, key, studies.SCREEN | {'window_width': 900}, 90_000.0)
    assert at['trial'] == 0 and not at['training']
    while at['step'] != 'done':
        if at['step'] == 'begin':
            at = store.begin(db, key, studies.SCREEN, 91_000.0)
        elif at['step'] == 'break':
            at = store.end_break(db, key, at['session'], at['trial'], 91_000.0)
        else:
            at = answer_at(db, at, 90_500.0)
    rows = collected.answers(db)
    assert rows['session'].tolist() == [0] * 4 + [1] * 7 + [2] * 10
    assert administration.status(db)['missing'] == 20  # those of the other place
    kinds = [row['kind'] for row in db.execute('SELECT kind FROM events')]
    assert kinds.count('session_ended_in_time') == 1 and kinds.count('session_finished') == 2
    assert db.execute('PRAGMA foreign_key_check').fetchall() == []


def test_a_session_is_not_cut_where_little_or_nothing_was_done(opened):
    db, key = opened(items=8, session_minutes=1.0), studies.key(1)
    store.join(db, key, {}, 0.0)
    store.begin(db, key, studies.SCREEN, 10.0)
    at = store.state(db, key, 500.0)  # nothing answered: the same session is begun once more
    assert (at['step'], at['place'], at['sessions'], at['total']) == ('begin', 0, 1, 9)
    at = store.begin(db, key, studies.SCREEN, 510.0)
    for _ in range(4):
        at = answer_at(db, at, 520.0)
    assert store.state(db, key, 9999.0)['step'] == 'trial'  # five are left
    administration.set_paused(db, True, 9999.0)
    assert store.state(db, key, 9999.0)['step'] == 'paused'
