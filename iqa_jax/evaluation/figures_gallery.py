"""The gallery of distortions as one picture: a row per type, a column per level."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP = 16, 6
LINE = 20  # of text
PAPER, INK, SOFT, MARK = (255, 255, 255), (24, 24, 24), (105, 105, 105), (176, 42, 32)
NAME_FONT, VALUE_FONT = (ImageFont.load_default(size) for size in (15, 13))


def draw(reference: np.ndarray, caption: Sequence[str], rows: Sequence[dict]) -> np.ndarray:
    """Draws pictures at their own resolution with their labels, uint8 [H, W, 3].

    Args:
      reference: uint8 [h, w, 3], the pristine picture, drawn above the first column.
      caption: lines of text beside it.
      rows: 'label', 'stochastic' (marked by an S), 'values' (a text per picture) and 'images', as
        many uint8 [h, w, 3] in every row.
    """
    height, width = reference.shape[:2]
    columns = max(len(row['images']) for row in rows)
    label_width = max(_width(f'{row["label"]}  S', NAME_FONT) for row in rows)
    left = MARGIN + label_width + 2 * GAP
    beside = left + width + 2 * GAP
    caption_right = beside + max(_width(line, VALUE_FONT) for line in caption)
    step = LINE + height + GAP
    head = max(height, LINE * len(caption)) + LINE
    size = (
        max(left + columns * (width + GAP), caption_right) + MARGIN,
        MARGIN + head + LINE + len(rows) * step + MARGIN,
    )
    page = Image.new('RGB', size, PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN + height // 2), 'reference', INK, NAME_FONT, 'lm')
    page.paste(Image.fromarray(reference), (left, MARGIN))
    for i, line in enumerate(caption):
        pen.text((beside, MARGIN + LINE * i), line, INK, VALUE_FONT, 'la')
    for i, row in enumerate(rows):
        top = MARGIN + head + LINE + i * step
        middle = top + LINE + height // 2
        pen.text((MARGIN, middle), row['label'], INK, NAME_FONT, 'lm')
        if row['stochastic']:
            pen.text((MARGIN + label_width, middle), 'S', MARK, NAME_FONT, 'rm')
        for k, (value, image) in enumerate(zip(row['values'], row['images'], strict=True)):
            x = left + k * (width + GAP)
            pen.text((x, top + LINE - 4), value, SOFT, VALUE_FONT, 'ls')
            page.paste(Image.fromarray(np.ascontiguousarray(image)), (x, top + LINE))
    return np.asarray(page)


def _width(text: str, font: ImageFont.FreeTypeFont) -> int:
    return int(np.ceil(font.getlength(text)))
