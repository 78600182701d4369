"""Figures of results: SRCC bars, MOS against prediction, before against after, rater agreement.

Every public function takes plain arrays and returns a standalone SVG as bytes. The same input gives
the same bytes: no dates, fixed ids, and text kept as text so that no installed font matters.
"""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, SOFT, GRID, SURFACE = '#1d2127', '#5d6671', '#a3adb8', '#e2e5ea', '#ffffff'
SERIES = (
    '#2a6fdb',  # blue
    '#c4661f',  # orange
    '#1a8a5b',  # green
    '#b5478f',  # magenta
    '#947601',  # ochre
    '#6a52c7',  # violet
    '#0c8796',  # teal
    '#c23b3c',  # red
)
MARKERS = (('o', '●'), ('s', '■'), ('^', '▲'), ('D', '◆'), ('v', '▼'))
# Above this many points a picture inside the SVG is smaller than one element per point.
RASTER_POINTS = 1500
LABEL_CHARACTERS = 40

STYLE = {
    'axes.axisbelow': True,
    'axes.edgecolor': MUTED,
    'axes.facecolor': 'none',
    'axes.grid': True,
    'axes.labelcolor': INK,
    'axes.labelsize': 10,
    'axes.linewidth': 0.8,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.titlecolor': INK,
    'axes.titlesize': 10,
    'axes.unicode_minus': True,
    'figure.facecolor': 'none',
    'font.family': 'sans-serif',
    'font.sans-serif': ['DejaVu Sans'],
    'font.size': 10,
    'grid.color': GRID,
    'grid.linewidth': 0.8,
    'legend.fontsize': 9.5,
    'legend.frameon': False,
    'savefig.facecolor': 'none',
    'svg.fonttype': 'none',
    'svg.hashsalt': 'iqa_jax',
    'text.color': INK,
    'text.parse_math': False,  # a model may be called 'a$b'
    'text.usetex': False,
    'xtick.color': MUTED,
    'xtick.labelsize': 9.5,
    'ytick.color': MUTED,
    'ytick.labelsize': 9.5,
}
styled = matplotlib.rc_context(STYLE)


def canvas(width: float, height: float) -> Figure:
    """Returns an empty figure of `width` x `height` inches that no pyplot state knows about."""
    return Figure(figsize=(width, height), layout='constrained', dpi=144)


def to_svg(figure: Figure) -> bytes:
    """Returns the figure as SVG bytes without a date or a program name in it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return buffer.getvalue()


def clean_label(text: object) -> str:
    """Returns `text` without control characters (invalid in XML), cut to a length axes can hold."""
    label = ''.join(c for c in str(text) if c.isprintable())
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1] + '…'


def say_empty(axes: Axes, sentence: str) -> None:
    """Writes `sentence` in the middle of axes that have nothing to show."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, sentence, ha='center', va='center', color=MUTED, transform=axes.transAxes)


def type_styles(
    labels: Sequence[str], families: Mapping[str, str] | None = None
) -> dict[str, tuple[str, int]]:
    """Returns {label: (colour, index into MARKERS)}, distinct for up to 40 labels.

    With `families` ({label: family}) a family shares a colour and its members differ by marker.
    """
    unique = list(dict.fromkeys(labels))
    if not families:
        return {
            label: (SERIES[i % len(SERIES)], i // len(SERIES) % len(MARKERS))
            for i, label in enumerate(unique)
        }
    members: dict[str, list[str]] = {}
    for label in unique:
        members.setdefault(families.get(label, 'other'), []).append(label)
    return {
        label: (SERIES[family % len(SERIES)], i % len(MARKERS))
        for family, group in enumerate(members.values())
        for i, label in enumerate(group)
    }


def _whisker(axes: Axes, low: float, high: float, y: float, colour: str) -> None:
    """Draws one horizontal interval with caps; nothing where an end is not finite."""
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [y, y], color=colour, lw=1.4, solid_capstyle='butt')
        axes.plot([low, high], [y, y], '|', color=colour, ms=5, mew=1.4)


def _decimals(value: float, digits: int = 3) -> str:
    """Returns `value` with a real minus sign, or 'n/a'."""
    return f'{value:.{digits}f}'.replace('-', '\N{MINUS SIGN}') if np.isfinite(value) else 'n/a'


@styled
def srcc_bars(names: Sequence[str], intervals: np.ndarray, kinds: Sequence[str]) -> bytes:
    """Returns horizontal bars of SRCC with 95 % intervals, best on top, coloured by kind.

    `intervals` is [N, 3] float (value, low, high), range [-1, 1], higher is better; NaN rows are
    drawn last as 'n/a'.
    """
    values = np.asarray(intervals, float).reshape(-1, 3)
    order = np.argsort(np.where(np.isfinite(values[:, 0]), -values[:, 0], np.inf), kind='stable')
    figure = canvas(4.8, 0.75 + 0.3 * max(len(values), 2))
    axes = figure.subplots()
    if not len(values):
        say_empty(axes, 'no results')
        return to_svg(figure)
    # What is compared stands out from the yardsticks, which come second by custom.
    palette = (SERIES[0], SOFT, *SERIES[1:])
    colours = {kind: palette[i % len(palette)] for i, kind in enumerate(dict.fromkeys(kinds))}
    for y, i in enumerate(order):
        value, low, high = values[i]
        axes.barh(y, value if np.isfinite(value) else 0, height=0.62, color=colours[kinds[i]])
        _whisker(axes, low, high, y, INK)
        # Beyond the axes, in one column: the numbers stay clear of the whiskers.
        axes.text(
            1.01, y, _decimals(value), va='center', transform=axes.get_yaxis_transform(), size=9.5
        )
    for kind, colour in colours.items():
        axes.barh(np.nan, np.nan, color=colour, label=clean_label(kind))
    lowest = np.nanmin(values[:, 1], initial=0)
    axes.set_xlim(-1 if lowest < -0.5 else min(0, np.floor(lowest * 10) / 10), 1)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_yticks(range(len(values)), [clean_label(names[i]) for i in order])
    axes.tick_params(axis='y', length=0, labelcolor=INK)
    axes.grid(False, axis='y')
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.set_xlabel('SRCC with 95 % interval')
    if len(colours) > 1:
        figure.legend(loc='outside upper right', ncols=len(colours))
    return to_svg(figure)


@styled
def scatter(
    prediction: np.ndarray,
    mos: np.ndarray,
    types: Sequence[str],
    styles: Mapping[str, tuple[str, int]],
    curve: tuple[np.ndarray, np.ndarray] | None = None,
    y_label: str = 'MOS',
) -> bytes:
    """Returns MOS [N] against prediction [N], one colour and marker per distortion type.

    `styles` comes from `type_styles`; `curve` is the fitted logistic as (x [M], y [M]). Rows
    with a NaN are left out.
    """
    x, y = np.asarray(prediction, float), np.asarray(mos, float)
    types = np.asarray(types, object)
    keep = np.isfinite(x) & np.isfinite(y)
    figure = canvas(4.2, 3.7)
    axes = figure.subplots()
    if not keep.any():
        say_empty(axes, 'no rated predictions')
        return to_svg(figure)
    for label, (colour, marker) in styles.items():
        rows = keep & (types == label)
        if rows.any():
            axes.scatter(
                x[rows],
                y[rows],
                s=16,
                marker=MARKERS[marker][0],
                color=colour,
                alpha=0.7,
                linewidths=0,
                rasterized=bool(keep.sum() > RASTER_POINTS),
            )
    if curve is not None:
        order = np.argsort(curve[0], kind='stable')
        axes.plot(np.asarray(curve[0])[order], np.asarray(curve[1])[order], color=INK, lw=1.8)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.set_xlabel('prediction')
    axes.set_ylabel(clean_label(y_label))
    axes.margins(0.04)
    return to_svg(figure)


@styled
def dumbbell(
    labels: Sequence[str], before: np.ndarray, after: np.ndarray, x_label: str = 'value'
) -> bytes:
    """Returns paired dots with 95 % intervals: before (hollow, above) and after (filled, below).

    `before` and `after` are [N, 3] float (value, low, high) on one scale, higher is better; a
    newline in a label starts its second line.
    """
    pairs = np.stack([np.asarray(v, float).reshape(-1, 3) for v in (before, after)])
    count = pairs.shape[1]
    figure = canvas(5.0, 1.05 + 0.52 * max(count, 1))
    axes = figure.subplots()
    if not count or not np.isfinite(pairs[..., 0]).any():
        say_empty(axes, 'no values before and after')
        return to_svg(figure)
    for row in range(count):
        for which, (dy, face) in enumerate(((-0.14, SURFACE), (0.14, SERIES[0]))):
            value, low, high = pairs[which, row]
            colour = (MUTED, SERIES[0])[which]
            _whisker(axes, low, high, row + dy, colour)
            axes.plot(value, row + dy, 'o', ms=7, mfc=face, mec=colour, mew=1.6)
        text = f'{_decimals(pairs[0, row, 0])} → {_decimals(pairs[1, row, 0])}'
        axes.text(1.02, row, text, va='center', transform=axes.get_yaxis_transform(), size=9.5)
    axes.plot([], [], 'o', ms=7, mfc=SURFACE, mec=MUTED, mew=1.6, label='before')
    axes.plot([], [], 'o', ms=7, mfc=SERIES[0], mec=SERIES[0], label='after')
    axes.set_ylim(count - 0.5, -0.5)
    lines = [str(label).split('\n') for label in labels]
    axes.set_yticks(range(count), ['\n'.join(map(clean_label, parts)) for parts in lines])
    axes.tick_params(axis='y', length=0, labelcolor=INK)
    axes.grid(False, axis='y')
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.set_xlabel(x_label)
    figure.legend(loc='outside upper right', ncols=2)
    return to_svg(figure)


@styled
def agreement(srcc: np.ndarray, excluded: np.ndarray) -> bytes:
    """Returns the raters' SRCC [N] with the mean of the other raters, sorted, best first.

    `excluded` [N] bool marks raters that screening removed (hollow dots); NaN rows are left out.
    """
    values, out = np.asarray(srcc, float), np.asarray(excluded, bool)
    keep = np.isfinite(values)
    values, out = values[keep], out[keep]
    order = np.argsort(-values, kind='stable')
    figure = canvas(4.8, 2.3)
    axes = figure.subplots()
    if not len(values):
        say_empty(axes, 'no agreement known')
        return to_svg(figure)
    rank = np.arange(1, len(values) + 1)
    for flag, face, label in ((False, SERIES[0], 'kept'), (True, SURFACE, 'excluded')):
        rows = out[order] == flag
        if rows.any():
            edge = MUTED if flag else SERIES[0]
            axes.plot(
                rank[rows], values[order][rows], 'o', ms=6, mfc=face, mec=edge, mew=1.4, label=label
            )
    axes.axhline(np.median(values[~out]) if (~out).any() else np.nan, color=MUTED, lw=1, ls='--')
    axes.set_ylim(min(0, values.min() - 0.05), 1.02)
    axes.set_xlim(0.3, len(values) + 0.7)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set_xlabel('rater, most agreeing first')
    axes.set_ylabel('SRCC with the others')
    axes.legend(loc='lower left', ncols=2)
    return to_svg(figure)
