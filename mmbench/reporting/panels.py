"""Small axes side by side, two to a line, with methods as lines and one legend below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmbench.reporting import drawing
from mmbench.reporting.drawing import COLOURS, DASHES, MARKERS, MUTED
from mmbench.reporting.figures import LINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 2
HEIGHT = 1.3  # inches: a line of panels, with its title and ticks
LEFT, TITLE = 0.5, 0.14
DODGE = 0.012  # of the axis: how far methods stand apart, so that their intervals can be seen


@dataclass(frozen=True)
class Line:
    """A method: where, the values, and their intervals where there are any; all of one length."""

    method: str
    places: tuple[float, ...]
    values: tuple[float, ...]
    bounds: tuple[tuple[float, float] | None, ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes; ``logarithmic`` names those of "x" and "y" that are."""

    title: str
    unit: str
    quantity: str
    lines: tuple[Line, ...]
    logarithmic: str = ""
    ticks: tuple[tuple[float, str], ...] = ()


def size(panels: Sequence[Panel], named: Sequence[str], others: bool) -> tuple[float, float]:
    """Height and lower margin of the figure, in inches."""
    bottom = 0.5 + LINE * -(-(len(named) + others) // COLUMNS)
    return HEIGHT * -(-len(panels) // COLUMNS) + bottom, bottom


def draw(axes: Axes, panels: Sequence[Panel], named: Sequence[str], shared: bool) -> None:
    """The panels in the place of ``axes``; methods that are not ``named`` are faint. ``shared``: one scale for all."""
    figure, box = axes.get_figure(root=True), axes.get_position()
    assert figure is not None
    axes.remove()
    rows, columns = -(-len(panels) // COLUMNS), min(COLUMNS, len(panels))
    wide = 0.08 if shared else 0.42
    edges = {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1 - TITLE / figure.get_figheight()}
    grid = figure.add_gridspec(rows, columns, **edges, hspace=0.3, wspace=wide)
    places = grid.subplots(sharex=shared, sharey=shared, squeeze=False).ravel()
    for spare in places[len(panels) :]:
        spare.set_visible(False)
    for number, (panel, place) in enumerate(zip(panels, places, strict=False)):
        _panel(place, panel, named)
        if number + columns >= len(panels):
            place.set_xlabel(panel.unit)
            place.tick_params(axis="x", labelbottom=True)
        if not shared or number % columns == 0:
            place.set_ylabel(panel.quantity)
    methods = dict.fromkeys(line.method for panel in panels for line in panel.lines)
    handles = [
        places[0].plot(
            [],
            [],
            MARKERS[n % len(MARKERS)],
            color=COLOURS[n % len(COLOURS)],
            linestyle=DASHES[n % len(DASHES)],
            markersize=4,
        )[0]
        for n in range(len(named))
    ]
    names = [drawing.shorten(f" {name}" if name.startswith("_") else name) for name in named]
    if others := len(methods) - len(named):
        handles += places[0].plot([], [], color=MUTED, linewidth=0.6)
        names.append(f"{others} other method{'s' * (others > 1)}")
    figure.legend(handles, names, loc="lower left", ncols=COLUMNS, bbox_to_anchor=(0, 0))


def _panel(axes: Axes, panel: Panel, named: Sequence[str]) -> None:
    from matplotlib.ticker import LogLocator

    logarithmic = "x" in panel.logarithmic
    places = sorted({place for line in panel.lines for place in line.places})
    span = (places[-1] / places[0] if logarithmic else places[-1] - places[0]) if len(places) > 1 else 1
    for line in panel.lines:
        if line.method not in named:
            axes.plot(line.places, line.values, color=MUTED, linewidth=0.6, alpha=0.55)
    for number, line in ((named.index(line.method), line) for line in panel.lines if line.method in named):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        aside = DODGE * (number - (len(named) - 1) / 2)
        where = [place * span**aside if logarithmic else place + span * aside for place in line.places]
        for place, bounds in zip(where, line.bounds, strict=True):
            if bounds is not None:
                axes.plot([place, place], bounds, color=colour, linewidth=0.7, alpha=0.7)
        axes.plot(
            where, line.values, MARKERS[number % len(MARKERS)], color=colour, linestyle=dash,
            linewidth=1.1, markersize=3.2,
        )  # fmt: skip
    if logarithmic:
        axes.set_xscale("log")
    if "y" in panel.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: drawing.short(value))
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xticks([place for place, _ in panel.ticks], [text for _, text in panel.ticks], minor=False)
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.set_title(panel.title, fontsize=7.5, loc="left", pad=3)


def describe(panels: Sequence[Panel]) -> str:
    """The data of the panels in words."""
    return "; ".join(
        f"{panel.title}: "
        + ", ".join(
            f"{line.method} " + " ".join(f"{text} {value:.3g}" for text, value in _told(panel, line))
            for line in panel.lines
        )
        for panel in panels
    )


def _told(panel: Panel, line: Line) -> list[tuple[str, float]]:
    texts = dict(panel.ticks)
    pairs = zip(line.places, line.values, strict=True)
    return [(f"at {texts.get(place, f'{place:g}')}:", value) for place, value in pairs]


def line_of(method: str, points: Sequence[tuple[float, float | None, tuple[float, float] | None]]) -> Line:
    """A line through (place, value, interval), those without a value left out."""
    known = [(place, value, bounds) for place, value, bounds in points if value is not None and np.isfinite(value)]
    return Line(method, tuple(p[0] for p in known), tuple(p[1] for p in known), tuple(p[2] for p in known))
