"""A study with people as a stage: creation, the page's process, commands, aggregation."""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from iqa_jax.competition import preferences
from iqa_jax.data import manifest, tables
from iqa_jax.data.store import ImageStore
from iqa_jax.images.io import ImageError
from iqa_jax.runtime import artifacts
from iqa_jax.study import schema, store
from iqa_jax.tasks import study, study_pictures

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOTES = {0: 90.0, 1: 70.0, 3: 45.0, 5: 15.0}  # by level of distortion


@pytest.fixture(scope='module')
def database(tmp_path_factory):
    """Four photographs with blur and noise at levels 1, 3 and 5, pairs of them, and opinions."""
    folder = tmp_path_factory.mktemp('database')
    rows = []
    for ref in range(4):
        for kind, level in [(0, 0)] + [(t, n) for t in (1, 11) for n in (1, 3, 5)]:
            name = f'ref{ref}_{kind:02d}_{level:02d}'
            pixels = np.random.default_rng([ref, kind, level]).integers(
                0, 256, (8, 12, 3), np.uint8
            )
            suffix = 'png' if kind != 11 else 'tif'
            Image.fromarray(pixels).save(folder / f'{name}.{suffix}')
            data = (folder / f'{name}.{suffix}').read_bytes()
            rows.append((name, f'ref{ref}', str(folder / f'{name}.{suffix}'),
                         hashlib.sha256(data).hexdigest(), kind, level, VOTES[level]))  # fmt: skip
    names = ('image_id', 'ref_id', 'file', 'sha256', 'type', 'level', 'mos')
    columns = {
        name: np.array(values, manifest.COLUMNS[name])
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    columns['split'] = np.full(len(rows), 'train', object)
    manifest.write(folder / 'rated.parquet', columns, {})
    columns.pop('mos')
    manifest.write(folder / 'manifest.parquet', columns, {})
    pairs = [(f'ref{r}_01_01', f'ref{r}_11_03') for r in range(4)]
    table = {'image_id_best': [a for a, _ in pairs], 'image_id_worst': [b for _, b in pairs]}
    table |= {'defender': ['d'] * 4, 'attacker': ['a'] * 4}
    table = {name: np.array(column, object) for name, column in table.items()}
    tables.write(folder / 'pairs.parquet', table | {'level': np.zeros(4, np.int32)})
    return folder


def configuration(database, **people) -> dict:
    get_config = runpy.run_path(str(ROOT / 'configs/study.py'))['get_config']
    config = get_config('smoke').to_dict()
    config |= {'root': str(database), 'manifest': 'manifest.parquet', 'per_split': {'train': 6}}
    config['panel'] = config['panel'] | {'kind': 'people'}
    config['people'] = config['people'] | {
        'raters': 3, 'votes_per_item': 2, 'training': 1, 'gold_share': 0.5, 'break_every': 0,
        'port': 0,
    } | people  # fmt: skip
    if config['people']['design'] == 'pair_choice':
        config['pairs'] = 'pairs.parquet'
    return config


def answer_all(workdir, believe, raters: int = 3) -> None:
    """Everybody who has a place answers everything: believe(image ids as shown) -> value."""
    with contextlib.closing(schema.connect(workdir / 'study.sqlite')) as db:
        names = dict(db.execute('SELECT number, image_id FROM images').fetchall())
        for rater in range(raters):
            key = f'{rater + 1:032x}'
            store.join(db, key, {'age': 30 + rater}, 1.0)
            at = store.state(db, key, 1.0)
            while at['step'] != 'done':
                if at['step'] == 'begin':
                    at = store.begin(db, key, {'window_width': 800}, 2.0)
                    continue
                value = believe(rater, [names[n] for n in at['images']])
                at = store.answer(db, key, at['session'], at['trial'], value, 500, 3.0)


def level(name: str) -> int:
    return int(name[-1])


def test_from_nothing_to_a_rated_manifest(database, tmp_path, capsys):
    anchors = {'old': {'manifest': 'rated.parquet', 'count': 3}}
    config = configuration(database, anchors=anchors)
    summary = study.run(config, tmp_path)
    said = capsys.readouterr().err
    assert summary['missing'] == summary['needed'] == 18 and summary['quarantined'] == 0
    assert '18 of 18 ratings are missing' in said and '--config.serve=page' in said
    assert f'--workdir {tmp_path}' in said and not (tmp_path / 'rated.parquet').exists()

    answer_all(tmp_path, lambda rater, names: VOTES[level(names[0])] + rater)
    summary = study.run(config, tmp_path)
    assert (summary['images'], summary['raters'], summary['votes']) == (6, 3, 18)
    rated = manifest.read(tmp_path / 'rated.parquet')
    for name, mos, file in zip(rated['image_id'], rated['mos'], rated['file'], strict=True):
        assert mos == pytest.approx(VOTES[level(name)] + 1, abs=1.01) and os.path.isfile(file)
    votes, meta = tables.read(tmp_path / 'votes.parquet')
    assert not votes['simulated'].any() and meta['simulated'] is False
    assert set(votes['kind']) == {'rating', 'anchor'}
    assert sum(name.startswith('old:') for name in set(votes['image_id'])) == 3
    assert study.run(config, tmp_path) == summary  # nothing to do
    assert 'up to date' in capsys.readouterr().err


def test_images_are_the_files_or_the_same_pixels(database, tmp_path):
    study.run(configuration(database), tmp_path)
    columns = manifest.read(database / 'manifest.parquet')
    file_of = dict(zip(columns['image_id'], columns['file'], strict=True))
    with contextlib.closing(schema.connect(tmp_path / 'study.sqlite')) as db:
        rows = db.execute('SELECT * FROM images').fetchall()
    assert {row['media'] for row in rows} == {'image/png'}
    for row in rows:
        made, given = tmp_path / 'images' / row['file'], file_of[row['image_id']]
        assert hashlib.sha256(made.read_bytes()).hexdigest() == row['sha256']
        if given.endswith('.png'):
            assert made.read_bytes() == pathlib.Path(given).read_bytes()
        np.testing.assert_array_equal(np.asarray(Image.open(made)), np.asarray(Image.open(given)))
        assert (row['width'], row['height']) == (12, 8)


def test_a_recipe_is_sent_as_its_pixels(database, tmp_path):
    file = str(database / 'ref0_00_00.png')
    rows = {'image_id': ['a', 'b'], 'type': [0, 10], 'level': [0, 3], 'seed': [0, 5],
            'file': [file, ''], 'ref_file': ['', file]}  # fmt: skip
    rows = {k: np.array(v, manifest.COLUMNS[k]) for k, v in rows.items()}
    columns = manifest.complete(rows, 'rows')
    images = study_pictures.prepare({'': columns}, [('', 0), ('', 1)], tmp_path)
    pixels = ImageStore(columns).load([0, 1])
    for image, want in zip(images, pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / image['file'])), want)
    assert (pixels[0] != pixels[1]).any()
    columns['ref_sha256'][1] = '0' * 64
    with pytest.raises(ImageError, match='not the file of the manifest'):
        study_pictures.prepare({'': columns}, [('', 1)], tmp_path)


def test_raters_who_fail_the_gold_questions_do_not_count(database, tmp_path):
    config = configuration(database, votes_per_item=3)
    study.run(config, tmp_path)

    def believe(rater, names):
        quality = VOTES[level(names[0])]
        return 90 - 0.9 * quality if rater == 2 else quality  # takes the scale the wrong way round

    answer_all(tmp_path, believe)
    summary = study.run(config, tmp_path)
    assert summary['excluded'] == 1
    raters = tables.read(tmp_path / 'raters.csv')[0]
    assert raters['rater_id'].tolist() == ['rater_001', 'rater_002', 'rater_003']
    assert 'gold questions right' in raters['reason'][2]
    rated = manifest.read(tmp_path / 'rated.parquet')
    assert set(rated['votes']) == {2}
    np.testing.assert_allclose(rated['mos'], [VOTES[level(n)] for n in rated['image_id']])


def test_choices_in_pairs_become_preferences(database, tmp_path):
    config = configuration(database, design='pair_choice')
    study.run(config, tmp_path)
    answer_all(
        tmp_path,
        lambda rater, names: 'left' if level(names[0]) <= level(names[1]) else 'right',
    )
    summary = study.run(config, tmp_path)
    assert summary['answers'] == 8 and summary['artifact'] == 'rated.parquet'
    answers = tables.read(tmp_path / 'answers.parquet')[0]
    rounds, _ = preferences.contests(tables.read(database / 'pairs.parquet')[0])
    found, left_out, counts = preferences.from_answers(rounds, answers)
    assert counts['answers'] == 8 and not left_out and set(found['preference']) == {100.0}
    assert set(answers['choice']) == {'a'}
    assert len(set(answers['left']) & set(answers['image_id_a'])) > 0
    assert len(set(answers['left']) & set(answers['image_id_b'])) > 0  # sides change


def test_commands(database, tmp_path, capsys):
    config = configuration(database, design='acr5')
    study.run(config, tmp_path)
    answer_all(tmp_path, lambda rater, names: 5 - level(names[0]) // 2, raters=2)

    def do(command, rater=''):
        people = config['people'] | {'command': command, 'rater': rater}
        return study.run(config | {'people': people}, tmp_path)

    assert do('status')['finished'] == 2
    assert json.loads(artifacts.read(tmp_path / 'status.json'))['joined'] == 2
    assert do('pause')['paused'] and not do('resume')['paused']
    do('export')
    votes = tables.read(tmp_path / 'export/votes.csv')[0]
    assert set(votes['kind']) == {'rating', 'training', 'gold'}
    matrix = tables.read(tmp_path / 'export/sureal_matrix.csv')[0]
    assert len(matrix['image_id']) == 6 and set(matrix) == {'image_id', 'rater_001', 'rater_002'}
    raters = tables.read(tmp_path / 'export/raters.csv')[0]
    assert json.loads(raters['questionnaire'][1]) == {'age': 31}
    log = tables.read(tmp_path / 'export/log.csv')[0]
    assert log['kind'].tolist()[0] == 'created' and 'paused' in log['kind'].tolist()
    assert do('delete', 'rater_001')['answers'] > 0
    assert not (tmp_path / 'export/votes.csv').exists()
    assert do('status')['joined'] == 1
    for command, rater, word in (('fly', '', 'fly'), ('delete', 'x', "rater 'x'")):
        with pytest.raises(ValueError, match=word):
            do(command, rater)
    capsys.readouterr()


@pytest.mark.parametrize(
    ('change', 'word'),
    [
        ({'design': 'stars'}, 'stars'), ({'training': 90}, 'training'), ({'raters': 1}, 'votes'),
        ({'anchors': {'old': {'manifest': 'rated.parquet', 'count': 99}}}, 'anchors.old.count'),
        ({'anchors': {'old': {}}}, 'anchors.old'), ({'gold_pass': 2.0}, 'gold_pass'),
        ({'texts': 'none.txt'}, 'none.txt'), ({'colour': 1}, 'colour'),
    ],
)  # fmt: skip
def test_what_no_study_can_be_is_refused_before_it_exists(database, tmp_path, change, word):
    with pytest.raises(ValueError, match=word):
        study.run(configuration(database, **change), tmp_path)
    assert not (tmp_path / 'study.sqlite').exists()


def test_a_study_is_not_aggregated_by_another_config(database, tmp_path):
    study.run(configuration(database), tmp_path)
    with pytest.raises(ValueError, match='another design'):
        study.run(configuration(database, design='acr5'), tmp_path)


def open_page(workdir, database):
    """The page's process and its address."""
    config = configuration(database)
    file = workdir.parent / 'config.py'
    file.write_text(
        f'from ml_collections import ConfigDict\ndef get_config(arg=None):\n'
        f'    return ConfigDict({config | {"serve": "page"}!r})\n'
    )
    process = subprocess.Popen(
        [sys.executable, '-m', 'iqa_jax.main', '--config', str(file), '--workdir', str(workdir)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stderr:
        if found := re.search(r'state (http://127.0.0.1:(\d+)/\S+)', line):
            return process, int(found[2]), found[1]
    raise AssertionError(f'the page did not open, {process.wait()}')


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_page_opens_and_closes_with_a_sentence(database, tmp_path, number, code):
    pytest.importorskip('starlette')
    process, port, state = open_page(tmp_path / 'run', database)
    link = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    link.request('GET', state.partition(str(port))[2])
    assert json.loads(link.getresponse().read())['missing'] == 12
    process.send_signal(number)
    said = process.stderr.read()
    assert process.wait(20) == code
    assert 'closed; 0 answers are stored, 12 of 12 ratings are missing' in said
    with contextlib.closing(schema.connect(tmp_path / 'run/study.sqlite')) as db:
        kinds = [row['kind'] for row in db.execute('SELECT kind FROM events ORDER BY number')]
    assert kinds == ['created', 'page_opened', 'page_closed']
    assert 'Traceback' not in said


def test_the_command_in_the_sentence_opens_the_study_that_is_there(database, tmp_path, capsys):
    pytest.importorskip('starlette')
    study.run(configuration(database, design='acr5'), tmp_path / 'run')
    command = capsys.readouterr().err.partition('open the rating page by: ')[2].split()
    process = subprocess.Popen(
        [sys.executable, *command[1:]], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    said = ''
    for line in process.stderr:
        said += line
        if 'state http' in line:
            break
    process.send_signal(signal.SIGTERM)
    said += process.stderr.read()
    assert process.wait(20) == 143, said
    assert 'created with another' in said and '12 of 12 ratings are missing' in said
