"""Parts of the report that say how sure, how simulated and how complete its figures are."""

import re

from iqa_jax.evaluation import page


def words(text):
    """The visible text of a page, tags and figures left out."""
    return ' '.join(re.sub(r'<style.*?</style>|<[^>]+>', ' ', text, flags=re.DOTALL).split())


def active_row(measure, **changes):
    row = {'label': 'fresh', 'set': 'fresh', 'measure': measure, 'n': 9}
    return row | {'before': (0.5, 0.4, 0.6), 'after': (0.625, 0.5, 0.7)} | changes


def test_change_of_srcc_has_its_interval_and_is_coloured_where_that_leaves_out_0():
    rows = [
        active_row('SRCC', difference=(0.125, 0.031, 0.214)),
        active_row('SRCC', difference=(0.125, -0.25, 0.5)),
        active_row('pairs right', ties=2, unrated=0, unscored=1),
    ]
    text = page.render({'title': 't', 'simulated': False, 'active': rows})
    assert text.count('<span class="up">+0.125</span>') == 1
    assert text.count('<span class="">+0.125</span>') == 2
    visible = words(text)
    assert '+0.125 [0.031, 0.214]' in visible and '+0.125 [\N{MINUS SIGN}0.250, 0.500]' in visible
    assert '9 + 2 ties, 1 unscored' in visible
    assert 'those of pair accuracy resample pairs' in visible


def test_a_training_on_simulated_opinions_says_so_at_its_heading():
    stages = [
        {'name': 'proxies', 'curves': {}, 'simulated': False},
        {'name': 'opinions', 'curves': {}, 'simulated': True},
    ]
    text = page.render({'title': 't', 'simulated': True, 'training': stages})
    assert '<h3>proxies</h3>' in text
    assert re.search('<h3>opinions <span class="sim">SIMULATED</span></h3>', text)


def test_quarantine_names_the_stage_of_every_file():
    rows = [{'stage': s, 'file': f, 'reason': 'cut'} for s, f in (('data', 'a'), ('gmad', 'b'))]
    text = page.render({'title': 't', 'simulated': False, 'quarantine': rows})
    visible = words(text)
    assert '2 set aside' in visible and 'a data cut b gmad cut' in visible
