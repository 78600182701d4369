import base64
import csv
import html.parser
import io
import re

import numpy as np
import pytest

from iqa_jax.evaluation import page, page_pictures

NAN = float('nan')
UNKNOWN = (NAN, NAN, NAN)
VOID = {'meta', 'img', 'link', 'br', 'hr', 'input', 'source', 'base'}


class Page(html.parser.HTMLParser):
    """Collects elements, text and ids; asserts that every element is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.stack, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if 'style' not in self.stack:
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def photo(seed=0, height=60, width=90):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def result(model, srcc=(0.8, 0.7, 0.9), kind='blind model'):
    measures = dict.fromkeys(('krcc', 'plcc', 'plcc_mapped', 'rmse'), srcc)
    return {'model': model, 'kind': kind, 'srcc': srcc, **measures, 'n': 120, 'refs': 8}


def pair(name='full', rival='ssim', level=1):
    side = {
        'image': photo(level),
        'image_id': 'x1',
        'defender_score': 50.0,
        'attacker_score': 80.0,
        'mos': 61.25,
        'mos_std': 9.0,
        'type': name,
        'severity': 2,
    }
    worst = side | {'attacker_score': 20.0, 'mos': NAN}
    return {'defender': name, 'attacker': rival, 'level': level, 'best': side, 'worst': worst}


def full_context(name='full', simulated=True):
    """Returns a context with every section filled; `name` is put wherever a label may stand."""
    rng = np.random.default_rng(3)
    return {
        'title': name,
        'subtitle': name,
        'simulated': simulated,
        'facts': {name: name},
        'tiles': [
            {'label': name, 'value': (0.871, 0.85, 0.89), 'kind': 'score', 'note': name},
            {'label': 'accuracy', 'value': 0.714, 'before': 0.5, 'kind': 'percent'},
            {'label': 'images', 'value': 26250, 'kind': 'count', 'simulated': False},
            {'label': 'time', 'value': 185.0, 'kind': 'seconds', 'simulated': False},
        ],
        'stages': [
            {'name': name, 'does': name, 'seconds': 12.0, 'counts': {name: 3}},
            {'name': 'score', 'seconds': 2.0, 'counts': {}, 'repeats': True},
            {'name': 'gmad', 'seconds': None, 'counts': {}, 'repeats': True},
        ],
        'gallery': {
            'reference': photo(1),
            'rows': [{'number': 10, 'name': name, 'note': name, 'images': [photo(1)] * 5}],
        },
        'proxies': {
            name: {'raw': rng.random(9), 'equalised': rng.random(9), 'higher_is_better': True}
        },
        'training': [
            {'name': name, 'curves': {'loss': ([1, 2], [3.0, 2.0]), 'val_srcc': ([2], [0.5])}},
            {'name': 'silent', 'curves': {}},
        ],
        'results': [
            {'name': name, 'rows': [result(name), result('b', UNKNOWN)]},
            {'name': 'people', 'simulated': False, 'rows': [result('a')]},
            {'name': 'nobody', 'rows': []},
        ],
        'families': {name: name},
        'scatters': [
            {
                'model': name,
                'set': name,
                'prediction': np.array([0.1, 0.9, NAN]),
                'mos': np.array([10.0, 90.0, 50.0]),
                'type': np.array([name, 'jpeg', name], object),
                'curve': (np.array([0.0, 1.0]), np.array([0.0, 100.0])),
            }
        ],
        'per_distortion': {
            'types': [name, 'jpeg'],
            'models': [name, 'ssim'],
            'srcc': np.array([[0.9, NAN], [-0.25, 0.5]]),
            'n': [12, 3],
            'set': name,
        },
        'gmad': [pair(name, 'ssim', 1), pair('ssim', name, 2)],
        'hard_examples': [
            {'image': photo(i), 'image_id': name, 'disagreement': v, 'type': name, 'severity': 1}
            for i, v in enumerate((0.125, 0.5))
        ],
        'active': [
            {
                'label': name,
                'set': name,
                'measure': name,
                'before': (0.8, 0.7, 0.9),
                'after': UNKNOWN,
                'n': 5,
            }
        ],
        'active_history': [
            {'label': name, 'measure': name, 'model': name, 'round': k, 'value': (v, 0.1, NAN)}
            | {'n': 5}
            for k, v in enumerate((0.5, 0.7))
        ],
        'active_rounds': [
            dict.fromkeys(('pairs', 'images', 'ratings', 'raters', 'excluded'), 3)
            | {
                'round': name,
                'agreement': NAN,
                'minutes': 12.5,
                'pairs_right': UNKNOWN,
                'trained': True,
            }
            | {'kept': False, 'guard': {name: {'before': 0.75, 'after': NAN}}}
        ],
        'active_stopped': name,
        'observers': [
            {
                'name': name,
                'summary': {name: name, 'agreement': 0.75},
                'raters': [
                    {
                        'rater': name,
                        'votes': 20,
                        'excluded': True,
                        'reason': name,
                        'srcc': 0.5,
                        'bias': -1.5,
                        'spread': NAN,
                    }
                ],
            },
            {'name': 'of pairs', 'raters': [{'rater': 'b', 'votes': 3, 'excluded': False}]},
        ],
        'quarantine': [{'stage': name, 'file': name, 'reason': name}],
        'provenance': {
            'command': name,
            'config': {'key': name},
            'versions': {name: name},
            'digests': {name: name},
        },
    }


@pytest.fixture(scope='module')
def full() -> str:
    return page.render(full_context())


@pytest.fixture(scope='module')
def empty() -> str:
    return page.render({'title': 'nothing', 'simulated': False})


@pytest.mark.parametrize('which', ['full', 'empty'])
def test_every_section_stands_in_order(which, request):
    parsed = Page(request.getfixturevalue(which))
    assert [attrs['id'] for attrs in parsed.all('section')] == list(page.SECTIONS)
    ids = [attrs['id'] for _, attrs in parsed.elements if 'id' in attrs]
    assert len(ids) == len(set(ids))
    named = [attrs['aria-labelledby'] for attrs in parsed.all('section')]
    targets = [attrs['href'][1:] for attrs in parsed.all('a') if attrs['href'].startswith('#')]
    assert set(named) | set(targets) <= set(ids)


def test_nothing_is_fetched_and_nothing_runs(full):
    parsed = Page(full)
    assert not parsed.all('script') and not parsed.all('link')
    for _, attrs in parsed.elements:
        assert not [key for key in attrs if key.startswith('on')]
        for key in ('src', 'href', 'xlink:href'):
            assert key not in attrs or attrs[key].startswith(('data:', '#'))
    assert not re.search(r'https?:|@import|url\((?!#)', full)


def test_pictures_figures_and_tables_are_described(full):
    parsed = Page(full)
    assert all(attrs.get('alt') for attrs in parsed.all('img'))
    assert all('scope' in attrs for attrs in parsed.all('th'))
    figures = [attrs for attrs in parsed.all('div') if attrs.get('role') == 'img']
    assert len(figures) == len(parsed.all('svg')) >= 7
    assert all(attrs['aria-label'] for attrs in figures)


def test_hostile_labels_are_escaped():
    label = '<script>alert(1)</script>"\' onload=x {{ 7*7 }}'
    text = page.render(full_context(label))
    parsed = Page(text)
    assert not parsed.all('script')
    assert not [1 for _, attrs in parsed.elements if 'onload' in attrs]
    assert '<script' not in text and '{{ 7*7 }}' in ''.join(parsed.text)


def test_the_same_context_gives_the_same_bytes(full):
    assert page.render(full_context()) == full


def test_unknown_values_read_n_a(full):
    visible = ' '.join(Page(full).text)
    assert 'n/a' in visible
    assert not re.search(r'\b(nan|none)\b', visible, re.IGNORECASE)


def test_headline_tiles(full):
    visible = ' '.join(' '.join(Page(full).text).split())
    assert '0.871 95 % interval 0.850 to 0.890' in visible
    for shown in ('50.0 % → 71.4 %', '26,250', '3 min 05 s'):
        assert shown in visible


def test_simulated_numbers_wear_a_badge(full):
    measured = page.render(full_context(simulated=False))
    assert 'class="banner"' in full and 'class="banner"' not in measured
    assert 'class="sim"' not in measured
    header = full[: full.index('<nav')]
    # The banner's own example and the two tiles that do not say otherwise.
    assert header.count('class="sim"') == 3
    tables = re.findall(r'<caption>.*?</caption>', full, re.DOTALL)
    badges = {name: 'class="sim"' in t for t in tables for name in ('full', 'people') if name in t}
    assert badges == {'full': True, 'people': False}


def test_csv_downloads_hold_the_data(full):
    files = {}
    for attrs in Page(full).all('a'):
        if 'download' in attrs:
            code = attrs['href'].split(',', 1)[1]
            text = base64.b64decode(code).decode()
            files[attrs['download']] = list(csv.DictReader(io.StringIO(text)))
    assert [row['disagreement'] for row in files['hard_examples.csv']] == ['0.5', '0.125']
    assert files['results-1.csv'][0]['srcc_low'] == '0.7'
    assert list(files['per_distortion.csv'][1].values()) == ['jpeg', '3', '-0.25', '0.5']
    assert sum(int(row['equalised_n']) for row in files['proxy-1.csv']) == 9
    assert [row['best_mos'] for row in files['gmad_pairs.csv']] == ['61.25', '61.25']
    assert [row['mos'] for row in files['scatter-1.csv']] == ['10.0', '90.0', '50.0']


def test_both_scores_stand_under_every_image_of_a_pair(full):
    visible = ' '.join(' '.join(Page(full).text).split())
    assert "attacker's best full (defender) 50.0 ssim (attacker) 80.0" in visible
    assert "attacker's worst full (defender) 50.0 ssim (attacker) 20.0" in visible
    assert 'attacker Δ +60.0' in visible


def test_pictures_are_bounded_but_the_csv_is_not():
    many = [pair(level=i) for i in range(page_pictures.MAX_PAIRS + 2)]
    view = page_pictures.gmad(many, True)
    assert sum(len(group['pairs']) for group in view['groups']) == page_pictures.MAX_PAIRS
    assert base64.b64decode(view['csv'].split(',')[1]).count(b'\n') == len(many) + 1
    text = page.render({'title': 't', 'simulated': True, 'gmad': many})
    assert f'Shown: {page_pictures.MAX_PAIRS} of {len(many)} pairs' in text


def test_bounded_pairs_take_turns_between_the_competitions():
    many = [pair('a', 'b', i) for i in range(40)] + [pair('b', 'a', i) for i in range(3)]
    view = page_pictures.gmad(many, True)
    assert [len(group['pairs']) for group in view['groups']] == [page_pictures.MAX_PAIRS - 3, 3]
    assert [p['level'] for p in view['groups'][0]['pairs']] == list(range(27))


def test_best_is_bold_within_its_kind_only():
    rows = [result('a', (0.7, 0.6, 0.8)), result('b', (0.8, 0.7, 0.9)), result('nan', UNKNOWN)]
    rows.append(result('ssim', (0.95, 0.9, 1.0), 'full-reference metric'))
    text = page.render({'title': 't', 'simulated': False, 'results': [{'name': 's', 'rows': rows}]})
    # SRCC, KRCC and both PLCC of 'b', RMSE of 'a'; the only metric has nobody to beat.
    best = re.findall(r'class="best">([\d.]+)', text)
    assert best == ['0.70', '0.800', '0.800', '0.800', '0.800']


def test_results_say_what_their_models_were_trained_on():
    known = {'trained_images': 3, 'trained_references': 0}
    rows = [
        result('a') | known,
        result('b') | dict.fromkeys(known),
        result('c') | dict.fromkeys(known, 0),
        result('ssim', kind='full-reference metric') | dict.fromkeys(known),
    ]
    text = page.render({'title': 't', 'simulated': False, 'results': [{'name': 's', 'rows': rows}]})
    said = 'a was trained on 3 of these images; what b was trained on is not known.'
    assert f'<p class="muted">Of s: {said}</p>' in text
    rows = [rows[2], rows[3]]
    text = page.render({'title': 't', 'simulated': False, 'results': [{'name': 's', 'rows': rows}]})
    assert 'trained on' not in text


def test_groups_of_distortion_types_have_a_table_of_their_own():
    groups = {'head': {'n': 640, 'srcc': (0.91, 0.8, 0.95)}, 'tail': {'n': 9, 'srcc': UNKNOWN}}
    rows = [result('a') | {'groups': groups}, result('b') | {'groups': {}}]
    text = page.render({'title': 't', 'simulated': True, 'results': [{'name': 's', 'rows': rows}]})
    table = re.search(r'SRCC on s within groups.*?</table>', text, re.DOTALL)[0]
    cells = re.findall(r'<th[^>]*>(.*?)</th>|<td>(.*?)</td>', table)
    assert [re.sub('<.*?>', ' ', a or b).split() for a, b in cells] == [
        ['model'], ['head,', '640', 'images'], ['tail,', '9', 'images'],
        ['a'], ['0.910', '[0.800,', '0.950]'], ['n/a'], ['b'], ['n/a'], ['n/a'],
    ]  # fmt: skip
    assert 'SIMULATED' in table.partition('</caption>')[0]
    uri = re.search(r'download="groups-1.csv" href="[^,]*,(.*?)"', table)[1]
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(uri).decode())))
    assert lines[0]['srcc_head_low'] == '0.8' and lines[1]['n_tail'] == '0'
    rows = [result('a')]
    text = page.render({'title': 't', 'simulated': True, 'results': [{'name': 's', 'rows': rows}]})
    assert 'within groups' not in text


def test_wrong_contexts_are_refused():
    with pytest.raises(ValueError, match="'titel'"):
        page.render({'title': 't', 'simulated': False, 'titel': 't'})
    with pytest.raises(ValueError, match="'simulated'"):
        page.render({'title': 't'})
