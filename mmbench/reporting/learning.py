"""Learning curves: runs that differ in the share of the training rows alone, joined."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mmbench.errors import UsageError
from mmbench.fractions import FULL
from mmbench.reporting import panels
from mmbench.reporting.comparison import Record, primary_of
from mmbench.reporting.figures import Plot, stamped
from mmbench.reporting.mistakes import is_constant
from mmbench.reporting.panels import Panel, line_of
from mmbench.reporting.points import TO_METHOD, Point, bounds_of, in_legend, notes_on, point_records, without
from mmbench.reporting.records import Collection, Question, make_records, read_rows
from mmbench.reporting.study import Study
from mmbench.reporting.tables import (
    Entry,
    Table,
    count,
    energy,
    seconds,
    table_title,
    with_delta,
    with_interval,
)
from mmbench.running.store import CEILING, RunFolder

HARDWARE = ("rapl", "nvml")  # energy that was measured; estimates are not drawn
APART = 0.18  # of the axis: how far numbers below it stand apart
Found = dict[tuple[str, float], Record]  # by method and share


def learning_study(folder: RunFolder, methods: tuple[str, ...] | None = None) -> Study:
    """The run and those beside it that differ from it in ``train_fraction`` alone; nothing where there is none.

    Methods are shown that two shares have. Differences are to the largest share, paired by test row and seed.
    """
    runs, absent = _siblings(folder)
    if len(runs) < 2:
        return Study(absent=tuple(absent))
    collections = {share: make_records(run, Question(methods=methods)) for share, run in runs.items()}
    points: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for share, run in runs.items():
        base = {_key(record): record for record in collections[share].records if record["label"] == ""}
        info = collections[share].info
        for (problem, concept), rows in read_rows(run, methods).items():
            trained = [row for row in rows if not row.method.startswith(CEILING) and not _foreign(row.results)]
            points[problem, concept] += [
                Point(share, row, base[problem, concept, row.method, primary_of(info, concept)]) for row in trained
            ]
    largest = collections[max(runs)]
    tables: list[Table] = []
    records: list[Record] = []
    plots: list[Plot] = []
    for (_, concept), found in points.items():
        chosen = _usable(found)
        if not chosen:
            continue
        if any(not np.array_equal(p.row.cells[0][0].ids, chosen[0].row.cells[0][0].ids) for p in chosen):
            absent.append(f"learning curve of {concept}: the runs were tested on other rows")
            continue
        metric, most = chosen[0].base["metric"], max(runs)
        made = point_records(chosen, metric, most, f"train_fraction={most:g}", largest.reference)
        order = list(dict.fromkeys([*(r["method"] for r in largest.records), *(p.row.method for p in chosen)]))
        by_method = {key: made[key] for key in sorted(made, key=lambda key: (order.index(key[0]), key[1]))}
        records += [{"study": "learning", "train_fraction": key[1], **record} for key, record in by_method.items()]
        tables.append(_table(largest, most, by_method))
        flat = {p.row.method for p in chosen if is_constant(p.row.cells)}
        plots.append(_plot(largest, most, by_method, flat))
    return Study(tuple(tables), tuple(records), tuple(plots), tuple(absent))


def _siblings(folder: RunFolder) -> tuple[dict[float, RunFolder], list[str]]:
    """By share of the training rows the runs that differ in nothing else, rising; and lines on what cannot be read."""
    own, found, lines = folder.info(), {}, []
    for path in sorted(folder.path.absolute().parent.glob(f"{folder.path.absolute().name[:-8]}*/run.json")):
        other = RunFolder(path.parent)
        try:
            info = other.info()
        except UsageError as error:
            lines.append(f"learning curve: {error}")
            continue
        if _identity(info) == _identity(own) and next(other.results(), None) is not None:
            found[info["config"].get("train_fraction", FULL)] = other
    return dict(sorted(found.items())), lines


def _identity(info: dict[str, Any]) -> str:
    """All that learning curves hold fixed."""
    config = {key: value for key, value in info["config"].items() if key != "train_fraction"}
    overrides = [line for line in info["overrides"] if not line.startswith("train_fraction=")]
    fixed = [info[key] for key in ("fingerprint", "features", "metric_version")]
    return json.dumps([config, overrides, info["protocol"]["name"], *fixed], sort_keys=True)


def _key(record: Record) -> tuple[str, str, str, str]:
    return record["problem"], record["concept"], record["method"], record["metric"]


def _foreign(results: Sequence[dict[str, Any]]) -> bool:
    return any(result.get("foreign") for result in results)


def _usable(points: Sequence[Point]) -> list[Point]:
    """The points of methods that have two."""
    shares = defaultdict(set)
    for point in points:
        shares[point.row.method].add(point.place)
    return [point for point in points if len(shares[point.row.method]) > 1]


def _table(collection: Collection, most: float, found: Found) -> Table:
    first = next(iter(found.values()))
    against = None if collection.info["task"]["generated"] else first["to_method"]
    rows = []
    for (method, share), record in found.items():
        texts = [method, f"{100 * share:g} %", count(record["n_train"]), with_interval(record), with_delta(record)]
        texts += [with_delta(record, TO_METHOD)] if against else []
        texts += [seconds(record["train_seconds"]), energy(record)]
        rows.append(tuple(Entry(text) for text in texts))
    columns = (
        "method", "share", "training rows", f"{first['metric']} [95 % interval]", f"Δ to {100 * most:g} % [95 %]",
        *([f"Δ to {against} [95 %]"] if against else []), "train s", "energy Wh",
    )  # fmt: skip
    notes = notes_on(collection, [record for (_, share), record in found.items() if share == most])
    notes.append(
        "shares of the training rows: whole groups, a smaller share within a larger one, labels in proportion; "
        "encoders are fitted on these rows alone; validation and test are the same; "
        "Δ: paired by row and seed, unadjusted"
    )
    title = table_title(
        collection, first["problem"], first["concept"], f"{first['concept']} · {first['metric']} by training rows"
    )
    return Table(title, columns, tuple(rows), tuple(notes), f"learning {first['problem']} {first['concept']}")


def _plot(collection: Collection, most: float, found: Found, flat: set[str]) -> Plot:
    last = list({method: record for (method, _), record in found.items()}.values())
    largest, left_out = without(last, flat, "it gives every row the same labels")
    first, named = largest[0], in_legend(collection, largest)
    methods = [record["method"] for record in largest]
    ticks = _ticks([record["n_train"] for record in found.values()])
    drawn = [_panel(methods, found, "quality", "mean", first["metric"], ticks)]
    drawn.append(_panel(methods, found, "training time", "train_seconds", "seconds a cell", ticks))
    measured = all(record["energy_source"] in HARDWARE for record in found.values())
    if measured:
        drawn.append(_panel(methods, found, "energy", "energy_wh", "Wh a cell", ticks))
    caption = f"{first['metric']} on {first['concept']} with intervals, and cost, against the number of training rows."
    caption += "" if measured else " Energy is not drawn: no hardware counted it."
    caption += left_out + (" Faint: the other methods." if len(named) < len(methods) else "")
    height, bottom = panels.size(drawn, named, len(named) < len(methods))
    plot = Plot("learning", first["problem"], first["concept"], "", caption, panels.describe(drawn), height,
                panels.LEFT, bottom, partial(panels.draw, panels=drawn, named=named, shared=False))  # fmt: skip
    return stamped(plot) if collection.info["task"]["generated"] else plot


def _panel(
    methods: Sequence[str], found: Found, title: str, field: str, quantity: str, ticks: tuple[tuple[float, str], ...]
) -> Panel:
    lines = []
    for method in methods:
        here = [record for (name, _), record in found.items() if name == method and (field == "mean" or record[field])]
        bounds = [bounds_of(record) if field == "mean" else None for record in here]
        points = zip((float(r["n_train"]) for r in here), (r[field] for r in here), bounds, strict=True)
        lines.append(line_of(method, list(points)))
    return Panel(title, "training rows", quantity, tuple(lines), "x" if field == "mean" else "xy", ticks)


def _ticks(rows: Sequence[int]) -> tuple[tuple[float, str], ...]:
    """The numbers of rows, those left out that stand too close on a logarithmic axis to be read."""
    kept: list[int] = []
    for n in sorted(set(rows), reverse=True):
        if not kept or kept[-1] / n > (max(rows) / min(rows)) ** APART:
            kept.append(n)
    return tuple((float(n), f"{n:,}") for n in reversed(kept))
