"""A study with people that meets a disk, a file or a second program that does not behave."""

import contextlib
import json
import sqlite3
import subprocess
import sys

import pytest
import test_study_people
from test_study_people import configuration, database  # noqa: F401  (a fixture)

from iqa_jax.data import tables
from iqa_jax.runtime import artifacts
from iqa_jax.study import schema, store
from iqa_jax.tasks import study


@pytest.fixture
def made(database, tmp_path):  # noqa: F811
    """A study that nobody has answered, its config and its folder."""
    config = configuration(database)
    study.run(config, tmp_path)
    return config, tmp_path


def command(made, name: str, **changes):
    config, folder = made
    people = config['people'] | {'command': name} | changes
    return study.run(config | {'people': people}, folder)


def join(db, number: int, answers: dict | None = None) -> None:
    store.join(db, f'{number:032x}', answers or {}, 1.0)


def test_a_locked_database_is_a_sentence(made, monkeypatch):
    connect = schema.connect

    def impatient(path):
        db = connect(path)
        db.execute('PRAGMA busy_timeout=0')
        return db

    monkeypatch.setattr(schema, 'connect', impatient)
    with contextlib.closing(sqlite3.connect(made[1] / 'study.sqlite')) as other:
        other.execute('BEGIN IMMEDIATE')
        with pytest.raises(ValueError, match='study.sqlite cannot be read or written: .*locked'):
            command(made, 'pause')
    assert command(made, 'pause') == {'quarantined': 0, 'paused': True}


def test_a_full_disk_is_a_sentence_and_leaves_no_study(database, tmp_path, monkeypatch):  # noqa: F811
    large = (
        'CREATE TRIGGER large AFTER INSERT ON items BEGIN '
        "INSERT INTO events (at, kind, detail) VALUES (0, 'x', zeroblob(100000)); END;"
    )
    monkeypatch.setattr(schema, '_TABLES', f'{schema._TABLES}{large} PRAGMA max_page_count=30;')
    with pytest.raises(ValueError, match='cannot be read or written: database or disk is full'):
        study.run(configuration(database), tmp_path)
    assert not [file.name for file in tmp_path.iterdir() if 'sqlite' in file.name]


def test_a_database_of_something_else_is_a_sentence(made):
    path = made[1] / 'study.sqlite'
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f'PRAGMA user_version={schema.VERSION}')
        db.execute('CREATE TABLE songs (name TEXT)')
    with pytest.raises(ValueError, match='no such table'):
        command(made, 'status')


@pytest.mark.parametrize(
    'change', [{'session_minutes': -1.0}, {'break_seconds': float('nan')}, {'break_seconds': -2.0}]
)
def test_times_that_are_none_are_refused(database, tmp_path, change):  # noqa: F811
    with pytest.raises(ValueError, match=f'config.people.{next(iter(change))}'):
        study.run(configuration(database, **change), tmp_path)
    assert not (tmp_path / 'study.sqlite').exists()


def test_two_programs_at_once_make_one_study(database, tmp_path):  # noqa: F811
    file = tmp_path / 'config.py'
    file.write_text(
        'from ml_collections import ConfigDict\ndef get_config(arg=None):\n'
        f'    return ConfigDict({configuration(database)!r})\n'
    )
    run = [sys.executable, '-m', 'iqa_jax.main', '--config', str(file), '--workdir',
           str(tmp_path / 'run')]  # fmt: skip
    with schema.creating(tmp_path / 'run'):  # both wait here
        both = [
            subprocess.Popen(run, cwd=test_study_people.ROOT, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        with pytest.raises(subprocess.TimeoutExpired):
            both[0].wait(2)
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum('Created a study' in text for text in said) == 1
    assert all('12 of 12 ratings are missing' in text for text in said)


def test_numbers_that_a_browser_sees_do_not_tell_what_is_gold(made):
    with contextlib.closing(schema.connect(made[1] / 'study.sqlite')) as db:
        rows = db.execute("SELECT image_a FROM items WHERE kind = 'gold'").fetchall()
        count = db.execute('SELECT COUNT(*) FROM images').fetchone()[0]
    gold = {row['image_a'] for row in rows}
    assert gold and gold != set(range(count - len(gold), count))


def test_when_all_places_are_taken_the_sentence_says_what_helps(made, capsys):
    config, folder = made
    test_study_people.answer_all(folder, lambda rater, names: 50, raters=2)
    with contextlib.closing(schema.connect(folder / 'study.sqlite')) as db:
        join(db, 3)
        study.run(config, folder)
        assert 'config.people.command=release' in capsys.readouterr().err
        assert command(made, 'release', rater='rater_003')['trials'] > 0
        assert command(made, 'status')['free'] == 1
    study.run(config, folder)
    assert 'release' not in capsys.readouterr().err.splitlines()[-1]


def test_exports_and_tables_are_on_record_and_no_cell_is_a_formula(made):
    config, folder = made
    with contextlib.closing(schema.connect(folder / 'study.sqlite')) as db:
        join(db, 1, {'note': '=HYPERLINK("http://x","y")', '=name': '+1'})
    test_study_people.answer_all(folder, lambda rater, names: 50 + int(names[0][-1]))
    study.run(config, folder)
    command(made, 'export')
    with contextlib.closing(schema.connect(folder / 'study.sqlite')) as db:
        kinds = [row['kind'] for row in db.execute('SELECT kind FROM events ORDER BY number')]
    assert kinds[-2:] == ['aggregated', 'exported']
    raters = tables.read(folder / 'export/raters.csv')[0]
    assert json.loads(raters['questionnaire'][0])['note'].startswith('=HYPERLINK')
    for name in ('raters.csv', 'log.csv'):
        for column in tables.read(folder / 'export' / name)[0].values():
            assert not [x for x in column.tolist() if str(x).startswith(('=', '+', '-', '@'))]


@pytest.mark.parametrize('host', ['127.0.0.1', '0.0.0.0'])
def test_a_page_that_others_can_reach_says_so(made, host, monkeypatch, capsys):
    pytest.importorskip('starlette')
    from iqa_jax.study import serving

    monkeypatch.setattr(serving, 'serve', lambda app, bound: bound.close())
    config, folder = made
    study.run(config | {'serve': 'page', 'people': config['people'] | {'host': host}}, folder)
    said = capsys.readouterr().err
    assert 'the rating page is closed; 0 answers' in said
    assert ('put a server with TLS before it' in said) == (host == '0.0.0.0')


def test_a_page_whose_images_are_damaged_does_not_open(made):
    pytest.importorskip('starlette')
    config, folder = made
    image = next((folder / 'images').glob('*.png'))
    image.write_bytes(image.read_bytes()[:-9])
    with pytest.raises(artifacts.DamagedArtifact, match=image.name):
        study.run(config | {'serve': 'page'}, folder)
