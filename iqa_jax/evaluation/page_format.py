"""How the page writes numbers, CSV downloads and inline SVG."""

import base64
import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from iqa_jax.evaluation import figures

# Figures are drawn in the light theme; on the page their colours follow the theme by CSS.
CSS_COLOURS = {
    figures.INK: 'var(--ink)',
    figures.MUTED: 'var(--muted)',
    figures.SOFT: 'var(--soft)',
    figures.GRID: 'var(--grid)',
    figures.SURFACE: 'var(--surface)',
    **{colour: f'var(--s{i + 1})' for i, colour in enumerate(figures.SERIES)},
}


def number(value: float | None, digits: int = 3) -> str:
    """Returns a decimal with a real minus sign and thousands separators, 'n/a' if not finite."""
    if value is None or not math.isfinite(value):
        return 'n/a'
    # Adding zero turns a rounded -0.0 into 0.0.
    return f'{round(float(value), digits) + 0.0:,.{digits}f}'.replace('-', '\N{MINUS SIGN}')


def signed(value: float | None, digits: int = 1) -> str:
    """Returns `number` with an explicit plus sign where the rounded value is positive."""
    text = number(value, digits)
    return f'+{text}' if text != 'n/a' and round(float(value), digits) > 0 else text


def digits_for(values: Iterable[float]) -> int:
    """Returns how many decimals suit scores of an unknown scale: three digits of the largest."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=1.0)
    return int(np.clip(2 - math.floor(math.log10(max(largest, 1e-3))), 0, 5))


def count(value: float | None) -> str:
    """Returns an integer with thousands separators, 'n/a' if missing."""
    return number(value, 0)


def seconds(value: float | None) -> str:
    """Returns a duration as '0.4 s', '12 s', '3 min 05 s' or '1 h 07 min'; 'n/a' if missing."""
    if value is None or not math.isfinite(value):
        return 'n/a'
    if value < 9.95:
        return f'{value:.1f} s'
    total = round(value)
    if total < 60:
        return f'{total} s'
    if total < 3600:
        return f'{total // 60} min {total % 60:02d} s'
    minutes = round(total / 60)
    return f'{minutes // 60} h {minutes % 60:02d} min'


def quantity(value: float | None, kind: str) -> str:
    """Returns a headline value of kind 'score', 'percent' (of 0..1), 'count' or 'seconds'."""
    if kind == 'percent':
        return 'n/a' if number(value) == 'n/a' else f'{number(100 * value, 1)} %'
    return {'score': number, 'count': count, 'seconds': seconds}[kind](value)


def csv_uri(columns: Mapping[str, Sequence]) -> str:
    """Returns equal-length columns as a downloadable `data:` URI, floats at full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    coded = base64.b64encode(buffer.getvalue().encode()).decode('ascii')
    return f'data:text/csv;charset=utf-8;base64,{coded}'


def inline_svg(data: bytes, prefix: str) -> Markup:
    """Returns a figure's SVG for inlining: themed colours, ids unique by `prefix`, no metadata."""
    svg = data.decode('utf-8')
    svg = svg[svg.index('<svg') :]
    svg = re.sub(
        r'<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->', '', svg, flags=re.S
    )
    head, body = svg.split('>', 1)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head).groups()

    def adapt(tag: re.Match) -> str:
        text = re.sub(r'( id="|href="#|url\(#)', rf'\g<1>{prefix}-', tag[0])
        for colour, variable in CSS_COLOURS.items():
            text = text.replace(colour, variable)
        return text

    # Tags only: a label is data and stays as it is.
    body = re.sub(r'<[^>]+>', adapt, body)
    # A point of the figure is drawn as 1.2 CSS pixels, so its 10-point text reads as 12 pixels.
    style = f'max-width:{1.2 * float(width):.0f}px'
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" style="{style}" aria-hidden="true">'
        + re.sub(r'\n\s*', ' ', body).strip()
    )


def interval(value: Sequence[float] | float | None) -> tuple[float, float, float]:
    """Returns (value, low, high) with NaN ends where only a value, or nothing, is known."""
    if value is None:
        return (math.nan, math.nan, math.nan)
    if np.ndim(value) == 0:
        return (float(value), math.nan, math.nan)
    centre, low, high = (math.nan if v is None else float(v) for v in value)
    return (centre, low, high)


def plot_view(svg: bytes, name: str, alt: str, columns: Mapping[str, Sequence]) -> dict:
    """Returns what the template needs to place one figure with its alt text and CSV."""
    return {'svg': inline_svg(svg, name), 'alt': alt, 'name': name, 'csv': csv_uri(columns)}


def interval_columns(columns: dict, name: str, intervals: Sequence[Sequence[float]]) -> dict:
    """Adds an interval as three columns, `name`, `name_low` and `name_high`."""
    for i, suffix in enumerate(('', '_low', '_high')):
        columns[name + suffix] = [interval[i] for interval in intervals]
    return columns
