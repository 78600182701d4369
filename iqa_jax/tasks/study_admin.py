"""What whoever runs a study with people does by the command line, beside its rating page."""

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from iqa_jax.data import tables
from iqa_jax.runtime import artifacts, signals
from iqa_jax.study import administration, collected, exports, schema

EXPORTS = (
    'votes.csv', 'sureal_matrix.csv', 'sureal_votes.json', 'answers.csv', 'sureal_answers.py',
    'pwcmp_matrix.csv', 'pwcmp_answers.csv', 'raters.csv', 'log.csv',
)  # fmt: skip
# What else than the database holds single raters' answers, or was made from them.
_PERSONAL = (
    'votes.parquet', 'answers.parquet', 'rated.parquet', 'mos.csv', 'raters.csv', 'stage.json',
    'status.json',
)  # fmt: skip


def open_page(people: dict, words: dict, workdir: Path) -> dict:
    """Serves the rating page until Ctrl-C or SIGTERM, which then end the program as always.

    Raises:
      ValueError: the extra `study` is not installed, or the address cannot be had.
    """
    try:
        from iqa_jax.study import server, serving
    except ImportError as error:
        raise ValueError(
            f"The rating page needs {error.name}; install it by: pip install 'iqa-jax-gmad[study]'."
        ) from error
    path = workdir / schema.DATABASE
    bound = serving.listen(people['host'], people['port'])
    with schema.opened(path) as db, schema.transaction(db):
        token, admin = (schema.setting(db, key) for key in ('token', 'admin_token'))
        # What people consented to stays on record, whatever becomes of the file of texts.
        schema.log(db, time.time(), None, 'page_opened', {'words': words})
    app = server.make_app(workdir, words)
    try:
        _announce(serving.url(bound, token), serving.url(bound, admin, 'admin/status'))
        if not serving.is_local(people['host']):
            _say(
                'others can reach this address, over plain HTTP: put a server with TLS before it '
                'and keep both addresses secret'
            )
        serving.serve(app, bound)
    finally:
        status = _close(workdir)
    return {'missing': status['missing'], 'needed': status['needed'], 'quarantined': 0}


def _close(workdir: Path) -> dict:
    """Notes that the page is closed and says what it has collected."""
    try:
        with schema.said(workdir), schema.opened(workdir / schema.DATABASE) as db:
            with schema.transaction(db):
                status = administration.status(db)
                schema.log(db, time.time(), None, 'page_closed', {'answers': status['answers']})
            _say(
                f'the rating page is closed; {status["answers"]:,} answers are stored, '
                f'{status["missing"]:,} of {status["needed"]:,} ratings are missing'
            )
    except ValueError as error:
        if signals.heard():  # the program then ends with the sentence of a stop
            _say(str(error).rstrip('.'))
        raise
    return status


def _announce(page: str, state: str) -> None:
    text = f'the rating page is open, Ctrl-C closes it\n  page  {page}\n  state {state}'
    print(f'study: {text}', file=sys.stderr, flush=True)


def do(command: str, rater: str, db: sqlite3.Connection, workdir: Path) -> dict:
    """Runs one of COMMANDS on the study, whether its page is open or not; returns what it did.

    Raises:
      ValueError: an unknown command or rater.
    """
    if command not in COMMANDS:
        raise ValueError(f'config.people.command={command!r}; known are {", ".join(COMMANDS)}.')
    return {'quarantined': 0} | COMMANDS[command](db, rater, workdir)


def _status(db: sqlite3.Connection, rater: str, workdir: Path) -> dict:
    with schema.transaction(db):
        found = administration.status(db)
    artifacts.commit(workdir / 'status.json', json.dumps(found, indent=1).encode())
    paused = ', paused' if found['paused'] else ''
    _say(
        f'{found["missing"]:,} of {found["needed"]:,} ratings are missing, {found["joined"]} of '
        f'{found["places"]} raters joined, {found["finished"]} finished{paused}{no_place(found)} '
        f'-> {workdir / "status.json"}'
    )
    return found


def no_place(status: dict) -> str:
    """What to do when ratings are missing and nobody can join any more; '' otherwise."""
    if status['free'] or not status['missing']:
        return ''
    return (
        '; all places are taken: if somebody has stopped, config.people.command=release gives '
        'what is left to a new place'
    )


def _pause(db: sqlite3.Connection, rater: str, workdir: Path) -> dict:
    with schema.transaction(db):
        found = administration.set_paused(db, True, time.time())
    _say('paused; nothing new is taken until config.people.command=resume')
    return found


def _resume(db: sqlite3.Connection, rater: str, workdir: Path) -> dict:
    with schema.transaction(db):
        found = administration.set_paused(db, False, time.time())
    _say('resumed')
    return found


def _delete(db: sqlite3.Connection, rater: str, workdir: Path) -> dict:
    with schema.transaction(db):
        found = administration.delete_rater(db, rater, time.time())
    if not administration.truncate_log(db):
        _say(
            f'another program reads the study, so {schema.DATABASE}-wal may still hold what was '
            'deleted until the page and all commands have ended'
        )
    for name in _PERSONAL:
        artifacts.forget(workdir / name)
    for name in EXPORTS:
        artifacts.forget(workdir / 'export' / name)
    _say(
        f'deleted {rater} with {found["answers"]:,} answers, and the exports and tables that held '
        'them; the place is free again, under another number'
    )
    return found


def _release(db: sqlite3.Connection, rater: str, workdir: Path) -> dict:
    with schema.transaction(db):
        found = administration.release(db, rater, time.time())
    _say(f'{found["trials"]:,} trials of {rater} wait for somebody else; the answers stay')
    return found


def _export(db: sqlite3.Connection, rater: str, workdir: Path) -> dict:
    with schema.transaction(db):
        written, count = _exports(db)
        design = schema.setting(db, 'design')
        schema.log(db, time.time(), None, 'exported', {'files': list(written)})
    for name in EXPORTS:  # an earlier export may have had more
        artifacts.forget(workdir / 'export' / name)
    meta = {'simulated': False, 'design': design}
    for name, data in written.items():
        artifacts.commit(workdir / 'export' / name, data, meta=meta)
    _say(f'exported {", ".join(written)} -> {workdir / "export"}')
    return {'answers': count}


def _exports(db: sqlite3.Connection) -> tuple[dict[str, bytes], int]:
    """(file name -> content, number of answers); peers' forms hold what is rated only."""
    answers, people = collected.answers(db), collected.raters(db)
    counted = tables.select(answers, np.isin(answers['kind'].astype(str), ['rating', 'anchor']))
    paired, there = 'preference' in answers, len(counted['rater_id']) > 0
    found = {'answers.csv' if paired else 'votes.csv': exports.table_csv(answers)}
    if there and paired:
        found['sureal_answers.py'] = exports.sureal_answers(counted)
        found['pwcmp_matrix.csv'] = exports.pwcmp_matrix(counted)
        if (counted['choice'] != 'tie').all():  # this form has no room for ties
            found['pwcmp_answers.csv'] = exports.pwcmp_answers(counted)
    elif there:
        found['sureal_matrix.csv'] = exports.sureal_matrix(counted)
        found['sureal_votes.json'] = exports.sureal_votes(counted)
    found['raters.csv'] = exports.table_csv(people)
    return found | {'log.csv': exports.table_csv(collected.log(db))}, len(answers['rater_id'])


COMMANDS: dict[str, Callable[[sqlite3.Connection, str, Path], dict]] = {
    'status': _status,
    'pause': _pause,
    'resume': _resume,
    'export': _export,
    'delete': _delete,
    'release': _release,
}


def _say(sentence: str) -> None:
    print(f'study: {sentence}.', file=sys.stderr, flush=True)
