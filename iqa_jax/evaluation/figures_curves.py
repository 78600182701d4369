"""Figures of distributions and of training: proxy histograms and curves over steps."""

import numpy as np
from matplotlib import ticker

from iqa_jax.evaluation.figures import (
    INK,
    MUTED,
    SERIES,
    canvas,
    say_empty,
    styled,
    to_svg,
)

BINS = 24
UNIT = (0.0, 1.0)
# A curve holds no more points than a screen can show; longer ones are averaged in equal runs.
CURVE_POINTS = 300


def histogram(
    values: np.ndarray, span: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (edges [BINS + 1], counts [BINS]) of the finite values within `span` or their own."""
    x = np.asarray(values, float)
    x = x[np.isfinite(x)]
    if not len(x):
        return np.full(BINS + 1, np.nan), np.zeros(BINS, int)
    counts, edges = np.histogram(x, BINS, span)
    return edges, counts


@styled
def proxy_histograms(raw: np.ndarray, equalised: np.ndarray) -> bytes:
    """Returns two histograms side by side: raw scores [N] and equalised scores [N] in (0, 1)."""
    figure = canvas(3.7, 1.7)
    figure.get_layout_engine().set(wspace=0.1)
    panels = zip(
        figure.subplots(1, 2),
        (histogram(raw, None), histogram(equalised, UNIT)),
        ('raw', 'equalised'),
        (MUTED, SERIES[0]),
        (ticker.MaxNLocator(3), ticker.FixedLocator((0, 0.5, 1))),
        strict=True,
    )
    for axes, (edges, counts), title, colour, locator in panels:
        axes.set_title(title)
        if not counts.any():
            say_empty(axes, 'no scores')
            continue
        axes.stairs(counts, edges, fill=True, color=colour)
        axes.grid(False)
        axes.set_yticks([])
        axes.spines['left'].set_visible(False)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter('{x:g}'))
    return to_svg(figure)


def shorten(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns finite points only, averaged in equal runs down to at most CURVE_POINTS of them."""
    x, y = np.asarray(steps, float), np.asarray(values, float)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if len(x) <= CURVE_POINTS:
        return x, y
    starts = np.linspace(0, len(x), CURVE_POINTS, endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes


@styled
def curve(steps: np.ndarray, values: np.ndarray, y_label: str, markers: bool = False) -> bytes:
    """Returns one curve of `values` [N] over `steps` [N], its last value written at the end.

    `markers` shows the single points, for quantities measured now and then such as validation.
    """
    x, y = shorten(steps, values)
    figure = canvas(3.7, 2.1)
    axes = figure.subplots()
    if not len(x):
        say_empty(axes, 'nothing recorded')
        return to_svg(figure)
    style = 'o-' if markers or len(x) == 1 else '-'
    axes.plot(x, y, style, color=SERIES[0], lw=1.6, ms=3.5)
    last = f'{y[-1]:.3g}'.replace('-', '\N{MINUS SIGN}')
    axes.plot(x[-1], y[-1], 'o', color=INK, ms=4)
    axes.annotate(
        last, (x[-1], y[-1]), xytext=(6, 0), textcoords='offset points', va='center', size=9.5
    )
    axes.margins(x=0.02, y=0.12)
    if x[0] == x[-1]:
        axes.set_xlim(x[0] - 1, x[0] + 1)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.set_xlabel('step')
    axes.set_ylabel(y_label)
    return to_svg(figure)
