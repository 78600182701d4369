"""A study's server that can be killed, and the hands of somebody who takes part in a browser."""

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
NEEDED = pytest.mark.skipif(not CHROMIUM, reason='no chromium; name one in IQA_JAX_CHROMIUM')
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


def open_first(page, url: str) -> None:
    """Goes to an address, as soon as its server is up."""
    for _ in range(100):
        with contextlib.suppress(api.Error):
            page.goto(url)
            return
        page.wait_for_timeout(100)
    raise AssertionError('the server did not start')


def fill(page) -> None:
    """What everybody fills in on the first page."""
    page.fill('[name=age]', '41')
    page.check('[name=vision][value=yes]')
    page.check('[name=colour][value=no]')
    page.check('#agree')


def consent(page) -> None:
    fill(page)
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
