"""Whole sessions in a real browser: every design, keyboard and mouse, reloads, a killed server."""

import browsers
import pytest

pytestmark = browsers.NEEDED


@pytest.mark.parametrize('design', ['single_stimulus', 'acr5', 'pair_choice'])
def test_a_whole_session(serve, context, design):
    server = serve(design=design, items=6, per_session=4, break_every=2, break_seconds=0.3)
    page, wrong = context.new_page(), []
    page.on('pageerror', lambda error: wrong.append(str(error)))
    page.on('console', lambda m: wrong.append(m.text) if 'Security Policy' in m.text else None)
    browsers.open_first(page, server.url)
    assert page.locator('.card').inner_text().count('voluntary') == 1
    browsers.consent(page)
    given = []
    while browsers.pass_screens(page) == 'trial':
        number = len(given)
        assert page.is_disabled('#next')  # nothing counts before it was touched
        if number == 1:
            page.reload()
            assert browsers.where(page) == 'trial' and page.inner_text('header span').startswith(
                '2 of'
            )
        given.append(browsers.choose(page, design, number))
        if number == 2:
            in_a_second_tab(context, page, server, design, given)
        elif number == 3:
            killed_before_the_reply(page, server)
        elif number == 4:
            killed_after_the_reply(page, server)
        else:
            browsers.submit(page, mouse=number % 2 == 0)
        assert server.answers() == pytest.approx(given)
    assert len(given) == 7 and len(page.inner_text('#code')) == 8
    page.reload()
    assert browsers.where(page) == 'Thank you' and not wrong


def in_a_second_tab(context, page, server, design, given) -> None:
    """The other tab answers first, with something else; this one is told and goes on."""
    other = context.new_page()
    other.goto(server.url)
    assert browsers.where(other) == 'Welcome back'
    other.click('text=Continue')
    assert browsers.where(other) == 'trial'
    shown = page.inner_text('header span')
    assert other.inner_text('header span') == shown
    key = {'single_stimulus': '1', 'acr5': '5', 'pair_choice': 'ArrowRight'}[design]
    other.keyboard.press(key)
    browsers.submit(other, mouse=False)
    given[-1] = {'single_stimulus': 10, 'acr5': 5, 'pair_choice': -1}[design]
    other.close()
    browsers.submit(page, mouse=True)
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
    browsers.where(page)


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
    browsers.open_first(page, 'about:blank')
    browsers.open_first(page, server.url)
    if browsers.where(page) == 'Welcome back':
        page.click('text=Continue')
        page.wait_for_selector('h1:has-text("Welcome back")', state='detached')
    browsers.where(page)
