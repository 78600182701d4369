"""The open database of a tiny study; a server of one, and browsers."""

import contextlib
import os

import pytest
import studies

from iqa_jax.study import schema


@pytest.fixture
def opened(tmp_path):
    """Makes a study and opens its database."""
    with contextlib.ExitStack() as stack:

        def make(design='single_stimulus', **changes):
            folder = studies.make(tmp_path / 'study', design, **changes)
            return stack.enter_context(contextlib.closing(schema.connect(folder / 'study.sqlite')))

        yield make


@pytest.fixture
def serve(tmp_path):
    """Makes studies and starts their servers."""
    import browsers  # which skips where there is no Playwright

    with contextlib.ExitStack() as stack:

        def start(**changes):
            server = browsers.Server(tmp_path / f'study{len(os.listdir(tmp_path))}', **changes)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope='module')
def launch():
    """Starts a browser with further arguments."""
    import browsers

    with browsers.api.sync_playwright() as playwright, contextlib.ExitStack() as stack:

        def start(*args):
            found = playwright.chromium.launch(
                executable_path=browsers.CHROMIUM, args=['--no-sandbox', *args]
            )
            stack.callback(found.close)
            return found

        yield start


@pytest.fixture(scope='module')
def chromium(launch):
    return launch()


@pytest.fixture
def context(chromium):
    """A person's browser: its windows share what it stores."""
    found = chromium.new_context(viewport={'width': 1366, 'height': 768})
    found.set_default_timeout(15_000)
    yield found
    found.close()
