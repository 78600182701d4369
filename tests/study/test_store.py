"""The study's database: answers exactly once, in order, on the disk; administration."""

import contextlib
import itertools
import resource
import sqlite3

import numpy as np
import pytest
import studies

from iqa_jax.runtime import artifacts
from iqa_jax.study import administration, collected, designs, plan, schema, store


def test_an_answer_counts_once(opened):
    db, key = opened(), studies.key(1)
    at = studies.take_part(db, until=2)
    first = store.answer(db, key, at['session'], 2, 40, 800, 5.0)
    again = store.answer(db, key, at['session'], 2, 40.0, 950, 6.0)
    other = store.answer(db, key, at['session'], 2, 41, 800, 7.0)
    assert [found['answer'] for found in (first, again, other)] == [
        'stored',
        'repeated',
        'different',
    ]
    assert first['trial'] == again['trial'] == other['trial'] == 3
    rows = db.execute('SELECT value, milliseconds FROM answers WHERE trial = 2').fetchall()
    assert [tuple(row) for row in rows] == [(40.0, 800)]
    kinds = [row['kind'] for row in db.execute('SELECT kind FROM events')]
    assert kinds.count('different_answer') == 1


def test_the_database_itself_refuses_a_second_answer(opened):
    db = opened()
    studies.take_part(db, until=1)
    with pytest.raises(sqlite3.IntegrityError):
        db.execute('INSERT INTO answers SELECT * FROM answers')
    with pytest.raises(sqlite3.IntegrityError):  # to a trial that nobody planned
        db.execute('INSERT INTO answers VALUES (1, 99, 5, 5, 5)')


def test_answers_out_of_order_wait_for_their_turn(opened):
    db, key = opened(), studies.key(1)
    at = studies.take_part(db, until=1)
    for trial, code in ((2, 409), (6, 409), (7, 404), (-1, 404)):
        with pytest.raises(store.Refused) as refused:
            store.answer(db, key, at['session'], trial, 50, 1, 3.0)
        assert refused.value.status == code
    assert db.execute('SELECT COUNT(*) FROM answers').fetchone()[0] == 1


def test_a_page_gone_wild_does_not_fill_the_log(opened, monkeypatch):
    monkeypatch.setattr(store, 'MOST_EVENTS', 20)
    db, key = opened(), studies.key(1)
    at = studies.take_part(db, until=1)
    for number in range(30):
        store.event(db, key, 'hidden', {'number': number}, 5.0)
        store.begin(db, key, studies.SCREEN | {'window_width': number}, 5.0)
        assert store.answer(db, key, at['session'], 0, 1, 1, 5.0)['answer'] == 'different'
    assert db.execute('SELECT COUNT(*) FROM events WHERE rater = 0').fetchone()[0] == 20
    assert store.state(db, key, 6.0)['trial'] == 1


def test_nobody_answers_for_another(opened):
    db = opened()
    mine = studies.take_part(db, 1, until=1)
    studies.take_part(db, 2, until=1)
    with pytest.raises(store.Refused, match='not one of yours'):
        store.answer(db, studies.key(2), mine['session'], 1, 50, 1, 3.0)
    for stranger in (studies.key(9), 'x', None, ['a']):
        with pytest.raises(store.Refused, match='does not know you'):
            store.state(db, stranger, 3.0)
    with pytest.raises(store.Refused, match='places'):
        store.join(db, studies.key(3), {}, 0.0)
    assert store.join(db, studies.key(1), {}, 9.0) == {'rater_id': 'rater_001'}


@pytest.mark.parametrize(
    ('design', 'good', 'bad'),
    [
        ('single_stimulus', [0, 99.9, 100], [-0.1, 100.1, '5', None, True, float('nan'), [5]]),
        ('acr5', [1, 5], [0, 6, 2.5, 3.0, True, 'good']),
        ('pair_choice', ['left', 'right', 'tie'], ['Left', 1, None, ['left'], {}]),
    ],
)
def test_each_design_knows_its_answers(opened, design, good, bad):
    db, key = opened(design), studies.key(1)
    at = studies.take_part(db, value=good[0], until=1)
    for value in bad:
        with pytest.raises(store.Refused) as refused:
            store.answer(db, key, at['session'], 1, value, 1, 3.0)
        assert refused.value.status == 400
    for trial, value in enumerate(good, 1):
        assert store.answer(db, key, at['session'], trial, value, 1, 3.0)['answer'] == 'stored'


def test_sessions_breaks_and_the_end(opened):
    db, key = opened(items=6, per_session=3, break_every=2, break_seconds=10.0), studies.key(1)
    store.join(db, key, {}, 0.0)
    assert store.state(db, key, 0.0)['step'] == 'begin'
    at = store.begin(db, key, studies.SCREEN, 1.0)
    assert at['step'] == 'trial' and at['training'] and at['total'] == 4 and at['sessions'] == 2
    for trial in range(3):
        at = store.answer(db, key, at['session'], trial, 5, 1, 2.0)
    assert at['step'] == 'break' and at['seconds'] == 10
    with pytest.raises(store.Refused, match='break'):
        store.answer(db, key, at['session'], 3, 5, 1, 3.0)
    with pytest.raises(store.Refused, match='not over'):
        store.end_break(db, key, at['session'], 3, 8.0)
    assert store.state(db, key, 8.0)['seconds'] == 4  # a reload does not begin it again
    assert store.end_break(db, key, at['session'], 3, 12.0)['step'] == 'trial'
    at = store.answer(db, key, at['session'], 3, 5, 1, 13.0)
    assert (at['step'], at['place']) == ('begin', 1)
    at = studies.take_part(db)
    assert at['step'] == 'done' and len(at['code']) == 8
    assert administration.status(db)['raters'][0]['answers'] == 7


def test_what_is_shown_is_what_was_planned(opened):
    db, key = opened('pair_choice', items=8), studies.key(1)
    at, shown = studies.take_part(db, value='left', until=0), []
    while at['step'] == 'trial':
        shown.append(at['images'])
        at = store.answer(db, key, at['session'], at['trial'], 'left', 1, 2.0)
    rows = db.execute(
        'SELECT item, swapped FROM trials WHERE session = 1 ORDER BY trial'
    ).fetchall()
    sides = [[2 * r['item'], 2 * r['item'] + 1] for r in rows]
    want = [pair[::-1] if r['swapped'] else pair for pair, r in zip(sides, rows, strict=True)]
    assert shown == want and 0 < sum(r['swapped'] for r in rows) < len(rows)
    table = collected.answers(db)
    for a, left, preference in zip(
        table['image_id_a'], table['left'], table['preference'], strict=True
    ):
        assert preference == (100 if left == a else -100)  # always the image on the left


def test_a_paused_study_keeps_and_acknowledges_but_takes_nothing(opened):
    db, key = opened(), studies.key(1)
    at = studies.take_part(db, until=2)
    administration.set_paused(db, True, 3.0)
    assert store.state(db, key, 3.0)['step'] == 'paused'
    assert store.answer(db, key, at['session'], 1, 70, 1, 3.0)['answer'] == 'repeated'
    with pytest.raises(store.Refused, match='paused'):
        store.answer(db, key, at['session'], 2, 70, 1, 3.0)
    administration.set_paused(db, False, 4.0)
    assert store.answer(db, key, at['session'], 2, 70, 1, 5.0)['answer'] == 'stored'


def test_status_counts_what_is_missing_and_gold(opened):
    db = opened(items=10, gold_share=0.2)
    assert administration.status(db)['missing'] == administration.status(db)['needed'] == 20
    studies.take_part(db, 1, value=90.0)
    studies.take_part(db, 2, value=10.0, until=4)
    found = administration.status(db)
    first, second = found['raters']
    assert (first['gold'], first['gold_right']) == (2, 2) and first['answers'] == 13
    assert second['answers'] == 4 and second.get('gold_right', 0) == 0
    counted = collected.answers(db)
    assert found['missing'] == 20 - int((counted['kind'] == 'rating').sum())


def test_a_damaged_or_foreign_database_is_refused(tmp_path):
    folder = studies.make(tmp_path / 'study', items=60)
    path = folder / 'study.sqlite'
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 3000] = bytes(3000)
    path.write_bytes(data)
    with (
        contextlib.closing(schema.connect(path)) as db,
        pytest.raises(artifacts.DamagedArtifact, match='damaged'),
    ):
        schema.check(db, path)
    path.write_bytes(b'this is no database at all' * 100)
    with pytest.raises(ValueError, match='not an intact study'):
        schema.connect(path)
    path.unlink()
    with pytest.raises(ValueError, match='no study'):
        schema.connect(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute('PRAGMA user_version=99')
    with pytest.raises(ValueError, match='version 99'):
        schema.connect(path)


def test_every_commit_is_synced(opened):
    db = opened()
    assert db.execute('PRAGMA synchronous').fetchone()[0] == 2  # FULL
    assert db.execute('PRAGMA journal_mode').fetchone()[0] == 'wal'


def test_a_disk_that_fails_after_the_last_commit_is_said_and_nothing_is_lost(tmp_path):
    path = studies.make(tmp_path / 'study', items=60) / 'study.sqlite'
    log = path.with_name('study.sqlite-wal')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with (
            pytest.raises(ValueError, match=r'study\.sqlite cannot be read or written: disk'),
            schema.said(path.parent),
            schema.opened(path) as db,
        ):
            before = db.execute('SELECT COUNT(*) FROM events').fetchone()[0]
            with schema.transaction(db):
                for number in range(40):
                    schema.log(db, number, None, 'page_opened', {'words': 'x' * 900})
            full = max(path.stat().st_size, log.stat().st_size)
            resource.setrlimit(resource.RLIMIT_FSIZE, (full, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.exists()
    with schema.opened(path) as db:
        schema.check(db, path)
        assert db.execute('SELECT COUNT(*) FROM events').fetchone()[0] == before + 40
    assert not log.exists()


def test_the_plan_is_balanced_and_keeps_contents_apart():
    contents = [frozenset([str(n // 4)]) for n in range(60)] + [frozenset('t'), frozenset('g')]
    settings = {
        'rated': range(60), 'training': [60], 'gold': [61], 'raters': 24, 'votes_per_item': 12,
        'per_session': 20, 'gold_share': 0.1, 'break_every': 8, 'seed': 5,
    }  # fmt: skip
    places = plan.make(contents, **settings)
    assert (
        places == plan.make(contents, **settings) != plan.make(contents, **settings | {'seed': 6})
    )
    seen = np.zeros((24, 62), int)
    for rater, sessions in enumerate(places):
        for number, session in enumerate(sessions):
            items = [item for item, _ in session['trials']]
            np.add.at(seen[rater], items, 1)
            assert (items[0] == 60) == (number == 0)
            sides = [side for _, side in session['trials']]
            assert abs(2 * sum(sides) - len(sides)) <= 1
            near = [bool(contents[a] & contents[b]) for a, b in itertools.pairwise(items)]
            assert sum(near) <= 1
    assert (seen[:, :60].sum(0) == 12).all() and seen[:, :60].max() == 1
    assert np.ptp(seen[:, :60].sum(1)) <= 1 and (seen[:, 61] == 4).all()
    together = (seen[:, :60] @ seen[:, :60].T) > 0  # raters linked by images, over two steps
    assert (together.astype(int) @ together).all()


@pytest.mark.parametrize(
    ('change', 'word'),
    [
        ({'votes_per_item': 25}, 'votes_per_item'), ({'per_session': 0}, 'per_session'),
        ({'gold_share': 0.9}, 'gold_share'), ({'gold': []}, 'gold'), ({'rated': []}, 'nothing'),
        ({'rated': [0], 'votes_per_item': 1}, 'raters'),
    ],
)  # fmt: skip
def test_plans_that_cannot_be_are_refused(change, word):
    settings = {
        'rated': range(6), 'training': [], 'gold': [6], 'raters': 24, 'votes_per_item': 12,
        'per_session': 20, 'gold_share': 0.1, 'break_every': 8, 'seed': 5,
    }  # fmt: skip
    with pytest.raises(ValueError, match=word):
        plan.make([frozenset([str(n)]) for n in range(7)], **settings | change)


def test_votes_of_all_designs_lie_on_the_scales_of_the_analysis():
    assert [designs.find('acr5')[2](n) for n in (1, 2, 5)] == [0, 25, 100]
    assert designs.find('single_stimulus')[2](33.5) == 33.5
    assert [designs.find('pair_choice')[2](x) for x in (1, 0, -1)] == [100, 0, -100]
    with pytest.raises(ValueError, match='acr5'):
        designs.find('stars')
