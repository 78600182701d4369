"""Text on pictures that stays inside its box, whatever it says and whatever its script."""

import functools
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import ft2font
from PIL import Image, ImageDraw, ImageFont

from iqa_jax.evaluation.page_format import digits_for, number

PAPER = (255, 255, 255)
LINE = 1.35  # height of a line in font sizes
# A float32 holds about this many decimal digits; more would show its rounding, not a difference.
FLOAT32_DIGITS = 7
_FONTS = Path(matplotlib.get_data_path(), 'fonts', 'ttf')


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Returns DejaVu Sans, which comes with matplotlib, so that no installed font matters."""
    return ImageFont.truetype(_FONTS / ('DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'), size)


@functools.cache
def _known() -> frozenset[int]:
    """Code points that both weights of the font can show."""
    names = ('DejaVuSans.ttf', 'DejaVuSans-Bold.ttf')
    tables = [ft2font.FT2Font(str(_FONTS / name)).get_charmap() for name in names]
    return frozenset(tables[0].keys() & tables[1].keys())


def readable(text: object) -> str:
    r"""Returns `text` with what the font cannot show as code points (\u6c34), so that ids differ.

    Stacks of accents and characters without a picture of their own are written that way too.
    """

    def shown(c: str) -> bool:
        return c.isprintable() and ord(c) in _known() and not unicodedata.combining(c)

    return ''.join(c if shown(c) else c.encode('unicode_escape').decode('ascii') for c in str(text))


def elide(text: str, width: float, face: ImageFont.FreeTypeFont) -> str:
    """Returns `text`, or its two ends around an ellipsis, at most `width` pixels wide.

    The middle goes since ids of one set mostly differ at their ends.
    """
    # A line of w pixels never needs more than w characters, however long an id is.
    if len(text) <= width and face.getlength(text) <= width:
        return text
    low, high = 0, min(len(text) - 1, int(width))
    while low < high:
        keep = (low + high + 1) // 2
        fits = face.getlength(_ends(text, keep)) <= width
        low, high = (keep, high) if fits else (low, keep - 1)
    return _ends(text, low)


def _ends(text: str, keep: int) -> str:
    tail = keep // 2
    return text[: keep - tail] + '…' + text[len(text) - tail :]


def wrap(text: str, width: float, face: ImageFont.FreeTypeFont) -> list[str]:
    """Returns `text` in lines of at most `width` pixels, broken at spaces; longer words elided."""
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.lstrip()
        if face.getlength(longer) <= width:
            lines[-1] = longer
        else:
            word = elide(word, width, face)
            lines = [*lines, word] if lines[-1] else [word]
    return lines


def line_height(face: ImageFont.FreeTypeFont) -> int:
    """Returns the height in pixels of the box that `write` fills."""
    return math.ceil(LINE * face.size)


def write(
    page: Image.Image,
    place: tuple[int, int],
    width: int,
    text: str,
    face: ImageFont.FreeTypeFont,
    colour: tuple[int, int, int],
    *,
    right: bool = False,
    paper: tuple[int, int, int] = PAPER,
) -> None:
    """Writes one line into the box at `place` (left, top), elided; changes no pixel outside it.

    The box is `width` x `line_height(face)` pixels; text stands at its left or its `right` edge.
    """
    height = line_height(face)
    strip = Image.new('RGB', (width, height), paper)
    at, anchor = (width if right else 0, height // 2), 'rm' if right else 'lm'
    ImageDraw.Draw(strip).text(at, elide(text, width, face), colour, face, anchor)
    page.paste(strip, place)


def write_lines(
    page: Image.Image,
    place: tuple[int, int],
    width: int,
    lines: Sequence[str],
    face: ImageFont.FreeTypeFont,
    colour: tuple[int, int, int],
) -> None:
    """Writes lines below each other from `place` (left, top), as `write` does."""
    for i, line in enumerate(lines):
        at = (place[0], place[1] + i * line_height(face))
        write(page, at, width, line, face, colour)


def score_texts(best: float, worst: float) -> tuple[str, str, str]:
    """Returns both scores and best - worst as text, with digits that show what they differ by.

    At least three digits of the larger one, a decimal below 1,000, and as many more digits as give
    the difference two, within the precision of float32; powers of ten where decimals would be long.
    'n/a' for what is not finite.
    """
    gap = best - worst
    largest = max((abs(v) for v in (best, worst) if math.isfinite(v)), default=0.0)
    size = math.floor(math.log10(largest)) if largest else 0
    # The place of the second digit of the difference.
    wanted = 1 - math.floor(math.log10(abs(gap))) if math.isfinite(gap) and gap else 0
    if -3 <= size < 6:
        digits = max(digits_for([largest]), wanted, 1 if size < 3 else 0)
        digits = min(digits, FLOAT32_DIGITS - 1 - size)
        texts = [number(v, digits) for v in (best, worst, gap)]
    else:
        digits = min(max(2, wanted + size), FLOAT32_DIGITS - 1)
        texts = [power_of_ten(best, digits), power_of_ten(worst, digits), power_of_ten(gap, 1)]
    # A difference that rounds to nothing has no sign, and neither has 'n/a'.
    plus = '+' if gap > 0 and any(c in '123456789' for c in texts[2]) else ''
    return texts[0], texts[1], plus + texts[2]


def power_of_ten(value: float, digits: int) -> str:
    """Returns 1.23e-7 with a real minus sign, `digits` after the point; 'n/a' if not finite."""
    if not math.isfinite(value):
        return 'n/a'
    mantissa, exponent = f'{value:.{digits}e}'.split('e')
    return f'{mantissa}e{int(exponent)}'.replace('-', '\N{MINUS SIGN}')
