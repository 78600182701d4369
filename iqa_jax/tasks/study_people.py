"""A study with people: creates it, opens its rating page, and aggregates when all have answered."""

import json
import math
import shlex
import sqlite3
import sys
import time

import numpy as np
from absl import logging

from iqa_jax.data import manifest, tables
from iqa_jax.runtime import artifacts, parallel, stages
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.study import administration, collected, designs, plan, schema, texts
from iqa_jax.tasks import (
    opening,
    provenance,
    study_admin,
    study_items,
    study_pictures,
    study_results,
)

PEOPLE_KEYS = {
    'design', 'anchors', 'raters', 'votes_per_item', 'per_session', 'training', 'gold_share',
    'gold_pass', 'session_minutes', 'break_every', 'break_seconds', 'texts', 'host', 'port',
    'command', 'rater',
}  # fmt: skip
# What may change while a study runs; all else was fixed when it was created.
_FREE = {'gold_pass', 'texts', 'host', 'port', 'command', 'rater'}


def run_people(config: dict, given: dict, workdir: Path) -> dict:
    """Creates the study if it is not there, then does what config.serve or people.command asks.

    `config` has its paths resolved, `given` has none. Returns the summary of the stage, or, while
    ratings are missing, {'missing': count, 'needed', 'quarantined': 0, ...}.

    Raises:
      ValueError: a config that no study can have, or another one than the study was created with.
    """
    people = config['people']
    opening.check_keys(people, PEOPLE_KEYS, 'config.people')
    designs.find(people['design'])
    if config['serve'] not in ('', 'page'):
        raise ValueError(f"config.serve={config['serve']!r}; use 'page' or ''.")
    if not 0 <= people['gold_pass'] <= 1:
        raise ValueError(f'config.people.gold_pass={people["gold_pass"]} must be in 0..1.')
    for key in ('session_minutes', 'break_seconds'):
        if not 0 <= people[key] < math.inf:
            raise ValueError(f'config.people.{key}={people[key]} must be 0 or more.')
    schema.require_disk(workdir)
    words = texts.read(people['texts'])
    with schema.said(workdir):
        with schema.creating(workdir):
            if not (workdir / schema.DATABASE).is_file():
                _create(config, given, workdir)
        with schema.opened(workdir / schema.DATABASE) as db:
            schema.check(db, workdir / schema.DATABASE)
            if people['command']:
                return study_admin.do(people['command'], people['rater'], db, workdir)
            _check_same(db, given, workdir, refuse=not config['serve'])
            if not config['serve']:
                return _aggregate(config, given, db, workdir)
        return study_admin.open_page(people, words, workdir)


def _fixed(given: dict) -> dict:
    """The part of a config that a study is created from."""
    people = {key: value for key, value in given['people'].items() if key not in _FREE}
    rest = {key: given[key] for key in ('per_split', 'database', 'seed')}
    return json.loads(artifacts.canonical_json(rest | {'people': people}))


def _create(config: dict, given: dict, workdir: Path) -> None:
    people = config['people']
    found, entries = study_items.collect(config)
    places = list(dict.fromkeys(place for entry in entries for place in entry['images']))
    # By lot: in their own order the numbers, which a browser sees, would tell what is gold.
    lot = np.random.default_rng([config['seed'], 8]).permutation(len(places))
    places = [places[i] for i in lot]
    numbers = {
        kind: [n for n, entry in enumerate(entries) if entry['kind'] == kind]
        for kind in ('rating', 'anchor', 'training', 'gold')
    }
    sessions = plan.make(
        [study_items.contents(found, entry) for entry in entries],
        rated=numbers['rating'] + numbers['anchor'],
        seed=config['seed'],
        **{kind: numbers[kind] for kind in ('training', 'gold')},
        **{key: people[key] for key in ('raters', 'votes_per_item', 'per_session', 'gold_share',
                                        'break_every')},
    )  # fmt: skip
    images = study_pictures.prepare(found, places, workdir / schema.IMAGES)
    index = {place: number for number, place in enumerate(places)}
    items = [
        {key: entry[key] for key in ('kind', 'low', 'high')}
        | {f'image_{end}': index[place] for end, place in zip('ab', entry['images'], strict=False)}
        for entry in entries
    ]
    administration.create(
        workdir / schema.DATABASE, design=people['design'], images=images,
        items=[{'image_b': None} | item for item in items], places=sessions,
        **{key: people[key] for key in ('votes_per_item', 'session_minutes', 'break_seconds')},
        about={'config': _fixed(given), 'versions': artifacts.versions()}, now=time.time(),
    )  # fmt: skip
    logging.info('Created a study of %d images for %d raters.', len(images), people['raters'])


def _check_same(db: sqlite3.Connection, given: dict, workdir: Path, refuse: bool) -> None:
    """A study goes on as it was created; raises ValueError, or warns, where the config differs."""
    was, now = schema.setting(db, 'about')['config'], _fixed(given)
    flat = [{**c, **c['people']} for c in (was, now)]
    changed = sorted(
        k for k in flat[0] | flat[1] if k != 'people' and flat[0].get(k) != flat[1].get(k)
    )
    if not changed:
        return
    sentence = f'{workdir} holds a study that was created with another {", ".join(changed)}'
    if refuse:
        raise ValueError(f'{sentence}; give the config it was created with, or another --workdir.')
    logging.warning('%s; it goes on as it was created.', sentence)


def _aggregate(config: dict, given: dict, db: sqlite3.Connection, workdir: Path) -> dict:
    """The tables of a complete study, or one sentence about what is missing."""
    start, status = time.monotonic(), administration.status(db)
    # An answer may come between the looks of two processes.
    if parallel.agree(bool(status['missing'])):
        status['missing'] = max(status['missing'], 1)
        print(
            f'study: {status["missing"]:,} of {status["needed"]:,} ratings are missing'
            f'{study_admin.no_place(status)}; '
            f'open the rating page by: {_command(config["people"], workdir)}',
            file=sys.stderr,
        )
        counts = {key: status[key] for key in ('missing', 'needed', 'answers')}
        return counts | {'quarantined': 0, 'seconds': time.monotonic() - start}
    inputs = [config['manifest'], *([config['pairs']] if config['pairs'] else [])]
    identity = _fixed(given) | {'gold_pass': config['people']['gold_pass']}
    identity |= {'scaling': config['scaling'], 'answers': collected.digest(db)}
    stage = stages.Stage('study', workdir, identity, inputs=inputs)
    if (summary := stage.done()) is not None:
        return summary
    answers = collected.answers(db)
    failed = _failed(collected.gold(db), config['people']['gold_pass'])
    meta = {'simulated': False, 'design': status['design'], 'database': config['database']}
    meta |= provenance.about(tables.read(config['manifest'])[1])
    counted = tables.select(answers, np.isin(answers['kind'].astype(str), ['rating', 'anchor']))
    rows = study_items.chosen(manifest.read(config['manifest']), config)
    paired = status['design'] == 'pair_choice'
    conclude = study_results.conclude_pairs if paired else study_results.conclude
    counts, outputs = conclude(stage, rows, counted, failed, config, meta, workdir)
    summary = counts | {
        'missing': 0,
        'seconds': time.monotonic() - start,
        'headline': f'{"choices" if paired else "votes"} of people, {counts["headline"]}',
        'artifact': 'rated.parquet',
    }
    with schema.transaction(db):
        detail = {'excluded': counts['excluded'], 'gold_pass': config['people']['gold_pass']}
        schema.log(db, time.time(), None, 'aggregated', detail)
    return stage.finish(summary, outputs)


def _command(people: dict, workdir: Path) -> str:
    """The command that opens the page of a study that is there, at the address it had."""
    given = {'panel.kind': 'people', 'serve': 'page'}
    given |= {f'people.{key}': people[key] for key in ('host', 'port')}
    if people['texts']:
        given['people.texts'] = as_path(people['texts']).resolve()
    flags = [f'--config.{key}={value}' for key, value in given.items()]
    start = ['python', '-m', 'iqa_jax.main', '--config', 'configs/study.py']
    return shlex.join([*start, *flags, '--workdir', str(workdir)])


def _failed(checks: dict[str, dict], least: float) -> dict[str, str]:
    """Raters who got too few of the questions with a known answer right, and why."""
    return {
        rater: f'{tally["gold_right"]} of {tally["gold"]} gold questions right'
        for rater, tally in checks.items()
        if tally['gold_right'] < least * tally['gold']
    }
