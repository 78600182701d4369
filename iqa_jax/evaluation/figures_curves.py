"""Figures of distributions and of training: proxy histograms and curves over steps."""

import numpy as np
from matplotlib import ticker

from iqa_jax.evaluation.figures import (
    INK,
    MUTED,
    SERIES,
    canvas,
    clean_label,
    say_empty,
    styled,
    to_svg,
)

BINS = 24
# A curve holds no more points than a screen can show; longer ones are averaged in equal runs.
CURVE_POINTS = 300


@styled
def proxy_histograms(raw: np.ndarray, equalised: np.ndarray) -> bytes:
    """Returns two histograms side by side: raw scores [N] and equalised scores [N] in (0, 1)."""
    figure = canvas(3.7, 1.7)
    panels = zip(
        figure.subplots(1, 2),
        (raw, equalised),
        ('raw', 'equalised'),
        (MUTED, SERIES[0]),
        (None, (0.0, 1.0)),
        strict=True,
    )
    for axes, values, title, colour, span in panels:
        x = np.asarray(values, float)
        x = x[np.isfinite(x)]
        axes.set_title(f'{title}')
        if not len(x):
            say_empty(axes, 'no scores')
            continue
        axes.hist(x, bins=BINS, range=span, color=colour)
        axes.grid(False)
        axes.set_yticks([])
        axes.spines['left'].set_visible(False)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(3))
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
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.set_xlabel('step')
    axes.set_ylabel(clean_label(y_label))
    return to_svg(figure)
