"""Each figure drawn on one pair of axes. Colours are Okabe and Ito's; markers, dashes and hatches say the same in grey.

Drawn without pyplot: nothing here touches a global state or opens a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmbench.evaluation.metrics import METRICS
from mmbench.reporting.comparison import Record
from mmbench.reporting.curves import BINS, GRID, Array, Calibration, pareto
from mmbench.reporting.evidence import LabelScore, Loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes


INK, MUTED, FAINT = "#1b1b1b", "#6b6b6b", "#d9d9d9"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (3, 1)))
HATCHES = ("", "////", "....")
LONGEST = 26
CROWD = 12
MOST_DOTS = 2000  # beyond it dots are drawn as a picture, whose size does not grow


def shorten(name: str) -> str:
    """A name that fits beside the axes, cut in its middle."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"


def mean_rows(value: float) -> str:
    """A mean number of rows: a tenth at most, and none where there are many."""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"


def _shown(name: str) -> str:
    """A name in a legend, which leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def forest(axes: Axes, records: Sequence[Record], reference: str) -> None:
    """Differences to the reference; filled where the verdict says better or worse, hollow where it does not."""
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, record in enumerate(records):
        told = is_told(record)
        colour = COLOURS[0] if told else MUTED
        axes.plot([record["delta_low"], record["delta_high"]], [place, place], color=colour, linewidth=1.4)
        axes.plot(
            record["delta"], place, "o", color=colour, markersize=4.5, markerfacecolor=colour if told else "white"
        )
    name_rows(axes, [record["method"] for record in records])
    axes.set_xlabel(f"Δ {records[0]['metric']} to {shorten(reference)}")


def is_told(record: Record) -> bool:
    """Whether the verdict separates the method from the reference."""
    return (record["verdict"] or "").startswith(("better", "worse"))


def values(axes: Axes, records: Sequence[Record], ceilings: Sequence[bool]) -> None:
    """Every method's own value and interval; ceilings as diamonds."""
    for place, (record, ceiling) in enumerate(zip(records, ceilings, strict=True)):
        colour = MUTED if ceiling else COLOURS[0]
        if record["ci_low"] is not None:
            axes.plot([record["ci_low"], record["ci_high"]], [place, place], color=colour, linewidth=1.4)
        if record["mean"] is not None:
            axes.plot(record["mean"], place, "D" if ceiling else "o", color=colour, markersize=4.5)
    name_rows(axes, [record["method"] for record in records])
    axes.set_xlabel(records[0]["metric"])


def label_bars(axes: Axes, labels: Sequence[LabelScore], compared: Sequence[float] | None) -> None:
    """F1 by label with intervals; a mark where the method that is compared with stands."""
    places = np.arange(len(labels))
    axes.barh(
        places, [label.f1 for label in labels], height=0.62, color=COLOURS[5], edgecolor=COLOURS[0], linewidth=0.6
    )
    for place, label in enumerate(labels):
        if label.low is not None:
            axes.plot([label.low, label.high or 0.0], [place, place], color=INK, linewidth=1.1)
    if compared is not None:
        axes.plot(compared, places, "|", color=COLOURS[1], markersize=11, markeredgewidth=1.8)
    name_rows(axes, [f"{label.label} ({label.support})" for label in labels])
    axes.set_xlim(0, 1.005)
    axes.set_xlabel("F1 (positive test rows in brackets)")


def many_curves(
    axes: Axes, shown: Sequence[tuple[str, Array, float | None]], others: Sequence[Array], roc: bool
) -> None:
    """Mean curves over ``GRID``: the methods of the legend in colour with their area, the others faint."""
    if roc:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=":")
    for curve in others:
        axes.plot(GRID, curve, color=MUTED, linewidth=0.6, alpha=0.55)
    lines = []
    for number, (_, curve, _) in enumerate(shown):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        lines += axes.plot(GRID, curve, color=colour, linestyle=dash, linewidth=1.4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("false positive rate" if roc else "recall")
    axes.set_ylabel("true positive rate" if roc else "precision")
    names = [f"{shorten(_shown(name))}  {'–' if area is None else f'{area:.3f}'}" for name, _, area in shown]
    if others:
        lines += axes.plot([], [], color=MUTED, linewidth=0.6)
        names.append(f"{len(others)} other method{'s' * (len(others) > 1)}")
    legend(axes, lines, names, 1)


def legend(axes: Axes, handles: Sequence[Any], names: Sequence[str], columns: int) -> None:
    """A legend below the axes, left-aligned with the figure."""
    axes.get_figure(root=True).legend(handles, names, loc="lower left", ncols=columns, bbox_to_anchor=(0, 0))  # type: ignore[union-attr]


def reliability(axes: Axes, found: Calibration) -> None:
    """How often predictions of a confidence are right; below, the share of the predictions in each bin."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
    places = np.minimum((found.confidence * BINS).astype(int), BINS - 1)
    axes.bar((places + 0.5) / BINS, 0.25 * found.rows / found.rows.sum(), width=0.9 / BINS, color=FAINT)
    axes.plot(found.confidence, found.observed, "-o", color=COLOURS[0], linewidth=1.4, markersize=4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that holds")


def scatter(axes: Axes, points: Array, bounds: tuple[float, float] | None) -> None:
    """Predictions against the truth, (n, 2) of truth and prediction; the line is where they agree."""
    low, high = (points[:, 0].min(), points[:, 0].max()) if bounds is None else bounds
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=":")
    axes.scatter(
        points[:, 0], points[:, 1], s=9, color=COLOURS[0], alpha=max(0.06, min(0.6, 60 / len(points))), linewidths=0,
        rasterized=len(points) > MOST_DOTS,
    )  # fmt: skip
    axes.set_xlabel("truth")
    axes.set_ylabel("prediction")


def seed_lines(losses: Sequence[Loss]) -> int:
    """The rows of a legend that names the seeds: there is none where they are more than the colours."""
    seeds = len({loss.seed for loss in losses})
    return -(-seeds // 3) if seeds <= len(COLOURS) else 0


def convergence(axes: Axes, losses: Sequence[Loss]) -> None:
    """Losses by epoch, a colour a seed: validation solid, training dashed, a ring at the best epoch."""
    seeds = list(dict.fromkeys(loss.seed for loss in losses))
    thin = 0.5 if len(losses) > CROWD else 1
    for loss in losses:
        colour = COLOURS[seeds.index(loss.seed) % len(COLOURS)]
        epochs = np.arange(1, len(loss.val) + 1)
        if loss.train:
            axes.plot(epochs, loss.train, color=colour, linewidth=0.8 * thin, linestyle="--")
        axes.plot(epochs, loss.val, color=colour, linewidth=1.2 * thin)
        if loss.best_epoch:
            axes.plot(
                loss.best_epoch,
                loss.val[loss.best_epoch - 1],
                "o",
                color=colour,
                markersize=5 * thin,
                markerfacecolor="white",
            )
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [
        axes.plot([], [], color=INK, linewidth=1.2)[0],
        axes.plot([], [], color=INK, linewidth=0.8, linestyle="--")[0],
        axes.plot([], [], "o", color=INK, markersize=5, markerfacecolor="white", linestyle="")[0],
    ]
    named = seeds if len(seeds) <= len(COLOURS) else []
    handles += [axes.plot([], [], color=COLOURS[place], linewidth=1.2)[0] for place in range(len(named))]
    legend(axes, handles, ["validation", "training", "best epoch", *(f"seed {seed}" for seed in named)], 3)


def balance(axes: Axes, labels: Sequence[str], counts: dict[str, NDArray[np.int64]], rows: dict[str, int]) -> None:
    """The share of each split's labelled rows that have a label."""
    height, handles = 0.8 / len(counts), []
    for number, (split, by_label) in enumerate(counts.items()):
        places = np.arange(len(labels)) - 0.4 + height * (number + 0.5)
        bars = axes.barh(
            places,
            by_label / max(rows[split], 1),
            height,
            color=COLOURS[number],
            hatch=HATCHES[number],
            edgecolor="white",
        )
        handles.append(bars)
    name_rows(axes, labels)
    axes.set_xlabel("share of the labelled rows")
    legend(axes, handles, [f"{split} ({rows[split]:,})" for split in counts], len(counts))


def unbeaten(records: Sequence[Record], field: str) -> list[int]:
    """The places of the Pareto front of quality and cost, by cost."""
    sign = 1 if METRICS[records[0]["metric"]].better == "higher" else -1
    return pareto([float(r[field]) for r in records], [sign * float(r["mean"]) for r in records])


def cost(axes: Axes, records: Sequence[Record], field: str, unit: str, front: bool) -> None:
    """Quality with its interval against a cost on a logarithmic axis; a line joins what no other method beats."""
    costs, qualities = [float(r[field]) for r in records], [float(r["mean"]) for r in records]
    handles = []
    if front:
        best = unbeaten(records, field)
        axes.plot([costs[i] for i in best], [qualities[i] for i in best], color=MUTED, linewidth=0.9, linestyle="--")
    for number, record in enumerate(records):
        colour = COLOURS[number % len(COLOURS)]
        if record["ci_low"] is not None:
            axes.plot(
                [costs[number]] * 2, [record["ci_low"], record["ci_high"]], color=colour, linewidth=0.6, alpha=0.6
            )
        marker = MARKERS[number % len(MARKERS)]
        handles += axes.plot(costs[number], qualities[number], marker, color=colour, markersize=5)
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    near = max(costs) < 30 * min(costs)  # powers of ten alone would name one place, or none
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if near else (1.0,)))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel(unit)
    axes.set_ylabel(records[0]["metric"])
    legend(axes, handles, [shorten(_shown(record["method"])) for record in records], 2)


def short(value: float) -> str:
    """A number on an axis: 0.01, 10, 2k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def heat(axes: Axes, labels: Sequence[str], counts: Array, totals: Array) -> None:
    """A matrix of counts shaded by the share of its row's total; each field says both."""
    share = counts / np.maximum(totals, 1)[:, None]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(len(labels)):
        for column in range(len(labels)):
            colour = "white" if share[row, column] > 0.55 else INK
            text = f"{share[row, column]:.0%}\n{mean_rows(counts[row, column])}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=5.5)
    axes.set_xticks(range(len(labels)), [shorten(label) for label in labels], rotation=45, ha="right")
    name_rows(axes, labels)
    axes.grid(visible=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def sweep(axes: Axes, texts: Sequence[str], records: Sequence[Record], parameter: str) -> None:
    """Validation and test by value of a parameter, evenly spaced; a band where the value was chosen."""
    where = np.arange(len(records))
    (place,) = (n for n, record in enumerate(records) if record["chosen"])
    axes.axvspan(place - 0.25, place + 0.25, color=FAINT, linewidth=0)
    for n, record in enumerate(records):
        if record["ci_low"] is not None:
            axes.plot([n, n], [record["ci_low"], record["ci_high"]], color=COLOURS[0], linewidth=1.1)
    test = [np.nan if record["mean"] is None else record["mean"] for record in records]
    val = [record["validation"] for record in records]
    lines = axes.plot(where, val, "s--", color=COLOURS[1], linewidth=1.1, markersize=4, markerfacecolor="white")
    lines += axes.plot(where, test, "o-", color=COLOURS[0], linewidth=1.3, markersize=4)
    axes.set_xticks(where, [shorten(text) for text in texts])
    axes.set_xlim(-0.5, len(records) - 0.5)
    axes.set_xlabel(parameter)
    axes.set_ylabel(records[0]["metric"])
    legend(axes, lines, ["validation", "test [95 %]"], 2)
