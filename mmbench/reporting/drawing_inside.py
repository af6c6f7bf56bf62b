"""Figures of what is inside trained networks, each drawn on one pair of axes; colours and marks as in ``drawing``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmbench.reporting.curves import Array
from mmbench.reporting.drawing import COLOURS, DASHES, INK, MARKERS, MUTED, legend, name_rows, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IN_LINES = 6  # more lines than colours are drawn as a grid
SMALLEST_SPAN = 0.02  # of an axis of weights: less would make rounding look like movement
TEXT_SIZE = 7.0  # points
UNREADABLE = "▯"


def spreads(axes: Axes, places: Sequence[str], seeds: Sequence[tuple[int, Array, Array]], shares: bool) -> None:
    """By place and seed the mean over test rows (dot), the middle half (thick) and the middle 90 % (thin) of them.

    A seed has its number, its means (places,) and its quantiles .05, .25, .5, .75, .95 (5, places).
    """
    height = 0.7 / len(seeds)
    for number, (_, mean, quantiles) in enumerate(seeds):
        colour = COLOURS[number % len(COLOURS)]
        where = np.arange(len(places)) + height * (number - (len(seeds) - 1) / 2)
        axes.hlines(where, quantiles[0], quantiles[4], color=colour, linewidth=1.0)
        axes.hlines(where, quantiles[1], quantiles[3], color=colour, linewidth=3.2)
        axes.plot(mean, where, MARKERS[number % len(MARKERS)], color=INK, markersize=3.6, markerfacecolor="white")
    name_rows(axes, places)
    axes.set_xlim((-0.01, 1.01) if shares else widened(axes.get_xlim()))
    axes.set_xlabel("share" if shares else "value")


def over_steps(
    axes: Axes, names: Sequence[str], mean: Array, low: Array | None, high: Array | None, quantity: str
) -> None:
    """Values by step, (lines, T): a line each, with a band from ``low`` to ``high`` where these are given."""
    steps = np.arange(1, mean.shape[1] + 1)
    lines = []
    for number in range(len(mean)):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        if low is not None and high is not None:
            axes.fill_between(steps, low[number], high[number], color=colour, alpha=0.15, linewidth=0)
        mark = "" if len(steps) > 20 else "."
        lines += axes.plot(steps, mean[number], marker=mark, color=colour, linestyle=dash, linewidth=1.3)
    axes.set_ylim(widened(axes.get_ylim()))
    axes.ticklabel_format(axis="y", useOffset=False)
    _whole(axes)
    axes.set_xlabel("step")
    axes.set_ylabel(quantity)
    if len(mean) > 1:
        legend(axes, lines, [shorten(name) for name in names], 2)


def widened(limits: tuple[float, float]) -> tuple[float, float]:
    """The limits of an axis of weights, around the same middle at least :data:`SMALLEST_SPAN` apart."""
    low, high = limits
    missing = max(0.0, SMALLEST_SPAN - (high - low)) / 2
    return low - missing, high + missing


def _whole(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def loss_weights(axes: Axes, names: Sequence[str], weights: Array) -> None:
    """Weights (epochs, objectives): lines, or where there are many a grid whose shade is the share of the largest."""
    if len(names) <= IN_LINES:
        over_steps(axes, names, weights.T, None, None, "weight")
        axes.axhline(weights.mean(), color=MUTED, linewidth=0.7, linestyle=":")
        axes.set_ylim(bottom=0)
    else:
        shades(axes, names, [], weights.T / weights.max())
        _whole(axes)
    axes.set_xlabel("epoch")


def shades(axes: Axes, rows: Sequence[str], columns: Sequence[str], values: Array, texts: bool = False) -> None:
    """A grid (rows, columns) of shares in [0, 1], darker where larger; nothing where NaN. ``texts`` writes them too.

    Columns without names are numbered from 1.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    start = 0.5 if not columns else -0.5
    fields = [(r, c) for r in range(values.shape[0]) for c in range(values.shape[1]) if not np.isnan(values[r, c])]
    patches = [Rectangle((c + start, r - 0.5), 1, 1) for r, c in fields]
    colour = to_rgb(COLOURS[0])
    faces = [(*colour, 0.04 + 0.86 * float(np.clip(values[r, c], 0, 1))) for r, c in fields]
    axes.add_collection(PatchCollection(patches, facecolors=faces, linewidths=0))
    axes.set_xlim(start, values.shape[1] + start)
    name_rows(axes, rows)
    axes.grid(visible=False)
    if columns:
        axes.set_xticks(range(len(columns)), [shorten(c) for c in columns], rotation=30, ha="right")
    for r, c in fields if texts else ():
        shade = "white" if values[r, c] > 0.6 else INK
        axes.text(c, r, f"{values[r, c]:.2f}", ha="center", va="center", fontsize=6, color=shade)


def shaded_text(axes: Axes, tokens: Sequence[str], weights: Array) -> None:
    """Running text whose tokens are the darker the larger their weight; the largest has the full shade."""
    from matplotlib.textpath import TextPath

    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    wide, tall = (72 * inches for inches in figure.get_size_inches() * axes.get_position().size)
    top = float(np.nanmax(weights))
    x, y = 0.0, 0.0
    for token, weight in zip(tokens, weights, strict=True):
        share = 0.0 if np.isnan(weight) or top <= 0 else float(weight) / top
        word = " ".join(token.split()) or UNREADABLE
        width = float(TextPath((0, 0), word, size=TEXT_SIZE).get_extents().width) / wide
        x += 0.012 if x > 0 and token[:1].isspace() else 0.0
        if x > 0 and x + width > 1:
            x, y = 0.0, y + 1.75 * TEXT_SIZE / tall
        axes.text(
            x, y, word, va="top", ha="left", fontsize=TEXT_SIZE, color="white" if share > 0.6 else INK,
            bbox={"facecolor": COLOURS[0], "alpha": share, "pad": 1.0, "linewidth": 0},
        )  # fmt: skip
        x += width + 0.008


def text_lines(tokens: Sequence[str]) -> int:
    """Lines that :func:`shaded_text` takes at most, for the height of its figure."""
    return 1 + sum(len(token) + 1 for token in tokens) // 48


def shaded_picture(axes: Axes, picture: NDArray[np.uint8], weights: Array) -> None:
    """A picture (H, W, 3) with its patches (rows, columns) covered the less the larger their weight."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="none")
    rows, columns = weights.shape
    tall, wide = height / rows, width / columns
    patches = [Rectangle((c * wide, r * tall), wide, tall) for r in range(rows) for c in range(columns)]
    faces = [(0.0, 0.0, 0.0, 0.8 * (1 - share)) for share in relative(weights).ravel()]
    axes.add_collection(PatchCollection(patches, facecolors=faces, linewidths=0))
    axes.set_axis_off()


def relative(weights: Array) -> Array:
    """Weights from 0, the smallest, to 1, the largest; NaN is 0 and all is 1 where they are all alike."""
    known = weights[~np.isnan(weights)]
    if len(known) == 0 or known.max() - known.min() < 1e-9:
        return np.ones_like(weights)
    shares: Array = np.nan_to_num((weights - known.min()) / (known.max() - known.min()))
    return shares
