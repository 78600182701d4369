"""Figures of active fine-tuning: a measure on every set by round."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker

from iqa_jax.evaluation.figures import (
    MARKERS,
    SERIES,
    SURFACE,
    canvas,
    clean_label,
    say_empty,
    styled,
    to_svg,
)


@styled
def by_round(
    lines: Mapping[str, Sequence[tuple[int, tuple]]], y_label: str, sets: Sequence[str]
) -> bytes:
    """Returns one line per set of (round, (value, low, high)), with 95 % intervals as whiskers.

    Lines stand side by side within a round, so that no whisker hides another; round 0 is the model
    before all rounds. `sets` are those of all figures: a set looks the same in each.
    """
    figure = canvas(5.0, 2.6 + 0.24 * len(lines))
    axes = figure.subplots()
    known = {
        name: [(k, value) for k, value in points if np.isfinite(value[0])]
        for name, points in lines.items()
    }
    if not any(known.values()):
        say_empty(axes, 'no values by round')
        return to_svg(figure)
    last = max(k for points in known.values() for k, _ in points)
    shifts = 0.07 * (np.arange(len(known)) - (len(known) - 1) / 2)
    for (name, points), shift in zip(known.items(), shifts, strict=True):
        i = list(sets).index(name)
        colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)][0]
        x = np.array([k for k, _ in points]) + shift
        for place, (_, (_, low, high)) in zip(x, points, strict=True):
            if np.isfinite([low, high]).all():
                axes.plot([place] * 2, [low, high], '-', color=colour, lw=1.6, alpha=0.45)
        axes.plot(
            x, [value[0] for _, value in points], f'-{marker}', color=colour, lw=1.4, ms=6.5,
            mec=SURFACE, mew=0.8, label=clean_label(name),
        )  # fmt: skip
    axes.set_xlim(-0.4, last + 0.4)
    axes.set_xticks(range(last + 1), ['before', *(f'round {k}' for k in range(1, last + 1))])
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.set_ylabel(y_label)
    axes.grid(False, axis='x')
    figure.legend(loc='outside lower center', ncols=1)
    return to_svg(figure)
