"""All pairs of a gMAD competition on pages of thumbnails, with every score."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from iqa_jax.evaluation import figures_lettering as lettering
from iqa_jax.evaluation import figures_tiles
from iqa_jax.evaluation.figures_contests import contest_of, contest_rows, level_text, texts_of
from iqa_jax.evaluation.figures_tiles import INK, ROLES, RULE, SIDES, SOFT, Load

TITLE, STRONG, TEXT, SMALL = (
    lettering.font(*style) for style in ((20, True), (16, True), (16,), (13,))
)
LINE, SMALL_LINE = lettering.line_height(TEXT), lettering.line_height(SMALL)
MARGIN, CELL_GAP, PAIR_GAP, ROW_GAP = 24, 30, 6, 22
NUMBER_GAP = 10
# Below this, seven digits of both scores and their difference do not fit under a pair.
MIN_SIDE = 192


def contact_sheet(
    pairs: Mapping[str, Sequence],
    load: Load,
    *,
    levels: int | None = None,
    per_page: int = 18,
    columns: int = 3,
    side: int = MIN_SIDE,
) -> Iterator[dict[str, object]]:
    """Yields pages with every pair of every contest, by contest, level and rank, one at a time.

    Images larger than `side` are reduced to fit it, by Pillow's Lanczos filter, which antialiases;
    the sheet says so. In memory are one image and the thumbnails of one page. A pair that several
    contests chose stands under each of them. No pairs, no pages.

    Args:
      pairs: see `figures_contests.contest_rows`.
      load: see `figures_pairs.pair_figure`.
      levels: how many there are, for 'level k of n'.
      per_page: pairs on a page.
      columns: pairs in a row.
      side: largest side of a thumbnail in pixels.

    Returns:
      An iterator over dicts as `figures_pairs.pair_figure` returns them, a page each.

    Raises:
      ValueError: at once for what `contest_rows` refuses, per_page or columns below 1 and side
        below MIN_SIDE; from the iterator where `load` returns something else than an image.
    """
    least_values = {'per_page': (per_page, 1), 'columns': (columns, 1), 'side': (side, MIN_SIDE)}
    for key, (value, least) in least_values.items():
        if value < least:
            raise ValueError(f'{key} must be at least {least}, not {value}.')
    rows = contest_rows(pairs, levels)
    chunks = [rows[i : i + per_page] for i in range(0, len(rows), per_page)]
    distinct = len(np.asarray(pairs['level']))
    merged = len(rows) != distinct
    title = f'gMAD: {distinct:,} {"pair" if distinct == 1 else "pairs"}'
    title += f', chosen {len(rows):,} times' if merged else ''
    legend = (
        'Left the image that the attacker calls better, right the one it calls worse. '
        'Δ: score of the left one minus that of the right one. '
        f'Images of more than {side} pixels a side are reduced to that (Lanczos filter), which '
        'hides fine distortions: judge them at full size.'
    )
    legend += ' A pair that several contests chose stands under each of them.' if merged else ''

    def page(i: int, chunk: list[dict]) -> dict:
        heading = f'{title}; page {i + 1} of {len(chunks)}'
        before = contest_of(chunks[i - 1][-1]) if i else None
        tiles = [[_tile(load, row[f'image_id_{s}'], side) for s in SIDES] for row in chunk]
        return _page(chunk, tiles, heading, legend, before, levels, columns, side)

    return (page(i, chunk) for i, chunk in enumerate(chunks))


def _tile(load: Load, image_id: object, side: int) -> dict:
    return figures_tiles.tile(load, image_id, side, reduce=True, grey=side)


def _page(rows, tiles, heading, legend, before, levels, columns, side) -> dict[str, object]:
    """One page of `rows` with their `tiles`; `before` is the contest that ended the last page."""
    cell = 2 * side + PAIR_GAP
    inner = columns * cell + (columns - 1) * CELL_GAP
    legend = lettering.wrap(legend, inner, SMALL)
    y = MARGIN + lettering.line_height(TITLE) + SMALL_LINE * len(legend) + 16
    headings, cells = [], []
    pairs = list(zip(rows, tiles, strict=True))
    for contest, group in itertools.groupby(pairs, lambda pair: contest_of(pair[0])):
        headings.append((contest, y))
        y += LINE + 16
        group = list(group)
        for start in range(0, len(group), columns):
            members = group[start : start + columns]
            tallest = max(tile['image'].height for _, pair in members for tile in pair)
            for i, (row, pair) in enumerate(members):
                # Thumbnails stand on the line of their ids.
                cells.append((row, pair, MARGIN + i * (cell + CELL_GAP), y + tallest))
            y += tallest + 4 * SMALL_LINE + 6 + ROW_GAP
    page = Image.new('RGB', (inner + 2 * MARGIN, y - ROW_GAP + MARGIN), lettering.PAPER)
    lettering.write(page, (MARGIN, MARGIN), inner, heading, TITLE, INK)
    at = (MARGIN, MARGIN + lettering.line_height(TITLE) + 4)
    lettering.write_lines(page, at, inner, legend, SMALL, SOFT)
    for contest, y in headings:
        _heading(page, y, inner, contest, contest == before)
    places = [place for cell in cells for place in _cell(page, *cell, levels, side)]
    return figures_tiles.drawn(page, places, itertools.chain(*tiles))


def _heading(page: Image.Image, y: int, width: int, contest: tuple, continued: bool) -> None:
    """Writes who defends against whom above the pairs of a contest."""
    ImageDraw.Draw(page).line((MARGIN, y, MARGIN + width - 1, y), RULE)
    words = ('defender', '  attacker', '  (continued)' if continued else '')
    room = (width - sum(TEXT.getlength(word) for word in words)) / 2 - 24
    names = [lettering.elide(lettering.readable(name), room, STRONG) for name in contest]
    pieces = [
        (words[0], TEXT, ROLES['defender']),
        (names[0], STRONG, ROLES['defender']),
        (words[1], TEXT, ROLES['attacker']),
        (names[1], STRONG, ROLES['attacker']),
        (words[2], TEXT, SOFT),
    ]
    x = MARGIN
    for text, face, colour in pieces:
        length = int(np.ceil(face.getlength(text))) + 8
        lettering.write(page, (x, y + 5), length, text, face, colour)
        x += length


def _cell(page, row, tiles, x, y, levels, side) -> list[tuple]:
    """Draws a pair above `y` and its scores below it; returns where its images stand."""
    places = []
    for i, (name, tile) in enumerate(zip(SIDES, tiles, strict=True)):
        image_id, left = row[f'image_id_{name}'], x + i * (side + PAIR_GAP)
        at = (left, y - tile['image'].height)
        places.append((image_id, figures_tiles.paste(page, tile['image'], at)))
        text = lettering.readable(image_id)
        lettering.write(page, (left, y + 3), side, text, SMALL, SOFT)
    title = f'level {level_text(row["level"], levels)}, rank {row["rank"] + 1}'
    lines = [(title, SOFT, SOFT, ('better', 'worse', 'Δ'))]
    for role, texts in texts_of(row).items():
        lines.append((lettering.readable(row[role]), ROLES[role], INK, texts))
    room = [
        int(np.ceil(max(SMALL.getlength(line[3][k]) for line in lines))) + (NUMBER_GAP if k else 0)
        for k in range(3)
    ]
    names = 2 * side + PAIR_GAP - sum(room)
    for i, (name, colour, ink, texts) in enumerate(lines):
        at, top = x + names, y + 6 + (i + 1) * SMALL_LINE
        for width, text in zip(room, texts, strict=True):
            lettering.write(page, (at, top), width, text, SMALL, ink, right=True)
            at += width
        # The heading may use the room that long scores take in the lines below it.
        free = names if i else names + room[0] - int(np.ceil(SMALL.getlength(texts[0])))
        lettering.write(page, (x, top), free - NUMBER_GAP, name, SMALL, colour)
    return places
