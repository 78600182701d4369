"""Screens in a real browser: pixels as they are, windows that are too small, words, mishaps."""

import contextlib
import io

import browsers
import numpy as np
import pytest
from PIL import Image

from iqa_jax.study import administration, schema

pytestmark = browsers.NEEDED


@pytest.mark.parametrize('ratio', [1, 1.25, 2])
def test_one_image_pixel_is_one_pixel_of_the_screen(serve, launch, ratio):
    server = serve(design='pair_choice')
    # The browser's own factor: the one that Playwright emulates scales after painting.
    browser = launch(f'--force-device-scale-factor={ratio}', '--window-size=1001,703')
    page = browser.new_page(no_viewport=True)
    browsers.open_first(page, server.url)
    browsers.consent(page)
    assert browsers.pass_screens(page) == 'trial'
    assert page.evaluate('window.devicePixelRatio') == ratio
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert('RGB'))
    for image in page.locator('.stage img').all():
        box = image.bounding_box()
        y, x = round(box['y'] * ratio), round(box['x'] * ratio)
        np.testing.assert_array_equal(shot[y : y + 60, x : x + 100], browsers.PIXELS)
        assert (shot[y - 4, x] == 0x6E).all()


def test_a_window_too_small_is_told_and_goes_no_further(serve, context):
    server = serve(design='pair_choice')
    page = context.new_page()
    page.set_viewport_size({'width': 230, 'height': 700})
    browsers.open_first(page, server.url)
    browsers.consent(page)
    page.wait_for_selector('h1:has-text("Your screen")')
    assert 'enlarge the window' in page.inner_text('#size')
    assert page.is_disabled('text=Continue')
    page.set_viewport_size({'width': 500, 'height': 700})
    assert browsers.pass_screens(page) == 'trial'
    page.keyboard.press('ArrowLeft')
    page.set_viewport_size({'width': 230, 'height': 700})
    page.wait_for_selector('.overlay >> text=do not fit')
    page.keyboard.press('Enter')
    page.wait_for_timeout(200)
    assert server.answers() == []
    page.set_viewport_size({'width': 500, 'height': 700})
    browsers.submit(page, mouse=False)
    assert server.answers() == [1]


def test_words_are_shown_as_they_are(serve, context, tmp_path):
    attack = '<img src=x onerror="document.title=1">'
    server = serve()
    page = context.new_page()
    browsers.open_first(page, server.url)

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
    browsers.consent(page)
    assert browsers.pass_screens(page) == 'trial'
    assert page.locator('.words').inner_text().count(attack) == 5
    assert page.title() == ' '.join([attack] * 5)


def begin(page, server) -> None:
    """From the first page to the first trial."""
    browsers.open_first(page, server.url)
    browsers.consent(page)
    assert browsers.pass_screens(page) == 'trial'


def opened(server):
    """The database of a server's study."""
    return contextlib.closing(schema.connect(server.folder / schema.DATABASE))


def test_a_double_click_takes_one_place(serve, context):
    server, page = serve(raters=3), context.new_page()
    browsers.open_first(page, server.url)
    browsers.fill(page)
    page.dblclick('form button')
    assert browsers.pass_screens(page) == 'trial'
    with opened(server) as db:
        assert administration.status(db)['joined'] == 1


def test_a_refusal_keeps_what_was_filled_in_and_who_was_there(serve, context):
    server, page = serve(raters=3), context.new_page()
    begin(page, server)
    page.goto('about:blank')
    page.goto(server.url)
    page.click('text=I am somebody else')
    with opened(server) as db, schema.transaction(db):
        administration.set_paused(db, True, 1.0)
    browsers.consent(page)
    page.wait_for_selector('#notice:has-text("paused")')
    assert page.input_value('[name=age]') == '41' and page.is_checked('#agree')
    page.reload()  # neither tried in vain nor forgot the first
    page.click('text=Continue')
    page.wait_for_selector('h1:has-text("The study is paused")')


def test_enter_takes_the_choice_that_has_the_focus(serve, context):
    server, page = serve(design='acr5'), context.new_page()
    begin(page, server)
    page.keyboard.press('4')
    page.keyboard.press('Shift+Tab')  # on Fair
    page.keyboard.press('Enter')
    assert page.get_attribute('[data-value="3"]', 'aria-pressed') == 'true'
    assert server.answers() == []
    browsers.submit(page, mouse=False)
    assert server.answers() == [3]


def test_an_enlarged_page_shows_no_image(serve, chromium):
    server = serve()
    context = chromium.new_context(viewport={'width': 820, 'height': 1180}, has_touch=True,
                                   is_mobile=True)  # fmt: skip
    page = context.new_page()
    begin(page, server)
    fingers = context.new_cdp_session(page)
    fingers.send('Emulation.setPageScaleFactor', {'pageScaleFactor': 1.5})
    page.wait_for_selector('.overlay >> text=two fingers')
    assert not page.is_visible('.stage img')
    fingers.send('Emulation.setPageScaleFactor', {'pageScaleFactor': 1})
    page.wait_for_selector('.stage img', state='visible')
    context.close()


def test_a_session_ends_in_time_and_goes_on_where_it_was(serve, context):
    server, page = serve(items=8, session_minutes=0.02), context.new_page()
    begin(page, server)
    page.wait_for_timeout(1300)
    page.keyboard.press('4')
    browsers.submit(page, mouse=False)
    assert page.inner_text('h1') == 'Session 2 of 2' and server.answers() == [70]
    page.reload()
    assert browsers.where(page) == 'Session 2 of 2'
    assert browsers.pass_screens(page) == 'trial'
    assert page.inner_text('header span') == '1 of 8'


def test_another_window_of_the_same_person_is_recorded(serve, context):
    server, page = serve(), context.new_page()
    begin(page, server)
    page.goto('about:blank')
    page.set_viewport_size({'width': 1111, 'height': 700})
    with page.expect_response('**/event'):
        page.goto(server.url)
        page.click('text=Continue')
    with opened(server) as db:
        kinds = [r['detail'] for r in db.execute("SELECT detail FROM events WHERE kind = 'screen'")]
    assert any('"window_width": 1111' in detail for detail in kinds)
