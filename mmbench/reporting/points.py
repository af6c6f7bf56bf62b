"""Methods along an axis, such as a level of stress or a share of the training rows: values and paired differences."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from mmbench.evaluation.bootstrap import interval
from mmbench.evaluation.metrics import METRICS, MetricValue, compute, from_counts, row_counts
from mmbench.evaluation.predictions import Predictions
from mmbench.reporting.comparison import Record
from mmbench.reporting.figures import IN_LEGEND
from mmbench.reporting.records import Collection
from mmbench.reporting.spreads import Array, Row, Spread, make_spreads
from mmbench.reporting.tables import number, table_notes

UNTESTED: Record = {"p_raw": None, "p_holm": None, "family": None, "verdict": None, "mde": None, "tests": []}
TO_METHOD = "to_method_"


@dataclass(frozen=True)
class Point:
    """A method at a place of the axis: its cells, on the test rows of all points, and the record it begins with."""

    place: float
    row: Row
    base: Record


def value_of(cell: tuple[Predictions, Array | None], metric: str) -> MetricValue:
    """One metric of predictions with their thresholds; what needs only decisions ranks nothing."""
    if METRICS[metric].needs != "decisions":
        return compute(*cell)[metric]
    predictions = cell[0]
    counts = row_counts(*cell).sum(axis=0, keepdims=True)
    value = from_counts(counts, predictions.concept)[metric][0]
    return MetricValue(None if np.isnan(value) else float(value), int(predictions.truth.any(axis=0).sum()))


def point_records(
    points: Sequence[Point], metric: str, origin: float, called: str, against: str | None, resamples: int | None = None
) -> dict[tuple[str, float], Record]:
    """By method and place the metric's record: mean, interval, and Δ to the same method at ``origin``.

    The record at ``origin`` keeps the value and interval that it has in the run's comparison. ``reference`` is the
    word ``called``. A second difference, in fields that begin with ``to_method_``, is the one to the method ``against``
    at the same place. Differences are paired by row and seed, and not there where the seeds differ. Nothing is tested.
    """
    rows = [Row(f"{p.row.method} {p.place}", p.row.seeds, p.row.cells, p.row.results, p.row.values) for p in points]
    spreads = make_spreads(rows, (metric,), resamples)
    by_key = {(p.row.method, p.place): (p, spreads.get(row.method)) for p, row in zip(points, rows, strict=True)}
    return {
        (method, place): {
            **point.base,
            **({} if place == origin else _value(point, spread, metric)),
            **UNTESTED,
            "reference": called,
            **_difference("", point, spread, by_key.get((method, origin)), metric),
            "to_method": against,
            **_difference(TO_METHOD, point, spread, by_key.get((against or "", place)), metric),
        }
        for (method, place), (point, spread) in by_key.items()
    }


def _value(point: Point, spread: Spread | None, metric: str) -> Record:
    """The mean over seeds with its interval."""
    found = np.array([value[metric].value for value in point.row.values], dtype=np.float64)
    if not np.isfinite(found).all():
        return {"mean": None, "sd": None, "ci_low": None, "ci_high": None, "ci_kind": ""}
    bounds, kind = (None, "") if spread is None else spread.interval(metric)
    low, high = bounds or (None, None)
    spread_of_seeds = float(found.std(ddof=1)) if len(found) > 1 else None
    return {"mean": float(found.mean()), "sd": spread_of_seeds, "ci_low": low, "ci_high": high, "ci_kind": kind}


def _difference(
    prefix: str, point: Point, spread: Spread | None, other: tuple[Point, Spread | None] | None, metric: str
) -> Record:
    """Δ to another point with its interval; None where the two are one, or cannot be paired."""
    delta = low = high = None
    if other is not None and other[0] is not point and other[0].row.seeds == point.row.seeds:
        theirs = other[1]
        bounds = interval(spread.replicates(metric, theirs)) if spread is not None and theirs is not None else None
        if spread is not None and theirs is not None and bounds is not None:
            delta, (low, high) = float((spread.values[metric] - theirs.values[metric]).mean()), bounds
    return {f"{prefix}delta": delta, f"{prefix}delta_low": low, f"{prefix}delta_high": high}


def in_legend(collection: Collection, records: Sequence[Record]) -> list[str]:
    """The methods that a figure names: the reference, then the best; on generated data those that come first."""
    known = [record for record in records if record["mean"] is not None]
    if not collection.info["task"]["generated"]:
        sign = 1 if METRICS[known[0]["metric"]].better == "higher" else -1
        known.sort(key=lambda r: (r["method"] != collection.reference, -sign * r["mean"]))
    return [record["method"] for record in known][:IN_LEGEND]


def without(records: Sequence[Record], flat: Container[str], reason: str) -> tuple[list[Record], str]:
    """The records but those of methods that would only stretch the axes, and a sentence on these."""
    shown = [record for record in records if record["method"] not in flat]
    if not shown or len(shown) == len(records):
        return list(records), ""
    named = ", ".join(f"{r['method']} ({number(r['mean'])})" for r in records if r["method"] in flat)
    return shown, f" Left out, as {reason}: {named}."


def notes_on(collection: Collection, records: Sequence[Record]) -> list[str]:
    """What a reader of the run's comparison must know, as far as it concerns these records, which nothing ranks."""
    first = records[0]
    notes = table_notes(collection, first["problem"], list(records), first["metric"])
    return [note for note in notes if not note.startswith("underlined")]


def bounds_of(record: Record) -> tuple[float, float] | None:
    """The record's interval."""
    return None if record["ci_low"] is None else (record["ci_low"], record["ci_high"])
