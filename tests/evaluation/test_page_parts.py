"""Parts of the report that say how sure, how simulated and how complete its figures are."""

import re

from iqa_jax.evaluation import page

NAN = float('nan')


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


def search(**changes):
    row = {'round': 'round 1', 'pairs': 48, 'images': 90, 'ratings': 1350, 'raters': 24}
    row |= {'minutes': NAN}
    row |= {'excluded': 2, 'agreement': 0.83, 'pairs_right': (0.6, 0.5, 0.7), 'guard': {}}
    return row | {'trained': False, 'kept': False, 'simulated': False} | changes


def test_every_search_says_what_it_cost_and_what_became_of_it():
    guard = {'koniq': {'before': 0.75, 'after': 0.5}}
    rows = [
        search(trained=True, kept=True, simulated=True),
        search(round='round 2', ratings=150, trained=True, guard=guard),
        search(round='round 3'),
    ]
    context = {'title': 't', 'simulated': False, 'active': [active_row('SRCC')]}
    context |= {'active_rounds': rows, 'active_stopped': 'the purse is empty'}
    visible = words(page.render(context))
    assert 'round 1 SIMULATED 48 90 1,350 n/a 24 2 0.830 0.60 [0.50, 0.70] trained on' in visible
    assert 'rolled back koniq 0.750 to 0.500' in visible and 'not trained on' in visible
    assert 'all 144 270 2,850' in visible
    assert 'The loop ended because the purse is empty.' in visible


def test_the_history_has_a_figure_per_measure_and_none_of_a_single_model():
    def row(measure, number, value, label='fresh'):
        return {'measure': measure, 'round': number, 'value': (value, 0.4, 0.7), 'label': label} | {
            'model': f'm{number}', 'n': 9, 'simulated': False,
        }  # fmt: skip

    rows = [row('SRCC', k, v) for k, v in enumerate((0.5, 0.55))]
    rows += [row('pairs right', 0, 0.5), row('pairs right', 0, 0.6, 'old')]
    context = {'title': 't', 'simulated': False, 'active': [active_row('SRCC')]}
    text = page.render(context | {'active_history': rows})
    assert 'aria-label="SRCC by round: fresh 0.500, 0.550."' in text
    assert 'Pairs right by round' not in text
