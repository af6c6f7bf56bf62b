"""What a run knows of the inside of its networks: loss weights by epoch, and what ``mmbench explain`` kept of cells."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mmbench.reporting import drawing_inside as drawing
from mmbench.reporting.curves import Array
from mmbench.reporting.drawing import COLOURS, shorten
from mmbench.reporting.figures import LINE, Plot, name_margin, stamped
from mmbench.reporting.histories import History, read_histories
from mmbench.reporting.study import NO_STUDY, Study
from mmbench.reporting.tables import Entry, Table
from mmbench.running.store import RunFolder

MOST_LINES = len(COLOURS)
CAUTION = (
    "weights say what enters, and how strongly, not why a decision is made: other weights may give the same decisions"
)

Seeds = Sequence[tuple[int, Any]]  # by seed what is kept of one array


def inside_study(folder: RunFolder, methods: Sequence[str]) -> Study:
    """Tables and figures of these methods, all that is stored of them; they say nothing of any sample."""
    info = folder.info()
    tables: list[Table] = []
    plots, absent = _loss_weights(folder, methods)
    by_array: dict[tuple[str, str, str], list[tuple[int, Any]]] = defaultdict(list)
    for cell, summary in folder.insides():
        if cell.method in methods:
            for name, kept in summary["arrays"].items():
                by_array[cell.problem, cell.method, name].append((cell.seed, kept))
    for (problem, method, name), seeds in by_array.items():
        alike = [(seed, kept) for seed, kept in seeds if kept["places"] == seeds[0][1]["places"]]
        if not alike[0][1]["steps"]:
            tables.append(average_table(problem, method, name, alike))
        plots.append(average_plot(problem, method, name, alike))
    if info["task"]["generated"]:
        plots = [stamped(plot) for plot in plots]
    return Study(tuple(tables), (), tuple(plots), tuple(absent)) if plots or absent else NO_STUDY


def _loss_weights(folder: RunFolder, methods: Sequence[str]) -> tuple[list[Plot], list[str]]:
    """The weights of the objectives by epoch, of every method whose strategy changes them."""
    histories: dict[tuple[str, str], list[History]] = defaultdict(list)
    for cell, result in folder.results():
        if result["status"] == "done" and cell.method in methods and (result.get("history") or {}).get("objectives"):
            for history in read_histories(result):
                histories[cell.problem, cell.method].append(history)
    plots = []
    for (problem, method), found in sorted(histories.items(), key=lambda item: methods.index(item[0][1])):
        names = found[0].objectives
        weights = mean_weights([history.weights for history in found if history.objectives == names])
        if len(weights) == 0 or len(names) < 2 or not np.isfinite(weights).all():
            continue
        many = len(names) > drawing.IN_LINES
        caption = (
            f"Loss weights of {method} at the end of each epoch, mean over {len(found)} seed{'s' * (len(found) > 1)} "
            "(those that still train). "
            + (f"Full shade: {weights.max():.2f}." if many else "Dotted: the mean over objectives and epochs.")
        )
        alt = "At the last epoch: " + ", ".join(f"{n} {w:.2f}" for n, w in zip(names, weights[-1], strict=True))
        left = name_margin(names) if many else 0.5
        bottom = 0.4 if many else 0.5 + LINE * -(-len(names) // 2)
        height = 0.55 + 0.17 * len(names) if many else 1.9 + bottom
        plots.append(
            Plot("loss-weights", problem, "", method, caption, alt, height, left, bottom,
                 partial(drawing.loss_weights, names=names, weights=weights))
        )  # fmt: skip
    moved = {plot.method for plot in plots}
    still = [method for method in methods if method not in moved and any(m == method for _, m in histories)]
    return plots, [f"loss weights, one throughout or of one objective: {', '.join(still)}"] if still else []


def mean_weights(by_seed: Sequence[Sequence[Sequence[float]]]) -> Array:
    """(epochs, objectives): at each epoch the mean over the seeds that got so far; (0,) where all weights are one."""
    longest = max(map(len, by_seed))
    return np.array([np.mean([w[epoch] for w in by_seed if len(w) > epoch], axis=0) for epoch in range(longest)])


def average_table(problem: str, method: str, name: str, seeds: Seeds) -> Table:
    """By place the mean and the quantiles over test rows."""
    rows = []
    for place, label in enumerate(seeds[0][1]["places"] or [name]):
        for seed, kept in seeds:
            mean, quantiles = _arrays(kept)
            texts = (
                label + f" · seed {seed}" * (len(seeds) > 1),
                *(_number(value) for value in (mean[place], *quantiles[:, place])),
                f"{np.atleast_1d(kept['rows'])[place]:,}",
            )
            rows.append(tuple(Entry(text) for text in texts))
    columns = ("of", "mean", "5 %", "25 %", "median", "75 %", "95 %", "test rows")
    numbers = ", ".join(str(seed) for seed, _ in seeds)
    notes = (
        f"{seeds[0][1]['says']}; seed{'s' * (len(seeds) > 1)} {numbers}: how samples differ, not how sure a mean is",
    )
    return Table(f"{name} · {method} · {problem}", columns, tuple(rows), notes, f"inside {name} {method} {problem}")


def file_name(words: str) -> str:
    """Words as part of a file's name."""
    return re.sub(r"[^\w.]+", "-", words.replace("→", "to")).strip("-")


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _arrays(kept: dict[str, Any]) -> tuple[Array, Array]:
    """Mean (places[, T]) and quantiles (5, places[, T]) of what is kept, with an axis of places always."""
    mean, quantiles = np.array(kept["mean"], dtype=np.float64), np.array(kept["quantiles"], dtype=np.float64)
    return (mean, quantiles) if kept["places"] else (mean[None], quantiles[:, None])


def average_plot(problem: str, method: str, name: str, seeds: Seeds) -> Plot:
    """An array on average over test rows: by place, or by step where it has steps (then of the first seed)."""
    first = seeds[0][1]
    places = [str(place) for place in first["places"]] or [name]
    mean, quantiles = _arrays(first)
    kind = file_name(f"inside {name}")
    if not first["steps"]:
        shown = [(seed, *_arrays(kept)) for seed, kept in seeds[:MOST_LINES]]
        numbers = ", ".join(str(seed) for seed, *_ in shown)
        caption = (
            f"{name} of {method}: {first['says']}. Dot: mean over test rows, thick: the middle half of them, thin: the "
            f"middle 90 %. Seed{'s' * (len(shown) > 1)} {numbers}."
        )
        alt = ", ".join(f"{place} {_number(value)}" for place, value in zip(places, mean, strict=True))
        return Plot(kind, problem, "", method, caption, alt, 0.55 + 0.2 * len(places) * max(1.0, 0.45 * len(shown)),
                    name_margin(places), 0.4,
                    partial(drawing.spreads, places=places, seeds=shown, shares=first["shares"]))  # fmt: skip
    steps = " and ".join(first["steps"])
    of = f"step of {steps}" if len(first["steps"]) == 1 else f"common step of {steps}"
    one = len(places) == 1
    caption = (
        f"{name} of {method} by {of}: {first['says']}. Mean over the test rows that have the step"
        f"{', with the middle half of them' * one}; seed {seeds[0][0]}."
    )
    more = len(places) > MOST_LINES
    alt = "; ".join(f"{p}: first {_number(m[0])}, last {_number(m[-1])}" for p, m in zip(places, mean, strict=True))
    if more:
        height, left, bottom = 0.55 + 0.17 * len(places), name_margin(places), 0.4
        caption += f" Full shade: {np.nanmax(mean):.2f}."
        draw = partial(drawing.shades, rows=places, columns=[], values=mean / np.nanmax(mean))
    else:
        bottom = 0.45 if one else 0.5 + LINE * -(-len(places) // 2)
        height, left = 1.9 + bottom, 0.6
        low, high = (quantiles[1], quantiles[3]) if one else (None, None)
        draw = partial(drawing.over_steps, names=places, mean=mean, low=low, high=high, quantity=shorten(name))
    return Plot(kind, problem, "", method, caption, alt, height, left, bottom, draw)
