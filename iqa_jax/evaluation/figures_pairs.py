"""The field's gMAD figure: two models at one level, each in both roles, with all their scores."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from iqa_jax.evaluation import figures_lettering as lettering
from iqa_jax.evaluation import figures_tiles
from iqa_jax.evaluation.figures_contests import level_text, texts_of
from iqa_jax.evaluation.figures_tiles import INK, ROLES, RULE, SIDES, SOFT, Load

VERDICTS = {'best': '▲ better, says the attacker', 'worst': '▼ worse, says the attacker'}
TITLE, STRONG, TEXT, SMALL = (
    lettering.font(*style) for style in ((20, True), (16, True), (16,), (13,))
)
LINE, SMALL_LINE = lettering.line_height(TEXT), lettering.line_height(SMALL)
MARGIN, GAP = 24, 32
# What the lines of scores need, however small the images are.
MIN_COLUMN, MIN_FIGURE = 400, 640
ROLE_WIDTH = 86
MISSING_SIDE = 256


def pair_figure(
    figure: Mapping, load: Load, *, levels: int | None = None, limit: int = 512
) -> dict[str, object]:
    """Draws two models against each other at one level: a column per role, attacker's best on top.

    Pixels are never resampled, since that hides noise, blur and blocking: of an image of more than
    `limit` pixels a side the central pixels are shown, and the figure says so. Under each image
    stand both models' scores, above each column their differences.

    Args:
      figure: one of `figures_contests.figures_to_draw`; where only one role has a pair, the figure
        has one column.
      load: takes an image id and returns uint8 [H, W, 3]; where it raises ValueError
        (images.io.ImageError is one), OSError or LookupError, a grey tile says why.
      levels: how many there are, for 'level k of n'.
      limit: largest side in pixels of what is shown of an image.

    Returns:
      'png': bytes without dates or other metadata, the same for the same input; 'places': a list
      of (image id, (left, top, right, bottom)) where images stand, column by column; 'missing': a
      list of {'file' (the image id), 'reason'}.

    Raises:
      ValueError: limit below 1, or `load` returns something else than uint8 [H, W, 3].
    """
    if limit < 1:
        raise ValueError(f'limit must be at least 1 pixel, not {limit}.')
    rows = figure['columns']
    tiles = [[_tile(load, row[f'image_id_{side}'], limit) for side in SIDES] for row in rows]
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
        _two_lines(page, (x, header), width, row, 2)
        y = header + 2 * LINE + 7
        ImageDraw.Draw(page).line((x, y, x + width - 1, y), RULE)
        for i, tile in enumerate(column):
            box = _image(page, (x, (top, second)[i]), width, row, i, tile)
            places.append((row[f'image_id_{SIDES[i]}'], box))
        x += width + GAP
    lettering.write_lines(page, (MARGIN, bottom), inner, caption, SMALL, SOFT)
    return figures_tiles.drawn(page, places, itertools.chain(*tiles))


def _tile(load: Load, image_id: object, limit: int) -> dict:
    return figures_tiles.tile(load, image_id, limit, reduce=False, grey=MISSING_SIDE)


def _title(page: Image.Image, figure: Mapping, levels: int | None, width: int) -> None:
    names = [lettering.readable(name) for name in figure['models']]
    free = width - TITLE.getlength('gMAD:  against ')
    # What a short name leaves is the other one's.
    room = max(free / 2, free - min(TITLE.getlength(name) for name in names))
    first, second = (lettering.elide(name, room, TITLE) for name in names)
    line = f'gMAD: {first} against {second}'
    lettering.write(page, (MARGIN, MARGIN), width, line, TITLE, INK)
    level = f'Level {level_text(figure["level"], levels)}'
    if levels is not None and levels > 1:
        ends = {0: ', the lowest quality', levels - 1: ', the highest quality'}
        level += ends.get(figure['level'], '')
    if figure['of'] > 1:
        level += f'; pair {figure["number"] + 1} of {figure["of"]}'
    at = (MARGIN, MARGIN + lettering.line_height(TITLE))
    lettering.write(page, at, width, level, TEXT, SOFT)


def _image(
    page: Image.Image, place: tuple[int, int], width: int, row: Mapping, i: int, tile: dict
) -> tuple[int, int, int, int]:
    """Draws an image between the attacker's verdict and both scores; returns where it stands."""
    x, y = place
    lettering.write(page, place, width, VERDICTS[SIDES[i]], TEXT, ROLES['attacker'])
    box = figures_tiles.paste(page, tile['image'], (x, y + LINE + 4))
    y = box[3] + 4
    shown = ''
    if tile['size'] is not None:
        shown = '{}×{}'.format(*tile['size'])
        if tile['size'] != tile['image'].size:
            shown = 'centre {}×{} of '.format(*tile['image'].size) + shown
    note = int(np.ceil(SMALL.getlength(shown)))
    name = lettering.readable(row[f'image_id_{SIDES[i]}'])
    name = lettering.elide(name, width - note - 16, SMALL)
    # Two texts: in one, a name written from right to left would change places with the numbers.
    lettering.write(page, (x, y), width, name, SMALL, SOFT)
    at = x + int(np.ceil(SMALL.getlength(name))) + 14
    lettering.write(page, (at, y), note, shown, SMALL, SOFT)
    _two_lines(page, (x, y + SMALL_LINE), width, row, i)
    return box


def _two_lines(
    page: Image.Image, place: tuple[int, int], width: int, row: Mapping, which: int
) -> None:
    """Writes a line for each role: its score of the best (0) or worst (1) image or Δ (2), name."""
    texts = texts_of(row)
    columns = [(best, worst, f'Δ {gap}') for best, worst, gap in texts.values()]
    # One width for a column of the figure, so that its numbers stand below each other.
    room = max(int(np.ceil(STRONG.getlength(text))) for values in columns for text in values)
    x, y = place
    at = x + ROLE_WIDTH + room + 14
    for i, (role, values) in enumerate(zip(ROLES, columns, strict=True)):
        top, name = y + i * LINE, lettering.readable(row[role])
        lettering.write(page, (x, top), ROLE_WIDTH, role, TEXT, ROLES[role])
        lettering.write(page, (x + ROLE_WIDTH, top), room, values[which], STRONG, INK, right=True)
        lettering.write(page, (at, top), x + width - at, name, TEXT, ROLES[role])


def _caption(tiles: Sequence[Sequence[dict]], limit: int) -> str:
    flat = [tile for column in tiles for tile in column]
    cropped = any(tile['size'] not in (None, tile['image'].size) for tile in flat)
    text = (
        'The defender, whose score is held fixed, rates both images of a column at this level; the '
        'attacker tells them apart. If people find the upper image clearly better, the defender '
        'has failed; if they see no difference, the attacker has. Δ: score of the upper image '
        'minus that of the lower one. Pixels are native, nothing is resampled'
    )
    if cropped:
        text += f'; of an image of more than {limit} pixels a side the central ones are shown'
    return text + '.'
