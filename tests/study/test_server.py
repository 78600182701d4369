"""The rating page's server: what it answers to people, to mistakes and to attacks."""

import asyncio
import contextlib
import json
import signal
import string
import threading

import hypothesis
import pytest
import studies
from hypothesis import strategies as st

pytest.importorskip('starlette')

from iqa_jax.runtime import artifacts, signals
from iqa_jax.study import bodies, schema, server, serving, texts
from iqa_jax.tasks import study_admin


@pytest.fixture
def page(tmp_path):
    found = studies.Page(studies.make(tmp_path / 'study'))
    yield found
    found.close()


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """One page for requests that change nothing, with a rater who has begun."""
    found = studies.Page(studies.make(tmp_path_factory.mktemp('shared') / 'study', raters=30))
    found.post('join', rater=studies.key(1), **studies.CONSENT)
    found.post('begin', rater=studies.key(1), screen=studies.SCREEN)
    yield found
    found.close()


def test_a_whole_session(page):
    mine = {'rater': studies.key(1)}
    assert page.post('state', **mine)[0] == 403
    assert page.post('join', **mine, **studies.CONSENT) == (200, {'rater_id': 'rater_001'})
    assert page.post('state', **mine)[1]['step'] == 'begin'
    status, at = page.post('begin', **mine, screen=studies.SCREEN)
    assert (status, at['step'], at['trial']) == (200, 'trial', 0)
    while at['step'] == 'trial':
        for number in at['images'] + at['preload']:
            assert page.get(f'image/{number}')[0] == 200
        place = {'session': at['session'], 'trial': at['trial']}
        status, at = page.post('answer', **mine, **place, value=40, milliseconds=700)
        assert (status, at['answer']) == (200, 'stored')
        assert page.post('answer', **mine, **place, value=40, milliseconds=1)[1] == at | {
            'answer': 'repeated'
        }
        assert page.post('answer', **mine, **place, value=9, milliseconds=1)[0] == 409
    assert at['step'] == 'done' and at['code']
    status, _, data = page.call('GET', f'/{page.admin}/admin/status')
    found = json.loads(data)
    assert (found['finished'], found['answers'], found['missing']) == (1, 7, 6)
    assert found['refused'] == {'403': 1}


def test_consent_and_required_questions_are_required(page):
    mine = {'rater': studies.key(1)}
    for changes in (
        {'consent': False}, {'consent': 1}, {'questionnaire': {}}, {'questionnaire': None},
        {'questionnaire': {'vision': 'maybe', 'colour': 'no'}},
        {'questionnaire': {'vision': 'yes', 'colour': 'no', 'age': 7}},
        {'questionnaire': {'vision': 'yes', 'colour': 'no', 'name': 'me'}}, {'rater': 'short'},
    ):  # fmt: skip
        status, said = page.post('join', **(mine | studies.CONSENT | changes))
        assert status == 400 and said['error'].endswith(('.', '?')), changes
    assert page.post('state', **mine)[0] == 403


def test_administration_needs_its_own_token(page):
    for token in (page.token, 'x', ''):
        for name, method in (('status', 'GET'), ('pause', 'POST'), ('resume', 'POST')):
            assert page.call(method, f'/{token}/admin/{name}', b'{}')[0] == 404
    assert page.call('POST', f'/{page.admin}/admin/pause', b'{}')[0] == 200
    status, said = page.post('join', rater=studies.key(1), **studies.CONSENT)
    assert status == 409 and 'paused' in said['error']
    assert page.call('POST', f'/{page.admin}/admin/resume', b'{}')[0] == 200
    assert page.post('join', rater=studies.key(1), **studies.CONSENT)[0] == 200
    assert page.call('GET', f'/{page.admin}/study')[0] == 404  # nor is one the other


def test_an_address_without_its_last_slash_leads_to_the_page(shared):
    status, headers, _ = shared.call('GET', f'/{shared.token}')
    assert (status, headers['location']) == (307, shared.token + '/')


def test_images_are_the_bytes_and_stay_in_the_cache(shared):
    status, headers, data = shared.get('image/3')
    assert (status, data, headers['content-type']) == (200, studies.png(), 'image/png')
    assert 'immutable' in headers['cache-control']
    assert shared.get('image/3', if_none_match=headers['etag'])[0] == 304
    for name in ('study', ''):
        assert shared.get(name)[1]['cache-control'] == 'no-store'


@pytest.mark.parametrize(
    'name',
    [
        'image/../study.sqlite', 'image/..%2fstudy.sqlite', 'image/%2e%2e/study.sqlite',
        'image/999', 'image/-1', 'image/0x1', 'image/٣', 'image/3.png', 'image/' + '9' * 6000,
        '../../../etc/passwd', '..%2f..%2fetc%2fpasswd', 'page.js/..', 'server.py', 'texts.txt',
        './page.js', 'study.sqlite', 'images/only.png', '%00', 'image/3%00', '~root',
        '//etc/passwd',
    ],
)  # fmt: skip
def test_nothing_but_the_page_and_the_images_can_be_had(shared, name):
    status, _, data = shared.get(name)
    assert status == 404 and json.loads(data) == {'error': 'There is nothing here.'}


def test_every_answer_carries_the_policy(shared):
    for method, path in (('GET', f'/{shared.token}/'), ('GET', '/none/'), ('PUT', '/x/answer'),
                         ('GET', f'/{shared.token}/image/1')):  # fmt: skip
        headers = shared.call(method, path)[1]
        policy = headers['content-security-policy']
        assert "default-src 'none'" in policy and 'unsafe' not in policy
        assert headers['x-content-type-options'] == 'nosniff'
        assert headers['referrer-policy'] == 'no-referrer'


def test_words_and_names_cannot_become_markup(tmp_path):
    attack = '</script><img src=x onerror=alert(1)>'
    file = tmp_path / 'texts.txt'
    file.write_text(
        f'[title]\n{attack}\n[consent]\n{attack}\n[questionnaire]\nq | {attack} | {attack} / b\n'
        f'[instructions]\n{attack}\n[thanks]\n{attack}\n'
    )
    folder = studies.make(tmp_path / 'study', name=attack)
    page = studies.Page(folder, texts.read(file))
    sent = [page.get(name) for name in server.PAGE_FILES]
    assert not any(b'onerror' in data for _, _, data in sent)
    _, headers, data = page.get('study')
    assert headers['content-type'] == 'application/json' and attack in json.loads(data)['title']
    # The page builds its elements from text; nothing in it turns text into markup.
    code = b''.join(data for _, _, data in sent).decode()
    for way in ('innerHTML', 'outerHTML', 'insertAdjacentHTML', 'document.write', 'eval(',
                'DOMParser', 'srcdoc', 'http://', 'https://'):  # fmt: skip
        assert way not in code.replace('http://www.w3.org/2000/svg', ''), way
    page.close()


def test_oversized_and_foreign_bodies(shared):
    path = f'/{shared.token}/state'
    assert shared.call('POST', path, b'[' * (bodies.LARGEST + 1))[0] == 413
    assert shared.call('POST', path, b'[' * bodies.LARGEST)[0] == 400
    assert shared.call('POST', path, b'{}', 'text/plain')[0] == 415
    assert shared.call('POST', path, b'{}', 'application/json; charset=utf-8')[0] == 403
    for body in (
        b'',
        b'{',
        b'null',
        b'[]',
        b'\xff',
        b'{"rater": NaN}',
        b'1' * 5000,
        b'{"a":1e999}',
    ):
        assert shared.call('POST', path, body)[0] in (400, 403)
    assert shared.call('PUT', path)[0] == 405
    assert shared.call('GET', path)[0] == 404


def test_numbers_beyond_all_floats_are_refused(shared):
    mine = {'rater': studies.key(1)}
    for name in studies.SCREEN:
        for huge in (10**400, -(10**400), 1e308):
            screen = studies.SCREEN | {name: huge}
            assert shared.post('begin', **mine, screen=screen)[0] == 400
    place = {'session': 1, 'trial': 0, 'milliseconds': 5}
    assert shared.post('answer', **mine, **place, value=10**400)[0] == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([studies.key(1), 'left', '__proto__', '\ud800', '\0', '9' * 400, 10**400]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        'rater': JSON | st.just(studies.key(1)), 'session': JSON | st.integers(0, 3),
        'trial': JSON | st.integers(0, 9), 'value': JSON, 'milliseconds': JSON | st.integers(0, 9),
        'consent': st.just(True) | JSON, 'kind': JSON | st.just('screen'),
        'questionnaire': JSON | st.just(studies.CONSENT['questionnaire']),
        'screen': JSON | st.fixed_dictionaries(dict.fromkeys(studies.SCREEN, JSON)),
    },
)  # fmt: skip


@hypothesis.settings(max_examples=250, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    name=st.sampled_from(['join', 'state', 'begin', 'answer', 'break', 'event']),
    body=(FIELDS | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40),
)  # fmt: skip
def test_no_body_is_an_error_of_the_server(shared, name, body):
    status, _, data = shared.call('POST', f'/{shared.token}/{name}', body)
    found = json.loads(data)
    assert status in (200, 400, 403, 404, 409)
    assert status == 200 or 'answer' in found or found['error'].endswith(('.', '?'))


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True, database=None)
@hypothesis.given(path=st.text(string.printable + 'ü/%.', max_size=30))
def test_no_path_is_an_error_of_the_server(shared, path):
    assert shared.call('GET', '/' + path)[0] == 404
    assert shared.get('image/' + path)[0] == 404 or path in map(str, range(16))


def test_a_disk_that_is_full_is_said_and_nothing_is_acknowledged(tmp_path, monkeypatch):
    opened = []
    real = schema.connect
    monkeypatch.setattr(schema, 'connect', lambda path: opened.append(real(path)) or opened[-1])
    page = studies.Page(studies.make(tmp_path / 'study', items=600, per_session=600))
    mine = {'rater': studies.key(1)}
    page.post('join', **mine, **studies.CONSENT)
    at = page.post('begin', **mine, screen=studies.SCREEN)[1]
    db, answer = opened[-1], {'value': 40, 'milliseconds': 700}  # the writer's
    full = db.execute('PRAGMA page_count').fetchone()[0]
    db.execute(f'PRAGMA max_page_count={full}')
    status = 200
    while status == 200:
        place = {'session': at['session'], 'trial': at['trial']}
        status, found = page.post('answer', **mine, **place, **answer)
        at = found if status == 200 else at
    assert (status, found['error']) == (503, 'This could not be stored; please try again.')
    assert page.post('state', **mine)[1]['trial'] == place['trial'] > 0
    db.execute(f'PRAGMA max_page_count={full + 1000}')
    assert page.post('answer', **mine, **place, **answer)[1]['answer'] == 'stored'
    page.close()
    with contextlib.closing(real(tmp_path / 'study/study.sqlite')) as db:
        schema.check(db, 'it')
        rows = db.execute('SELECT trial FROM answers ORDER BY trial').fetchall()
    assert [row['trial'] for row in rows] == list(range(place['trial'] + 1))


def test_a_damaged_or_missing_image_is_refused_at_the_start(tmp_path):
    file = studies.make(tmp_path / 'study') / 'images/only.png'
    file.write_bytes(file.read_bytes()[:-1] + b'?')
    with pytest.raises(artifacts.DamagedArtifact, match='only.png is damaged'):
        server.make_app(tmp_path / 'study', texts.read(''))
    file.unlink()
    with pytest.raises(artifacts.DamagedArtifact, match='cannot be read'):
        server.make_app(tmp_path / 'study', texts.read(''))


def test_the_state_of_a_study_that_is_gone_is_no_error_of_the_server(tmp_path):
    page = studies.Page(studies.make(tmp_path / 'study'))
    (tmp_path / 'study/study.sqlite').rename(tmp_path / 'away')
    status, _, data = page.call('GET', f'/{page.admin}/admin/status')
    assert status == 503 and 'no study' in json.loads(data)['error']
    page.close()


def test_a_server_that_is_cut_off_ends_its_thread(tmp_path):
    def writers() -> int:
        return [thread.name for thread in threading.enumerate()].count('study writer')

    before = writers()
    page = studies.Page(studies.make(tmp_path / 'study'))
    assert writers() == before + 1
    page._life.cancel()  # as at a second Ctrl-C
    with contextlib.suppress(asyncio.CancelledError):
        page.loop.run_until_complete(page._life)
    assert writers() == before
    page.loop.close()


def test_a_server_that_cannot_begin_says_so():
    async def broken(scope, receive, send):
        raise ValueError('no database')

    with (
        contextlib.closing(serving.listen('127.0.0.1', 0)) as bound,
        pytest.raises(ValueError, match='could not begin'),
    ):
        serving.serve(broken, bound)


def test_a_page_is_for_this_machine_and_says_why_it_cannot_open():
    with contextlib.closing(serving.listen('127.0.0.1', 0)) as bound:
        assert serving.url(bound, 'secret') == f'http://127.0.0.1:{bound.getsockname()[1]}/secret/'
        with pytest.raises(ValueError, match='another port'):
            serving.listen('127.0.0.1', bound.getsockname()[1])
    with pytest.raises(ValueError, match='host'):
        serving.listen('192.0.2.1', 0)
    assert serving.is_local('127.0.0.1') and not serving.is_local('0.0.0.0')


def test_a_page_that_is_told_to_stop_says_what_went_wrong_as_it_closed(
    tmp_path, monkeypatch, capsys
):
    path = studies.make(tmp_path / 'study') / 'study.sqlite'
    study_admin._close(tmp_path / 'study')
    assert capsys.readouterr().err.startswith('study: the rating page is closed; 0 answers are')
    path.unlink()
    sentence = f'There is no study {path}; create it with config.serve=page.'
    for heard, said in ((0, ''), (signal.SIGTERM, f'study: {sentence}\n')):
        monkeypatch.setattr(signals, '_heard', heard)
        with pytest.raises(ValueError, match='There is no study'):
            study_admin._close(tmp_path / 'study')
        assert capsys.readouterr().err == said
