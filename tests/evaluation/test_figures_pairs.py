"""Figures of gMAD pairs, read back from their PNG bytes."""

import io
import itertools
import json
import math
import struct

import numpy as np
import pytest
from PIL import Image

from iqa_jax.evaluation import (
    figures_contact_sheet,
    figures_contests,
    figures_lettering,
    figures_pairs,
    figures_tiles,
)

PAPER = 255
SIDES = figures_tiles.SIDES
LONG = 'resnet18_hard_examples_of_round_3_' * 3


def noise(height, width, seed=0):
    # Never white, so that pixels and paper cannot be mistaken for each other.
    return np.random.default_rng(seed).integers(0, 250, (height, width, 3), np.uint8)


def decode(drawn):
    return np.asarray(Image.open(io.BytesIO(drawn['png'])).convert('RGB'))


def cut(page, box):
    left, top, right, bottom = box
    return page[top:bottom, left:right]


def dark(page):
    return (page < 128).any(-1).sum()


def chunks(png):
    names, at = [], 8
    while at < len(png):
        (length,) = struct.unpack('>I', png[at : at + 4])
        names.append(png[at + 4 : at + 8].decode())
        at += 12 + length
    return names


def row(defender='a', attacker='b', role='defender', level=0, rank=0, **changes):
    names = {'defender': defender, 'attacker': attacker, 'role': role}
    scores = {'defender_best': 50.2, 'defender_worst': 50.1}
    scores |= {'attacker_best': 0.9, 'attacker_worst': 0.2}
    ids = {
        'image_id_best': f'{defender}{level}{rank}+',
        'image_id_worst': f'{defender}{level}{rank}-',
    }
    return {**names, 'level': level, 'rank': rank, **ids, **scores} | changes


def table(rows):
    return {key: np.array([r[key] for r in rows], object) for key in rows[0]}


def figure(*rows, **changes):
    return {'models': ('a', 'b'), 'level': 0, 'number': 0, 'of': 1, 'columns': list(rows)} | changes


IMAGES = {'small': noise(30, 50, 1), 'wide': noise(40, 700, 2), 'dot': noise(1, 1, 3)}
IMAGES |= {'big': noise(600, 530, 4)}
LEFT = row(image_id_best='small', image_id_worst='wide')
RIGHT = row('b', 'a', 'attacker', image_id_best='dot', image_id_worst='big')


def test_pixels_of_both_roles_stand_unchanged_where_the_figure_says():
    drawn = figures_pairs.pair_figure(figure(LEFT, RIGHT), IMAGES.__getitem__, limit=512)
    page = decode(drawn)
    assert [name for name, _ in drawn['places']] == ['small', 'wide', 'dot', 'big']
    shown = [cut(page, box) for _, box in drawn['places']]
    assert np.array_equal(shown[0], IMAGES['small'])
    assert np.array_equal(shown[1], IMAGES['wide'][:, 94:606])  # centre crop, not resampled
    assert np.array_equal(shown[2], IMAGES['dot'])
    assert np.array_equal(shown[3], IMAGES['big'][44:556, 9:521])
    assert drawn['missing'] == []
    (best, worst, other, _) = (box for _, box in drawn['places'])
    assert best[0] == worst[0] < other[0] and best[3] < worst[1]
    whole = figures_pairs.pair_figure(figure(LEFT, RIGHT), IMAGES.__getitem__, limit=700)
    shown = cut(decode(whole), whole['places'][1][1])
    assert np.array_equal(shown, IMAGES['wide'])


def test_every_image_has_its_scores_below_and_the_verdict_above_it():
    drawn = figures_pairs.pair_figure(figure(LEFT, RIGHT), IMAGES.__getitem__)
    page = decode(drawn)
    for role in ('defender', 'attacker'):
        colour = (page == figures_tiles.ROLES[role]).all(-1)
        for _, (left, top, _, bottom) in drawn['places']:
            right = left + figures_pairs.MIN_COLUMN
            lines = slice(bottom + 1, bottom + 80)
            assert colour[lines, left:right].sum() > 30
            assert dark(page[lines, left:right]) > 300
            above = colour[top - 25 : top - 2, left:right].sum()
            assert (above > 30) if role == 'attacker' else (above == 0)
    assert (page[:20] == PAPER).all() and (page[:, :20] == PAPER).all()
    assert (page[-20:] == PAPER).all() and (page[:, -20:] == PAPER).all()


def test_scores_of_the_pair_are_what_the_figure_shows():
    plain = figures_pairs.pair_figure(figure(LEFT, RIGHT), IMAGES.__getitem__)
    other = figure(LEFT, RIGHT | {'attacker_worst': 0.3})
    moved = figures_pairs.pair_figure(other, IMAGES.__getitem__)
    changed = (decode(plain) != decode(moved)).any(-1)
    left, _, _, bottom = plain['places'][3][1]
    # The score below the worst image and the difference above the column, nothing else.
    assert changed[bottom:, left:].any() and changed[: plain['places'][2][1][1], left:].any()
    assert not changed[:, : left - 1].any()
    _, top, _, lowest = plain['places'][2][1]
    assert not changed[top : plain['places'][3][1][1]].any() and lowest < bottom


def test_one_role_is_one_column():
    drawn = figures_pairs.pair_figure(figure(RIGHT), IMAGES.__getitem__)
    assert [name for name, _ in drawn['places']] == ['dot', 'big']
    assert decode(drawn).shape[1] == figures_pairs.MIN_FIGURE + 2 * figures_pairs.MARGIN


def test_the_same_input_gives_the_same_bytes_without_metadata():
    pairs = table([LEFT, RIGHT])
    for draw in (
        lambda: figures_pairs.pair_figure(figure(LEFT, RIGHT), IMAGES.__getitem__),
        lambda: next(figures_contact_sheet.contact_sheet(pairs, IMAGES.__getitem__)),
    ):
        first = draw()['png']
        assert first == draw()['png']
        assert set(chunks(first)) == {'IHDR', 'IDAT', 'IEND'}


def test_missing_images_are_grey_tiles_and_counted():
    def load(image_id):
        if image_id == 'wide':
            raise ValueError(f'{image_id}: not a picture,\nonly {"words " * 400}')
        if image_id == 'big':
            raise OSError
        return IMAGES[image_id]

    rows = [LEFT, RIGHT | {'image_id_best': 'gone'}]
    drawn = figures_pairs.pair_figure(figure(*rows), load)
    (sheet,) = figures_contact_sheet.contact_sheet(table(rows), load)
    for found in (drawn, sheet):
        reasons = {entry['file']: entry['reason'] for entry in found['missing']}
        assert reasons.keys() == {'wide', 'gone', 'big'}
        assert reasons['wide'].startswith('wide: not a picture, only words')
        assert reasons['gone'] == 'unknown image id' and reasons['big'] == 'OSError'
        page, places = decode(found), dict(found['places'])
        assert np.array_equal(cut(page, places['small']), IMAGES['small'])
        for name in reasons:
            tile = cut(page, places[name])
            assert tile.shape[0] > 100 and (tile == figures_tiles.GREY).all(-1).mean() > 0.3
            assert dark(tile) > 50  # the reason is written on it


@pytest.mark.parametrize('bad', [np.zeros((4, 4, 3)), noise(4, 4)[..., 0], noise(4, 0)])
def test_an_image_of_another_kind_is_refused(bad):
    with pytest.raises(ValueError, match=r"load\('small'\) must return uint8 \[H, W, 3\]"):
        figures_pairs.pair_figure(figure(LEFT), lambda _: bad)


def test_text_of_any_length_and_script_leaves_the_layout_alone():
    names = {
        'defender': LONG,
        'attacker': 'модель ' + 'e\u0301' * 50,
        'image_id_best': '水の中の写真/' * 12 + '.png',
        'image_id_worst': 'صورة/\u202e\n\x00' + 'x' * 100_000,
    }
    images = {names[f'image_id_{side}']: noise(20, 30, i) for i, side in enumerate(SIDES)}
    plain = row(image_id_best=1, image_id_worst=2)
    short = figures_pairs.pair_figure(figure(plain), lambda i: noise(20, 30, i - 1))
    odd = figure(plain | names, models=(names['defender'], names['attacker']))
    drawn = figures_pairs.pair_figure(odd, images.__getitem__)
    assert [box for _, box in drawn['places']] == [box for _, box in short['places']]
    pages = [decode(d) for d in (drawn, short)]
    assert pages[0].shape == pages[1].shape
    for (_, box), image in zip(drawn['places'], images.values(), strict=True):
        assert np.array_equal(cut(pages[0], box), image)
    for page in pages:
        assert (page[:, -figures_pairs.MARGIN :] == PAPER).all()
    (sheet,) = figures_contact_sheet.contact_sheet(table([plain | names]), images.__getitem__)
    for (_, box), image in zip(sheet['places'], images.values(), strict=True):
        assert np.array_equal(cut(decode(sheet), box), image)


def test_a_name_written_from_right_to_left_keeps_its_side_of_the_size():
    name = 'صورة_صغيرة_في_الحديقة'
    plain = row(image_id_best=name, image_id_worst=name)
    drawn = figures_pairs.pair_figure(figure(plain), lambda _: noise(20, 30))
    left, _, _, bottom = drawn['places'][0][1]
    face = figures_pairs.SMALL
    length, width = math.ceil(face.getlength(name)), math.ceil(face.getlength('30×20'))
    note = Image.new('RGB', (width, figures_lettering.line_height(face)))
    figures_lettering.write(note, (0, 0), width, '30×20', face, figures_tiles.SOFT)
    at = left + length + 14, bottom + 4
    shown = cut(decode(drawn), (*at, at[0] + note.width, at[1] + note.height))
    assert np.array_equal(shown, np.asarray(note)) and dark(shown) > 20


def test_lines_stay_inside_their_boxes():
    face = figures_lettering.font(16)
    page = Image.new('RGB', (300, 60), (90, 90, 90))
    figures_lettering.write(page, (50, 20), 120, 'ÀÇjg|' * 30, face, (0, 0, 0))
    pixels = np.asarray(page).copy()
    box = pixels[20 : 20 + figures_lettering.line_height(face), 50:170]
    assert dark(box) > 300 and (box[:, :2] == PAPER).any()
    box[:] = 90
    assert (pixels == 90).all()
    for text in ('short', LONG, 'W' * 5000):
        kept = figures_lettering.elide(text, 120, face)
        assert face.getlength(kept) <= 120
        head, _, tail = kept.partition('…')
        assert text.startswith(head) and text.endswith(tail)
        assert (kept == text) == (text == 'short')


def test_what_the_font_cannot_show_is_written_as_its_code_point():
    assert figures_lettering.readable('Größe_мост_صورة') == 'Größe_мост_صورة'
    assert figures_lettering.readable('水\n\u202e') == r'\u6c34\n\u202e'
    assert figures_lettering.readable('caf\udce9') == r'caf\udce9'  # a file name that is no text
    assert figures_lettering.readable(17) == '17'


@pytest.mark.parametrize(
    ('best', 'worst', 'texts'),
    [
        (62.31, 17.2, ('62.3', '17.2', '+45.1')),
        (0.91234, 0.91229, ('0.912340', '0.912290', '+0.000050')),
        (38.1, 38.1, ('38.1', '38.1', '0.0')),
        (100.0, 79.0, ('100.0', '79.0', '+21.0')),
        (-0.4, 0.2, ('−0.400', '0.200', '−0.600')),
        (1234.5, 1230.0, ('1,234.5', '1,230.0', '+4.5')),
        (1.234e-7, 1.233e-7, ('1.2340e−7', '1.2330e−7', '+1.0e−10')),
        (2.5e8, 1e8, ('2.50e8', '1.00e8', '+1.5e8')),
        (50.0 + 1e-9, 50.0, ('50.00000', '50.00000', '0.00000')),  # below what float32 holds
        (math.inf, 3.0, ('n/a', '3.00', 'n/a')),
        (math.nan, math.nan, ('n/a', 'n/a', 'n/a')),
    ],
)  # fmt: skip
def test_digits_show_what_two_scores_differ_by(best, worst, texts):
    assert figures_lettering.score_texts(best, worst) == texts


def competition():
    """Pairs of four contests, levels 0..3, ranks 0 and 1, drawn from twelve: many are merged."""
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=24) for name in ('net', 'ssim', 'psnr')}
    found = {}
    for defender, attacker in (('net', 'ssim'), ('net', 'psnr'), ('ssim', 'net'), ('psnr', 'net')):
        chosen = rng.permutation(12)[:8]
        for place, pair in enumerate(chosen.tolist()):
            images = (2 * pair, 2 * pair + 1)
            best, worst = sorted(images, key=lambda i: -scores[attacker][i])
            # A merged pair keeps the direction of its first reason.
            reasons = found.setdefault(pair, {'ids': (best, worst), 'reasons': []})
            best, worst = reasons['ids']
            given = {
                'defender_best': scores[defender][best],
                'defender_worst': scores[defender][worst],
            }
            given |= {
                'attacker_best': scores[attacker][best],
                'attacker_worst': scores[attacker][worst],
            }
            role = 'defender' if defender == 'net' else 'attacker'
            reason = row(defender, attacker, role, place // 2, place % 2, **given)
            reasons['reasons'].append({k: v for k, v in reason.items() if 'image' not in k})
    rows = [
        pair['reasons'][0]
        | {f'image_id_{side}': f'image_{i:02d}' for side, i in zip(SIDES, pair['ids'], strict=True)}
        | {'reasons': json.dumps(pair['reasons'])}
        for pair in found.values()
    ]
    return table(rows), scores


def test_figures_show_every_reason_of_every_pair_once():
    pairs, scores = competition()
    assert len(pairs['level']) < 32  # some pairs are merged, or this tests less
    rows = figures_contests.contest_rows(pairs, 4)
    figures, left_out = figures_contests.figures_to_draw(pairs, levels=4)
    columns = [column for f in figures for column in f['columns']]
    assert left_out == 0 and len(columns) == len(rows) == 32

    def key(r):
        return r['defender'], r['attacker'], r['level'], r['rank']

    assert sorted(map(key, columns)) == sorted(map(key, rows))
    assert len(set(map(key, rows))) == 32
    # Best minus worst is what this attacker sees, in whatever direction the pair was merged.
    for r in rows:
        assert r['attacker_best'] > r['attacker_worst']
        for role, side in itertools.product(('defender', 'attacker'), SIDES):
            image = int(r[f'image_id_{side}'][-2:])
            assert r[f'{role}_{side}'] == scores[r[role]][image]
    assert {f['models'] for f in figures} == {('net', 'ssim'), ('net', 'psnr')}
    for f in figures:
        names = [column['defender'] for column in f['columns']]
        assert names in (list(f['models']), [f['models'][0]], [f['models'][1]])
        assert all(column['level'] == f['level'] for column in f['columns'])
        assert 0 <= f['number'] < f['of'] == 2
    order = [(f['models'][1] == 'psnr', f['level'], f['number']) for f in figures]
    assert order == sorted(order)


def test_a_merged_pair_is_turned_round_for_the_attacker_that_prefers_the_other_image():
    first = row(image_id_best='x', image_id_worst='y')
    other = row('a', 'c', attacker_best=0.1, attacker_worst=0.8, defender_best=1.0, rank=1)
    reasons = json.dumps([first, {k: v for k, v in other.items() if 'image' not in k}])
    rows = figures_contests.contest_rows(table([first | {'reasons': reasons}]))
    assert [(r['image_id_best'], r['image_id_worst']) for r in rows] == [('x', 'y'), ('y', 'x')]
    assert [rows[1][k] for k in ('attacker_best', 'attacker_worst', 'defender_worst')] == [
        0.8,
        0.1,
        1.0,
    ]


def test_a_table_without_reasons_or_roles_is_enough():
    plain = [{k: v for k, v in r.items() if k != 'role'} for r in (row(), row('b', 'a', level=2))]
    figures, left_out = figures_contests.figures_to_draw(table(plain))
    assert [(f['models'], f['level'], len(f['columns'])) for f in figures] == [
        (('a', 'b'), 0, 1),
        (('a', 'b'), 2, 1),
    ]
    assert left_out == 0


def test_a_limit_keeps_the_best_pairs_at_both_ends_and_counts_the_rest():
    rows = [
        row(defender, attacker, role, level, rank)
        for defender, attacker, role in (('a', 'b', 'defender'), ('b', 'a', 'attacker'))
        for level in range(5)
        for rank in range(2)
    ]
    kept, left_out = figures_contests.figures_to_draw(table(rows), levels=5, limit=3)
    assert [(f['level'], f['number']) for f in kept] == [(0, 0), (1, 0), (4, 0)] and left_out == 7
    kept, left_out = figures_contests.figures_to_draw(table(rows), levels=5, limit=6)
    assert [(f['level'], f['number']) for f in kept] == [
        (0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0)
    ]  # fmt: skip
    assert left_out == 4
    assert figures_contests.figures_to_draw(table(rows), limit=0) == ([], 10)


@pytest.mark.parametrize(
    ('change', 'options', 'sentence'),
    [
        ({'attacker_best': None}, {}, "no column 'attacker_best'; give the pairs.parquet of gmad"),
        ({'reasons': 'nothing'}, {}, r"reasons of the pair 'a00\+', 'a00-' must be a JSON list"),
        ({'reasons': '[{"level": 1}]'}, {}, 'must be a JSON list of {defender, attacker, level'),
        ({'reasons': '7'}, {}, 'must be a JSON list'),
        ({'level': 6}, {'levels': 6}, "'b' attacks 'a' at level 6, but levels are numbered 0..5"),
        ({'level': -1}, {}, 'at level -1, but levels are numbered 0..;'),
        ({}, {'limit': -1}, 'limit must be 0 or more figures, not -1'),
    ],
)
def test_tables_that_are_no_pairs_are_refused(change, options, sentence):
    columns = {k: v for k, v in (row() | change).items() if v is not None}
    with pytest.raises(ValueError, match=sentence):
        figures_contests.figures_to_draw(table([columns]), **options)


def test_a_sheet_has_every_pair_once_per_contest_and_loads_one_pair_at_a_time():
    pairs, _ = competition()
    loaded = []

    def load(image_id):
        loaded.append(image_id)
        return noise(20, 30, int(image_id[-2:]))

    pages = figures_contact_sheet.contact_sheet(pairs, load, levels=4, per_page=5)
    first = next(pages)
    assert len(loaded) == 10  # nothing is loaded before its page is asked for
    pages = [first, *pages]
    assert len(pages) == 7
    rows = figures_contests.contest_rows(pairs, 4)
    expected = [row[f'image_id_{side}'] for row in rows for side in SIDES]
    assert loaded == expected
    assert [name for page in pages for name, _ in page['places']] == expected
    for page in pages:
        pixels = decode(page)
        for name, box in page['places']:
            assert np.array_equal(cut(pixels, box), noise(20, 30, int(name[-2:])))
            left, _, _, bottom = box
            assert dark(pixels[bottom + 2 : bottom + 80, left : left + 192]) > 100
        assert (pixels[:, -figures_contact_sheet.MARGIN :] == PAPER).all()
    assert dark(decode(pages[0])[20:50]) > 500  # title with the page number


def test_thumbnails_are_reduced_with_a_filter_and_never_enlarged():
    fine = np.tile(np.array([0, 200], np.uint8).reshape(1, 2, 1), (400, 400, 3))
    images = {'a00+': fine, 'a00-': noise(9, 2000)}
    (page,) = figures_contact_sheet.contact_sheet(table([row()]), images.__getitem__)
    shown = [cut(decode(page), box) for _, box in page['places']]
    assert shown[0].shape == (96, 192, 3) and shown[1].shape == (1, 192, 3)
    # Columns 0, 200, 0, ... average out; without a filter they would alias.
    assert np.abs(shown[0][:, 4:-4].astype(int) - 100).max() <= 10


def test_pages_of_one_contest_say_that_it_goes_on():
    rows = [row(level=level) for level in range(4)]
    load = {r[f'image_id_{s}']: noise(8, 8) for r in rows for s in SIDES}.__getitem__
    first, second = figures_contact_sheet.contact_sheet(table(rows), load, per_page=2, columns=2)
    soft = []
    for page in (first, second):
        top = page['places'][0][1][1]
        soft.append((decode(page)[top - 30 : top - 4] == figures_tiles.SOFT).all(-1).sum())
    assert soft[0] == 0 and soft[1] > 10
    assert decode(first).shape == decode(second).shape


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'per_page': 0}, 'per_page must be at least 1, not 0'),
        ({'columns': 0}, 'columns must be at least 1, not 0'),
        ({'side': 20}, 'side must be at least 192, not 20'),
        ({'levels': 0}, 'at level 0'),
    ],
)
def test_a_sheet_refuses_at_once(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        figures_contact_sheet.contact_sheet(table([row()]), IMAGES.__getitem__, **options)


def test_no_limit_below_a_pixel_and_no_pages_without_pairs():
    with pytest.raises(ValueError, match='limit must be at least 1 pixel, not 0'):
        figures_pairs.pair_figure(figure(LEFT), IMAGES.__getitem__, limit=0)
    empty = {key: np.array([], object) for key in row()}
    assert list(figures_contact_sheet.contact_sheet(empty, IMAGES.__getitem__)) == []
    assert figures_contests.figures_to_draw(empty) == ([], 0)
