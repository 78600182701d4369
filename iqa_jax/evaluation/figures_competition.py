"""Figures of a competition: who beats whom as two matrices, and the ranking with its intervals."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colors, textpath, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqa_jax.evaluation.figures import (
    INK,
    MUTED,
    SERIES,
    SURFACE,
    canvas,
    clean_label,
    say_empty,
    styled,
    to_svg,
)
from iqa_jax.evaluation.page_format import number, signed

_CELL = 0.4  # inches of one matrix entry
_LEAST_CELLS = 6  # models whose width a panel has at least, for its title
_SIDE_BY_SIDE = 8  # models up to which both matrices fit beside each other
_PANEL, _NUMBERS = 2.2, 1.75  # inches of a ranking panel, and of what is written beside it
_COLUMNS = (40, 48)  # points from its edge: end of the scores, begin of the ranks
# Not colours of the page, which would turn them round in its dark theme while cells stay light.
_PALE, _ON_PALE, _ON_DARK = '#fcfcfd', '#15181c', '#fefefe'
_SIGNED = colors.LinearSegmentedColormap.from_list('signed', [SERIES[1], _PALE, SERIES[0]])
_SHARE = colors.LinearSegmentedColormap.from_list('share', [_PALE, SERIES[2]])
_DARK = 0.2  # relative luminance below which white is the more readable colour


@styled
def matrices(
    models: Sequence[str], aggressiveness: np.ndarray, resistance: np.ndarray, simulated: bool
) -> bytes:
    """Returns both matrices [M, M] as coloured cells with their numbers, points of 100.

    Row i of `aggressiveness`, -100..100, is attacker i and its columns are defenders; row j of
    `resistance`, 0..100, is defender j and its columns are attackers; models keep their order and
    columns their row's number. NaN, a contest without an answer, is left blank.
    """
    size = len(models)
    # Plain spaces in a row would become one.
    names = [f'{clean_label(name)}\N{EM SPACE}{i}' for i, name in enumerate(models, 1)]
    width = _CELL * max(size, _LEAST_CELLS) + _widest(names) + 0.3
    height = _CELL * size + 0.85
    beside = size <= _SIDE_BY_SIDE
    figure = canvas(*((2 * width, height + 0.4) if beside else (width, 2 * height + 0.4)))
    _badge(figure, simulated)
    drawn = (
        ('aggressiveness\nrow attacks column', aggressiveness, _SIGNED, -100),
        ('resistance\nrow defends against column', resistance, _SHARE, 0),
    )
    panels = figure.subplots(*((1, 2) if beside else (2, 1))).flat
    for axes, (title, values, palette, low) in zip(panels, drawn, strict=True):
        axes.set_title(title, loc='left')
        values = np.asarray(values, float).reshape(size, size)
        if np.isfinite(values).any():
            _cells(axes, values, names, palette, colors.Normalize(low, 100))
        else:
            say_empty(axes, 'no answered contest')
    return to_svg(figure)


def _cells(axes: Axes, values: np.ndarray, names: list[str], palette, norm) -> None:
    """One matrix: a filled square and a number for every contest."""
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    for row, column in np.argwhere(np.isfinite(values)).tolist():
        value = values[row, column]
        fill = palette(norm(value))
        axes.fill(*(corners + np.array([column, row])).T, fc=fill, ec=SURFACE, lw=0.8)
        axes.text(
            column, row, number(value, 0), ha='center', va='center', size=8,
            color=_ON_DARK if _luminance(fill) < _DARK else _ON_PALE,
        )  # fmt: skip
    end = max(len(names), _LEAST_CELLS) - 0.5
    axes.set(xlim=(-0.5, end), ylim=(len(names) - 0.5, -0.5))
    axes.set_aspect('equal', anchor='NW')
    axes.set_xticks(range(len(names)), range(1, len(names) + 1))
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelcolor=INK, labeltop=True, labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance, 0..1, of an sRGB colour as WCAG defines it."""
    rgb = np.array(colour[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@styled
def ranking(
    models: Sequence[str], aggressiveness: np.ndarray, resistance: np.ndarray, simulated: bool
) -> bytes:
    """Returns the global scores as dots with 95 % intervals, most aggressive on top, two panels.

    Both are [M, 6] float: score, low, high (any scale, sum zero, higher is better), then rank, low,
    high (1 best), written at the right. A model without a score comes last, as 'n/a'.
    """
    panels = [np.asarray(x, float).reshape(len(models), 6) for x in (aggressiveness, resistance)]
    names = [clean_label(name) for name in models]
    order = np.argsort(panels[0][:, 0] * -1, kind='stable')  # NaN comes last
    width = _widest(names) + 2 * (_PANEL + _NUMBERS)
    figure = canvas(width, 1.45 + 0.27 * max(len(names), 2))
    _badge(figure, simulated)
    titles = ('aggressiveness', 'resistance')
    for panel, axes in enumerate(figure.subplots(1, 2, sharey=True)):
        axes.set_title(titles[panel], loc='left')
        values = panels[panel][order]
        if not np.isfinite(values[:, 0]).any():
            say_empty(axes, 'no ranking')
            continue
        _dots(axes, values, SERIES[0] if panel == 0 else SERIES[2])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), [names[i] for i in order])
    return to_svg(figure)


def _dots(axes: Axes, values: np.ndarray, colour: str) -> None:
    """One panel: dots, intervals, and two columns of numbers beside it."""
    beside = axes.get_yaxis_transform()
    axes.axvline(0, color=MUTED, lw=0.8)
    for y, (value, low, high, *places) in enumerate(values):
        if np.isfinite(low) and np.isfinite(high):
            axes.plot([low, high], [y, y], color=colour, lw=1.4, solid_capstyle='butt')
            axes.plot([low, high], [y, y], '|', color=colour, ms=5, mew=1.4)
        axes.plot(value, y, 'o', color=colour, ms=5.5)
        _beside(axes, (1, y), beside, (signed(value, 2), _place(*places)), INK, 'center')
    _beside(axes, (1, 1), axes.transAxes, ('score', 'rank'), MUTED, 'bottom')
    axes.tick_params(axis='y', length=0, labelcolor=INK)
    axes.grid(False, axis='y')
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.set_xlabel('score with 95 % interval')


def _beside(axes: Axes, xy, transform, texts: Sequence[str], colour: str, va: str) -> None:
    """Two columns of text at fixed distances from the right edge, whatever the panel's width."""
    for text, points, ha in zip(texts, _COLUMNS, ('right', 'left'), strict=True):
        axes.annotate(
            text, xy, (points, 0), transform, 'offset points', color=colour, size=8.5, ha=ha, va=va
        )


def _place(rank: float, low: float, high: float) -> str:
    """'2 (1 to 4)', '2' without an interval, '' without a rank."""
    if not np.isfinite(rank):
        return ''
    interval = f' ({low:.0f} to {high:.0f})' if np.isfinite(low) and np.isfinite(high) else ''
    return f'{rank:.0f}{interval}'


def _widest(names: Sequence[str]) -> float:
    """Inches of the widest label of an axis."""
    paths = (textpath.TextPath((0, 0), name, size=9.5) for name in names)
    return max((path.get_extents().width for path in paths), default=0) / 72


def _badge(figure: Figure, simulated: bool) -> None:
    """Says above everything else that no people were asked."""
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.06)
    if simulated:
        box = {'boxstyle': 'round,pad=0.3', 'fc': SERIES[7], 'ec': 'none'}
        figure.suptitle(
            'SIMULATED observers', x=0.02, ha='left', color=SURFACE, size=9, weight='bold', bbox=box
        )
