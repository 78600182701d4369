"""gMAD pairs as pictures: the field's figure of two models, and a contact sheet of all pairs.

Both are PNG, so that distortions survive, without dates or other metadata: the same input gives
the same bytes on one machine. Images come from `load`, which takes an image id and returns uint8
[H, W, 3]; where it raises ValueError (images.io.ImageError is one), OSError or LookupError, a grey
tile says why and the image is listed as missing.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from iqa_jax.evaluation import figures_lettering as lettering
from iqa_jax.evaluation import figures_tiles
from iqa_jax.evaluation.figures_contests import contest_rows
from iqa_jax.evaluation.figures_tiles import Load

INK, SOFT, RULE = (29, 33, 39), (84, 92, 102), (200, 205, 212)
ROLES = {'defender': (33, 92, 184), 'attacker': (168, 78, 14)}
VERDICTS = {'best': '▲ better, says the attacker', 'worst': '▼ worse, says the attacker'}
TITLE, STRONG, TEXT, SMALL = (
    lettering.font(*style) for style in ((20, True), (16, True), (16,), (13,))
)
LINE, SMALL_LINE = lettering.line_height(TEXT), lettering.line_height(SMALL)
MARGIN, GAP, CELL_GAP = 24, 32, 30
# What the lines of scores need, however small the images are.
MIN_COLUMN, MIN_FIGURE = 400, 640
ROLE_WIDTH, SCORE_WIDTH, CELL_SCORE_WIDTH = 86, 112, 78
MISSING_SIDE, MIN_THUMBNAIL = 256, 160


def pair_figure(
    figure: Mapping, load: Load, *, levels: int | None = None, limit: int = 512
) -> dict[str, object]:
    """Draws two models against each other at one level: a column per role, attacker's best on top.

    Pixels are never resampled, since that hides noise, blur and blocking: an image of more than
    `limit` pixels a side is shown by the central pixels of its own, and the figure says so.
    Under each image stand both models' scores, above each column their differences.

    Args:
      figure: one of `figures_contests.figures_to_draw`; where only one role has a pair, the figure
        has one column.
      load: see the module.
      levels: how many there are, for 'level k of n'.
      limit: largest side in pixels of what is shown of an image.

    Returns:
      'png': bytes; 'places': a list of (image id, (left, top, right, bottom)) where images stand,
      column by column; 'missing': a list of {'file' (the image id), 'reason'}.

    Raises:
      ValueError: limit below 1, or `load` returns something else than uint8 [H, W, 3].
    """
    _at_least_1(limit=limit)
    rows = figure['columns']
    tiles = [
        [
            figures_tiles.tile(
                load, row[f'image_id_{side}'], limit, reduce=False, grey=MISSING_SIDE
            )
            for side in VERDICTS
        ]
        for row in rows
    ]
    widths = [max(MIN_COLUMN, *(tile['image'].width for tile in column)) for column in tiles]
    widths[-1] += max(0, MIN_FIGURE - sum(widths) - GAP * (len(widths) - 1))
    inner = sum(widths) + GAP * (len(widths) - 1)
    caption = lettering.wrap(_caption(tiles, limit), inner, SMALL)
    header = MARGIN + lettering.line_height(TITLE) + LINE + 18
    top = header + 2 * LINE + 18
    # Both columns start their second image at one height; scores follow their own image.
    tallest = [max(column[i]['image'].height for column in tiles) for i in range(2)]
    text = 3 * LINE + SMALL_LINE + 8
    second = top + tallest[0] + text + 24
    bottom = second + tallest[1] + text + 18
    size = (inner + 2 * MARGIN, bottom + SMALL_LINE * len(caption) + MARGIN)
    page = Image.new('RGB', size, lettering.PAPER)
    _title(page, figure, levels, inner)
    places, x = [], MARGIN
    for row, column, width in zip(rows, tiles, widths, strict=True):
        texts = _texts(row)
        _two_lines(page, (x, header), width, row, [f'Δ {gap}' for *_, gap in texts.values()])
        y = header + 2 * LINE + 7
        ImageDraw.Draw(page).line((x, y, x + width - 1, y), RULE)
        for i, (side, tile) in enumerate(zip(VERDICTS, column, strict=True)):
            scores = [values[i] for values in texts.values()]
            box = _image(page, (x, (top, second)[i]), width, row, side, tile, scores)
            places.append((row[f'image_id_{side}'], box))
        x += width + GAP
    _lines(page, (MARGIN, bottom), inner, caption)
    return _drawn(page, places, itertools.chain(*tiles))


def contact_sheet(
    pairs: Mapping[str, Sequence],
    load: Load,
    *,
    levels: int | None = None,
    per_page: int = 18,
    columns: int = 3,
    side: int = 192,
) -> Iterator[dict[str, object]]:
    """Yields pages with every pair of every contest, by contest, level and rank, one at a time.

    Images larger than `side` are reduced to fit it, by Pillow's Lanczos filter, which antialiases;
    the sheet says so. One pair of images and one page are in memory at once. A pair that several
    contests chose stands under each of them. No pairs, no pages.

    Args:
      pairs: see `figures_contests.contest_rows`.
      load: see the module.
      levels: how many there are, for 'level k of n'.
      per_page: pairs on a page.
      columns: pairs in a row.
      side: in pixels, of the square that holds a thumbnail.

    Returns:
      An iterator over dicts as `pair_figure` returns them, a page each.

    Raises:
      ValueError: at once for what `contest_rows` refuses, per_page or columns below 1 and side
        below MIN_THUMBNAIL; later where `load` returns something else than an image.
    """
    _at_least_1(per_page=per_page, columns=columns)
    if side < MIN_THUMBNAIL:
        raise ValueError(f'side must be at least {MIN_THUMBNAIL} pixels, not {side}.')
    rows = contest_rows(pairs, levels)
    chunks = [rows[i : i + per_page] for i in range(0, len(rows), per_page)]
    distinct = len(np.asarray(pairs['level']))
    chosen = '' if len(rows) == distinct else f', chosen {len(rows):,} times'
    title = f'gMAD: {distinct:,} {"pair" if distinct == 1 else "pairs"}{chosen}'
    legend = (
        'In each pair the left image is better for the attacker, the right one worse. '
        'Δ: score of the left one minus that of the right one. '
        f'Images larger than {side} pixels a side are reduced to that by a Lanczos filter, which '
        'hides fine distortions: judge pairs by the images themselves.'
    )
    if len(rows) != distinct:
        legend += ' A pair that several contests chose stands under each of them.'

    def page(i: int, chunk: list[dict]) -> dict:
        before = None if i == 0 else _contest(chunks[i - 1][-1])
        heading = f'{title}; page {i + 1} of {len(chunks)}'
        return _sheet(chunk, load, heading, legend, before, levels, columns, side)

    return (page(i, chunk) for i, chunk in enumerate(chunks))


def _sheet(rows, load, heading, legend, before, levels, columns, side) -> dict[str, object]:
    """One page; `before` is the contest that the page before it ended with."""
    cell = 2 * side + 6
    cell_height = side + 4 * SMALL_LINE + 10
    inner = columns * cell + (columns - 1) * CELL_GAP
    legend = lettering.wrap(legend, inner, SMALL)
    y = MARGIN + lettering.line_height(TITLE) + SMALL_LINE * len(legend) + 16
    groups, cells = [], []
    for contest, members in itertools.groupby(rows, _contest):
        groups.append((contest, y))
        y += LINE + 14
        members = list(members)
        for i, row in enumerate(members):
            down, across = divmod(i, columns)
            cells.append((row, MARGIN + across * (cell + CELL_GAP), y + down * (cell_height + 16)))
        y += -(-len(members) // columns) * (cell_height + 16) + 8
    page = Image.new('RGB', (inner + 2 * MARGIN, y - 24 + MARGIN), lettering.PAPER)
    lettering.write(page, (MARGIN, MARGIN), inner, heading, TITLE, INK)
    _lines(page, (MARGIN, MARGIN + lettering.line_height(TITLE) + 4), inner, legend)
    for contest, y in groups:
        _heading(page, y, inner, contest, contest == before)
    places, tiles = [], []
    for row, x, y in cells:
        found, boxes = _cell(page, (x, y), row, load, levels, side)
        places += boxes
        tiles += [{'missing': tile['missing']} for tile in found]
    return _drawn(page, places, tiles)


def _cell(page, place, row, load, levels, side) -> tuple[list[dict], list[tuple]]:
    """Draws a pair with its scores; returns its tiles and where they stand."""
    x, y = place
    tiles, boxes = [], []
    for i, name in enumerate(VERDICTS):
        image_id, left = row[f'image_id_{name}'], x + i * (side + 6)
        tile = figures_tiles.tile(load, image_id, side, reduce=True, grey=side)
        width, height = tile['image'].size
        at = (left + (side - width) // 2, y + (side - height) // 2)
        boxes.append((image_id, figures_tiles.paste(page, tile['image'], at)))
        tiles.append(tile)
        text = lettering.readable(image_id)
        lettering.write(page, (left, y + side + 3), side, text, SMALL, SOFT)
    y += side + SMALL_LINE + 6
    name_width = 2 * side + 6 - 3 * CELL_SCORE_WIDTH
    lines = [(f'level {_level(row["level"], levels)}, rank {row["rank"] + 1}', SOFT,
              ('better', 'worse', 'Δ'))]  # fmt: skip
    lines += [
        (lettering.readable(row[role]), ROLES[role], texts) for role, texts in _texts(row).items()
    ]
    for i, (name, colour, texts) in enumerate(lines):
        top = y + i * SMALL_LINE
        lettering.write(page, (x, top), name_width, name, SMALL, colour)
        for k, text in enumerate(texts):
            at = (x + name_width + k * CELL_SCORE_WIDTH, top)
            ink = INK if i else SOFT
            lettering.write(page, at, CELL_SCORE_WIDTH, text, SMALL, ink, right=True)
    return tiles, boxes


def _image(page, place, width, row, side, tile, scores) -> tuple:
    """Draws an image between the attacker's verdict and both scores; returns where it stands."""
    x, y = place
    lettering.write(page, place, width, VERDICTS[side], TEXT, ROLES['attacker'])
    box = figures_tiles.paste(page, tile['image'], (x, y + LINE + 4))
    y = box[3] + 4
    shown = ''
    if tile['size'] is not None:
        shown = '{}×{}'.format(*tile['size'])
        if tile['size'] != tile['image'].size:
            shown = 'centre {}×{} of '.format(*tile['image'].size) + shown
    note = int(np.ceil(SMALL.getlength(shown)))
    name = lettering.readable(row[f'image_id_{side}'])
    lettering.write(page, (x, y), width - note - 12, name, SMALL, SOFT)
    lettering.write(page, (x + width - note, y), note, shown, SMALL, SOFT)
    _two_lines(page, (x, y + SMALL_LINE), width, row, scores)
    return box


def _two_lines(page, place, width, row, values) -> None:
    """Writes role, value and name of the defender, and below it those of the attacker."""
    x, y = place
    at = x + ROLE_WIDTH + SCORE_WIDTH + 14
    for i, (role, value) in enumerate(zip(ROLES, values, strict=True)):
        top, name = y + i * LINE, lettering.readable(row[role])
        lettering.write(page, (x, top), ROLE_WIDTH, role, TEXT, ROLES[role])
        lettering.write(page, (x + ROLE_WIDTH, top), SCORE_WIDTH, value, STRONG, INK, right=True)
        lettering.write(page, (at, top), x + width - at, name, TEXT, ROLES[role])


def _title(page, figure, levels, width) -> None:
    names = [lettering.readable(name) for name in figure['models']]
    fixed = TITLE.getlength('gMAD:  against ')
    lengths = sorted(TITLE.getlength(name) for name in names)
    # What a short name leaves is the other one's.
    room = max((width - fixed) / 2, width - fixed - lengths[0])
    first, second = (lettering.elide(name, room, TITLE) for name in names)
    line = f'gMAD: {first} against {second}'
    lettering.write(page, (MARGIN, MARGIN), width, line, TITLE, INK)
    level = f'Level {_level(figure["level"], levels)}'
    if levels is not None and levels > 1:
        ends = {0: ' (lowest quality)', levels - 1: ' (highest quality)'}
        level += ends.get(figure['level'], '')
    if figure['of'] > 1:
        level += f', pair {figure["number"] + 1} of {figure["of"]}'
    at = (MARGIN, MARGIN + lettering.line_height(TITLE))
    lettering.write(page, at, width, level, TEXT, SOFT)


def _caption(tiles: Sequence[Sequence[dict]], limit: int) -> str:
    flat = [tile for column in tiles for tile in column]
    cropped = sum(tile['size'] not in (None, tile['image'].size) for tile in flat)
    text = (
        'The defender holds both images of a column at this level; the attacker tells them apart. '
        'If people see a clear difference in quality, the defender has failed; if they see none, '
        'the attacker has. Δ: score of the upper image minus that of the lower one. '
        'Pixels are native, nothing is resampled'
    )
    if cropped:
        text += f'; of images larger than {limit} pixels a side the central pixels are shown'
    return text + '.'


def _heading(page, y, width, contest, continued) -> None:
    """Writes who defends against whom above the pairs of a contest."""
    ImageDraw.Draw(page).line((MARGIN, y, MARGIN + width - 1, y), RULE)
    x, room = MARGIN, (width - 300) // 2
    pieces = [
        ('defender', TEXT, 'defender'),
        (contest[0], STRONG, 'defender'),
        ('  attacker', TEXT, 'attacker'),
        (contest[1], STRONG, 'attacker'),
        ('  (continued)' if continued else '', TEXT, None),
    ]
    for text, face, role in pieces:
        text = lettering.elide(lettering.readable(text), room, face)
        length = int(np.ceil(face.getlength(text))) + 8
        lettering.write(page, (x, y + 4), length, text, face, ROLES.get(role, SOFT))
        x += length


def _contest(row: Mapping) -> tuple[str, str]:
    return row['defender'], row['attacker']


def _texts(row: Mapping) -> dict[str, tuple[str, str, str]]:
    """Of both roles: the score of the best and of the worst image, and their difference."""
    return {
        role: lettering.score_texts(row[f'{role}_best'], row[f'{role}_worst']) for role in ROLES
    }


def _level(level: int, levels: int | None) -> str:
    return f'{level + 1}' if levels is None else f'{level + 1} of {levels}'


def _lines(page, place, width, lines) -> None:
    for i, line in enumerate(lines):
        lettering.write(page, (place[0], place[1] + i * SMALL_LINE), width, line, SMALL, SOFT)


def _drawn(page, places, tiles) -> dict[str, object]:
    missing = [entry for tile in tiles for entry in tile['missing']]
    return {'png': figures_tiles.png(page), 'places': places, 'missing': missing}


def _at_least_1(**values: int) -> None:
    for key, value in values.items():
        if value < 1:
            raise ValueError(f'{key} must be at least 1, not {value}.')
