"""Figure of repeated runs: what each variant changes, with intervals, by group of types."""

from collections.abc import Sequence

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
from iqa_jax.evaluation.page_format import signed

_ROW = 0.17  # inches of one interval


@styled
def differences(
    variants: Sequence[str], groups: Sequence[str], intervals: np.ndarray, x_label: str
) -> bytes:
    """Returns dots with 95 % intervals beside a line at 0, a block of groups for each variant.

    `intervals` is [V, G, 3] float (value, low, high) of the difference to the baseline, in units
    of the measure, right is better; where NaN nothing is drawn. The first group is all types; a
    newline in `x_label` starts its second line.
    """
    values = np.asarray(intervals, float).reshape(len(variants), len(groups), 3)
    figure = canvas(5.4, 1.0 + len(variants) * (_ROW * len(groups) + 0.12))
    axes = figure.subplots()
    if not np.isfinite(values[..., 0]).any():
        say_empty(axes, 'no differences')
        return to_svg(figure)
    colours = (INK, *SERIES)
    offsets = (np.arange(len(groups)) - (len(groups) - 1) / 2) * 0.8 / len(groups)
    for row, block in enumerate(values):
        for group, (value, low, high) in enumerate(block):
            y, colour = row + offsets[group], colours[group % len(colours)]
            if np.isfinite(low) and np.isfinite(high):
                axes.plot([low, high], [y, y], color=colour, lw=1.4, solid_capstyle='butt')
                axes.plot([low, high], [y, y], '|', color=colour, ms=5, mew=1.4)
            axes.plot(value, y, 'o', color=colour, ms=4.5)
            text = signed(value, 3)
            axes.text(1.02, y, text, va='center', transform=axes.get_yaxis_transform(), size=8)
    for group, name in enumerate(groups):
        axes.plot(
            [], [], 'o-', color=colours[group % len(colours)], ms=4.5, label=clean_label(name)
        )
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.set_yticks(range(len(variants)), [clean_label(name) for name in variants])
    axes.tick_params(axis='y', length=0, labelcolor=INK)
    axes.grid(False, axis='y')
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.set_xlabel('\n'.join(map(clean_label, x_label.split('\n'))))
    if len(groups) > 1:
        figure.legend(loc='outside upper right', ncols=len(groups))
    return to_svg(figure)
