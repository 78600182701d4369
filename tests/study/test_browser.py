"""Whole sessions in a real browser: every design, keyboard and mouse, reloads, a killed server."""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import studies
from PIL import Image

from iqa_jax.study import schema

pytest.importorskip('starlette')
api = pytest.importorskip('playwright.sync_api')
# A Chromium of the machine; Playwright's own is not downloaded for tests.
CHROMIUM = os.environ.get('IQA_JAX_CHROMIUM') or shutil.which('chromium')
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='no chromium; name one in IQA_JAX_CHROMIUM')
SERVE = (
    'import sys\n'
    'from iqa_jax.study import server, serving, texts\n'
    "app = server.make_app(sys.argv[1], texts.read(''))\n"
    "serving.serve(app, serving.listen('127.0.0.1', int(sys.argv[2])))"
)
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)


class Server:
    """A study's server in a process of its own, which can be killed and started again."""

    def __init__(self, folder, **changes):
        file = io.BytesIO()
        Image.fromarray(PIXELS).save(file, 'PNG')
        self.folder = studies.make(folder, picture=file.getvalue(), size=(100, 60), **changes)
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            self.port = free.getsockname()[1]
        with contextlib.closing(schema.connect(folder / 'study.sqlite')) as db:
            self.token = schema.setting(db, 'token')
        self.url = f'http://127.0.0.1:{self.port}/{self.token}/'
        self.start()

    def start(self):
        command = [sys.executable, '-c', SERVE, str(self.folder), str(self.port)]
        self._process = subprocess.Popen(command)

    def stop(self, number=signal.SIGKILL):
        self._process.send_signal(number)
        self._process.wait()

    def answers(self) -> list[float]:
        with contextlib.closing(schema.connect(self.folder / 'study.sqlite')) as db:
            rows = db.execute('SELECT value FROM answers ORDER BY session, trial').fetchall()
        return [row['value'] for row in rows]


@pytest.fixture
def serve(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(**changes):
            server = Server(tmp_path / f'study{len(os.listdir(tmp_path))}', **changes)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope='module')
def launch():
    """Starts a browser with further arguments."""
    with api.sync_playwright() as playwright, contextlib.ExitStack() as stack:

        def start(*args):
            found = playwright.chromium.launch(
                executable_path=CHROMIUM, args=['--no-sandbox', *args]
            )
            stack.callback(found.close)
            return found

        yield start


@pytest.fixture(scope='module')
def chromium(launch):
    return launch()


@pytest.fixture
def context(chromium):
    found = chromium.new_context(viewport={'width': 1366, 'height': 768})
    found.set_default_timeout(15_000)
    yield found
    found.close()


def open_first(page, url: str) -> None:
    """Goes to an address, as soon as its server is up."""
    for _ in range(100):
        with contextlib.suppress(api.Error):
            page.goto(url)
            return
        page.wait_for_timeout(100)
    raise AssertionError('the server did not start')


def consent(page) -> None:
    page.fill('[name=age]', '41')
    page.check('[name=vision][value=yes]')
    page.check('[name=colour][value=no]')
    page.check('#agree')
    page.click('form button')


def where(page) -> str:
    """'trial', or the heading of the screen."""
    page.wait_for_selector('.trial .stage img, .card:not(.overlay)')
    return 'trial' if page.query_selector('.trial') else page.inner_text('h1')


def pass_screens(page) -> str:
    """Presses on through everything that is no trial, up to a trial or the end."""
    while (place := where(page)) not in ('trial', 'Thank you'):
        button = page.locator('.card button.main')
        api.expect(button).to_be_enabled()
        button.click()
        page.wait_for_function(
            'old => document.querySelector("h1")?.textContent !== old', arg=place
        )
    return place


def choose(page, design: str, number: int) -> float:
    """One answer by mouse or keyboard, by turns; the number that must be stored."""
    mouse = number % 2 == 0
    if design == 'single_stimulus':
        if mouse:
            box = page.locator('#scale').bounding_box()
            page.mouse.click(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
        else:
            page.keyboard.press('4')
            page.keyboard.press('ArrowRight')
            page.keyboard.press('PageDown')
        value = page.evaluate('Number(document.getElementById("scale").value)')
        assert abs(value - (50 if mouse else 61)) < 0.6
    elif design == 'acr5':
        value = 1 + number % 5
        if mouse:
            page.click(f'[data-value="{value}"]')
        else:
            page.keyboard.press(str(value))
    else:
        name, key = (('left', 'ArrowLeft'), ('right', 'ArrowRight'), ('tie', 'ArrowDown'))[
            number % 3
        ]
        value = {'left': 1, 'right': -1, 'tie': 0}[name]
        if not mouse:
            page.keyboard.press(key)
        elif name == 'tie':
            page.click('[data-value=tie]')
        else:
            page.click(f'img[alt="{name.title()} image"]')
    return value


def submit(page, mouse: bool) -> None:
    """Sends the answer and waits until another screen has come."""
    page.evaluate('document.querySelector(".trial").id = "old"')
    if mouse:
        page.click('#next')
    else:
        page.keyboard.press('Enter')
    page.wait_for_selector('#old', state='detached')
    where(page)


@pytest.mark.parametrize('design', ['single_stimulus', 'acr5', 'pair_choice'])
def test_a_whole_session(serve, context, design):
    server = serve(design=design, items=6, per_session=4, break_every=2, break_seconds=0.3)
    page, wrong = context.new_page(), []
    page.on('pageerror', lambda error: wrong.append(str(error)))
    page.on('console', lambda m: wrong.append(m.text) if 'Security Policy' in m.text else None)
    open_first(page, server.url)
    assert page.locator('.card').inner_text().count('voluntary') == 1
    consent(page)
    given = []
    while pass_screens(page) == 'trial':
        number = len(given)
        assert page.is_disabled('#next')  # nothing counts before it was touched
        if number == 1:
            page.reload()
            assert where(page) == 'trial' and page.inner_text('header span').startswith('2 of')
        given.append(choose(page, design, number))
        if number == 2:
            in_a_second_tab(context, page, server, design, given)
        elif number == 3:
            killed_before_the_reply(page, server)
        elif number == 4:
            killed_after_the_reply(page, server)
        else:
            submit(page, mouse=number % 2 == 0)
        assert server.answers() == pytest.approx(given)
    assert len(given) == 7 and len(page.inner_text('#code')) == 8
    page.reload()
    assert where(page) == 'Thank you' and not wrong


def in_a_second_tab(context, page, server, design, given) -> None:
    """The other tab answers first, with something else; this one is told and goes on."""
    other = context.new_page()
    other.goto(server.url)
    assert where(other) == 'Welcome back'
    other.click('text=Continue')
    assert where(other) == 'trial'
    shown = page.inner_text('header span')
    assert other.inner_text('header span') == shown
    key = {'single_stimulus': '1', 'acr5': '5', 'pair_choice': 'ArrowRight'}[design]
    other.keyboard.press(key)
    submit(other, mouse=False)
    given[-1] = {'single_stimulus': 10, 'acr5': 5, 'pair_choice': -1}[design]
    other.close()
    submit(page, mouse=True)
    assert 'another window' in page.inner_text('#notice')


def killed_before_the_reply(page, server) -> None:
    """The answer is stored, the server dies, the browser never hears: it sends it once more."""

    def die(route):
        route.fetch()
        server.stop()
        route.abort()

    page.route('**/answer', die, times=1)
    page.keyboard.press('Enter')
    page.wait_for_selector('#notice:has-text("Nothing is lost")')
    page.evaluate('document.querySelector(".trial, .loading, .card").id = "old"')
    server.start()
    page.wait_for_selector('#old', state='detached')
    where(page)


def killed_after_the_reply(page, server) -> None:
    """The browser hears that the answer is stored and the server dies before the next trial."""

    def die(route):
        response = route.fetch()
        server.stop()
        route.fulfill(response=response)

    page.route('**/answer', die, times=1)
    page.evaluate('document.querySelector(".trial").id = "old"')
    page.keyboard.press('Enter')
    page.wait_for_selector('#old', state='detached')
    server.start()
    open_first(page, 'about:blank')
    open_first(page, server.url)
    if where(page) == 'Welcome back':
        page.click('text=Continue')
        page.wait_for_selector('h1:has-text("Welcome back")', state='detached')
    where(page)


@pytest.mark.parametrize('ratio', [1, 1.25, 2])
def test_one_image_pixel_is_one_pixel_of_the_screen(serve, launch, ratio):
    server = serve(design='pair_choice')
    # The browser's own factor: the one that Playwright emulates scales after painting.
    browser = launch(f'--force-device-scale-factor={ratio}', '--window-size=1001,703')
    page = browser.new_page(no_viewport=True)
    open_first(page, server.url)
    consent(page)
    assert pass_screens(page) == 'trial'
    assert page.evaluate('window.devicePixelRatio') == ratio
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert('RGB'))
    for image in page.locator('.stage img').all():
        box = image.bounding_box()
        y, x = round(box['y'] * ratio), round(box['x'] * ratio)
        np.testing.assert_array_equal(shot[y : y + 60, x : x + 100], PIXELS)
        assert (shot[y - 4, x] == 0x6E).all()


def test_a_window_too_small_is_told_and_goes_no_further(serve, context):
    server = serve(design='pair_choice')
    page = context.new_page()
    page.set_viewport_size({'width': 230, 'height': 700})
    open_first(page, server.url)
    consent(page)
    page.wait_for_selector('h1:has-text("Your screen")')
    assert 'enlarge the window' in page.inner_text('#size')
    assert page.is_disabled('text=Continue')
    page.set_viewport_size({'width': 500, 'height': 700})
    assert pass_screens(page) == 'trial'
    page.keyboard.press('ArrowLeft')
    page.set_viewport_size({'width': 230, 'height': 700})
    page.wait_for_selector('.overlay >> text=too small')
    page.keyboard.press('Enter')
    page.wait_for_timeout(200)
    assert server.answers() == []
    page.set_viewport_size({'width': 500, 'height': 700})
    submit(page, mouse=False)
    assert server.answers() == [1]


def test_words_are_shown_as_they_are(serve, context, tmp_path):
    attack = '<img src=x onerror="document.title=1">'
    server = serve()
    page = context.new_page()
    open_first(page, server.url)

    def poison(route):
        found = route.fetch().json()
        found['title'] = found['consent'] = found['instructions'] = found['adjectives'] = [
            attack
        ] * 5
        found['questionnaire'][0]['question'] = attack
        route.fulfill(json=found)

    page.route('**/study', poison)
    page.reload()
    page.wait_for_selector('h1')
    assert attack in page.inner_text('h1') and page.query_selector('.card img') is None
    consent(page)
    assert pass_screens(page) == 'trial'
    assert page.locator('.words').inner_text().count(attack) == 5
    assert page.title() == ' '.join([attack] * 5)
