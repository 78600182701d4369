"""The tables of a study's database, how it is opened, and how it is checked."""

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from iqa_jax.runtime import artifacts, paths

DATABASE, IMAGES = 'study.sqlite', 'images'  # in a study's folder
VERSION = 2  # stored as user_version; a database of another version is refused
_TABLES = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images (
  number INTEGER PRIMARY KEY,  -- all that a browser ever says of an image
  label TEXT NOT NULL,  -- '' or the name of the anchors' database
  image_id TEXT NOT NULL,
  file TEXT NOT NULL,  -- in the study's folder of images
  media TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  UNIQUE (label, image_id)
);
CREATE TABLE items (
  number INTEGER PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('rating', 'anchor', 'training', 'gold')),
  image_a INTEGER NOT NULL REFERENCES images,
  image_b INTEGER REFERENCES images,  -- of a pair
  low REAL, high REAL  -- of a gold question: votes, or preferences for a, that are right
);
CREATE TABLE raters (
  number INTEGER PRIMARY KEY,  -- a place in the plan; nobody has it while key is NULL
  rater_id TEXT NOT NULL UNIQUE,
  key TEXT UNIQUE,  -- SHA-256 of the secret that the browser keeps
  joined REAL, finished REAL, code TEXT, questionnaire TEXT
);
CREATE TABLE sessions (
  number INTEGER PRIMARY KEY,
  rater INTEGER NOT NULL REFERENCES raters,
  place INTEGER NOT NULL,  -- from 0
  trials INTEGER NOT NULL,
  began REAL, finished REAL, screen TEXT,
  UNIQUE (rater, place)
);
CREATE TABLE trials (
  session INTEGER NOT NULL REFERENCES sessions,
  trial INTEGER NOT NULL,
  item INTEGER NOT NULL REFERENCES items,
  swapped INTEGER NOT NULL,  -- 1: image_b is on the left
  PRIMARY KEY (session, trial)
) WITHOUT ROWID;
CREATE TABLE answers (
  session INTEGER NOT NULL,
  trial INTEGER NOT NULL,
  value REAL NOT NULL,  -- as designs.DESIGNS stores it
  milliseconds INTEGER NOT NULL,  -- from the images' appearance, as the browser measured it
  received REAL NOT NULL,
  PRIMARY KEY (session, trial),
  FOREIGN KEY (session, trial) REFERENCES trials
) WITHOUT ROWID;
CREATE TABLE breaks (
  session INTEGER NOT NULL REFERENCES sessions,
  trial INTEGER NOT NULL,  -- before this one
  seconds REAL NOT NULL,
  began REAL, finished REAL,
  PRIMARY KEY (session, trial)
) WITHOUT ROWID;
CREATE TABLE events (
  number INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  rater INTEGER,  -- NULL where the study itself, or a rater since deleted, is meant
  kind TEXT NOT NULL,
  detail TEXT NOT NULL
);
CREATE INDEX events_of_rater ON events (rater);
"""


def build(path: str | Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Makes a database that `fill` fills; the file appears when it is complete and durable."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = artifacts.draft_path(path)
    draft.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(draft)) as db:
            db.executescript(_TABLES)
            db.execute(f'PRAGMA user_version={VERSION}')
            with db:
                fill(db)
        artifacts.adopt(path)
    finally:
        draft.unlink(missing_ok=True)


def connect(path: str | Path) -> sqlite3.Connection:
    """Opens the database of a study: every commit is on the disk when it returns.

    Transactions are the caller's. Raises ValueError for a file that is not there, that is no
    database or one of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no study {path}; create it with config.serve=page.')
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    try:
        found = db.execute('PRAGMA user_version').fetchone()[0]
        if found != VERSION:
            raise ValueError(
                f'{path} is a study of version {found}, this program reads version {VERSION}.'
            )
        # secure_delete: what is deleted on a rater's wish is overwritten in the file too.
        for pragma in ('journal_mode=WAL', 'synchronous=FULL', 'foreign_keys=ON',
                       'secure_delete=ON'):  # fmt: skip
            db.execute(f'PRAGMA {pragma}')
    except sqlite3.OperationalError:  # a folder that cannot be written, a lock: `said` tells
        db.close()
        raise
    except sqlite3.DatabaseError as error:
        db.close()
        raise ValueError(f'{path} is not an intact study: {error}.') from error
    except ValueError:
        db.close()
        raise
    return db


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Like `connect`; what the block stored is at its end in the file itself, not in its log alone.

    But for what another program still reads. SQLite does the same when the last connection closes,
    without a word if the disk fails at it. Raises sqlite3.OperationalError then; the log still
    holds everything. No query of the block may be half read at its end.
    """
    with contextlib.closing(connect(path)) as db:
        yield db
        if db.total_changes:  # who only looked may have no right to write
            db.execute('PRAGMA wal_checkpoint(PASSIVE)')


def require_disk(folder: str | Path) -> None:
    """Raises a ValueError for a folder of an object store, which cannot hold the database."""
    paths.require_local(folder, 'a study with people keeps its answers in a database on a disk')


@contextlib.contextmanager
def creating(folder: str | Path) -> Iterator[None]:
    """Holds a study's folder, which is made, so that programs started at once make one study."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)  # the lock ends with it, and with a killed process


@contextlib.contextmanager
def said(folder: str | Path) -> Iterator[None]:
    """Turns what SQLite reports about a study, such as a full disk, into a ValueError."""
    try:
        yield
    except sqlite3.Error as error:
        raise ValueError(
            f'{Path(folder) / DATABASE} cannot be read or written: {error}; see that the folder '
            'can be written, that the disk has space and that no other program locks the file. '
            'What was acknowledged before is kept.'
        ) from error


def check(db: sqlite3.Connection, where: str | Path) -> None:
    """Raises artifacts.DamagedArtifact where the database, or a reference in it, is broken."""
    try:
        said = [row[0] for row in db.execute('PRAGMA integrity_check(1)')]
        said += ['a row refers to nothing' for _ in db.execute('PRAGMA foreign_key_check')]
    except sqlite3.DatabaseError as error:
        said = [str(error)]
    if said[:1] != ['ok'] or len(said) > 1:
        raise artifacts.DamagedArtifact(
            f'{os.fspath(where)} is damaged ({said[-1]}); restore it from a copy.'
        )


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of a block is stored durably, or nothing of it."""
    db.execute('BEGIN IMMEDIATE')
    try:
        yield db
        db.execute('COMMIT')
    except BaseException:
        if db.in_transaction:  # SQLite itself rolls back when the disk is full
            db.execute('ROLLBACK')
        raise


def setting(db: sqlite3.Connection, key: str) -> object:
    """One value of the table study."""
    return json.loads(db.execute('SELECT value FROM study WHERE key = ?', (key,)).fetchone()[0])


def set_setting(db: sqlite3.Connection, key: str, value: object) -> None:
    """Replaces one value of the table study."""
    db.execute('INSERT OR REPLACE INTO study VALUES (?, ?)', (key, json.dumps(value)))


def log(db: sqlite3.Connection, now: float, rater: int | None, kind: str, detail: dict) -> None:
    """One line of the log of events."""
    db.execute(
        'INSERT INTO events (at, rater, kind, detail) VALUES (?, ?, ?, ?)',
        (now, rater, kind, json.dumps(detail, sort_keys=True)),
    )
